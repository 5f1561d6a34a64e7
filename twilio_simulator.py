"""A Twilio simulator: plays recorded calls to a media stream's address, as Twilio would.

With --number it calls a service from the webhook on: that command is in `simulator_numbers`.

The command of the demo, of a developer at a desk and of a first load test; the calls themselves
are in `twilio_calls`, whose names can be had from here too. Everything runs on one asyncio loop,
which also draws the progress: nothing here may block it for long while calls are playing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import simulator_numbers
from placed_call_report import PlacedCallReport
from service_log import ServiceLog
from simulator_options import WrongUsage, make_parser
from simulator_texts import PlayedCall, print_texts, read_log
from twilio_calls import (
    PlannedCall,
    WrongUrl,
    check_stream_url,
    new_sid,
    play_call,
    play_calls,
)
from twilio_placed_call import PlacedCall, place_call
from twilio_stream import FRAME_SECONDS, CallReport, StreamMessages, play_stream
from wav_frames import BadWav, read_frames

__all__ = [
    "CallReport",
    "PlacedCall",
    "PlacedCallReport",
    "PlannedCall",
    "StreamMessages",
    "WrongUrl",
    "main",
    "new_sid",
    "place_call",
    "play_call",
    "play_calls",
    "play_stream",
]

FEW_CALLS = 12  # so many have a line each; more are told of in sums
REFRESH_SECONDS = 0.25  # of the bars
NEWS_SECONDS = 5.0  # between two plain lines about many calls


@dataclass(slots=True)
class SimulatedCall:
    """A call of this run: what it plays, and how it is going."""

    name: str  # the file's, without its folder
    frames: list[bytes]
    tenant: str | None
    report: CallReport = field(default_factory=CallReport)

    @property
    def label(self) -> str:
        return " ".join(filter(None, (self.report.call_sid, self.tenant, self.name)))

    @property
    def short_label(self) -> str:
        """For a bar, which must leave room on a terminal of 80 columns."""
        short = self.report.call_sid[:8] + "…" * bool(self.report.call_sid)
        return " ".join(filter(None, (short, self.tenant, self.name)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what was said may be Hebrew, whatever the locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    if options.number:
        return simulator_numbers.main(options)
    calls: list[SimulatedCall] = []
    try:
        calls = _prepare(options)
        # Nothing that the log holds already is about these calls.
        log_start = Path(options.transcript).stat().st_size if options.transcript else 0
        log = asyncio.run(_run(options, calls, log_start))
    except WrongUsage as error:
        for line in error.args:
            print(f"twilio_simulator.py: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        sent = sum(call.report.frames_sent for call in calls)
        print(f"interrupted: every call was hung up, after {sent} frames", file=sys.stderr)
        return 130
    _print_summary(calls)
    if log is not None:
        print_texts(_played(calls), log)
    return _print_failures(calls)


def _prepare(options: argparse.Namespace) -> list[SimulatedCall]:
    """The calls to be placed; raises WrongUsage with a line for all that is wrong."""
    faults = []
    try:
        url = check_stream_url(options.url)
        if url != options.url:
            print(f"note: Twilio strips a query from the URL: calling {url}", file=sys.stderr)
    except WrongUrl as error:
        faults.append(str(error))
    played: dict[str, list[bytes]] = {}
    for name in dict.fromkeys(options.files):
        try:
            played[name] = read_frames(name, options.repeat)
        except BadWav as error:
            faults.append(str(error))
    if options.transcript is not None and not Path(options.transcript).is_file():
        faults.append(
            f"{options.transcript}: no such file: start the service with its stdout going there"
        )
    if faults:
        raise WrongUsage(*faults)
    calls = []
    for number in range(options.calls or len(options.files)):
        name = options.files[number % len(options.files)]
        tenants = options.tenant or [None]
        tenant = tenants[number % len(tenants)]
        calls.append(SimulatedCall(Path(name).name, played[name], tenant))
    return calls


async def _run(
    options: argparse.Namespace, calls: list[SimulatedCall], log_start: int
) -> ServiceLog | None:
    """Place the calls, show how they go, and read the service's log if there is one."""
    show = _show_bars if sys.stdout.isatty() and not options.plain else _show_lines
    showing = asyncio.create_task(show(calls))
    try:
        await play_calls(
            options.url,
            [PlannedCall(call.frames, call.tenant, report=call.report) for call in calls],
            ramp=options.ramp,
            tenant_in=options.tenant_in,
            end=options.end,
        )
        await showing
    finally:
        showing.cancel()
    if not options.transcript:
        return None
    return await read_log(
        Path(options.transcript), log_start, _played(calls), options.transcript_wait
    )


