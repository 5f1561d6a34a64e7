"""The bench's figures as tables for people (Markdown) and as a record for programs (JSON). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_case import Case

_OVER, _DOUBTFUL = "over its limit", "in doubt"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(slots=True)
class Results:
    """One run: what was measured on what machine, and what was not and why."""

    machine: Mapping[str, str]
    timing: Mapping[str, float]
    ours: str  # the peer that the others are compared with
    titles: Mapping[str, str]  # of peers, in the order of the tables
    cases: list[Case] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # "peer, calls": why

    def case(self, peer: str, calls: int) -> Case | None:
        """The case, if it was measured."""
        return next((c for c in self.cases if (c.peer, c.calls) == (peer, calls)), None)

    def to_json(self) -> dict[str, Any]:
        """The whole record; each case with its ratios to ours."""
        return {
            "machine": dict(self.machine),
            "timing": dict(self.timing),
            "ours": self.ours,
            "titles": dict(self.titles),
            "cases": [
                {**case.to_json(), "ratios": ratios(case, self.case(self.ours, case.calls))}
                for case in self.cases
            ],
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Results:
        """A record that was saved."""
        cases = [
            Case.from_json({name: one for name, one in case.items() if name != "ratios"})
            for case in saved["cases"]
        ]
        return cls(**{**saved, "cases": cases})


# Each figure that has a ratio: its column and how it is taken from a case (None: it has none)
Figure = tuple[str, Callable[[Case], float | None], str]
FIGURES: tuple[Figure, ...] = (
    ("CPU-ms per call-second", lambda c: c.cpu_ms, ".2f"),
    ("delay p50", lambda c: c.delay_ms and c.delay_ms.p50, ".1f"),
    ("p95", lambda c: c.delay_ms and c.delay_ms.p95, ".1f"),
    ("p99", lambda c: c.delay_ms and c.delay_ms.p99, ".1f"),
    ("worst", lambda c: c.delay_ms and c.delay_ms.worst, ".0f"),
    ("loop p95", lambda c: c.loop_ms and c.loop_ms.p95, ".1f"),
    ("KB per call", lambda c: c.kilobytes, ".0f"),
)


def ratios(case: Case, ours: Case | None) -> dict[str, float]:
    """Each figure of a case divided by that of ours at as many calls."""
    if ours is None:
        return {}
    pairs = ((name, value(case), value(ours)) for name, value, _ in FIGURES)
    return {name: round(it / own, 3) for name, it, own in pairs if it is not None and own}


def full_table(results: Results) -> str:
    """Every case with every figure, each with its ratio to ours in brackets."""
    head = ("calls", "who", *(name for name, _, _ in FIGURES), "frames missing")
    rows = []
    for case in sorted(results.cases, key=lambda c: (c.calls, list(results.titles).index(c.peer))):
        to_ours = ratios(case, results.case(results.ours, case.calls))
        cells = [
            _figure(one, case, None if case.peer == results.ours else to_ours) for one in FIGURES
        ]
        missing = f"{case.missing} of {case.frames}"
        rows.append((str(case.calls), results.titles[case.peer], *cells, missing))
    return _table(head, rows)


def cpu_table(results: Results) -> str:
    """CPU-ms per call-second: a row for each peer, a column for each number of calls."""
    counts = sorted({case.calls for case in results.cases})
    rows = []
    for peer, title in results.titles.items():
        cells = []
        for calls in counts:
            case, ours = results.case(peer, calls), results.case(results.ours, calls)
            if case is None or not case.carried:
                cells.append(_no_figure(case, f"{peer}, {calls}" in results.left_out))
                continue
            compared = ours is not None and ours.carried and peer != results.ours
            cells.append(_figure(FIGURES[0], case, ratios(case, ours) if compared else None))
        rows.append((title, *cells))
    return _table(("CPU-ms per call-second", *(_calls(n) for n in counts)), rows)


def _no_figure(case: Case | None, left_out: bool) -> str:
    """What stands for a case that was not carried: a busy machine is no fault of the peer's."""
    if case is None:
        return _OVER if left_out else "–"
    return _DOUBTFUL if case.doubts else _OVER


def page(results: Results) -> str:
    """Both tables and what they are of: `results.md`."""
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    doubts = [
        f"- {results.titles[case.peer]}, {_calls(case.calls)}: {case.doubts}"
        for case in results.cases
        if case.doubts
    ]
    left_out = [f"- {name} calls: {why}" for name, why in results.left_out.items()]
    parts = [
        "# What a call costs",
        f"{machine}. {results.timing['window']:g} s of each case.",
        cpu_table(results),
        "In brackets: how many times ours. 10 ms are 100 calls on a core.",
        "## All figures",
        full_table(results),
        "Delays in ms: of a frame, from the socket to Google; loop: an answer of `/healthz`. "
        "KB per call: resident memory. Frames missing: sent in the window, never seen by Google.",
        _parts_line(results.cases),
    ]
    if doubts:
        parts += ["## In doubt", "\n".join(doubts)]
    if left_out:
        parts += ["## Left out", "\n".join(left_out)]
    return "\n\n".join(parts) + "\n"


def shown_in(readme: str, results: Results) -> str:
    """The README with its table of an earlier run replaced.

    Raises `ValueError` if the marks of its place are not there.
    """
    head, begin, rest = readme.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError("the README has no place for the table")
    shown = cpu_table(results)
    if any(case.doubts for case in results.cases):
        shown += "\n\nThe machine was busy with other work: `bench/measured/results.md` says when."
    return f"{head}{begin}\n\n{shown}\n\n{end}{tail}"


def line(case: Case, title: str) -> str:
    """A case in one line, as it is said while the bench goes on."""
    delay = f"p99 {case.delay_ms.p99:.0f} ms" if case.delay_ms else "nothing came"
    loop = f"{case.loop_ms.p95:.0f} ms" if case.loop_ms else "-"
    said = (
        f"{case.calls:4} calls  {title:38} {case.cpu_ms:6.2f} CPU-ms per call-second"
        f"  ({case.cpu_share:4.0%} of a core)  frames {delay}, missing {case.missing}"
        f"  loop p95 {loop}  {case.kilobytes:.0f} KB a call"
        f"  [load {case.load_share:.0%}, stand-in {case.google_share:.0%},"
        f" others {case.others_share:.0%}]"
    )
    return f"{said}\n      in doubt: {case.doubts}" if case.doubts else said


def _parts_line(cases: Sequence[Case]) -> str:
    load = max((case.load_share for case in cases), default=0.0)
    google = max((case.google_share for case in cases), default=0.0)
    return (
        f"The bench's own parts took at most {load:.0%} (load) and {google:.0%} (stand-in Google) "
        "of a core."
    )


def _figure(figure: Figure, case: Case, to_ours: Mapping[str, float] | None) -> str:
    name, value, form = figure
    number = value(case)
    if number is None:
        return "–"
    ratio = to_ours.get(name) if to_ours else None
    return f"{number:{form}}" if ratio is None else f"{number:{form}} (×{ratio:.2g})"


def _calls(count: int) -> str:
    return f"{count} call{'s' if count != 1 else ''}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
