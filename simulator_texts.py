"""What the service wrote of the simulator's calls, read back from its log and printed.

Runs on the simulator's loop, after the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service_log import ServiceLog

POLL_SECONDS = 0.1  # of the service's log


@dataclass(frozen=True, slots=True)
class PlayedCall:
    """A call that is over."""

    call_sid: str
    label: str
    frames_sent: int


async def read_log(
    path: Path, start: int, calls: Sequence[PlayedCall], seconds: float
) -> ServiceLog:
    """What the service wrote to `path` since the byte `start`, until each call is closed there.

    A call is waited for only if it was played, and all of them for `seconds` at most.
    """
    log = ServiceLog()
    waiting = {call.call_sid for call in calls if call.frames_sent}
    deadline = asyncio.get_running_loop().time() + seconds
    with path.open("rb") as file:
        file.seek(start)
        while True:
            log.feed(file.read())
            waiting = {call for call in waiting if not log.is_closed(call)}
            if not waiting or asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
    log.finish()
    return log


def print_texts(calls: Sequence[PlayedCall], log: ServiceLog) -> None:
    """Print each call's final texts, or why there are none."""
    for call in calls:
        texts = log.final_texts(call.call_sid)
        print(f"text of {call.label}:")
        for text in texts or [_why_no_text(call, log)]:
            print(f"  {text}")


def _why_no_text(call: PlayedCall, log: ServiceLog) -> str:
    sid = call.call_sid
    if not call.frames_sent:
        return "(none: nothing was played)"
    if sid not in log.lines:
        return "(none: the log says nothing of this call; is it this service's stdout?)"
    if not log.is_closed(sid):
        return "(none yet: the log does not tell the end of the call; try --transcript-wait)"
    return "(none: nothing final was recognised, or LOG_TRANSCRIPTS is 0)"
