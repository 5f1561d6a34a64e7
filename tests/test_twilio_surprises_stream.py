"""What surprises about streams, platforms and the libraries under a WebSocket, fact by fact.

Each test is named after one fact. Most are against the service as it is deployed; those on which a
session must fail or be slow on purpose are against its media streams alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import runpy
import signal
import socket as sockets
import threading
from typing import Any, NamedTuple

import flask_sock
import media_parts
import msgspec
import pytest
import websockets.frames
import websockets.utils
from front_door_parts import (
    call_form,
    guarded_service,
    live_calls,
    twilio_at_another,
    worker_of,
)
from guarded_calls import ANY, NUMBERS, heard, live_stream, place, spoken, whole
from gunicorn.workers.ggevent import GeventWorker
from media_parts import FRAMES, PATIENCE, MediaService, RawCaller
from running_service import PROJECT, RunningService
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri

from media_socket import MAX_MESSAGE_BYTES, PING_SECONDS, MediaSocket
from service import create_app
from settings import Settings
from speech_server_thread import SpeechServerThread

PONG = 0x8A  # its frame's first byte
HEROKU_IDLE_SECONDS, HEROKU_KILL_SECONDS = 55, 30

# the media streams alone, with sessions of a test's making
streams = media_parts.service


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    """What gunicorn.conf.py says, as gunicorn reads it."""
    return runpy.run_path(str(PROJECT / "gunicorn.conf.py"))


# Audio


def test_some_calls_send_nothing_for_silence(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """The audio has gaps, the timestamps go on: what is missing is filled, where it is missing."""
    number = next(NUMBERS)
    report = place(guarded, ANY, spoken(number, 200), chaos="gaps")
    guarded.wait_for_line("session closed", report.call_sid, "dropped=0")
    [record] = [one for one in speech.streams if number in {call for call, _ in one.frames}]
    sequence = [seq for _, seq in record.frames]
    assert len(sequence) == report.streams[0].frames_sent < 200
    assert sequence == sorted(sequence)
    assert record.audio_bytes == (sequence[-1] + 1) * 160


def test_frames_need_not_be_20_ms(guarded: RunningService, speech: SpeechServerThread) -> None:
    """160 bytes are usual and not promised: pieces of 1 to 400 come out as the same audio."""
    number = next(NUMBERS)
    report = place(guarded, ANY, spoken(number, 100), chaos="odd-frames")
    assert report.streams[0].frames_sent != 100
    guarded.wait_for_line("session closed", report.call_sid, "dropped=0")
    assert heard(speech, number) == [whole(number, 100)]


def test_media_may_come_while_start_is_handled(streams: MediaService) -> None:
    """Before it and while its session opens: kept, in order."""
    streams.may_open.clear()
    with streams.call() as caller:
        caller.media(*FRAMES[:3])
        caller.start()
        streams.wait_for(lambda: len(streams.opened) == 1)
        caller.media(*FRAMES[3:])
        streams.may_open.set()
        caller.stop()
        assert caller.ending()[0] == 1000
    assert streams.session.frames == FRAMES


def test_start_may_have_media_at_its_heels(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """In one packet with it, and nothing of it is lost."""
    number = next(NUMBERS)
    report = place(guarded, ANY, spoken(number, 50), chaos="early-media")
    guarded.wait_for_line("session closed", report.call_sid, "frames=50 dropped=0")
    assert heard(speech, number) == [whole(number, 50)]


# Platforms


def test_heroku_waits_30_s_for_a_first_answer(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """H12: the upgrade is answered before anything is asked of Google, also while that is gone."""
    speech.order("unavailable for=60")
    try:
        with live_stream(guarded) as stream:  # the client gives up after 10 s
            stream.stop()
            assert stream.ending()[0] == 1000
    finally:
        speech.clear_faults()


def test_heroku_cuts_off_what_is_idle_for_55_s(
    streams: MediaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H15: a stream of silence, which Twilio does not send, gets a ping in time and lives on."""
    assert 2 * PING_SECONDS < HEROKU_IDLE_SECONDS
    quick = functools.partial(MediaSocket, close_seconds=0.02, ping_seconds=0.02)
    monkeypatch.setattr(flask_sock, "Server", quick)
    caller = RawCaller(streams.port)
    caller.start(FRAMES[0])
    caller.wait_for_frame(Opcode.PING)
    caller.stop()
    frames, _ = caller.after_the_upgrade()
    assert Close.parse(bytes(frames[-1].data)).code == 1000


