"""The frames that the bench sends, and what became of them on their way. Pure.

Each frame of 160 bytes (20 ms of 8 kHz mu-law) carries the number of its call, its place in that
call and the moment at which it was sent. The moments are nanoseconds of CLOCK_MONOTONIC, which
all processes of a machine share: so whoever receives a frame can tell how long it was under way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

FRAME_BYTES = 160

_MAGIC = b"\xa7B"
_HEADER = struct.Struct(">2sIIQ")  # magic, call, seq, sent
# Not one value all through: a peer must neither find it quiet nor compress it away
_FILLER = bytes(range(1, 1 + FRAME_BYTES - _HEADER.size))
_FRAME = struct.Struct(f">2sIIQ{len(_FILLER)}x")


class Frame(NamedTuple):
    """One frame; `sent` in nanoseconds."""

    call: int
    seq: int
    sent: int


def stamped_frame(call: int, seq: int, sent: int) -> bytes:
    """The frame's 160 bytes of audio."""
    return _HEADER.pack(_MAGIC, call, seq, sent) + _FILLER


def read_frames(audio: bytes) -> tuple[list[Frame], int]:
    """The frames of a message, and how many of its bytes are no frame.

    Messages hold whole frames in every server of the bench, so they are not looked for in between.
    """
    usable = len(audio) - len(audio) % FRAME_BYTES
    rows = _FRAME.iter_unpack(memoryview(audio)[:usable])
    frames = [Frame(call, seq, sent) for magic, call, seq, sent in rows if magic == _MAGIC]
    return frames, len(audio) - len(frames) * FRAME_BYTES


@dataclass(slots=True)
class Tally:
    """What was received of the frames that were sent within a window."""

    received: int = 0  # different frames
    doubled: int = 0
    disordered: int = 0  # came after a later frame of their call
    unreadable_bytes: int = 0
    messages: int = 0  # with a frame of the window in them
    delays_ns: list[int] = field(default_factory=list)  # a frame's way, sorted


def tally(messages: Iterable[tuple[int, bytes]], begin: int, end: int) -> Tally:
    """Count the frames sent from `begin` on and before `end`, in nanoseconds.

    `messages`: when each came and its audio, in order of their coming.
    """
    result = Tally()
    seen: dict[int, set[int]] = {}
    latest: dict[int, int] = {}
    for came, audio in messages:
        frames, unreadable = read_frames(audio)
        result.unreadable_bytes += unreadable
        counted = False
        for call, seq, sent in frames:
            if not begin <= sent < end:
                continue
            counted = True
            known = seen.setdefault(call, set())
            if seq in known:
                result.doubled += 1
                continue
            known.add(seq)
            result.disordered += seq < latest.get(call, -1)
            latest[call] = max(seq, latest.get(call, -1))
            result.delays_ns.append(came - sent)
        result.messages += counted
    result.received = len(result.delays_ns)
    result.delays_ns.sort()
    return result


class Spread(NamedTuple):
    """How values are spread: percentiles by nearest rank, and the worst of all."""

    p50: float
    p95: float
    p99: float
    worst: float


def spread(ordered: list[int], unit: float = 1.0) -> Spread | None:
    """The spread of values in ascending order, divided by `unit`; None if there are none."""
    if not ordered:
        return None
    last = len(ordered) - 1
    p50, p95, p99 = (
        ordered[min(last, max(0, -(-len(ordered) * p // 100) - 1))] / unit for p in (50, 95, 99)
    )
    return Spread(p50, p95, p99, ordered[last] / unit)


def spread_of(values: Mapping[str, float] | None) -> Spread | None:
    """A spread that went through JSON."""
    return None if values is None else Spread(**values)
