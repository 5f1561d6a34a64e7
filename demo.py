"""A recorded call, transcribed live on this machine: `make demo`, or `python demo.py FILE.wav …`.

Starts a speech server and the service (gunicorn, as the Procfile does) on free ports, plays each
file as a call at the pace of a real one, shows the text as it comes, and stops what it started.
Exit code 0, 1 if a call failed or brought no text, 2 for a file that cannot be played, 130 after
Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Sequence

from local_stack import LocalStack, NotStarted, stop_on_sigterm
from service_log import LogLine, parse_line
from twilio_calls import PlannedCall, play_calls
from twilio_stream import CallReport
from wav_frames import BadWav, read_frames

LAST_LINES_SECONDS = 10.0


class Transcripts:
    """Shows the service's lines about calls as they come, and keeps the finals of each."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._lines: dict[str, list[LogLine]] = {}

    def take(self, line: str) -> None:
        """One line of the service's log; from the thread that reads it."""
        parsed = parse_line(line)
        if parsed is None:
            return
        if parsed.kind != "other":
            print(line, flush=True)
        with self._change:
            self._lines.setdefault(parsed.call, []).append(parsed)
            self._change.notify_all()

    def of(self, call_sid: str) -> list[LogLine]:
        """The lines about a call, once its session is closed or some seconds have passed."""
        with self._change:
            self._change.wait_for(
                lambda: any(x.kind == "closed" for x in self._lines.get(call_sid, [])),
                LAST_LINES_SECONDS,
            )
            return list(self._lines.get(call_sid, []))


def show_result(file: str, report: CallReport, lines: list[LogLine]) -> bool:
    """Print a call's transcript and counts; whether it is as it should be."""
    finals = [line.text for line in lines if line.kind == "final"]
    delays = [line.delay_ms for line in lines if line.delay_ms is not None]
    print(f"\nTranscript of {file}:\n")
    for text in finals or ["(no text came)"]:
        print(f"  {text}")
    print(
        f"\n{report.frames_sent} frames ({report.frames_sent * 0.02:.1f} s of audio) sent, "
        f"{len(finals)} finals, {len(delays)} interims"
        + (f" ({sum(delays) // len(delays)} ms behind the words)" if delays else "")
        + f"; the call was closed with {report.close_code}"
    )
    if report.error:
        print(f"the call failed: {report.error}", file=sys.stderr)
    return report.ok and bool(finals)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Transcribe recorded calls live on this machine, without any cloud account.",
        epilog="example: python demo.py samples/clinic-appointment.wav",
    )
    parser.add_argument("files", nargs="+", metavar="FILE.wav", help="each is played as a call")
    files: list[str] = parser.parse_args(arguments).files
    stop_on_sigterm()
    try:
        calls = [PlannedCall(read_frames(file), tenant="demo") for file in files]
    except BadWav as fault:
        print(f"demo: {fault}", file=sys.stderr)
        return 2
    transcripts = Transcripts()
    # The demo is for the speech server of this machine, also where Google's keys are at hand.
    ours = ("STT_", "GOOGLE_", "SPEECH_", "WEB_", "MAX_", "LOG_", "TWILIO_", "BUSINESSES")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    try:
        print(
            "starting a speech server and the service, which takes unsigned calls"
            " from this machine (ALLOW_UNSIGNED=1) …",
            flush=True,
        )
        with (
            tempfile.TemporaryDirectory(prefix="tamlil-demo-") as records,
            LocalStack(
                0, transcripts.take, environ | {"DATABASE_URL": f"sqlite:///{records}/tamlil.db"}
            ) as stack,
        ):
            reports = asyncio.run(play_calls(stack.url, calls))
            lines = [transcripts.of(report.call_sid) for report in reports]
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except NotStarted as fault:
        print(f"demo: {fault}", file=sys.stderr)
        return 1
    results = [show_result(*call) for call in zip(files, reports, lines, strict=True)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