def test_heroku_and_render_kill_after_their_time() -> None:
    """30 s on Heroku, maxShutdownDelaySeconds on Render: calls drain, and gunicorn ends, before."""
    [render] = msgspec.yaml.decode((PROJECT / "render.yaml").read_bytes())["services"]
    longest = Settings().drain_seconds + 5
    assert runpy.run_path(str(PROJECT / "gunicorn.conf.py"))["graceful_timeout"] == longest
    assert longest < HEROKU_KILL_SECONDS <= render["maxShutdownDelaySeconds"]


Ending = tuple[int | None, str | None]


class Shutdown(NamedTuple):
    """How a service with a live call ended."""

    service: RunningService
    status_elsewhere: Ending  # of a call before it, whose status came to the other worker
    call_sid: str
    close: Ending
    exit_code: int


def end_from_the_other_worker(service: RunningService) -> Ending:
    """A call whose status comes to the worker that does not have it; how its stream ended."""
    with live_stream(service) as stream:
        holder = worker_of(service, stream.socket.local_address[1])
        twilio = twilio_at_another(service, holder)
        form = call_form(stream.call_sid, CallStatus="completed")
        assert twilio.post("/status", form)[0] == 200
        twilio.close()
        return stream.ending()


@pytest.fixture(scope="module")
def shutdown(speech: SpeechServerThread, tmp_path_factory: pytest.TempPathFactory) -> Shutdown:
    """Two workers and a live call, when SIGTERM comes to each of the processes at once."""
    directory = tmp_path_factory.mktemp("two-workers")
    with guarded_service(speech.address, WEB_CONCURRENCY=2, TMPDIR=directory) as service:
        status_elsewhere = end_from_the_other_worker(service)
        with live_stream(service) as stream:
            number = next(NUMBERS)
            stream.send(spoken(number, 10))
            speech.wait_for(lambda: heard(speech, number) == [whole(number, 10)])
            os.killpg(service.process.pid, signal.SIGTERM)
            close = stream.ending()
            exit_code = service.stop()
    return Shutdown(service, status_elsewhere, stream.call_sid, close, exit_code)


def test_several_workers_share_no_memory(shutdown: Shutdown) -> None:
    """Heroku sets WEB_CONCURRENCY by itself: a status at one worker ends the other's call."""
    assert shutdown.status_elsewhere == (1000, "Twilio says that the call is over")


def test_heroku_sends_sigterm_to_all_processes(shutdown: Shutdown) -> None:
    """The workers get it twice, from the platform and from the master: one drain, a clean end."""
    assert shutdown.exit_code == 0
    assert shutdown.service.count("[DRAIN] ended 1 calls, 0 did not end in time") == 1
    assert shutdown.service.count("Traceback") == 0


def test_sigterm_is_not_told_to_gevents_handlers(shutdown: Shutdown) -> None:
    """gunicorn would kill them in mid-call: ours close with 1012, and each `finally` runs."""
    assert shutdown.close == (1012, "service restart")
    assert shutdown.service.count("session closed", shutdown.call_sid, "frames=10 dropped=0") == 1
    assert shutdown.service.count("Worker graceful timeout") == 0


# gunicorn


def test_a_sync_worker_would_be_killed_in_mid_call(
    guarded: RunningService, configured: dict[str, Any]
) -> None:
    """At --timeout; the Procfile's command runs gevent's, which is asked only for its loop."""
    module, _, name = configured["worker_class"].partition(".")
    assert issubclass(getattr(__import__(module), name), GeventWorker)
    guarded.wait_for_line("Using worker: gevent_worker.MediaWorker")
    assert (PROJECT / "Procfile").read_text() == "web: gunicorn app:app\n"


def test_max_requests_would_end_calls(configured: dict[str, Any]) -> None:
    """It counts webhooks and sockets, and what it ends is in mid-call: off."""
    assert configured["max_requests"] == 0


