"""Faults ordered from outside: the command's options, and its control file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from speech_client import audio, streaming_config
from test_local_speech_server import command

from speech_server_control import ControlFile

IN_FORCE = "local speech server: faults in force: "
Start = Callable[..., "Running"]


class Running:
    """The command in a process of its own, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], cleanup: ExitStack) -> None:
        self.process = process
        cleanup.callback(self.stop)
        ready = self.line()
        assert ready.startswith("local speech server: listening on "), self.errors()
        channel = cleanup.enter_context(grpc.insecure_channel(ready.split()[5]))
        self._client: Any = speech.SpeechClient(transport=SpeechGrpcTransport(channel=channel))

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def in_force(self) -> str:
        """The next faults that it says are in force."""
        line = self.line()
        assert line.startswith(IN_FORCE)
        return line.removeprefix(IN_FORCE)

    def stream(self) -> str:
        """How a stream ends: "OK" or the name of a status."""
        try:
            list(self._client.streaming_recognize(streaming_config(), audio(1, range(5))))
        except exceptions.GoogleAPICallError as error:
            code: Any = error.grpc_status_code
            return str(code.name)
        return "OK"

    def errors(self) -> list[str]:
        """What it wrote to stderr; ends it."""
        self.process.terminate()
        return self.process.communicate(timeout=10)[1].splitlines()

    def stop(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=10)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command with these arguments, on a free port, naming frames."""
    with ExitStack() as cleanup:
        yield lambda *arguments: Running(
            command("--port", "0", "--recogniser", "frames", *arguments), cleanup
        )


def test_faults_of_the_command_line(start: Start) -> None:
    """Each --fault holds from the start; what has run out is said."""
    running = start("--fault", "status=ABORTED next=1", "--fault", "die status=INTERNAL next=1")
    assert running.in_force() == "die status=ABORTED next=1; die status=INTERNAL next=1"
    assert running.stream() == "ABORTED"
    assert running.in_force() == "die status=INTERNAL next=1"
    assert running.stream() == "INTERNAL"
    assert running.in_force() == "none"
    assert running.stream() == "OK"


def test_a_control_file_that_is_written_and_goes(start: Start, tmp_path: Path) -> None:
    """The file orders at the start and whenever it is written; empty or gone it clears all."""
    file = tmp_path / "faults"
    file.write_text("# for a start\nstatus=INTERNAL\n")
    running = start("--control", str(file), "--fault", "status=ABORTED next=1")
    assert running.in_force() == "die status=ABORTED next=1; die status=INTERNAL"
    assert [running.stream(), running.stream()] == ["ABORTED", "INTERNAL"]
    assert running.in_force() == "die status=INTERNAL"
    replace(file, "status=NOT_FOUND")
    assert running.in_force() == "die status=NOT_FOUND"
    assert running.stream() == "NOT_FOUND"
    file.write_text("")
    assert running.in_force() == "none"
    assert running.stream() == "OK"
    replace(file, "status=DATA_LOSS next=1")
    assert running.in_force() == "die status=DATA_LOSS next=1"
    file.unlink()
    assert running.in_force() == "none"
    assert running.stream() == "OK"


def test_a_file_that_is_written_again_orders_again(start: Start, tmp_path: Path) -> None:
    """The same words, written once more, hold once more."""
    file = tmp_path / "faults"
    running = start("--control", str(file))
    for _ in range(2):
        replace(file, "status=INTERNAL next=1")
        assert running.in_force() == "die status=INTERNAL next=1"
        assert running.stream() == "INTERNAL"
        assert running.in_force() == "none"


def test_a_wrong_line_does_not_spoil_the_others(start: Start, tmp_path: Path) -> None:
    """A wrong line is one line on stderr, and the rest of the file holds."""
    file = tmp_path / "faults"
    running = start("--control", str(file))
    replace(file, "explode\nstatus=INTERNAL\n")
    assert running.in_force() == "die status=INTERNAL"
    assert running.stream() == "INTERNAL"
    (complaint,) = running.errors()
    assert complaint.startswith(
        f"local speech server: {file}, line 1: no kind of fault is called 'explode'; there are die"
    )


def test_a_file_that_cannot_be_read(start: Start, tmp_path: Path) -> None:
    """It is said once, and what was in force stays."""
    running = start("--control", str(tmp_path), "--fault", "status=INTERNAL")
    assert running.in_force() == "die status=INTERNAL"
    assert running.stream() == "INTERNAL"
    assert running.errors() == [f"local speech server: cannot read {tmp_path}: Is a directory"]


def test_what_is_a_change(tmp_path: Path) -> None:
    """A file that is missing, comes, stays, is touched, and goes."""
    file = ControlFile(tmp_path / "faults")
    assert file.changed() is None
    file.path.write_text("mute")
    assert [file.changed(), file.changed()] == ["mute", None]
    os.utime(file.path, (1.0, 1.0))
    assert [file.changed(), file.changed()] == ["mute", None]
    file.path.unlink()
    assert [file.changed(), file.changed()] == ["", None]


def replace(file: Path, text: str) -> None:
    """Write the file in one step, so that the command never sees it half written."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)
