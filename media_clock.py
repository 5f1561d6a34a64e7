"""How much audio is missing before each frame of a media stream, by its frames' timestamps.

Twilio sends nothing while some lines are silent, and a frame may be lost. The call's clock counts
bytes of audio, so what is missing must be made up for, or all later words are placed too early.
Run by the stream's handler, for each frame. Pure: no thread, no clock of its own, no I/O.

Twilio's clock is right in the long run. If it creeps ahead of the audio (50 ppm are 180 ms an
hour), the creep is made up for like a lost frame each time that it has come to 20 ms. Audio that
is ahead of the timestamps is never cut: a later gap is smaller by as much.
Source: Twilio's documentation, "Media Streams: WebSocket messages", `media.timestamp`.
"""

from __future__ import annotations

from audio_ring import BYTES_PER_MS, FRAME_BYTES

LONGEST_MS = 86_400_000  # no call of Twilio's is longer than 24 hours


class MediaClock:
    """The clock of one track of one media stream, from the stream's start on."""

    __slots__ = ("_audio_bytes",)

    def __init__(self) -> None:
        self._audio_bytes = 0  # where the next frame begins: all frames and gaps so far

    def gap_before(self, timestamp: str | int | float | None, frame_bytes: int) -> int:
        """How many bytes of audio are missing right before a frame; 0 for nearly every frame.

        `timestamp`: the frame's, in ms from the stream's start; one that is no whole number from
        0 to 24 hours is taken as missing, and the frame as the next one. `frame_bytes`: its size.
        A difference of less than a frame (20 ms) is jitter or rounding. Once it is more, all of it
        is the gap, so that the frame stands exactly at its timestamp.
        """
        gap = _milliseconds(timestamp) * BYTES_PER_MS - self._audio_bytes
        if gap < FRAME_BYTES:
            gap = 0
        self._audio_bytes += gap + frame_bytes
        return gap


def _milliseconds(timestamp: str | int | float | None) -> int:
    """The timestamp as a number; 0 for a missing one, before which nothing can be missing."""
    if isinstance(timestamp, str):
        # int() alone would take " 5", "1_000" and other scripts' digits, and raise for very many.
        plain = len(timestamp) <= 20 and timestamp.isascii() and timestamp.isdigit()
        number = int(timestamp) if plain else 0
    elif isinstance(timestamp, int):
        number = timestamp
    elif timestamp is not None and timestamp.is_integer():
        number = int(timestamp)
    else:
        number = 0
    return number if 0 <= number <= LONGEST_MS else 0
