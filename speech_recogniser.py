"""What the local speech server asks of a recogniser, and what the two share.

Everything here runs on the server's event loop, except where it says otherwise; nothing
here may block it. A recogniser knows nothing of gRPC, limits or faults: those are the server's.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from speech_messages import Message


class Sink(Protocol):
    """Where a recogniser's stream puts what it has to say. Loop only; never blocks."""

    def send(self, response: Message) -> None:
        """One StreamingRecognizeResponse for the client."""

    def finish(self) -> None:
        """The recogniser wants no more audio: the stream ends OK behind what was sent."""

    def fail(self, error: BaseException) -> None:
        """The recogniser broke: the stream ends with INTERNAL."""


class RecogniserStream(Protocol):
    """One stream's recognition. `cancel` may come at any time, and more than once."""

    async def feed(self, audio: bytes) -> None:
        """Take the audio of one message; returning late is back-pressure."""

    async def finish(self) -> None:
        """The client half-closed: send what is left, return when all of it was sent."""

    def cancel(self) -> None:
        """Free everything of this stream; nothing is sent any more."""


class Recogniser(Protocol):
    """A way to make text of audio."""

    name: str

    def check(self, config: Message) -> None:
        """Raise `Refused` for a RecognitionConfig that cannot be served."""

    def open(self, config: Message, sink: Sink, record: StreamRecord) -> RecogniserStream:
        """Begin a stream for a StreamingRecognitionConfig that passed `check`."""

    async def recognise(self, config: Message, audio: bytes) -> list[Message]:
        """The SpeechRecognitionResults of one whole recording."""

    def close(self) -> None:
        """Give back threads and memory; called once, after the last stream."""


@runtime_checkable
class NotesRecordings(Protocol):
    """A recogniser that can tell which frames a recording holds, also one it never recognises."""

    def note(self, audio: bytes, record: RecordingRecord) -> None:
        """Write the recording's frames, and what is no frame, to its record."""


@dataclass
class StreamRecord:
    """What arrived on one stream: written by the event loop, safe to read from any thread.

    `ended` is None while the stream lives, then one of "half-closed", "finished" (by the
    recogniser), "limit", "refused" (a bad message or config), "cancelled", "failed", "fault".
    `fault` is the fault on order that struck it, as its line; "" while none did.
    `status` is what it ended with; "" also where it was reset.
    Arrays, not lists of objects: a soak of sixty calls leaves millions of frames behind.
    """

    peer: str
    opened_at: float
    config: Message = None
    message_sizes: array[int] = field(default_factory=lambda: array("I"))
    packed_frames: array[int] = field(default_factory=lambda: array("Q"))
    unreadable_bytes: int = 0
    responses: int = 0
    ended: str | None = None
    ended_at: float | None = None
    status: str = ""
    fault: str = ""

    @property
    def messages(self) -> int:
        """How many messages with audio came."""
        return len(self.message_sizes)

    @property
    def audio_bytes(self) -> int:
        """How many bytes of audio came."""
        return sum(self.message_sizes)

    @property
    def frames(self) -> list[tuple[int, int]]:
        """The (call, seq) of every numbered frame, in order of arrival."""
        return _unpacked(self.packed_frames)


@dataclass
class RecordingRecord:
    """What arrived by one plain `Recognize` call: written by the event loop, read anywhere.

    `at` is when it arrived. `status` is "" until it was answered, then "OK", "CODE: text" or
    "CANCELLED" (by the client); `fault` is the fault on order that it was answered with.
    """

    at: float
    config: Message
    audio_bytes: int
    packed_frames: array[int] = field(default_factory=lambda: array("Q"))
    unreadable_bytes: int = 0
    status: str = ""
    fault: str = ""

    @property
    def frames(self) -> list[tuple[int, int]]:
        """The (call, seq) of every numbered frame, in its order."""
        return _unpacked(self.packed_frames)


def _unpacked(frames: array[int]) -> list[tuple[int, int]]:
    return [(packed >> 32, packed & 0xFFFFFFFF) for packed in frames]


class InOrder:
    """Sends responses in the order in which they were announced, though some take time.

    A result that is still being worked out is promised; whatever is sent after it waits for it.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: deque[Message | asyncio.Future[Message | None]] = deque()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, response: Message) -> None:
        """Send now, or behind what was promised before."""
        if self._waiting:
            self._waiting.append(response)
        else:
            self._sink.send(response)

    def promise(self, coming: Awaitable[Message | None]) -> None:
        """Keep the place of a response that comes later; None sends nothing."""
        future = asyncio.ensure_future(coming)
        self._waiting.append(future)
        self._empty.clear()
        future.add_done_callback(self._pump)

    async def drained(self) -> None:
        """Return when nothing is waiting any more."""
        await self._empty.wait()

    def cancel(self) -> None:
        """Drop what is waiting."""
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            if isinstance(item, asyncio.Future):
                item.cancel()
        self._empty.set()

    def _pump(self, done: asyncio.Future[Message | None]) -> None:
        if done.cancelled():
            return
        if error := done.exception():
            self._sink.fail(error)
            self.cancel()
            return
        while self._waiting:
            head = self._waiting[0]
            if isinstance(head, asyncio.Future):
                if not head.done():
                    return
                response = head.result()
            else:
                response = head
            self._waiting.popleft()
            if response is not None:
                self._sink.send(response)
        self._empty.set()
