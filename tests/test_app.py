"""`create_app()`, the health addresses, and the service under `flask run` with real threads."""

from __future__ import annotations

import asyncio
import signal

import pytest
from flask import Flask
from running_service import RunningService

from app import create_app
from errors import SettingsError
from frame_echo import numbered_frame
from registry import CallRegistry
from settings import Settings
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls


def app_of(**settings: object) -> Flask:
    environ = {"SPEECH_EMULATOR_HOST": "127.0.0.1:1"} | {k: str(v) for k, v in settings.items()}
    return create_app(Settings.from_env(environ))


def registry_of(app: Flask) -> CallRegistry:
    registry: CallRegistry = app.extensions["tamlil"].registry
    return registry


def test_healthz_says_alive_even_when_full() -> None:
    """/healthz is about the process, not about its room."""
    app = app_of(MAX_CONCURRENT_CALLS=1)
    registry_of(app).take_slot("CA1")
    answer = app.test_client().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_readyz_follows_the_room() -> None:
    """/readyz: 200 with room, 503 when full, 200 again when a slot came back."""
    app = app_of(MAX_CONCURRENT_CALLS=1)
    client, registry = app.test_client(), registry_of(app)
    assert client.get("/readyz").json == {"status": "ready", "calls": 0, "max_calls": 1}
    registry.take_slot("CA1")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"status": "full", "calls": 1, "max_calls": 1}
    registry.close_session("CA1")
    assert client.get("/readyz").status_code == 200


def test_readyz_says_draining() -> None:
    """/readyz is 503 from the moment on at which the service drains."""
    app = app_of()
    app.extensions["tamlil"].drain()
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["status"] == "draining"


def test_create_app_needs_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without credentials there is no application, but a line that says what to set."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(SettingsError, match="GOOGLE_CREDENTIALS_JSON"):
        create_app(Settings())


def test_flask_run_carries_a_call_and_ends_it_on_ctrl_c(google: SpeechServerThread) -> None:
    """`flask run`, real threads: frames arrive in order; Ctrl-C closes a live call cleanly."""
    with RunningService(RunningService.flask_run, SPEECH_EMULATOR_HOST=google.address) as service:

        async def play_and_stop() -> None:
            whole = PlannedCall([numbered_frame(1, seq) for seq in range(60)], call_sid="CA1")
            [report] = await play_calls(service.url, [whole])
            assert (report.error, report.close_code) == (None, 1000)
            long = PlannedCall((numbered_frame(2, seq) for seq in range(3000)), call_sid="CA2")
            playing = asyncio.create_task(play_calls(service.url, [long]))
            await asyncio.to_thread(
                google.wait_for,
                lambda: len(google.streams) == 2 and len(google.streams[1].frames) > 50,
            )
            await asyncio.to_thread(service.stop, signal.SIGINT)
            [report] = await playing
            assert report.close_code == 1012

        asyncio.run(play_and_stop())
    assert google.streams[0].frames == [(1, seq) for seq in range(60)]
    numbers = [seq for _, seq in google.streams[1].frames]
    assert numbers == list(range(len(numbers)))
    assert google.streams[1].ended == "half-closed"
    assert service.count("session closed", "call=CA2") == 1
    assert "Traceback" not in service.log


def test_flask_run_says_what_is_wrong_and_exits_with_2(tmp_path: object) -> None:
    """Under `flask run` a broken setting is one clear line and exit code 2 as well."""
    service = RunningService(RunningService.flask_run, HOME=tmp_path, STT_BATCH_MS="soon").start()
    assert service.process.wait(30) == 2
    service.stop()
    assert service.count("tamlil: STT_BATCH_MS=soon: must be a whole number") == 1
    assert "Traceback" not in service.log
