"""How gunicorn runs Tamlil; `Procfile` starts it as `gunicorn app:app`."""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import metrics_files
import worker_room
from errors import SettingsError
from settings import Settings

try:
    _settings = Settings.from_env(os.environ)
except SettingsError as fault:
    print(f"tamlil: {fault}", file=sys.stderr)
    sys.exit(2)

if _settings.allow_unsigned and not _settings.secret_key:
    # a token that one worker made is read by another
    os.environ["SECRET_KEY"] = secrets.token_hex(32)

worker_class = "gevent_worker.MediaWorker"
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency

# The registry's cap is the limit on calls; this one only leaves room above it, for refusals,
# health checks and sockets that are just closing.
worker_connections = _settings.max_concurrent_calls + 200

# A worker drains itself when SIGTERM comes (gevent_worker.py); it is killed only after this.
graceful_timeout = int(_settings.drain_seconds) + 5
# A worker whose loop is blocked for so long is replaced; calls do not block it.
timeout = 30

# What Twilio and a platform's router send is far below; a line or header above is refused
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

# A count of requests would end a worker in the middle of its calls.
max_requests = 0
# gRPC does not survive a fork, and gevent patches each worker after it.
preload_app = False
# It lies at one path a machine, and nothing here uses it.
control_socket_disable = True

# A reload reads this file again: the workers that drain then keep their places on the board before
_board = worker_room.RoomBoard()


def on_starting(server: Any) -> None:
    """Check the credentials once, before any worker is started, in a process of its own.

    And make the place where the workers leave their figures: at a reload it stays.
    """
    preflight = Path(__file__).with_name("preflight.py")
    exit_code = subprocess.run([sys.executable, str(preflight)], check=False).returncode
    if exit_code:
        sys.exit(exit_code)
    server.metrics_files = metrics_files.make()


def on_exit(server: Any) -> None:
    metrics_files.remove(server.metrics_files)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker a place on the board, while there is only one process that does."""
    worker.room = (_board, _board.claim())


def post_fork(server: Any, worker: Any) -> None:
    worker_room.settle(*worker.room)


def child_exit(server: Any, worker: Any) -> None:
    board, place = worker.room
    board.give_back(place)
    if server.LISTENERS:  # else all of them end, and so does the directory
        metrics_files.forget(worker.pid)
