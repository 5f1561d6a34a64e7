"""The whole service on this machine, as `make serve` starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from running_service import PROJECT, service_environment

from local_stack import LocalStack, NotStarted, free_port, procfile_command
from speech_server_thread import SpeechServerThread


def test_procfile_command_is_what_the_procfile_says() -> None:
    """What is run here is what is deployed."""
    assert (PROJECT / "Procfile").read_text() == "web: gunicorn app:app\n"
    assert procfile_command() == [sys.executable, "-m", "gunicorn", "app:app"]


def test_a_port_in_use_is_one_clear_line() -> None:
    """Nothing is started, and the line says what to set."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [sys.executable, "local_stack.py", "--port", str(port)],
            cwd=PROJECT,
            env=service_environment({}),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"tamlil: port {port} is in use: end what listens there, or set PORT\n"
    )


def test_a_service_that_does_not_start_says_why() -> None:
    """What the service said is in the error, and nothing is left running."""
    stack = LocalStack(
        0,
        lambda line: None,
        service_environment({"SPEECH_EMULATOR_HOST": "h:1", "STT_QUEUE_FRAMES": "x"}),
    )
    others = psutil.Process().children()  # services that tests share
    with pytest.raises(NotStarted, match="STT_QUEUE_FRAMES=x: must be a whole number"):
        stack.__enter__()
    assert psutil.Process().children() == others


def test_serve_runs_until_it_is_told_to_stop(google: SpeechServerThread) -> None:
    """It says where calls go, and SIGTERM ends it and what it started."""
    serve = subprocess.Popen(
        [sys.executable, "local_stack.py", "--port", str(free_port())],
        cwd=PROJECT,
        env=service_environment({"SPEECH_EMULATOR_HOST": google.address, "WEB_CONCURRENCY": 1}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert serve.stdout is not None
    for line in serve.stdout:
        if line.startswith("Tamlil takes media streams at ws://127.0.0.1:"):
            break
    children = psutil.Process(serve.pid).children(recursive=True)
    assert len(children) == 3  # gunicorn, its worker, and the records' process of that
    os.kill(serve.pid, signal.SIGTERM)
    out, _ = serve.communicate(timeout=60)
    assert serve.returncode == 130
    assert "Traceback" not in out
    assert not psutil.wait_procs(children, timeout=10)[1]
