"""The command that serves Google's speech API on this machine.

`python local_speech_server.py --port 8900` loads whisper, listens, prints one line when it is
ready, and serves until SIGTERM or SIGINT. The main thread runs the event loop. What cannot
work (a wrong model directory, a port in use) is one line on stderr and exit code 2.

`--fault` and `--control` order faults (`speech_server_faults` says how they are written); each
change of what is in force is one line.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import speech_server_faults
from frame_echo import FrameEcho
from speech_recogniser import Recogniser
from speech_server import SpeechServer
from speech_server_control import FaultControl
from speech_server_faults import BadFault, Fault, parse_fault
from speech_server_rules import Limits, SpeechServerError

# How long the last results of live streams may take when the server is told to end.
STOP_SECONDS = 1.0

EXAMPLE = """example:
  python local_speech_server.py --port 8900 &
  SPEECH_EMULATOR_HOST=127.0.0.1:8900 STT_LANGUAGE=en-US flask run

faults, for --fault and, one a line, for the file of --control:
"""


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    standard = Limits()
    parser = argparse.ArgumentParser(
        prog="local_speech_server.py",
        description="A speech server for this machine that speaks Google Speech-to-Text v1 "
        "(plain gRPC) and recognises offline.",
        epilog=EXAMPLE + fault_grammar(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=8900, help="0 picks a free one (default: %(default)s)")
    add(
        "--recogniser",
        choices=("whisper", "frames"),
        default="whisper",
        help="whisper recognises speech; frames names the numbered test frames that arrived",
    )
    add("--model", metavar="DIR", help="a faster-whisper model (default: Whisper tiny.en)")
    add("--threads", type=_positive(int), default=2, help="whisper's threads (default: 2)")
    seconds = _positive(float)
    add(
        "--max-stream-seconds",
        type=seconds,
        default=standard.max_stream_seconds,
        metavar="N",
        help="a stream ends after this (default: %(default)s)",
    )
    add(
        "--audio-timeout-seconds",
        type=seconds,
        default=standard.audio_timeout_seconds,
        metavar="N",
        help="and after this without audio (default: %(default)s)",
    )
    add(
        "--max-message-bytes",
        type=_positive(int),
        default=standard.max_message_bytes,
        metavar="N",
        help="the most audio in a message (default: %(default)s)",
    )
    add(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="TEXT",
        help="a fault to begin with, such as 'die at=5 next=1'; may be given more than once",
    )
    add(
        "--control",
        type=Path,
        metavar="FILE",
        help="a file of faults, one a line, with # comments; besides --fault at the start, and "
        "whenever it is written its lines are ordered anew in place of all that held before; "
        "empty or deleted, it clears all",
    )
    return parser


def fault_grammar() -> str:
    """How faults are written, as their module says it."""
    text = speech_server_faults.__doc__ or ""
    return text.partition("handed in. ")[2].partition("    SpeechServerError\n")[0].rstrip()


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except BadFault as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def positive(text: str) -> float:
        number = kind(text)
        if number <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return number

    return positive


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return port


def recogniser_of(options: argparse.Namespace) -> Recogniser:
    """The recogniser that the options name; raises `BadModel`."""
    if options.recogniser == "frames":
        return FrameEcho()
    # Whisper takes a second to import and is not needed for frames.
    from local_recogniser import WhisperRecogniser

    return WhisperRecogniser(options.model, options.threads)


async def serve(options: argparse.Namespace) -> None:
    """Serve until a signal says otherwise; raises `SpeechServerError` if it cannot begin."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    recogniser = recogniser_of(options)
    limits = Limits(
        max_stream_seconds=options.max_stream_seconds,
        audio_timeout_seconds=options.audio_timeout_seconds,
        max_message_bytes=options.max_message_bytes,
    )
    server = SpeechServer(recogniser, limits)
    server.order(options.fault)
    control = FaultControl(server, options.control, _say, _complain)
    try:
        await control.start()
        port = await server.start(options.host, options.port)
        _say(f"listening on {options.host}:{port} ({recogniser.name})")
        watching = asyncio.create_task(control.watch())
        await stop.wait()
        watching.cancel()
    finally:
        await server.stop(STOP_SECONDS)


def _say(line: str) -> None:
    print(f"local speech server: {line}", flush=True)


def _complain(line: str) -> None:
    print(f"local speech server: {line}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = arguments().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except SpeechServerError as error:
        _complain(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
