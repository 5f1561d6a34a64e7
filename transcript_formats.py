"""A call's transcript as plain text, SRT, WebVTT or data. Pure.

Both tracks stand in one list in the order of their starts, each utterance with who said it. The
text itself is left as it is. Players decide the direction of a line by its first letter, so in
subtitles no speaker's name stands before Hebrew: it has a line of its own, or a tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# The tracks as Twilio names them, from its own side of the line
SPEAKERS = {"inbound": "Caller", "outbound": "Business"}


class Line(NamedTuple):
    """An utterance: its track, when it began and ended on the call's clock (ms), and its text."""

    track: str
    start_ms: int
    end_ms: int
    text: str


def speaker_of(track: str) -> str:
    """Who speaks on a track."""
    return SPEAKERS.get(track, track)


def as_text(lines: Sequence[Line]) -> str:
    """`[0:01:05] Caller: text`, a line each."""
    return "".join(
        f"[{_clock(line.start_ms)}] {speaker_of(line.track)}: {_one_line(line.text)}\n"
        for line in lines
    )


def as_srt(lines: Sequence[Line]) -> str:
    """SubRip: numbered cues, the speaker above the text; commas before the milliseconds."""
    return "".join(
        f"{number}\n{_cue_times(line, ',')}\n"
        f"{speaker_of(line.track)}:\n{_one_line(line.text).replace('-->', '→')}\n\n"
        for number, line in enumerate(lines, 1)
    )


def as_vtt(lines: Sequence[Line]) -> str:
    """WebVTT (W3C): the speaker in a voice tag, `&`, `<` and `>` escaped."""
    cues = (
        f"\n{_cue_times(line, '.')}\n<v {_escaped(speaker_of(line.track))}>"
        f"{_escaped(_one_line(line.text))}</v>\n"
        for line in lines
    )
    return "WEBVTT\n" + "".join(cues)


def _one_line(text: str) -> str:
    """Without ends of lines: an empty line would end a cue."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(ms: int) -> str:
    seconds = max(0, ms) // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _cue_times(line: Line, point: str) -> str:
    start = max(0, line.start_ms)
    return f"{_cue_time(start, point)} --> {_cue_time(max(line.end_ms, start + 1), point)}"


def _cue_time(ms: int, point: str) -> str:
    return (
        f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"
    )
