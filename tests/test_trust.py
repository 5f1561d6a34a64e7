"""Who gets in at the whole service's front door: nobody but Twilio, and not for long unasked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest
from front_door_parts import (
    AUTH_TOKEN,
    MEDIA_URL,
    PUBLIC_URL,
    Twilio,
    call_form,
    guarded_service,
    live_calls,
    signature,
    stream_token,
    upgrade_headers,
)
from running_service import RunningService
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import call_log
from errors import SettingsError
from frame_echo import FrameEcho, numbered_frame
from service import WEBHOOK_BYTES, create_app
from settings import Settings
from speech_server_thread import SpeechServerThread
from trust_settings import signature_of
from twilio_calls import new_sid
from twilio_stream import StreamMessages

MOST = 3  # half-open sockets


@pytest.fixture(scope="module")
def door() -> Iterator[RunningService]:
    """One guarded service for this module, behind its proxy."""
    with (
        SpeechServerThread(FrameEcho()) as google,
        guarded_service(google.address, START_SECONDS=1.5, MAX_HALF_OPEN=MOST) as service,
    ):
        yield service


@pytest.fixture
def twilio(door: RunningService) -> Iterator[Twilio]:
    twilio = Twilio(door.port)
    yield twilio
    twilio.close()


@contextlib.contextmanager
def upgrade(
    service: RunningService, path: str, headers: dict[str, str]
) -> Iterator[ClientConnection]:
    with connect(
        f"ws://127.0.0.1:{service.port}{path}",
        additional_headers=headers,
        compression=None,
        proxy=None,
        ping_interval=None,
    ) as socket:
        yield socket


def status_of(service: RunningService, path: str, headers: dict[str, str]) -> int:
    """The HTTP status with which an upgrade is refused."""
    with pytest.raises(InvalidStatus) as refusal, upgrade(service, path, headers):
        pass
    return refusal.value.response.status_code


@pytest.mark.parametrize(
    ("path", "signed", "what"),
    [
        ("/media", None, "no signature"),
        ("/media", "", "no signature"),
        ("/media", "x", "a wrong signature"),
        ("/media", signature(MEDIA_URL, token="0" * 32), "a wrong signature"),
        ("/media", signature(PUBLIC_URL + "/media"), "a wrong signature"),
        ("/media", signature(MEDIA_URL + "/clinic"), "a wrong signature"),
        ("/media/default", signature(MEDIA_URL), "a wrong signature"),
        ("/media?tenant=default", signature(MEDIA_URL), "a wrong signature"),
    ],
)
def test_an_upgrade_that_is_not_twilios_is_a_403(
    door: RunningService, path: str, signed: str | None, what: str
) -> None:
    """A real 403 and no 101, one line, no slot."""
    before = len(door.lines)
    headers = {} if signed is None else {"X-Twilio-Signature": signed}
    assert status_of(door, path, headers) == 403
    door.wait_for(lambda lines: len(lines) > before)
    assert live_calls(door) == 0
    plain = path.partition("?")[0]
    assert door.lines[before:] == [f"[TRUST] refused: 403 {what} for {plain} from 127.0.0.1"]


def test_a_signed_call_is_carried(door: RunningService) -> None:
    """With the token of its webhook; the slot is given back."""
    call = new_sid("CA")
    parameters = {"token": stream_token(call)}
    messages = StreamMessages(call, new_sid("MZ"), "AC1", custom_parameters=parameters)
    with upgrade(door, "/media", upgrade_headers()) as socket:
        socket.send(messages.connected())
        socket.send(messages.start())
        for seq in range(10):
            socket.send(messages.media(numbered_frame(1, seq)))
        socket.send(messages.stop())
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert socket.close_code == 1000
    door.wait_for_line("session closed", call, "frames=10 dropped=0")
    assert live_calls(door) == 0


def test_sockets_without_a_start_are_few_and_short_lived(door: RunningService) -> None:
    """Over the most of them an upgrade is a 503; each is closed with 1008 when its time is up."""
    path = "/media/default"
    with contextlib.ExitStack() as sockets:
        waiting = [
            sockets.enter_context(upgrade(door, path, upgrade_headers(path))) for _ in range(MOST)
        ]
        for socket in waiting[1:]:
            socket.send(StreamMessages("CA1", "MZ1", "AC1").connected())
        assert status_of(door, path, upgrade_headers(path)) == 503
        door.wait_for_line("[WS] refused: 503 3 sockets have not said their start")
        assert status_of(door, path, {}) == 403
        for socket in waiting:
            with pytest.raises(ConnectionClosed):
                socket.recv(10)
            assert (socket.close_code, socket.close_reason) == (1008, "no start came in time")
    door.wait_for(
        lambda lines: sum("[WS] refused: 1008 no start came in time" in x for x in lines) == MOST
    )
    assert live_calls(door) == 0
    with upgrade(door, path, upgrade_headers(path)):
        pass


def test_a_closed_socket_no_longer_counts_as_half_open(door: RunningService) -> None:
    """Whoever leaves before the start makes room at once."""
    for _ in range(3 * MOST):
        before = door.count("[WS] closed: 1000")
        with upgrade(door, "/media", upgrade_headers()):
            pass
        door.wait_for(lambda lines, n=before: sum("[WS] closed: 1000" in x for x in lines) > n)  # type: ignore[misc]  # its default
    assert live_calls(door) == 0


def test_an_upgrade_that_fails_leaves_no_place_taken() -> None:
    """Whatever became of it: the place for a half-open socket goes with the request."""
    app = create_app(
        Settings(speech_emulator_host="127.0.0.1:1", allow_unsigned=True, max_half_open=1)
    )
    for _ in range(3):
        answer = app.test_client().get(  # there is no socket under the test client
            "/media", headers={"Upgrade": "websocket", "Connection": "Upgrade"}
        )
        assert answer.status_code == 500


def test_a_body_over_the_limit_is_a_413(door: RunningService, twilio: Twilio) -> None:
    """Twilio's forms are about 1 KB; one under the limit is read, with its signature."""
    path = "/voice"
    assert twilio.post(path, call_form(Extra="x" * (WEBHOOK_BYTES // 2)))[0] == 200
    assert twilio.post(path, call_form(Extra="x" * WEBHOOK_BYTES))[0] == 413
    assert door.count("Traceback") == 0


def test_huge_headers_are_refused(door: RunningService, twilio: Twilio) -> None:
    """One too long, and too many: no request is made of them."""
    for headers in ({"X": "x" * 20_000}, {f"X-{n}": "x" for n in range(200)}):
        status, _ = twilio.request("GET", "/healthz", None, headers)
        assert status in (400, 431)
        twilio.close()
    assert door.count("Traceback") == 0


@pytest.mark.parametrize(
    ("method", "path", "host"),
    [
        ("POST", "/voice?a=\xff", "h"),
        ("POST", "/voice?bodySHA256=x", "h"),
        ("POST", "/voice", "h:99999999"),
        ("POST", "/voice", "["),
        ("GET", "/media?\xff", "h"),
        ("GET", "/media/%00%0a", "h:x"),
        ("GET", "/media/%ff", "[::"),
    ],
)
@pytest.mark.parametrize("public_url", [PUBLIC_URL, ""])
def test_nothing_makes_the_check_itself_fail(
    method: str, path: str, host: str, public_url: str
) -> None:
    """Bytes that are no text, hosts that are none: refused like any other, with one line."""
    app = create_app(
        Settings(
            speech_emulator_host="127.0.0.1:1",
            twilio_auth_token=AUTH_TOKEN,
            secret_key="k" * 32,
            public_url=public_url,
        )
    )
    plain, _, query = path.partition("?")
    answer = app.test_client().open(
        plain,
        method=method,
        headers={
            "X-Twilio-Signature": "x",
            **({"Upgrade": "websocket", "Connection": "Upgrade"} if method == "GET" else {}),
        },
        environ_overrides={"QUERY_STRING": query, "HTTP_HOST": host},
    )
    assert answer.status_code in (400, 403, 404)


def test_an_open_door_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line at the start."""
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    monkeypatch.setattr(call_log.logger, "handlers", [handler])
    create_app(Settings(speech_emulator_host="127.0.0.1:1", allow_unsigned=True))
    [line] = lines
    assert line.startswith("[TRUST] ALLOW_UNSIGNED=1: anybody who reaches this port")


def test_the_door_is_never_open_by_omission() -> None:
    """Without a token, or a secret for the streams' own, there is no service."""
    for settings, variable in (
        (Settings(), "TWILIO_AUTH_TOKEN"),
        (Settings(twilio_auth_token=" , "), "TWILIO_AUTH_TOKEN"),
        (Settings(twilio_auth_token="x"), "SECRET_KEY"),
    ):
        with pytest.raises(SettingsError, match=f"^{variable}: must be set"):
            signature_of(settings)
    with pytest.raises(SettingsError, match="SECRET_KEY: is shorter than 16 characters"):
        signature_of(Settings(twilio_auth_token="x", secret_key="y" * 15))
    assert signature_of(Settings(twilio_auth_token="x", secret_key="y" * 16)) is not None
    assert signature_of(Settings(allow_unsigned=True)) is None
