"""Whom the bench measures: this service as the Procfile starts it, and others on the same work.

Each is a process of its own on a free port of 127.0.0.1, with one worker. Everything is asked of
the operating system from outside: CPU time and memory of whoever does the work.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from local_stack import PROJECT, free_port, procfile_command

BENCH = Path(__file__).resolve().parent
STARTING_SECONDS = 30.0
STOPPING_SECONDS = 30.0

# What the calls are signed with: the service checks signatures and tokens, as deployed
PUBLIC_URL = "https://bench.example"
MEDIA_URL = "wss://bench.example/media"
AUTH_TOKEN = "b" * 32
SECRET_KEY = "the bench's own secret"

_SERVICE: dict[str, object] = {
    "WEB_CONCURRENCY": 1,
    "MAX_CONCURRENT_CALLS": 1_000,
    "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    "SECRET_KEY": SECRET_KEY,
    "PUBLIC_URL": PUBLIC_URL,
}


class PeerFailed(Exception):
    """A peer did not start, or broke off; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Peer:
    """How one of them is started: `command`, in which PORT stands for its port.

    `forks`: the work is done by the process's children.
    """

    name: str
    title: str
    command: tuple[str, ...]
    settings: Mapping[str, object]
    forks: bool = False

    @property
    def missing(self) -> str | None:
        """Why it cannot be started on this machine; None if it can."""
        if self.command[0] == "node":
            if shutil.which("node") is None:
                return "there is no node here"
            if not (BENCH / "node_modules" / "ws").is_dir():
                return "its packages are not installed: run npm ci in bench/"
        return None


_NODE = ("node", "bench/peer_node.js")
_FASTAPI = (sys.executable, "bench/peer_fastapi.py")
_FLASK_SOCK = (
    *(sys.executable, "-m", "gunicorn", "--config", "/dev/null"),
    *("--chdir", "bench", "--worker-class", "gevent", "--no-control-socket"),
    *("--bind", "127.0.0.1:PORT", "peer_flask_sock:app"),
)

OURS = "ours"
PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "Tamlil", tuple(procfile_command()), _SERVICE, forks=True),
        Peer("node", "Node, ws, a message a frame", _NODE, {"BATCH_MS": 20}),
        Peer("node-batched", "Node, ws, 100 ms batches", _NODE, {"BATCH_MS": 100}),
        Peer("fastapi", "FastAPI, a message a frame", _FASTAPI, {"BATCH_MS": 20}),
        Peer("fastapi-batched", "FastAPI, 100 ms batches", _FASTAPI, {"BATCH_MS": 100}),
        Peer("flask-sock", "flask-sock, gevent, a message a frame", _FLASK_SOCK, {}, forks=True),
    )
}


class RunningPeer:
    """`with RunningPeer(peer, "host:port", log) as running:` takes calls at `running.port`.

    Its output goes to `log`. Raises `PeerFailed`.
    """

    def __init__(
        self, peer: Peer, google: str, log: IO[bytes], settings: Mapping[str, object] | None = None
    ) -> None:
        self.port = free_port()
        self._peer = peer
        self._log = log
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
        environment: dict[str, object] = {
            name: os.environ[name] for name in kept if name in os.environ
        }
        environment |= {"HOST": "127.0.0.1", "PORT": self.port, "NO_GCE_CHECK": "true"}
        self._directory = tempfile.TemporaryDirectory(prefix="tamlil-bench-")  # for the records
        environment["DATABASE_URL"] = f"sqlite:///{self._directory.name}/tamlil.db"
        environment |= {"SPEECH_EMULATOR_HOST": google, **peer.settings, **(settings or {})}
        self._environment = {name: str(value) for name, value in environment.items()}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [word.replace("PORT", str(self.port)) for word in self._peer.command],
            cwd=PROJECT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the bench, which then stops it
        )
        try:
            self._wait_until_it_answers()
            self.workers = self._find_workers()
        except BaseException:  # also Ctrl-C: no process of ours may stay behind
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
        self._directory.cleanup()

    def cpu_seconds(self) -> float:
        """CPU time of whoever does the work, user and system, up to now."""
        return sum(cpu_seconds(one.pid) for one in self.workers)

    def memory(self) -> int:
        """Their resident bytes."""
        return sum(int(one.memory_info().rss) for one in self.workers)

    def _find_workers(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        children = process.children(recursive=True)
        return children if self._peer.forks else [process, *children]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.05)  # nothing to be told by: the port is not open yet
            finally:
                connection.close()
        raise PeerFailed(f"{self._peer.name} does not answer; its output is in {self._log.name}")

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process with all its threads, ended ones too, to the nanosecond.

    /proc counts in hundredths of a second, which is half of what one call costs in five.
    """
    # As clock_getcpuclockid(3) makes it on Linux
    return time.clock_gettime((~pid << 3) | 2)
