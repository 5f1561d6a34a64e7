"""The limits of a call's streams: after how long something is done about what. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What a stream may take before something is done about it, and how much audio; seconds."""

    rotate: float = 240.0
    rotate_hard: float = 285.0
    settle: float = 0.25  # an opened stream may still be refused, until it takes over
    drain: float = 5.0  # from the half-close to the stream's end
    open: float = 10.0  # a stream that is queued in HTTP/2 hangs without an error
    stall: float = 2.0  # without taking audio that there is
    mute: float = 15.0  # of speech without any answer
    give_up: float = 30.0  # without a healthy stream, until plain calls take over
    replay: float = 60.0  # of audio that is replayed; what is more goes through plain calls
    piece: float = 50.0  # of audio for the next plain call, while there is no stream
    # of audio in which Google, in order, found no words: one that had just begun could be missing
    tail: float = 3.0
