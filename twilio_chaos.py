"""What can go wrong with a call of Twilio's, done on purpose.

`Chaos` names the kinds and the seed of a call, `StreamChaos` does to one stream's frames and
messages what they name. Pure: the audio goes in frame by frame, and what is to be sent now comes
out; a call with the same seed has the same troubles.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from twilio_stream import End, Track

ChaosKind = Literal[
    "doubled-webhook",  # each webhook that asks for TwiML comes twice; the first answer counts
    "two-sockets",  # each stream has a second socket, with a streamSid of its own
    "no-stop",  # streams end without `stop`
    "odd-frames",  # frames of 1 to 400 bytes instead of 160
    "gaps",  # frames are left out, and the timestamps go on
    "bursts",  # frames come 10 to 50 at a time
    "reordered",  # now and then a message comes after the next one
    "early-media",  # `start` comes with the first ten frames at its heels
    "cut",  # the call's first stream is cut off after 1 to 50 frames
]
KINDS: tuple[ChaosKind, ...] = get_args(ChaosKind)

EARLY_FRAMES = 10
APART = (5, 30)  # frames between two gaps, or two messages that change places
GAP_FRAMES = (1, 10)
BURST_FRAMES = (10, 50)
ODD_BYTES = (1, 400)
CUT_AFTER_FRAMES = (1, 50)


@dataclass(frozen=True, slots=True)
class Chaos:
    """The troubles of one call."""

    kinds: frozenset[ChaosKind] = frozenset(KINDS)
    seed: int = 0


CALM = Chaos(frozenset())


def read_kinds(text: str) -> frozenset[ChaosKind]:
    """The kinds that `text` lists with commas; "all" is each of them. Raises ValueError."""
    names = [name.strip() for name in text.split(",")]
    if names == ["all"]:
        return frozenset(KINDS)
    for name in names:
        if name not in KINDS:
            raise ValueError(f"{name!r} is no kind of chaos: they are {', '.join(KINDS)}, or all")
    return frozenset(cast(list[ChaosKind], names))


class StreamChaos:
    """The troubles of one stream, the `number`th of its call (from 0)."""

    def __init__(self, chaos: Chaos, number: int) -> None:
        self._kinds = chaos.kinds
        self._random = random.Random(f"{chaos.seed} {number}")
        self.cut_after = (
            self._random.randint(*CUT_AFTER_FRAMES) if "cut" in chaos.kinds and not number else None
        )
        self._gap_in, self._gap_left = self._random.randint(*APART), 0
        self._swap_in = self._random.randint(*APART)
        self._swapped: str | None = None
        self._uncut: dict[Track, bytes] = {}
        self._batch: list[str] = []
        self._goal = 1

    @property
    def end(self) -> End:
        """How the stream ends."""
        if self.cut_after is not None:
            return "cut"
        return "close" if "no-stop" in self._kinds else "stop"

    def is_gap(self) -> bool:
        """Whether the next 20 ms of the line are left out; to be asked once for each."""
        if "gaps" not in self._kinds:
            return False
        if self._gap_left:
            self._gap_left -= 1
            return True
        self._gap_in -= 1
        if not self._gap_in:
            self._gap_in = self._random.randint(*APART)
            self._gap_left = self._random.randint(*GAP_FRAMES)
        return False

    def frames(self, track: Track, frame: bytes) -> list[bytes]:
        """The frames to be sent now for a frame of the line."""
        if "odd-frames" not in self._kinds:
            return [frame]
        audio = self._uncut.get(track, b"") + frame
        frames = []
        while audio and (size := self._random.randint(*ODD_BYTES)) <= len(audio):
            frames.append(audio[:size])
            audio = audio[size:]
        self._uncut[track] = audio
        return frames

    def rest(self, track: Track) -> list[bytes]:
        """What `frames` has kept back."""
        audio = self._uncut.pop(track, b"")
        return [audio] if audio else []

    def start(self, message: str) -> list[str]:
        """The messages to be sent now for `start`."""
        self._goal = 1 + EARLY_FRAMES if "early-media" in self._kinds else 1
        return self._release([message])

    def media(self, message: str) -> list[str]:
        """The messages to be sent now for one of media."""
        if "reordered" not in self._kinds:
            return self._release([message])
        if self._swapped is not None:
            messages, self._swapped = [message, self._swapped], None
            return self._release(messages)
        self._swap_in -= 1
        if self._swap_in:
            return self._release([message])
        self._swap_in, self._swapped = self._random.randint(*APART), message
        return []

    def last(self) -> list[str]:
        """The messages that were kept back until now."""
        messages = [] if self._swapped is None else [self._swapped]
        self._swapped, self._goal = None, 0
        return self._release(messages)

    def _release(self, messages: Iterable[str]) -> list[str]:
        self._batch += messages
        if len(self._batch) < self._goal:
            return []
        batch, self._batch = self._batch, []
        self._goal = self._random.randint(*BURST_FRAMES) if "bursts" in self._kinds else 1
        return batch
