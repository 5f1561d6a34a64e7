"""A recogniser that recognises nothing: it tells which numbered frames arrived.

The stand-in for Google in tests. Every frame says which call it is of and which it is in that
call, so a lost, doubled, swapped or damaged frame shows in the text that comes back and in the
stream's record. `numbered_frame`, `FrameReader` and the like are pure, for any thread; the
recogniser runs on the server's event loop and must stay cheap (hundreds of streams) and
never block.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import speech_messages as messages
from speech_messages import Message
from speech_recogniser import InOrder, RecordingRecord, Sink, StreamRecord
from speech_server_rules import bad_config, check_config

FRAME_BYTES = 160  # 20 ms of 8 kHz mu-law: what Twilio sends
MAX_FRAME_BYTES = 4096  # so that a damaged size cannot swallow a whole call

_MAGIC = b"\xa7F"
_HEADER = struct.Struct(">2sHIII")  # magic, size, call, seq, checksum of all the rest
_UNSIGNED = struct.Struct(">2sHII")
_FILLER = bytes(range(1, 256)) * 17


class DamagedFrames(ValueError):
    """Audio that is not whole numbered frames one after the other."""


def numbered_frame(call: int, seq: int, size: int = FRAME_BYTES) -> bytes:
    """A frame of `size` bytes (16 to 4,096) that no other frame equals.

    The filler is not constant and is covered by the checksum, so that a shift by one byte or
    a byte that changed is noticed anywhere in the frame.
    """
    if not _HEADER.size <= size <= MAX_FRAME_BYTES:
        raise ValueError(f"a numbered frame has 16 to {MAX_FRAME_BYTES} bytes, not {size}")
    filler = _FILLER[: size - _HEADER.size]
    front = _UNSIGNED.pack(_MAGIC, size, call, seq)
    return front + zlib.crc32(filler, zlib.crc32(front)).to_bytes(4, "big") + filler


class Frame(NamedTuple):
    """A numbered frame and the offsets in its stream, in bytes, at which it begins and ends."""

    call: int
    seq: int
    start: int
    end: int


class FrameReader:
    """Finds the numbered frames in a stream of bytes that may be cut anywhere.

    What is not a whole, sound frame (silence between frames, damage) is counted in
    `unreadable` and skipped.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        self._rest = b""
        self._rest_at = 0

    def read(self, audio: bytes) -> list[Frame]:
        """The frames that are complete by now."""
        data = self._rest + audio if self._rest else audio
        found: list[Frame] = []
        at = 0
        while len(data) - at >= _HEADER.size:
            magic, size, call, seq, checksum = _HEADER.unpack_from(data, at)
            if magic == _MAGIC and _HEADER.size <= size <= MAX_FRAME_BYTES:
                if at + size > len(data):
                    break
                if _checksum(data, at, size) == checksum:
                    start = self._rest_at + at
                    found.append(Frame(call, seq, start, start + size))
                    at += size
                    continue
            at = self._skip(data, at)
        self._rest = data[at:]
        self._rest_at += at
        return found

    def finish(self) -> int:
        """No more comes: the unreadable bytes, those of an incomplete frame included."""
        self.unreadable += len(self._rest)
        self._rest = b""
        return self.unreadable

    def _skip(self, data: bytes, at: int) -> int:
        found = data.find(_MAGIC, at + 1)
        # The last byte may be the first half of a magic.
        then = found if found >= 0 else len(data) - (data[-1:] == _MAGIC[:1])
        self.unreadable += then - at
        return then


def _checksum(data: bytes, at: int, size: int) -> int:
    filler = data[at + _HEADER.size : at + size]
    return zlib.crc32(filler, zlib.crc32(data[at : at + _UNSIGNED.size]))


def read_frames(audio: bytes) -> list[tuple[int, int]]:
    """The (call, seq) of each frame; raises `DamagedFrames` unless there is nothing else."""
    reader = FrameReader()
    frames = [frame[:2] for frame in reader.read(audio)]
    if unreadable := reader.finish():
        raise DamagedFrames(f"{unreadable} of {len(audio)} bytes are no whole numbered frame")
    return frames


def say_frames(frames: Iterable[tuple[int, int]]) -> str:
    """Frames as text: "call 7 frames 0-24", "call 7 frames 0-9,12-24; call 8 frames 0-3"."""
    said: list[str] = []
    runs: list[tuple[int, int, int]] = []
    for call, seq in frames:
        if runs and runs[-1][0] == call and runs[-1][2] + 1 == seq:
            runs[-1] = (call, runs[-1][1], seq)
        else:
            runs.append((call, seq, seq))
    last_call: int | None = None
    for call, first, last in runs:
        if call == last_call:
            said[-1] += f",{first}-{last}"
        else:
            said.append(f"call {call} frames {first}-{last}")
        last_call = call
    return "; ".join(said)


