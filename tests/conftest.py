"""What all tests share."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from flask import Flask
from hypothesis import settings

import speech_connections
from frame_echo import FrameEcho
from speech_server_thread import SpeechServerThread

# Containers are often told to keep no compiled modules: each of the suite's processes, and each
# program that they start, would compile all of them again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Started in the background of a script, this process ignores Ctrl-C, and so would the programs
# that the tests start and stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Their assertions explain themselves as those of tests do.
pytest.register_assert_rewrite("session_parts", "media_parts", "running_service", "speech_client")

from api_parts import api_app  # noqa: E402  # after the line above
from databases import fresh_sqlite  # noqa: E402  # as above
from front_door_parts import guarded_service  # noqa: E402  # as above
from guarded_calls import BUSINESSES  # noqa: E402  # as above
from postgres_server import PostgresServer  # noqa: E402  # as above
from running_service import RunningService  # noqa: E402  # as above

# The machines are shared: a slow moment is not a failure.
settings.register_profile("shared machine", deadline=None, print_blob=True)
settings.load_profile("shared machine")


@pytest.fixture(params=["h2", pytest.param("grpc", marks=pytest.mark.soak)])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What carries the streams: the tests that use this hold of both, of gRPC's in `make soak`."""
    monkeypatch.setattr(speech_connections, "DEFAULT_TRANSPORT", request.param)
    name: str = request.param
    return name


@pytest.fixture
def google() -> Iterator[SpeechServerThread]:
    """The stand-in for Google that knows every frame."""
    with SpeechServerThread(FrameEcho()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, with a database of its own for who asks; leave it running."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_at(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database with all tables, of each kind in turn."""
    if request.param == "sqlite":
        return fresh_sqlite()
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest) -> Flask:
    """The application on a database of each kind, for tests that bring their own businesses."""
    if request.param == "sqlite":
        return api_app(fresh_sqlite())
    server: PostgresServer = request.getfixturevalue("postgres")
    return api_app(server.fresh())


@pytest.fixture(scope="session")
def speech() -> Iterator[SpeechServerThread]:
    """One that many tests share: each knows its own callers by their numbers."""
    with SpeechServerThread(FrameEcho()) as server:
        yield server


@pytest.fixture(scope="session")
def guarded(speech: SpeechServerThread) -> Iterator[RunningService]:
    """One guarded service for many tests: each leaves it without a live call."""
    with guarded_service(speech.address, BUSINESSES=json.dumps(BUSINESSES)) as service:
        yield service
