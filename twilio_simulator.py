"""A Twilio simulator: plays recorded calls to a media stream's address, as Twilio would.

The command of the demo, of a developer at a desk and of a first load test; the calls themselves
are in `twilio_calls`, whose names can be had from here too. Everything runs on one asyncio loop,
which also draws the progress: nothing here may block it for long while calls are playing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from service_log import ServiceLog
from twilio_calls import (
    PlannedCall,
    WrongUrl,
    check_stream_url,
    new_sid,
    play_call,
    play_calls,
)
from twilio_stream import FRAME_SECONDS, CallReport, StreamMessages, play_stream
from wav_frames import BadWav, read_frames

__all__ = [
    "CallReport",
    "PlannedCall",
    "StreamMessages",
    "WrongUrl",
    "main",
    "new_sid",
    "play_call",
    "play_calls",
    "play_stream",
]

FEW_CALLS = 12  # so many have a line each; more are told of in sums
REFRESH_SECONDS = 0.25  # of the bars
NEWS_SECONDS = 5.0  # between two plain lines about many calls
POLL_SECONDS = 0.1  # of the service's log, after the calls

EXAMPLES = """examples:
  one call, to a service on this machine:
    python twilio_simulator.py ws://127.0.0.1:8000/media samples/clinic-appointment.wav
  three calls of two businesses within two seconds, and what the service wrote of them:
    python twilio_simulator.py ws://127.0.0.1:8000/media \\
        samples/clinic-appointment.wav samples/garage-quote.wav \\
        --calls 3 --ramp 2 --tenant clinic --tenant garage --transcript service.log
  a hundred calls of three minutes and more, for load:
    python twilio_simulator.py ws://127.0.0.1:8000/media samples/garage-quote.wav \\
        --calls 100 --ramp 10 --repeat 12

exit code: 0 every call went well; 1 a call failed; 2 wrong usage; 130 stopped by Ctrl-C
"""


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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line; the usage is in --help."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what was said may be Hebrew, whatever the locale
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    options = _parser().parse_args(arguments)
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
        _print_texts(calls, log)
    return _print_failures(calls)


class WrongUsage(Exception):
    """What was asked for cannot be done; each argument is one line that says why."""


def _whole(low: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} on")
        return int(text)

    return whole_number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="twilio_simulator.py",
        description="Play WAV files to a media stream's address, as Twilio plays phone calls.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument  # its result is of no use here
    add("url", metavar="URL", help="the stream's address: ws://HOST:PORT/media or wss://…")
    add("files", metavar="FILE.wav", nargs="+", help="8 kHz mu-law (played as it is) or any WAV")
    add("--calls", type=_whole(1), metavar="N", help="calls at once (default: one a file)")
    add("--ramp", type=_seconds, default=0.0, metavar="SECONDS", help="spread their starts")
    add("--tenant", action="append", metavar="T", help="the business that is called, in turn")
    add(
        "--tenant-in",
        choices=("parameter", "path"),
        default="parameter",
        help="where it goes: customParameters.tenant (default), or URL/T",
    )
    add("--repeat", type=_whole(1), default=1, metavar="N", help="play the file N times a call")
    add(
        "--end",
        choices=("stop", "close", "cut"),
        default="stop",
        help="how calls end: stop message (default), close without it, or a cut connection",
    )
    add("--plain", action="store_true", help="plain lines also on a terminal")
    add("--transcript", metavar="LOG", help="the file that the service's stdout is written to")
    add(
        "--transcript-wait",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for the end of each call in LOG (default: 10)",
    )
    return parser


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
    return await _read_log(Path(options.transcript), log_start, calls, options.transcript_wait)


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


async def _read_log(
    path: Path, start: int, calls: list[SimulatedCall], seconds: float
) -> ServiceLog:
    """What the service wrote to `path` since the byte `start`, until each call is closed there.

    A call is waited for only if it was played, and all of them for `seconds` at most.
    """
    log = ServiceLog()
    waiting = {call.report.call_sid for call in calls if call.report.frames_sent}
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


def _print_texts(calls: list[SimulatedCall], log: ServiceLog) -> None:
    for call in calls:
        texts = log.final_texts(call.report.call_sid)
        print(f"text of {call.label}:")
        for text in texts or [_why_no_text(call, log)]:
            print(f"  {text}")


def _why_no_text(call: SimulatedCall, log: ServiceLog) -> str:
    sid = call.report.call_sid
    if not call.report.frames_sent:
        return "(none: nothing was played)"
    if sid not in log.lines:
        return "(none: the log says nothing of this call; is it this service's stdout?)"
    if not log.is_closed(sid):
        return "(none yet: the log does not tell the end of the call; try --transcript-wait)"
    return "(none: nothing final was recognised, or LOG_TRANSCRIPTS is 0)"


def _print_failures(calls: list[SimulatedCall]) -> int:
    """Say on stderr what failed, the same words once; returns the exit code."""
    errors = Counter(call.report.error for call in calls if call.report.error is not None)
    for error, count in errors.items():
        print(f"failed: {error}" + f" ({count} calls)" * (count > 1), file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
