"""The service's log, read back: one line on stdout is one event of a call.

`parse_line` knows the forms in which the service writes; `ServiceLog` gathers a growing log by
call. Pure: no file, no clock. It must never raise for a line that it does not know, since other
programs write into the same log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "connected",  # [WS] connected
    "disconnected",  # [WS] closed: 1000 …
    "refused",  # [WS] refused: 1013 …
    "started",  # [STT] session started
    "partial",  # 🟡 Partial(183ms): …
    "final",  # 🟢 Final: …
    "closed",  # [STT] session closed
    "dropped",  # [STT] queue full: dropped frame
    "overload",  # [STT] overload: …
    "failed",  # [STT] streaming failed: …
    "rotated",  # [STT] rotated: …
    "lost",  # [STT] lost: …
    "reaped",  # [REAPER] closed
    "other",  # any other line about a call
]

# What was said may itself hold " call=": the first group takes as much as it can, so that the
# id and the business are always the last ones of the line.
_ABOUT_A_CALL = re.compile(
    r"(?P<head>.*) call=(?P<call>\S+) tenant=(?P<tenant>\S*)(?P<numbers>(?: \w+=\S*)*)", re.DOTALL
)
# A process runner may put its own words before a line (`12:01:07 web.1 | …`). The first mark
# counts: any other is part of what was said.
_MARK = re.compile(
    r"(?<!\S)(?:🟡 Partial\((?P<delay>\d+)ms\):|(?P<final>🟢 Final:)|\[(?P<tag>\w+)\])"
)
_NUMBER = re.compile(r" (\w+)=(\d+(?:\.\d+)?)s?(?!\S)")

# The heads of the tagged lines, each with its kind; what follows the head is the line's text.
_HEADS: tuple[tuple[str, str, Kind], ...] = (
    ("WS", "connected", "connected"),
    ("WS", "closed:", "disconnected"),
    ("WS", "refused:", "refused"),
    ("STT", "session started", "started"),
    ("STT", "session closed", "closed"),
    ("STT", "queue full: dropped frame", "dropped"),
    ("STT", "overload:", "overload"),
    ("STT", "streaming failed:", "failed"),
    ("STT", "rotated:", "rotated"),
    ("STT", "lost:", "lost"),
    ("REAPER", "closed", "reaped"),
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line about a call."""

    kind: Kind
    call: str
    tenant: str
    text: str = ""  # what was said, or what the line tells beyond its head
    delay_ms: int | None = None  # of a partial: the recognition delay
    numbers: Mapping[str, float] = field(default_factory=dict)  # frames, dropped, fallback …


def parse_line(line: str) -> LogLine | None:
    """The event that `line` tells of, or None if it is no line about a call."""
    about = _ABOUT_A_CALL.fullmatch(line.rstrip("\r\n"))
    mark = _MARK.search(about["head"]) if about else None
    if about is None or mark is None:
        return None
    kind, text = _kind(mark, about["head"][mark.end() :].removeprefix(" "))
    return LogLine(
        kind,
        about["call"],
        about["tenant"],
        text,
        int(mark["delay"]) if mark["delay"] else None,
        {name: float(value) for name, value in _NUMBER.findall(about["numbers"])},
    )


def _kind(mark: re.Match[str], rest: str) -> tuple[Kind, str]:
    if mark["delay"]:
        return "partial", rest
    if mark["final"]:
        return "final", rest
    for tag, head, kind in _HEADS:
        if mark["tag"] == tag and (rest == head or rest.startswith(head + " ")):
            return kind, rest[len(head) :].removeprefix(" ")
    return "other", rest


class ServiceLog:
    """The lines of a log by call, fed as they grow, in pieces that may end anywhere."""

    def __init__(self) -> None:
        self.lines: dict[str, list[LogLine]] = {}
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the log (UTF-8); a line without its end is kept for later."""
        # Split at the line feed alone: text may hold other characters that end a line.
        *whole, self._tail = (self._tail + piece).split(b"\n")
        for line in whole:
            self._take(line)

    def finish(self) -> None:
        """Take also a last line that has no end."""
        self._take(self._tail)
        self._tail = b""

    def final_texts(self, call: str) -> list[str]:
        """What was said in the call, in the order in which it became final."""
        return [line.text for line in self.lines.get(call, ()) if line.kind == "final"]

    def is_closed(self, call: str) -> bool:
        """Whether all of the call's recognition sessions are closed: no text comes after that.

        It has one for each of its streams and tracks.
        """
        kinds = [line.kind for line in self.lines.get(call, ())]
        return "closed" in kinds and kinds.count("closed") >= kinds.count("started")

    def _take(self, line: bytes) -> None:
        event = parse_line(line.decode("utf-8", errors="replace"))
        if event is not None:
            self.lines.setdefault(event.call, []).append(event)
