"""The whole service on this machine: a speech server and gunicorn, started and stopped together.

`python local_stack.py` (`make serve`) runs it until Ctrl-C; `demo.py` plays a call into it. The
service is started with the command of the Procfile.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

PROJECT = Path(__file__).resolve().parent
STARTING_SECONDS = 60.0
STOPPING_SECONDS = 30.0  # more than the service takes to end its calls
GOOGLE_SETTINGS = ("GOOGLE_CREDENTIALS_JSON", "GOOGLE_APPLICATION_CREDENTIALS")


class NotStarted(RuntimeError):
    """A part did not come up; the text says which, and what it said."""


class LocalStack:
    """`with LocalStack(port, on_line) as stack:` has the service at 127.0.0.1:`port`.

    `port` 0 takes a free one. `on_line` gets each line that the service prints, from a thread of
    its own. Without `SPEECH_EMULATOR_HOST` and without Google's credentials in `environ`, a speech
    server is started too, which reads English. Without `TWILIO_AUTH_TOKEN` requests need no
    signature (`is_open`); only this machine reaches the port. Raises `NotStarted`.
    """

    def __init__(
        self, port: int, on_line: Callable[[str], None], environ: Mapping[str, str] = os.environ
    ) -> None:
        self.port = port or free_port()
        self._on_line = on_line
        self._environ = dict(environ)
        self.is_open = not self._environ.get("TWILIO_AUTH_TOKEN")
        if self.is_open:
            self._environ["ALLOW_UNSIGNED"] = "1"
        self._started: list[subprocess.Popen[str]] = []
        self._last_lines: list[str] = []
        self._reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where media streams go."""
        return f"ws://127.0.0.1:{self.port}/media"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # Ctrl-C too: what was started must not stay
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        if not _is_free(self.port):
            raise NotStarted(f"port {self.port} is in use: end what listens there, or set PORT")
        wanted = ("SPEECH_EMULATOR_HOST", *GOOGLE_SETTINGS)
        if not any(self._environ.get(name) for name in wanted):
            self._environ["SPEECH_EMULATOR_HOST"] = self._start_speech_server()
            self._environ.setdefault("STT_LANGUAGE", "en-US")  # what its model reads
        self._environ |= {"HOST": "127.0.0.1", "PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        service = self._run(procfile_command())
        self._reader = threading.Thread(target=self._read, args=(service,), daemon=True)
        self._reader.start()
        self._wait_until_ready(service)

    def _start_speech_server(self) -> str:
        server = self._run([sys.executable, "local_speech_server.py", "--port", "0"])
        assert server.stdout is not None
        line = server.stdout.readline()
        if " listening on " not in line:
            raise NotStarted(f"the speech server did not start: {line.strip() or 'no word of it'}")
        # what else it may say is let go, so that it never waits for a reader
        threading.Thread(target=server.stdout.read, daemon=True).start()
        return line.split(" listening on ")[1].split()[0]

    def _run(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            # Ctrl-C is for us, who then stop the parts in their order
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _read(self, service: subprocess.Popen[str]) -> None:
        assert service.stdout is not None
        for line in service.stdout:
            self._last_lines = [*self._last_lines[-9:], line.rstrip("\n")]
            self._on_line(line.rstrip("\n"))

    def _wait_until_ready(self, service: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < deadline and service.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)  # not yet: the port opens when a worker is up
        raise NotStarted("the service did not start:\n" + "\n".join(self._last_lines))

    def _stop(self) -> None:
        """End the service, then what it speaks to: the calls' last words need both."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOPPING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._reader is not None:
            self._reader.join(5)


def procfile_command() -> list[str]:
    """The command of the Procfile's `web:` line, from this Python's environment."""
    web = (PROJECT / "Procfile").read_text().removeprefix("web:")
    program, *arguments = shlex.split(web)
    return [sys.executable, "-m", program, *arguments]


def stop_on_sigterm() -> None:
    """Make SIGTERM end this program as Ctrl-C does, so that it stops what it has started."""

    def interrupt(sig: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Run the service, with a speech server of this machine beside it unless "
        "SPEECH_EMULATOR_HOST or Google's credentials are set, until Ctrl-C.",
        epilog="example: python local_stack.py --port 8000",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT") or 8000,
        help="of the service, on 127.0.0.1 (PORT, or 8000); 0 takes a free one",
    )
    port: int = parser.parse_args(arguments).port
    stop_on_sigterm()
    try:
        with LocalStack(port, lambda line: print(line, flush=True)) as stack:
            open_to = ", unsigned ones too (ALLOW_UNSIGNED=1)" if stack.is_open else ""
            print(
                f"Tamlil takes media streams at {stack.url}{open_to}; Ctrl-C stops it", flush=True
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        return 130
    except NotStarted as fault:
        print(f"tamlil: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
