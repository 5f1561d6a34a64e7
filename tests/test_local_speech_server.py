"""The command that runs the local speech server, in a process of its own."""

from __future__ import annotations

import errno
import os
import queue
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from speech_client import Request, audio, streaming_config

from local_speech_server import main

IN_USE = os.strerror(errno.EADDRINUSE)
ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    line = [sys.executable, str(ROOT / "local_speech_server.py"), *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """The exit code and the text of a command that ends over its arguments, run in this process."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code, "".join(capsys.readouterr())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_serves_until_it_is_told_to_end(number: signal.Signals) -> None:
    """It prints one line when it is ready, and ends with 0, also with a stream open."""
    process = command("--port", "0", "--recogniser", "frames")
    assert process.stdout is not None
    ready = process.stdout.readline()
    assert ready.startswith("local speech server: listening on 127.0.0.1:")
    assert ready.endswith(" (frames)\n")
    with grpc.insecure_channel(ready.split()[5]) as channel:
        client: Any = speech.SpeechClient(transport=SpeechGrpcTransport(channel=channel))
        sent: queue.Queue[Request | None] = queue.Queue()
        for request in audio(5, range(25)):
            sent.put(request)
        call = client.streaming_recognize(streaming_config(), iter(sent.get, None), retry=None)
        assert next(call).speech_event_type
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
        sent.put(None)
    assert (process.returncode, rest) == (0, ""), errors


def test_command_that_cannot_begin() -> None:
    """What is wrong is said on stderr, without a stack trace, with exit code 2."""
    process = command("--port", "0", "--model", "/nowhere")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "local speech server: no faster-whisper model in /nowhere" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "99999"], "99999 is not a port"),
        (["--max-stream-seconds", "0"], "0 is not above 0"),
        (
            ["--fault", "die at=noon"],
            "argument --fault: at=noon is no moment; it is open, half-close or seconds",
        ),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    """Each is named, with exit code 2."""
    code, said = told(capsys, *arguments)
    assert code == 2
    assert text in said


def test_command_on_a_port_in_use() -> None:
    """A port in use is one line on stderr and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = command("--recogniser", "frames", "--port", port)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors == f"local speech server: cannot listen on 127.0.0.1:{port}: {IN_USE}\n"


def test_command_help(capsys: pytest.CaptureFixture[str]) -> None:
    """How to point the service at this server, and the grammar of faults without its module."""
    code, out = told(capsys, "--help")
    assert code == 0
    assert "SPEECH_EMULATOR_HOST=127.0.0.1:8900" in out
    assert 'status=PERMISSION_DENIED text="not yours"   unavailable for=20' in out
    assert "BadFault" not in out
    assert "SpeechServerError" not in out
