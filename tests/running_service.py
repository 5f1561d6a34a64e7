"""The service as its users run it, for tests: a real gunicorn (or `flask run`) on a free port.

What it prints is read by a thread, so that a test waits for a line instead of sleeping.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from databases import fresh_sqlite

import database_ready
from errors import SettingsError
from local_stack import free_port
from settings import Settings

PROJECT = Path(__file__).resolve().parent.parent

# Frames that may wait, for a test whose law is not what a full queue costs: 2 s in which a busy
# machine has no time for the service.
ROOMY_QUEUE = 100


class RunningService:
    """`with RunningService(STT_…=…) as service:` is ready to take calls at `service.url`.

    `command` is what starts it, with "PORT" standing for the port; `settings` are environment
    variables. Unless they say who may come in, everybody may. It is stopped by SIGTERM.
    """

    gunicorn = (sys.executable, "-m", "gunicorn", "app:app")
    flask_run = (sys.executable, "-m", "flask", "run", "--host", "127.0.0.1", "--port", "PORT")
    probed = (sys.executable, "-m", "gunicorn", "--pythonpath", ".", "tests.probed_app:app")

    def __init__(self, command: tuple[str, ...] = gunicorn, **settings: object) -> None:
        self.port = free_port()
        self._command = [str(self.port) if word == "PORT" else word for word in command]
        if "DATABASE_URL" not in settings:
            settings["DATABASE_URL"] = self.database_url = fresh_sqlite()
        door = {} if "TWILIO_AUTH_TOKEN" in settings else {"ALLOW_UNSIGNED": 1}
        self._environment = service_environment(
            {"HOST": "127.0.0.1", "PORT": self.port, **door, **settings}
        )
        self._change = threading.Condition()
        self.lines: list[str] = []
        self.line_times: list[float] = []  # when each was read, by time.monotonic()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/media"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        with self._change:
            return "\n".join(self.lines)

    def start(self) -> Self:
        """Start it, with its database made ready: here that takes a tenth of what it does there."""
        with contextlib.suppress(SettingsError):  # which are the service's to complain about
            database_ready.prepare(Settings.from_env(self._environment))
        self.process = subprocess.Popen(
            self._command,
            cwd=PROJECT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_it_answers()
        except BaseException:  # also Ctrl-C: no process of ours may stay behind
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_until_it_answers(self, timeout: float = 30) -> None:
        """Return when a worker accepts connections (the master listens before it has any)."""
        deadline = time.monotonic() + timeout
        request = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                    probe.sendall(request)
                    if probe.recv(64).startswith(b"HTTP/1.1 200"):
                        return
            except OSError:
                time.sleep(0.05)  # nothing to be told by: the port is not open yet
        raise AssertionError(f"the service does not answer:\n{self.log}")

    def wait_for(self, predicate: Callable[[list[str]], bool], timeout: float = 20) -> None:
        """Return as soon as `predicate` holds of the lines printed so far."""
        with self._change:
            if not self._change.wait_for(lambda: predicate(self.lines), timeout):
                raise AssertionError("not in time; the log:\n" + "\n".join(self.lines[-60:]))

    def wait_for_line(self, *parts: str, timeout: float = 20) -> None:
        """Return as soon as a line has all `parts` in it."""
        self.wait_for(
            lambda lines: any(all(part in line for part in parts) for line in lines), timeout
        )

    def count(self, *parts: str) -> int:
        """How many lines so far have all `parts` in them."""
        with self._change:
            return sum(all(part in line for part in parts) for line in self.lines)

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        return psutil.Process(self.process.pid).children()

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Send `sig` to the process, wait for its end and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            for child in self.workers():
                child.kill()
            self.process.kill()
            code = self.process.wait()
        self._reader.join(10)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._change:
                self.lines.append(line.rstrip("\n"))
                self.line_times.append(time.monotonic())
                self._change.notify_all()


def service_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment without any setting of the service, plus `settings`."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # Nothing outside this machine is asked for credentials.
    environment |= {"PYTHONPATH": ".", "PYTHONUNBUFFERED": "1", "NO_GCE_CHECK": "true"}
    return environment | {name: str(value) for name, value in settings.items()}
