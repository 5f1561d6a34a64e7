"""The Google side of a live call: one recognition session for the whole call.

Audio comes in by `push_audio()` from the call's handler, which never waits: it goes into a bounded
queue, and a frame that finds it full is dropped, because a late frame is worth less than a late
caption. One streaming thread (a greenlet in a gevent worker) holds the stream to Google and hands
on what comes back.

Nothing on the way of the audio may block, and nothing there takes a lock for each frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.api_core.exceptions import from_grpc_error
from google.cloud.speech_v1.types import (
    RecognitionConfig,
    StreamingRecognitionConfig,
    StreamingRecognizeRequest,
    StreamingRecognizeResponse,
)

from audio_timeline import BYTES_PER_MS
from call_log import CallLog
from frame_queue import FrameQueue, QueuedFrame
from google_stream import GoogleStream
from queue_depth import SAMPLE_SECONDS, QueueDepth
from speech_connections import SpeechConnection, SpeechConnections
from utterances import Final, Interim, Utterance, UtteranceSwitch

# A stream that is being opened takes no audio yet: the first one of a process waits for TLS and
# a token. 5 s of a call's audio are kept for it, more than the queue holds later.
OPENING_FRAMES = 250

# A healthy stream takes a message in a few milliseconds
_BURST_SECONDS = 0.1

# A cancelled stream ends as soon as its thread gets its turn
_CANCEL_SECONDS = 0.5

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0

# Trying again cannot help: what was asked for is wrong, or may not be asked for.
_PERMANENT = frozenset(
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    )
)

_Event: Any = StreamingRecognizeResponse.SpeechEventType


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a call is recognised with. The audio is always 8 kHz mono mu-law, as it comes."""

    language: str = "iw-IL"
    model: str = "default"
    punctuation: bool = True

    def first_request(self) -> Any:
        """The raw message that opens a stream (google.cloud.speech.v1)."""
        return StreamingRecognizeRequest.pb(
            StreamingRecognizeRequest(
                streaming_config=StreamingRecognitionConfig(
                    config=RecognitionConfig(
                        encoding=RecognitionConfig.AudioEncoding.MULAW,
                        sample_rate_hertz=8000,
                        audio_channel_count=1,
                        language_code=self.language,
                        model=self.model,
                        enable_automatic_punctuation=self.punctuation,
                    ),
                    interim_results=True,
                    enable_voice_activity_events=True,
                )
            )
        )


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The limits of a session; the settings that they come from stand in `README.md`."""

    queue_frames: int = 16
    batch_ms: int = 100
    partial_debounce_ms: int = 200
    close_seconds: float = 2.0


class StreamingSTTSession:
    """Recognition of one call, from its start to its end.

    `on_partial(Interim)` and `on_final(Final, Utterance)` are fixed for the call; they run in the
    streaming thread and must not block. `utterances` is the call's switch. `clock` and
    `thread_class` are handed in by tests.
    """

    def __init__(
        self,
        connections: SpeechConnections,
        recognition: Recognition,
        *,
        log: CallLog,
        on_partial: Callable[[Interim], None],
        on_final: Callable[[Final, Utterance], None],
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self._connections = connections
        self._recognition = recognition
        self._log = log
        self.utterances = UtteranceSwitch(self.now_ms, on_interim=on_partial, on_final=on_final)
        self._limits = limits or SessionLimits()
        self._clock = clock
        self._thread_class = thread_class

        # Written by push_audio() alone until the close, and read by anybody
        self.frames = 0
        self.dropped = 0
        self.audio_bytes = 0  # the call's clock: dropped frames count
        self._depth = QueueDepth(self._limits.queue_frames)
        self._next_sample = clock() + SAMPLE_SECONDS

        self._message_bytes = self._limits.batch_ms * BYTES_PER_MS
        self._deaf = False  # nobody will take this call's audio: Google refused it for good
        self._queue = FrameQueue(OPENING_FRAMES, self._message_bytes)
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._closed = False
        self._stream: GoogleStream | None = None

        # The streaming thread's own
        self._last_partial = float("-inf")
        self._covered_ms = 0  # finals cover the call up to here
        self._speech_ms = 0  # where Google last heard speech begin

        log.session_started()
        self._thread = thread_class(target=self._run, name="stt", daemon=True)
        self._thread.start()

    # The call's side

    def push_audio(self, frame: bytes) -> bool:
        """Queue a frame of 8 kHz mu-law (nominally 160 bytes, 20 ms). Never blocks.

        False if the queue was full, and the frame is dropped and counted; or if the session is
        closed. Only one thread at a time may call it, the call's handler.
        """
        if self._closing.is_set():
            return False
        if not frame:
            return True
        now = self._clock()
        self.frames += 1
        self.audio_bytes += len(frame)
        if self._deaf:  # said once, when it happened
            self.dropped += 1
            return False
        queued = self._queue.put(QueuedFrame(frame, self.audio_bytes, now))
        if not queued:
            self.dropped += 1
            self._log.frame_dropped(self.dropped)
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            overload = self._depth.sample(len(self._queue))
            if overload is not None:
                self._log.overload(overload)
        return queued

    def wait_for_room(self, frames: int) -> bool:
        """Give the stream a moment to take what is queued, until so many frames more fit.

        For a burst, audio that the network held up and brought at once: Google takes it as fast
        as it can be sent, so nothing need be dropped. False at once or after 0.1 s if it does not.
        """
        return not self._deaf and self._queue.wait_for_room(frames, _BURST_SECONDS)

    def now_ms(self) -> int:
        """How much audio the call has brought, in milliseconds."""
        return self.audio_bytes // BYTES_PER_MS

    def close(self) -> None:
        """Send what is queued, take the last finals and end the thread, within the deadline.

        May be called twice and from any thread; a second caller waits for the end as well.
        """
        first = not self._closing.is_set()
        self._closing.set()
        self._queue.close()
        if threading.current_thread() is self._thread:
            if first:  # called by a callback, which cannot wait for its own thread
                self._thread_class(target=self.close, name="stt-close", daemon=True).start()
            return
        self._thread.join(self._limits.close_seconds)
        stream = self._stream
        if self._thread.is_alive() and stream is not None:
            stream.cancel()
            self._thread.join(_CANCEL_SECONDS)
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            self.dropped += self._queue.clear()  # what Google would not take in time
        self._log.session_closed(self.frames, self.dropped, self.audio_bytes / BYTES_PER_MS / 1000)

    # The streaming thread

    def _run(self) -> None:
        try:
            connection = self._connections.lease()
            try:
                self._stream_until_closed(connection)
            finally:
                self._connections.release(connection)
        except Exception:  # a fault of our own must end in the log, not in a thread that is gone
            self._deaf = True
            self._log.crashed("STT")
        finally:
            self.utterances.closed()

    def _stream_until_closed(self, connection: SpeechConnection) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            stream = self._stream = GoogleStream(
                connection,
                self._recognition.first_request(),
                self._queue,
                self._message_bytes,
                self._opened,
            )
            fault = self._follow(stream)
            if self._closing.is_set():
                if fault is not None and fault.code() is grpc.StatusCode.CANCELLED:
                    self._log.stream_failed(
                        f"Google had not finished {self._limits.close_seconds:g} s after the call",
                        "what has no final yet is lost",
                    )
                elif fault is not None:
                    self._log.stream_failed(_describe(fault), "the call is over")
                return
            if fault is not None and fault.code() in _PERMANENT:
                self._deaf = True
                self._log.stream_failed(_describe(fault), "this call is not transcribed")
                return
            if stream.answered:
                pause = _FIRST_PAUSE_SECONDS
            ended = "Google ended the stream" if fault is None else _describe(fault)
            self._log.stream_failed(ended, f"new stream in {pause:.1f} s")
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _opened(self) -> None:
        self._queue.settle(self._limits.queue_frames)

    def _follow(self, stream: GoogleStream) -> Any:
        """Hand on what the stream answers until its end; the `grpc.RpcError` of that, or None."""
        try:
            for response in stream.responses():
                self._hand_on(response, stream)
        except grpc.RpcError as fault:
            return fault
        return None

    def _hand_on(self, response: Any, stream: GoogleStream) -> None:
        """One response: an error, a voice activity event, or results (a final, then interims)."""
        if response.error.code:
            self._log.stream_failed(
                f"{response.error.code} {response.error.message}", "waiting for the stream's end"
            )
        if response.speech_event_type:
            self._hand_on_event(response, stream)
        for result in response.results:
            if result.is_final:
                self._hand_on_final(result, stream)
        interims = [result for result in response.results if not result.is_final]
        if interims:
            self._hand_on_interims(interims, stream)

    def _hand_on_event(self, response: Any, stream: GoogleStream) -> None:
        # unlike a result, an event may well be at 0: a call that begins with speech
        timed = response.HasField("speech_event_time")
        place = stream.place(_milliseconds(response.speech_event_time) if timed else None)
        at_ms = self._covered_ms if place is None else place.call_bytes // BYTES_PER_MS
        if response.speech_event_type == _Event.SPEECH_ACTIVITY_BEGIN:
            self._speech_ms = at_ms
            self.utterances.speech_began(at_ms)
        elif response.speech_event_type == _Event.SPEECH_ACTIVITY_END:
            self.utterances.speech_ended(at_ms)

    def _hand_on_final(self, result: Any, stream: GoogleStream) -> None:
        end_ms, delay_ms = self._timing(result, stream)
        stream.forget(_milliseconds(result.result_end_time))
        start_ms = max(self._covered_ms, self._speech_ms if self._speech_ms < end_ms else 0)
        self._covered_ms = max(self._covered_ms, end_ms)
        best = result.alternatives[0] if result.alternatives else None
        text = best.transcript.strip() if best is not None else ""
        if best is not None and text:
            self._call_back(
                self.utterances.final,
                Final(text, min(start_ms, end_ms), end_ms, best.confidence or None, delay_ms),
            )

    def _hand_on_interims(self, results: list[Any], stream: GoogleStream) -> None:
        """The interims of one response belong together: the first is the most stable part."""
        now = self._clock()
        end_ms, delay_ms = self._timing(results[-1], stream)
        if (now - self._last_partial) * 1000 < self._limits.partial_debounce_ms:
            self.utterances.noticed(end_ms)
            return  # a newer one, or the final, is on its way
        text = "".join(r.alternatives[0].transcript for r in results if r.alternatives).strip()
        if text:
            self._last_partial = now
            self._call_back(
                self.utterances.interim, Interim(text, end_ms, results[0].stability, delay_ms)
            )

    def _timing(self, result: Any, stream: GoogleStream) -> tuple[int, int]:
        """Where the result ends on the call's clock, and how long after its audio it came (ms)."""
        place = stream.place(_milliseconds(result.result_end_time) or None)
        if place is None:
            return self._covered_ms, 0
        delay_ms = max(0, round((self._clock() - place.arrived) * 1000))
        return place.call_bytes // BYTES_PER_MS, delay_ms

    def _call_back(self, callback: Callable[..., object], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # a listener's fault must not end the recognition of the call
            self._log.crashed("STT")


def _milliseconds(duration: Any) -> int:
    """A protobuf Duration in whole milliseconds."""
    return int(duration.seconds * 1000 + duration.nanos // 1_000_000)


def _describe(fault: Any) -> str:
    """A `grpc.RpcError` in a line, with the HTTP code that Google's documentation lists it by."""
    error = from_grpc_error(fault)  # type: ignore[no-untyped-call]  # google-api-core has no types
    return f"{int(error.code)} {fault.code().name}: {fault.details() or 'no details'}"