def frames_said(text: str) -> list[tuple[int, int]]:
    """The frames that a text of `say_frames` names, in its order."""
    frames: list[tuple[int, int]] = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        _, call, _, runs = part.split(" ")
        for run in runs.split(","):
            first, last = run.split("-")
            frames.extend((int(call), seq) for seq in range(int(first), int(last) + 1))
    return frames


@dataclass(frozen=True)
class EchoAnswers:
    """What the echo answers. 0 frames means never; a half-close always yields a final.

    `events` puts SPEECH_ACTIVITY_BEGIN before the first frame of a final and
    SPEECH_ACTIVITY_END right before the final, if the client's config asks for events.
    `refuse` may name a reason to refuse a RecognitionConfig, as Google refuses some models.
    """

    interim_every: int = 25
    final_every: int = 150
    events: bool = True
    final_delay_seconds: float = 0.0
    refuse: Callable[[Message], str | None] | None = None


class FrameEcho:
    """The recogniser: any language, any model, MULAW or LINEAR16 at any rate."""

    name = "frames"

    def __init__(self, answers: EchoAnswers | None = None) -> None:
        self.answers = answers or EchoAnswers()

    def check(self, config: Message) -> None:
        """Raises `Refused` for an encoding without a fixed size, or as `refuse` says."""
        check_config(config)
        if self.answers.refuse and (reason := self.answers.refuse(config)):
            raise bad_config(reason)

    def open(self, config: Message, sink: Sink, record: StreamRecord) -> EchoStream:
        """Begin a stream; its frames go to `record`."""
        return EchoStream(self.answers, config, sink, record)

    async def recognise(self, config: Message, audio: bytes) -> list[Message]:
        """One result that names all frames and ends with the last, or none if there is none."""
        frames = FrameReader().read(audio)
        if not frames:
            return []
        seconds = messages.audio_seconds(frames[-1].end, config)
        said = say_frames(frame[:2] for frame in frames)
        response = messages.final(said, seconds, config.language_code, 1.0)
        return [messages.plain_result(response.results[0])]

    def note(self, audio: bytes, record: RecordingRecord) -> None:
        """The recording's frames go to `record`."""
        reader = FrameReader()
        record.packed_frames.extend(frame.call << 32 | frame.seq for frame in reader.read(audio))
        record.unreadable_bytes = reader.finish()

    def close(self) -> None:
        """Nothing to give back."""


class EchoStream:
    """One stream of the echo: counts frames, answers at fixed numbers of them."""

    def __init__(
        self, answers: EchoAnswers, config: Message, sink: Sink, record: StreamRecord
    ) -> None:
        self._answers = answers
        self._config = config.config
        self._interims = config.interim_results and answers.interim_every > 0
        self._events = answers.events and config.enable_voice_activity_events
        self._record = record
        self._out = InOrder(sink)
        self._reader = FrameReader()
        self._fresh: list[tuple[int, int]] = []  # the frames since the last final
        self._end = 0  # where the last frame ended, in bytes

    async def feed(self, audio: bytes) -> None:
        """Note the frames and answer, frame by frame also where a message holds many."""
        for frame in self._reader.read(audio):
            self._take(frame)
        self._record.unreadable_bytes = self._reader.unreadable

    async def finish(self) -> None:
        """A final for the frames that are left; returns when it was sent."""
        self._record.unreadable_bytes = self._reader.finish()
        if self._fresh:
            self._final()
        await self._out.drained()

    def cancel(self) -> None:
        """Drop the finals that are still delayed."""
        # Half a frame that came before the stream was cut off came all the same.
        self._record.unreadable_bytes = self._reader.finish()
        self._out.cancel()

    def _take(self, frame: Frame) -> None:
        self._record.packed_frames.append(frame.call << 32 | frame.seq)
        if not self._fresh and self._events:
            self._event(messages.SPEECH_ACTIVITY_BEGIN, frame.start)
        self._fresh.append((frame.call, frame.seq))
        self._end = frame.end
        count = len(self._fresh)
        if self._answers.final_every and count >= self._answers.final_every:
            self._final()
        elif self._interims and count % self._answers.interim_every == 0:
            text = say_frames(self._fresh)
            self._out.send(
                messages.interim(text, self._seconds(self._end), self._config.language_code, 0.9)
            )

    def _final(self) -> None:
        if self._events:
            self._event(messages.SPEECH_ACTIVITY_END, self._end)
        text = say_frames(self._fresh)
        self._fresh = []
        end = self._seconds(self._end)
        response = messages.final(text, end, self._config.language_code, 1.0)
        if self._answers.final_delay_seconds:
            self._out.promise(asyncio.sleep(self._answers.final_delay_seconds, response))
        else:
            self._out.send(response)

    def _event(self, kind: int, at_bytes: int) -> None:
        self._out.send(messages.event(kind, self._seconds(at_bytes)))

    def _seconds(self, size: int) -> float:
        return messages.audio_seconds(size, self._config)
