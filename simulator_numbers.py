"""The simulator's calls to a number: a service's webhook is asked, and its TwiML followed.

The command's second half, for `--number`; the calls themselves are in `twilio_placed_call`.
Everything runs on one asyncio loop.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from placed_call_report import PlacedCallReport
from service_log import ServiceLog
from simulator_options import WrongUsage
from simulator_texts import PlayedCall, print_texts, read_log
from twilio_chaos import Chaos
from twilio_placed_call import PlacedCall, place_call
from twilio_stream import CallReport
from twilio_webhooks import ServiceAddress, WrongServiceUrl
from wav_frames import BadWav, read_frames

STREAM_OPTIONS = (("tenant", None), ("tenant_in", "parameter"), ("end", "stop"))


def main(options: argparse.Namespace) -> int:
    """Place the calls that `options` ask for, say how they went, and return the exit code."""
    reports: list[PlacedCallReport] = []
    try:
        calls = _prepare(options)
        reports = [call.report for call in calls if call.report is not None]
        log_start = Path(options.transcript).stat().st_size if options.transcript else 0
        log = asyncio.run(_run(options, calls, reports, log_start))
    except WrongUsage as error:
        for line in error.args:
            print(f"twilio_simulator.py: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        sent = sum(_frames_sent(report) for report in reports)
        print(f"interrupted: every call was hung up, after {sent} frames", file=sys.stderr)
        return 130
    for report in reports:
        for line in _lines(report):
            print(line)
    good = sum(report.ok for report in reports)
    print(f"{len(reports)} placed, {good} ok, {len(reports) - good} failed")
    if log is not None:
        print_texts([_played(report) for report in reports], log)
    for report in reports:
        for why in report.errors:
            print(f"failed: {report.call_sid}: {why}", file=sys.stderr)
    return 0 if good == len(reports) else 1


def _prepare(options: argparse.Namespace) -> list[PlacedCall]:
    """The calls to be placed; raises WrongUsage with a line for all that is wrong."""
    faults = [
        f"--{name.replace('_', '-')} is for ws:// addresses: a called number is the business"
        for name, default in STREAM_OPTIONS
        if getattr(options, name) != default
    ]
    try:
        ServiceAddress(options.url, options.public_url, options.connect_to)
    except WrongServiceUrl as error:
        faults.append(str(error))
    recordings: dict[str, list[bytes]] = {}
    for name in dict.fromkeys([*options.files, *filter(None, [options.business])]):
        try:
            recordings[name] = read_frames(name, options.repeat if name in options.files else 1)
        except BadWav as error:
            faults.append(str(error))
    if options.transcript is not None and not Path(options.transcript).is_file():
        faults.append(
            f"{options.transcript}: no such file: start the service with its stdout going there"
        )
    if faults:
        raise WrongUsage(*faults)
    return [
        PlacedCall(
            options.number[n % len(options.number)],
            options.caller,
            {
                "inbound": recordings[options.files[n % len(options.files)]],
                "outbound": recordings[options.business] if options.business else [],
            },
            dialled=options.dialled,
            chaos=Chaos(options.chaos, options.seed + n),
            report=PlacedCallReport(),
        )
        for n in range(options.calls or max(len(options.files), len(options.number)))
    ]


async def _run(
    options: argparse.Namespace,
    calls: list[PlacedCall],
    reports: list[PlacedCallReport],
    log_start: int,
) -> ServiceLog | None:
    apart = options.ramp / max(1, len(calls) - 1)

    async def place(number: int, call: PlacedCall) -> None:
        await asyncio.sleep(number * apart)
        await place_call(
            options.url,
            call,
            public_url=options.public_url,
            connect_to=options.connect_to,
            auth_token=options.auth_token,
            status_callback=options.status_callback,
        )

    async with asyncio.TaskGroup() as group:
        for number, call in enumerate(calls):
            group.create_task(place(number, call))
    if not options.transcript:
        return None
    played = [_played(report) for report in reports]
    return await read_log(Path(options.transcript), log_start, played, options.transcript_wait)


def _frames_sent(report: PlacedCallReport) -> int:
    return sum(stream.frames_sent for stream in report.streams)


def _played(report: PlacedCallReport) -> PlayedCall:
    return PlayedCall(report.call_sid, report.number, _frames_sent(report))


def _lines(report: PlacedCallReport) -> list[str]:
    """What there is to say of a call when it is over."""
    lines = [
        f"{report.call_sid} to {report.number}: {report.call_status}, {report.seconds:.1f} s,"
        f" {report.unsent_seconds:.1f} s of the caller's speech in no stream"
    ]
    lines += [f"  webhook {path}: HTTP {status}" for path, status, _ in report.webhooks]
    lines += [f"  heard: {heard}" for heard in report.heard]
    lines += [f"  stream {_outcome(stream)}" for stream in report.streams]
    lines += [f"  second socket {_outcome(stream)}" for stream in report.second_sockets]
    for path, status, form in report.statuses:
        event = form.get("StreamEvent") or form.get("CallStatus", "")
        lines.append(f"  status {event} to {path}: HTTP {status}")
    return lines


def _outcome(stream: CallReport) -> str:
    if stream.close_code is None:
        return f"{stream.stream_sid}: not connected"
    who = "the service" if stream.closed_by_server else "us"
    how = f"{stream.close_code} {stream.close_reason}".rstrip()
    return f"{stream.stream_sid}: {stream.frames_sent} frames, closed with {how} by {who}"
