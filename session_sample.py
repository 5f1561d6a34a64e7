"""How a recognition session stands at a moment, in plain numbers. Pure.

The metrics take one of each live session about once a second; nothing is counted for them on the
way of the audio.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class SessionSample(NamedTuple):
    """The sums of a session so far, and how things are with it now."""

    frames: int = 0
    dropped: int = 0  # found the queue full
    lost: int = 0  # frames without text
    gaps: int = 0  # in Twilio's timestamps
    filled_bytes: int = 0  # silence put into them
    sent_bytes: int = 0  # of audio to Google, replays and plain calls included
    rotations: int = 0
    # Now
    streams: int = 0  # open to Google
    waiting: int = 0  # frames in the queue of the live stream
    # Of the message that was handed to Google last: how long after its last frame had come.
    # None: there is no live stream, or audio that waited is being replayed.
    delay_seconds: float | None = None


class Sampled(Protocol):
    """A session that can be looked at. `ended`: its sums do not change any more."""

    @property
    def ended(self) -> bool: ...

    def sample(self) -> SessionSample: ...
