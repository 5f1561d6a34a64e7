"""`create_app()`, the health addresses, and the service under `flask run` with real threads."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from metrics_parts import pulse_of
from running_service import RunningService

import call_log
import media_ws_ai
from businesses import Business
from errors import SettingsError
from frame_echo import numbered_frame
from gcp_stt_stream import SessionLimits
from native_threads import NativeThreads
from recognition import Recognition
from record_link import RecordLink
from record_service import RecordService
from registry import CallRegistry, LiveCall
from relay_limits import RelayLimits
from service import Service, create_app
from settings import Settings
from shared_speech import MEBIBYTE, SharedSpeech
from speech_connections import SpeechConnections
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls


def app_of(**settings: object) -> Flask:
    environ = {"SPEECH_EMULATOR_HOST": "127.0.0.1:1", "ALLOW_UNSIGNED": "1"}
    environ |= {name: str(value) for name, value in settings.items()}
    app = create_app(Settings.from_env(environ))
    app.extensions["tamlil"].records.businesses.tell([Business("default")])
    return app


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


def test_readyz_waits_for_the_businesses() -> None:
    """Without them it is not known whose a call is."""
    app = create_app(Settings(speech_emulator_host="127.0.0.1:1", allow_unsigned=True))
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["status"] == "waiting for the database"


def test_readyz_says_draining() -> None:
    """/readyz is 503 from the moment on at which the service drains."""
    app = app_of()
    app.extensions["tamlil"].drain()
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["status"] == "draining"


def test_a_second_drain_counts_no_call_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may get SIGTERM twice at once: one line says how many calls were ended."""
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    again: list[threading.Thread] = []

    class Thread(threading.Thread):
        """What closes a call; before the first is closed, another drain begins."""

        def start(self) -> None:
            if self.name.startswith("close-") and not again:
                again.append(threading.Thread(target=service.drain))
                again[0].start()
                again[0].join(0.05)  # as long as it would take, if nothing held it
            super().start()

    registry = CallRegistry(2, thread_class=Thread)
    records = RecordService(Settings(), RecordLink(NativeThreads()), registry)
    service = Service(Settings(), registry, records, pulse_of(registry, records))
    registry.take_slot("CA1")
    monkeypatch.setattr(call_log.logger, "handlers", [handler])
    monkeypatch.setattr(call_log.logger, "level", logging.INFO)
    service.drain()
    again[0].join(10)
    assert [line for line in lines if "[DRAIN]" in line] == [
        "[DRAIN] ended 1 calls, 0 did not end in time"
    ]


class Opened:
    """A session that only keeps what it was made with."""

    def __init__(self, connections: SpeechConnections, recognition: Recognition, **options: Any):
        self.connections, self.recognition = connections, recognition
        self.limits: SessionLimits = options["limits"]
        self.shared: SharedSpeech = options["shared"]
        self.tenant_id: str = options["tenant_id"]


Open = Callable[[str, str], Opened]


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Open]:
    """Makes an application of settings, and gives what opens its sessions."""
    opened: list[Callable[[LiveCall, str], Any]] = []
    make_blueprint = media_ws_ai.make_blueprint

    def note(
        registry: Any, door: Any, admission: Any, open_session: Any, *others: Any, **limits: Any
    ) -> Any:
        opened.append(open_session)
        return make_blueprint(registry, door, admission, open_session, *others, **limits)

    def opener(**settings: object) -> Open:
        app_of(**settings)
        registry = CallRegistry(10)
        return lambda call, tenant: opened[-1](registry.take_slot(call, tenant), "")

    monkeypatch.setattr("service.StreamingSTTSession", Opened)
    monkeypatch.setattr(media_ws_ai, "make_blueprint", note)
    return opener


def test_the_settings_reach_every_session(opener: Callable[..., Open]) -> None:
    """Each variable is the limit that it is said to be, and no other."""
    session = opener(
        STT_QUEUE_FRAMES=17,
        STT_BATCH_MS=120,
        STT_PARTIAL_DEBOUNCE_MS=210,
        STT_CLOSE_SECONDS=4,
        STT_WAITING_SECONDS=310,
        STT_ROTATE_SECONDS=230,
        STT_ROTATE_HARD_SECONDS=280,
        STT_LANGUAGE="en-US",
        STT_MODEL="phone_call",
    )("CA1", "T1")
    assert session.limits == SessionLimits(
        queue_frames=17,
        batch_ms=120,
        partial_debounce_ms=210,
        close_seconds=4,
        waiting_seconds=310,
        relay=RelayLimits(rotate=230, rotate_hard=280),
    )
    assert session.recognition == Recognition("en-US", "phone_call")
    assert session.tenant_id == "T1"


def test_without_settings_a_session_has_its_own_defaults(opener: Callable[..., Open]) -> None:
    """They stand in two places, which must not disagree."""
    assert opener()("CA1", "T1").limits == SessionLimits()


def test_sessions_share_the_connections_and_the_room_for_audio(
    opener: Callable[..., Open],
) -> None:
    """STT_WAITING_MIB is for the process: what one call keeps is not there for the other."""
    open_session = opener(STT_WAITING_MIB=1)
    one, other = open_session("CA1", "T1"), open_session("CA2", "T2")
    assert one.connections is other.connections
    assert one.shared is other.shared
    rings = [session.shared.waiting.new_ring(8000, 10**8) for session in (one, other)]
    for _ in range(100):
        for ring in rings:
            ring.append(bytes(8000), 0.0)
    assert MEBIBYTE - 16_000 <= rings[0].kept + rings[1].kept <= MEBIBYTE


def test_create_app_needs_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Without credentials there is no application, but a line that says what to set."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(SettingsError, match="GOOGLE_CREDENTIALS_JSON"):
        create_app(Settings(allow_unsigned=True))


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
