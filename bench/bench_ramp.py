"""Where a peer's end is: the number of calls at which its loop is late, or a frame is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench_case import Case

LOOP_LATE_MS = 20.0
FIRST_CALLS = 60
MOST_CALLS = 960
CLOSE_ENOUGH = 10


@dataclass(frozen=True, slots=True)
class Knee:
    """The most calls that were in order, and the fewest that were not (None: none of them)."""

    fine: int
    not_fine: int | None
    why: str = ""

    def __str__(self) -> str:
        if self.not_fine is None:
            return f"none up to {self.fine} calls"
        return f"between {self.fine} and {self.not_fine} calls: {self.why}"


def trouble(case: Case) -> str | None:
    """Why this many calls are too many; None if they are not."""
    fault = _fault(case)
    return f"{fault} (in doubt: {case.doubts})" if fault and case.doubts else fault


def _fault(case: Case) -> str | None:
    if case.missing:
        return f"{case.missing} of {case.frames} frames were missing"
    if case.loop_ms is None or case.loop_ms.p95 > LOOP_LATE_MS:
        late = f"{case.loop_ms.p95:.0f} ms" if case.loop_ms else "no answer"
        return f"the p95 of the loop's delay was {late}"
    return None


def steps(fine: int, not_fine: int | None) -> int | None:
    """The next number of calls to try; None when the end is known closely enough."""
    if not_fine is None:
        return None if fine >= MOST_CALLS else max(FIRST_CALLS, fine * 2)
    if not_fine - fine <= max(CLOSE_ENOUGH, fine // 20):
        return None
    return (fine + not_fine) // 2


def find_knee(measure: Callable[[int], Case], tell: Callable[[Case], None]) -> Knee:
    """Double the calls until something is wrong, then halve the distance."""
    fine, why = 0, ""
    not_fine: int | None = None
    while (calls := steps(fine, not_fine)) is not None:
        case = measure(calls)
        tell(case)
        fault = trouble(case)
        if fault is None:
            fine = calls
        else:
            not_fine, why = calls, fault
    return Knee(fine, not_fine, why)
