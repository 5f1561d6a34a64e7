"""The simulator's command line: what may be asked of it, and the words for what may not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, get_args

from twilio_chaos import KINDS, ChaosKind, read_kinds
from twilio_placed_call import Dialled

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
  a call to a business's number, from the webhook on; the service forwards it to the business:
    python twilio_simulator.py --number +97231234567 --business samples/garage-quote.wav \\
        http://127.0.0.1:8000 samples/clinic-appointment.wav

exit code: 0 every call went well; 1 a call failed; 2 wrong usage; 130 stopped by Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line; the usage is in --help."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


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


def _kinds(text: str) -> frozenset[ChaosKind]:
    try:
        return read_kinds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def make_parser(environ: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    """The parser; `environ` has the auth token."""
    parser = _Parser(
        prog="twilio_simulator.py",
        description="Play WAV files to a media stream's address, as Twilio plays phone calls.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument  # its result is of no use here
    add(
        "url",
        metavar="URL",
        help="the stream's address, ws://HOST:PORT/media; with --number"
        " the service's, http://HOST:PORT",
    )
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
    _add_number_options(parser, environ)
    return parser


def _add_number_options(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    group = parser.add_argument_group(
        "calls to a number", "The service's webhook is asked, and its TwiML followed."
    )
    add: Any = group.add_argument
    add("--number", action="append", metavar="+972…", help="the number that is called, in turn")
    add("--from", dest="caller", default="+972500000000", metavar="+972…", help="or anonymous")
    add("--business", metavar="FILE.wav", help="what the business says when it is dialled")
    add(
        "--dialled",
        choices=get_args(Dialled),
        default="completed",
        help="what becomes of a <Dial> (default: completed)",
    )
    add("--public-url", default="", metavar="URL", help="the service's as Twilio has it, signed")
    add("--connect-to", default="", metavar="HOST:PORT", help="where that is, without TLS")
    add(
        "--auth-token",
        # While one is rotated, there are two: Twilio signs with the first.
        default=environ.get("TWILIO_AUTH_TOKEN", "").split(",")[0].strip(),
        metavar="TOKEN",
        help="signs the requests (default: TWILIO_AUTH_TOKEN; none: unsigned)",
    )
    add("--status-callback", metavar="URL", help='default: URL/status; "" is none')
    add(
        "--chaos",
        type=_kinds,
        nargs="?",
        const=frozenset(KINDS),
        default=frozenset(),
        metavar="KIND,KIND",
        help=f"troubles, by default all; write it last, or --chaos=KIND: {', '.join(KINDS)}",
    )
    add("--seed", type=_whole(0), default=0, metavar="N", help="of the chaos")
