"""One stream to Google: a single `StreamingRecognize` call, from its first message to its end.

gRPC runs `_requests()` in a thread of its own, which waits for audio there; the streaming thread
iterates `responses()`. Each stream has an `AudioTimeline`, because Google counts from its start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from google.cloud.speech_v1.types import StreamingRecognizeRequest

from audio_timeline import BYTES_PER_MS, AudioTimeline, Place
from frame_queue import FrameQueue, QueuedFrame
from speech_connections import SpeechConnection

_Request: Any = StreamingRecognizeRequest.pb()


class GoogleStream:
    """A stream that takes its audio from `queue` in messages of `message_bytes` at most.

    `first_request`: the raw message that opens it. `on_open()`: the first message is on its way,
    audio is wanted now. `responses()` yields raw `StreamingRecognizeResponse` messages and raises
    `grpc.RpcError`.
    """

    def __init__(
        self,
        connection: SpeechConnection,
        first_request: Any,
        queue: FrameQueue,
        message_bytes: int,
        on_open: Callable[[], None],
    ) -> None:
        self._first_request = first_request
        self._queue = queue
        self._message_bytes = message_bytes
        self._on_open = on_open
        self._timeline = AudioTimeline()
        self._sent_bytes = 0
        self._over = False
        self.answered = False  # a response has come
        self._call = connection.streaming_recognize(self._requests())

    def responses(self) -> Iterator[Any]:
        """What Google answers, until the stream ends."""
        try:
            for response in self._call:
                self.answered = True
                yield response
        finally:
            # gRPC's thread still waits in the queue, where it would take what is the next stream's
            self._over = True
            self._queue.wake()

    def cancel(self) -> None:
        """End the stream at once; `responses()` raises."""
        self._call.cancel()

    def place(self, offset_ms: int | None) -> Place | None:
        """Where a time of Google's is on the call's clock, and when its audio came.

        None stands for all that was sent, because Google leaves a time out at times.
        """
        offset = self._sent_bytes if offset_ms is None else offset_ms * BYTES_PER_MS
        return self._timeline.place(offset)

    def forget(self, offset_ms: int) -> None:
        """No result will be about audio before this time of Google's."""
        self._timeline.forget(offset_ms * BYTES_PER_MS)

    def _requests(self) -> Iterator[Any]:
        yield self._first_request
        # gRPC comes back for the next message when the one before is on its way
        self._on_open()
        # Twice a message's time is a pause, not the jitter of the frame that is due just now
        pause = 2 * self._message_bytes / BYTES_PER_MS / 1000
        while frames := self._queue.take(pause, lambda: self._over):
            self._mark(frames)
            audio = b"".join(frame.audio for frame in frames)
            for start in range(0, len(audio), self._message_bytes):
                yield _Request(audio_content=audio[start : start + self._message_bytes])

    def _mark(self, frames: list[QueuedFrame]) -> None:
        """Note where these frames stand on the call's clock: at each gap in it, and at the end."""
        before: QueuedFrame | None = None
        for frame in frames:
            if before is not None and frame.call_end - len(frame.audio) != before.call_end:
                self._timeline.mark(self._sent_bytes, before.call_end, before.arrived)
            self._sent_bytes += len(frame.audio)
            before = frame
        if before is not None:
            self._timeline.mark(self._sent_bytes, before.call_end, before.arrived)
