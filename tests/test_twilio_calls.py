"""Placing calls: addresses, tenants, many at once, and what a call that fails says."""

from __future__ import annotations

import asyncio
import re
import socket
from http import HTTPStatus

import pytest
from stream_server import StreamServer

import twilio_calls
from twilio_calls import (
    PlannedCall,
    WrongUrl,
    check_stream_url,
    new_sid,
    play_call,
    play_calls,
    stream_url,
)
from twilio_stream import CallReport

FRAMES = [b"\xff" * 160] * 3


@pytest.fixture
def closed_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ids_look_like_twilios() -> None:
    """Two letters and 32 hex digits, fresh each time."""
    sids = {new_sid("CA") for _ in range(100)}
    assert len(sids) == 100
    assert all(re.fullmatch(r"CA[0-9a-f]{32}", sid) for sid in sids)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost:8000/media", "a media stream's is ws://localhost:8000/media"),
        ("https://tamlil.example/media", "a media stream's is wss://tamlil.example/media"),
        ("localhost:8000/media", "does not begin with ws://"),
        ("ws:///media", "names no host"),
        ("ws://:8000/media", "names no host"),
        ("ws://host:99999/media", "is not a URL"),
        ("ws://[::1/media", "is not a URL"),
        ("", "does not begin with ws://"),
    ],
)
def test_wrong_urls_are_refused_with_the_mend(url: str, words: str) -> None:
    """Each is one line that says what to write instead."""
    with pytest.raises(WrongUrl) as caught:
        check_stream_url(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_urls_lose_their_query_as_with_twilio() -> None:
    """Twilio strips the query; a tenant in the path is quoted."""
    assert check_stream_url("ws://h:1/media?token=1#x") == "ws://h:1/media"
    assert stream_url("wss://h/media/?a=1", "T 1/א") == "wss://h/media/T%201%2F%D7%90"
    assert stream_url("ws://h/media", None) == "ws://h/media"


def test_a_tenant_can_travel_in_the_path() -> None:
    """In the path it is not in the parameters, and other parameters stay."""

    async def call() -> StreamServer:
        async with StreamServer() as server:
            report = await play_call(
                server.url,
                FRAMES,
                tenant="T1",
                tenant_in="path",
                custom_parameters={"token": "x"},
                headers={"X-Twilio-Signature": "abc"},
                pace=0,
            )
            assert report.tenant == "T1"
        return server

    (stream,) = asyncio.run(call()).streams
    assert stream.path == "/media/T1"
    assert stream.messages[1]["start"]["customParameters"] == {"token": "x"}
    assert stream.headers["X-Twilio-Signature"] == "abc"
    assert "Sec-WebSocket-Extensions" not in stream.headers


def test_many_calls_are_apart_and_of_one_account() -> None:
    """Each call has its own ids, socket and report, in the order in which they were given."""

    async def calls() -> tuple[StreamServer, list[CallReport]]:
        plans = [PlannedCall(FRAMES * n, tenant=f"T{n}") for n in range(1, 21)]
        async with StreamServer() as server:
            return server, await play_calls(server.url, plans, pace=0)

    server, reports = asyncio.run(calls())
    assert all(report.ok for report in reports)
    assert [report.tenant for report in reports] == [f"T{n}" for n in range(1, 21)]
    assert [report.frames_sent for report in reports] == [3 * n for n in range(1, 21)]
    starts = {s.messages[1]["start"]["callSid"]: s for s in server.streams}
    assert set(starts) == {report.call_sid for report in reports}
    assert all(len(starts[r.call_sid].media()) == r.frames_sent for r in reports)
    assert len({s.messages[1]["start"]["accountSid"] for s in server.streams}) == 1
    assert len({s.messages[1]["streamSid"] for s in server.streams}) == 20


def test_a_ramp_spreads_the_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call starts at once, the last at the end of the ramp, the others between."""
    waits: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real_sleep(0)

    async def calls() -> None:
        async with StreamServer() as server:
            monkeypatch.setattr(asyncio, "sleep", sleep)
            await play_calls(server.url, [PlannedCall([]) for _ in range(5)], ramp=2.0)

    asyncio.run(calls())
    assert waits[:5] == [0, 0.5, 1.0, 1.5, 2.0]


def test_play_calls_refuses_a_wrong_url_before_any_call() -> None:
    """The caller gets the error itself, not one for each call."""
    with pytest.raises(WrongUrl):
        asyncio.run(play_calls("http://h/media", [PlannedCall(FRAMES)] * 3))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (HTTPStatus.FORBIDDEN, "HTTP 403 Forbidden: .*ALLOW_UNSIGNED=1"),
        (HTTPStatus.NOT_FOUND, "HTTP 404 Not Found: .*try /media"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "HTTP 503 .*MAX_CONCURRENT_CALLS"),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "HTTP 500 .*service's log"),
    ],
)
def test_a_refused_upgrade_is_told_of(status: HTTPStatus, words: str) -> None:
    """The report has the status and a way to mend it; nothing was sent."""

    async def call() -> CallReport:
        async with StreamServer(status=status) as server:
            return await play_call(server.url, FRAMES)

    report = asyncio.run(call())
    assert re.search(words, str(report.error))
    assert "\n" not in str(report.error)
    assert (report.ok, report.frames_sent, report.close_code) == (False, 0, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refused_connection_is_told_of(closed_port: int, host: str) -> None:
    """The same words, whether the host has one address or two."""
    report = asyncio.run(play_call(f"ws://{host}:{closed_port}/media", FRAMES))
    assert f"nothing listens at {host}:{closed_port}" in str(report.error)
    assert not report.ok


def test_an_unknown_host_is_told_of() -> None:
    """A name that cannot be (RFC 2606) is named in the report."""
    report = asyncio.run(play_call("ws://tamlil.invalid:8000/media", FRAMES))
    assert "tamlil.invalid" in str(report.error)
    assert not report.ok


def test_a_server_that_speaks_no_websocket_is_told_of() -> None:
    """Whatever else answers, the report says so in one line."""

    async def call() -> CallReport:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await play_call(f"ws://127.0.0.1:{port}/media", FRAMES)

    report = asyncio.run(call())
    assert "no WebSocket server" in str(report.error)
    assert "\n" not in str(report.error)


def test_a_server_without_tls_is_told_of() -> None:
    """`wss` to a plain server fails in one line that says which is wrong."""

    async def call() -> CallReport:
        async with StreamServer() as server:
            return await play_call(server.url.replace("ws://", "wss://"), FRAMES)

    report = asyncio.run(call())
    assert "does not speak TLS: write ws://127.0.0.1" in str(report.error)


def test_a_server_that_never_answers_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for the upgrade is bounded."""
    monkeypatch.setattr(twilio_calls, "OPEN_SECONDS", 0.05)

    async def call() -> CallReport:
        hung_up = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            hung_up.set()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            report = await play_call(f"ws://127.0.0.1:{port}/media", FRAMES)
            await hung_up.wait()
        return report

    assert "did not answer within 0.05 s" in str(asyncio.run(call()).error)