def _played(calls: list[SimulatedCall]) -> list[PlayedCall]:
    return [PlayedCall(c.report.call_sid, c.label, c.report.frames_sent) for c in calls]


async def _show_bars(calls: list[SimulatedCall]) -> None:
    """Draw a bar for each call, or one for all if they are many, until all have ended."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[news]}"),
        TimeElapsedColumn(),
        console=Console(),
        # Drawn from this loop: a thread that draws would take the interpreter from the calls.
        auto_refresh=False,
    )
    groups = [[call] for call in calls] if len(calls) <= FEW_CALLS else [calls]
    bars: list[tuple[TaskID, list[SimulatedCall]]] = [
        (progress.add_task("", total=sum(len(call.frames) for call in group), news=""), group)
        for group in groups
    ]
    with progress:
        while True:
            over = _all_ended(calls)
            for bar, group in bars:
                sent = sum(call.report.frames_sent for call in group)
                one = group[0]
                name = one.short_label if len(group) == 1 else f"{len(group)} calls"
                news = one.report.state if len(group) == 1 else _counted_states(group)
                progress.update(bar, completed=sent, description=name, news=news)
            progress.refresh()
            if over:
                return
            await asyncio.sleep(REFRESH_SECONDS)


async def _show_lines(calls: list[SimulatedCall]) -> None:
    """Print a line when a call begins and ends, or now and then if they are many."""
    told: dict[int, str] = {}
    rounds = 0
    while True:
        over = _all_ended(calls)
        if len(calls) <= FEW_CALLS:
            for number, call in enumerate(calls):
                state = call.report.state
                if state in ("playing", "ended") and told.get(number) != state:
                    told[number] = state
                    print(f"{call.label}: {_news(call)}", flush=True)
        elif over or rounds % round(NEWS_SECONDS / REFRESH_SECONDS) == 0:
            sent = sum(call.report.frames_sent for call in calls)
            print(f"{len(calls)} calls: {_counted_states(calls)}; {sent} frames sent", flush=True)
        if over:
            return
        rounds += 1
        await asyncio.sleep(REFRESH_SECONDS)


def _news(call: SimulatedCall) -> str:
    if call.report.state == "playing":
        return f"playing {len(call.frames) * FRAME_SECONDS:.1f} s"
    return "ended" if call.report.close_code else "not connected"


def _all_ended(calls: list[SimulatedCall]) -> bool:
    return all(call.report.state == "ended" for call in calls)


def _counted_states(calls: list[SimulatedCall]) -> str:
    states = Counter(call.report.state for call in calls)
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _print_summary(calls: list[SimulatedCall]) -> None:
    reports = [call.report for call in calls]
    if len(calls) <= FEW_CALLS:
        for call in calls:
            print(f"{call.label}: {_outcome(call.report)}")
    codes = Counter("no close code" if r.close_code is None else str(r.close_code) for r in reports)
    good = sum(report.ok for report in reports)
    print(
        f"{_counted(len(calls), 'call')}, {good} ok, {len(calls) - good} failed;"
        f" {_counted(sum(report.frames_sent for report in reports), 'frame')} sent,"
        f" the latest {max(report.worst_lateness for report in reports) * 1000:.1f} ms behind;"
        f" closed with {', '.join(f'{code} ×{count}' for code, count in sorted(codes.items()))}"
    )


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _outcome(report: CallReport) -> str:
    if report.close_code is None:
        return "not connected"
    early = ", ended early by the server" if report.ended_early else ""
    reason = f" {report.close_reason}" if report.close_reason else ""
    return (
        f"{_counted(report.frames_sent, 'frame')} in {report.seconds:.1f} s,"
        f" the latest {report.worst_lateness * 1000:.1f} ms behind,"
        f" closed with {report.close_code}{reason}{early}"
    )


def _print_failures(calls: list[SimulatedCall]) -> int:
    """Say on stderr what failed, the same words once; returns the exit code."""
    errors = Counter(call.report.error for call in calls if call.report.error is not None)
    for error, count in errors.items():
        print(f"failed: {error}" + f" ({count} calls)" * (count > 1), file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