def test_gunicorn_wants_its_gevent_extra() -> None:
    """Without it version 27 does not start the worker."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    assert sum(line.startswith("gunicorn[gevent]==") for line in lines) == 1


def test_gunicorn_logs_no_websocket(guarded: RunningService) -> None:
    """So each stream has two lines of our own, with its call and its business."""
    with live_stream(guarded) as stream:
        stream.stop()
        assert stream.ending()[0] == 1000
    about = f"call={stream.call_sid} tenant=default"
    guarded.wait_for_line("[WS] closed: 1000 the call has ended", about)
    assert guarded.count(f"[WS] connected {about}") == 1


# flask-sock and simple-websocket


@pytest.mark.parametrize("fails", ["open_session", "push_together", "close"])
def test_only_connection_closed_is_caught(streams: MediaService, fails: str) -> None:
    """Any other exception would be an HTTP 500 in the open WebSocket: a close frame, no more."""
    streams.fails = fails
    caller = RawCaller(streams.port)
    caller.start(FRAMES[0])
    caller.stop()
    frames, rest = caller.after_the_upgrade()
    assert [frame.opcode for frame in frames] == [Opcode.CLOSE]
    assert rest == b""
    streams.wait_until_all_is_given_back()


def test_a_slow_handler_would_grow_a_list_without_end(streams: MediaService) -> None:
    """Here nothing is read until it is asked for: Twilio's end blocks after what TCP holds."""
    streams.may_open.clear()
    caller = RawCaller(streams.port)
    caller.start()
    streams.wait_for(lambda: len(streams.opened) == 1)
    caller.sock.settimeout(0.2)  # for a read that must not come
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 100_000_000:
            caller.protocol.send_text(b"x" * 60_000)
            for data in caller.protocol.data_to_send():
                sent += len(data)
                caller.sock.sendall(data)
    assert sent < 100_000_000
    caller.sock.close()


def test_a_send_may_be_partial_and_is_not_locked() -> None:
    """What the socket takes goes out whole and one after the other, from whichever thread."""
    server, client = sockets.socketpair()
    client.settimeout(PATIENCE)
    closing = threading.Event()

    class Slow:
        """A socket that is slow in the middle of a pong, when another thread wants to send."""

        def __getattr__(self, name: str) -> Any:
            assert name != "send", "a send that may be partial"
            return getattr(server, name)

        def sendall(self, data: bytes) -> None:
            server.sendall(data[:1])
            if data[0] == PONG:
                closer.start()
                assert closing.wait(PATIENCE)
                closer.join(0.05)  # as long as it would take, if nothing held it
            server.sendall(data[1:])

    protocol = ClientProtocol(parse_uri("ws://tamlil.example/media"))
    request = protocol.connect()
    environ: dict[str, Any] = {"PATH_INFO": "/media", "gunicorn.socket": Slow()}
    for name, value in request.headers.raw_items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    media = MediaSocket(environ, close_seconds=0.1)

    def close() -> None:
        closing.set()
        media.close(1012, "service restart")

    closer = threading.Thread(target=close)
    protocol.send_request(request)
    with server, client:
        received = client.recv(65536)
        while b"\r\n\r\n" not in received:
            received += client.recv(65536)
        protocol.data_to_send()
        protocol.receive_data(received)
        protocol.send_ping(b"are you there")
        for data in protocol.data_to_send():
            client.sendall(data)
        with pytest.raises(flask_sock.ConnectionClosed):
            media.receive()
        closer.join(PATIENCE)
        server.shutdown(sockets.SHUT_WR)
        while data := client.recv(65536):
            protocol.receive_data(data)
    frames = [event for event in protocol.events_received() if isinstance(event, Frame)]
    assert [frame.opcode for frame in frames] == [Opcode.PONG, Opcode.CLOSE]


def test_messages_have_no_longest_size_by_default(guarded: RunningService) -> None:
    """Here it is 64 KiB: a byte more is 1009, and the slot is free."""
    with live_stream(guarded) as stream:
        stream.socket.send("x" * (MAX_MESSAGE_BYTES + 1))
        assert stream.ending()[0] == 1009
    guarded.wait_for_line("[WS] closed: 1009", stream.call_sid)
    assert live_calls(guarded) == 0


def test_wsproto_parses_frames_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application puts our socket in its place, whose protocol unmasks in C."""
    monkeypatch.setattr(flask_sock, "Server", None)
    create_app(Settings(speech_emulator_host="127.0.0.1:1", allow_unsigned=True))
    assert flask_sock.Server is MediaSocket
    assert vars(websockets.frames)["apply_mask"] is not websockets.utils.apply_mask
