"""What makes the service: `create_app()` wires the parts and does nothing else.

Imported only where the service runs (`app.py`): with it come speech, media and their libraries.
"""

from __future__ import annotations

import os
import secrets
import threading
from dataclasses import dataclass, field

import flask_sock
from flask import Flask

import api_door
import api_server
import health
import media_ws_ai
import metrics_page
import record_link
import twilio_commands
import voice_webhooks
import worker_room
from audio_tick import AudioTick
from businesses import Business
from call_listener import CallListener
from call_log import CallLog, configure_logging, logger
from call_records import CallParties, CallRecord
from gcp_stt_stream import SessionLimits, StreamingSTTSession
from google_credentials import load_credentials
from media_socket import MediaSocket
from metrics import Metrics
from metrics_pulse import BusinessLabels, MetricsPulse
from recognition import Recognition
from record_service import RecordService
from registry import CallRegistry, LiveCall
from relay_limits import RelayLimits
from settings import Settings
from shared_speech import MEBIBYTE, SharedSpeech
from speech_accounts import SpeechAccounts
from speech_connections import SpeechConnections
from stream_admission import StreamAdmission
from stream_tokens import StreamTokens
from trust import Door
from trust_settings import check_metrics_token, signature_of
from voice_webhooks import VoiceWebhooks

# Twilio's forms are about 1 KB
WEBHOOK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Service:
    """What belongs to a running application: `app.extensions["tamlil"]`."""

    settings: Settings
    registry: CallRegistry
    records: RecordService
    pulse: MetricsPulse
    _draining: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin, in the process that takes the calls."""
        self.pulse.start()
        self.records.start()

    def drain(self) -> None:
        """Take no more calls and end the live ones cleanly, within `DRAIN_SECONDS`.

        May be called again: Heroku sends SIGTERM to every process, and gunicorn's master sends
        its workers another. Who comes second waits, and counts no call a second time.
        """
        with self._draining:
            live = self.registry.live
            left = self.registry.drain(self.settings.drain_seconds)
            if live or left:
                logger.info("[DRAIN] ended %d calls, %d did not end in time", live - left, left)
            self.records.stop()
            self.pulse.stop()


def create_app(settings: Settings | None = None) -> Flask:
    """The Flask application for `settings`, by default those of the environment.

    Raises `SettingsError`.
    """
    settings = settings or Settings.from_env(os.environ)
    check_metrics_token(settings)
    configure_logging()
    registry = CallRegistry(
        settings.max_concurrent_calls,
        interval_seconds=settings.reaper_interval_seconds,
        idle_seconds=settings.reaper_idle_seconds,
        on_room=worker_room.here().note,
    )
    accounts = SpeechAccounts(
        load_credentials(settings), settings.speech_emulator_host, settings.stt_transport
    )
    shared = SharedSpeech(settings.stt_waiting_mib * MEBIBYTE)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = WEBHOOK_BYTES
    records = RecordService(settings, record_link.here(), registry)
    businesses = records.businesses
    metrics = Metrics()
    tokens = StreamTokens(settings.secret_key or secrets.token_hex(32))
    door = Door(signature_of(settings))
    if not door.is_guarded:
        logger.warning(
            "[TRUST] ALLOW_UNSIGNED=1: anybody who reaches this port can open streams, at your cost"
        )

    labels = BusinessLabels(businesses, guarded=door.is_guarded)
    pulse = MetricsPulse(metrics, registry, businesses, labels, records, shared)

    def make_log(call_sid: str, tenant_id: str, track: str = "") -> CallLog:
        return CallLog(call_sid, tenant_id, track=track, transcripts=settings.log_transcripts)

    def begin_record(slot: LiveCall, parties: CallParties) -> CallRecord:
        pulse.call_started(slot.tenant_id)
        return records.begin(slot, parties)

    def open_session(slot: LiveCall, track: str) -> StreamingSTTSession:
        business = businesses.of_id(slot.tenant_id) or Business(slot.tenant_id)
        log = make_log(slot.call_sid, slot.tenant_id, track)
        listener = CallListener(log, slot.record, track, metrics)
        session = _open_session(settings, accounts.of(business), shared, business, log, listener)
        pulse.watch(session)
        return session

    flask_sock.Server = MediaSocket  # see media_socket.py for what it does better
    app.config["SOCK_SERVER_OPTIONS"] = {"tick": AudioTick(settings.stt_batch_ms)}
    app.register_blueprint(health.make_blueprint(registry, lambda: businesses.is_read))
    app.register_blueprint(
        media_ws_ai.make_blueprint(
            registry,
            door,
            StreamAdmission(businesses, tokens, guarded=door.is_guarded),
            open_session,
            begin_record,
            make_log,
            start_seconds=settings.start_seconds,
            max_half_open=settings.max_half_open,
        )
    )
    webhooks = VoiceWebhooks(
        businesses,
        registry,
        tokens,
        records.tell_over,
        public_url=settings.public_url,
        language=settings.stt_language,
        room_beside=lambda: worker_room.here().beside,
    )
    app.register_blueprint(voice_webhooks.make_blueprint(webhooks, door))
    app.register_blueprint(api_door.make_blueprint(api_server.socket_of(records.worker_id)))
    app.cli.add_command(twilio_commands.group)
    app.register_blueprint(metrics_page.make_blueprint(settings, metrics.registry))
    app.extensions["tamlil"] = Service(settings, registry, records, pulse)
    return app


def _open_session(
    settings: Settings,
    connections: SpeechConnections,
    shared: SharedSpeech,
    business: Business,
    log: CallLog,
    listener: CallListener,
) -> StreamingSTTSession:
    """A track's session, whose results go to `listener`."""
    return StreamingSTTSession(
        connections,
        Recognition(
            language=business.language or settings.stt_language,
            model=business.model or settings.stt_model,
            punctuation=business.punctuation,
            profanity_filter=business.profanity_filter,
            hints=business.hints,
        ),
        log=log,
        on_partial=listener.partial,
        on_final=listener.final,
        shared=shared,
        tenant_id=business.tenant_id,
        limits=SessionLimits(
            queue_frames=settings.stt_queue_frames,
            batch_ms=settings.stt_batch_ms,
            partial_debounce_ms=settings.stt_partial_debounce_ms,
            close_seconds=settings.stt_close_seconds,
            waiting_seconds=settings.stt_waiting_seconds,
            relay=RelayLimits(
                rotate=settings.stt_rotate_seconds, rotate_hard=settings.stt_rotate_hard_seconds
            ),
        ),
    )
