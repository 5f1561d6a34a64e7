"""The connections to Google: 90 streams each, another one for the 91st, none across a fork."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from google.cloud.speech_v1.types import (
    RecognitionAudio,
    RecognizeRequest,
    StreamingRecognizeRequest,
)

from frame_echo import FrameEcho, numbered_frame
from recognition import Recognition
from speech_connections import STREAMS_PER_CONNECTION, SpeechConnection, SpeechConnections
from speech_server_thread import SpeechServerThread
from stream_faults import Code, StreamFault

pytestmark = pytest.mark.usefixtures("transport")

FIRST = Recognition("en-US").first_request()
NOBODY = "127.0.0.1:9"  # a connection is lazy: nothing is asked for until a stream is opened


@pytest.fixture
def connections() -> Iterator[SpeechConnections]:
    connections = SpeechConnections(None, emulator_host=NOBODY)
    yield connections
    connections.close()


@pytest.fixture
def pairs() -> Iterator[SpeechConnections]:
    """Connections that take two streams each."""
    connections = SpeechConnections(None, emulator_host=NOBODY, streams_per_connection=2)
    yield connections
    connections.close()


def test_nothing_is_connected_before_the_first_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC does not survive a fork: the application is made before it, the connections after."""

    def no_channel(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a channel was made")

    monkeypatch.setattr(grpc, "insecure_channel", no_channel)
    connections = SpeechConnections(None, emulator_host=NOBODY)
    with pytest.raises(AssertionError, match="a channel was made"):
        connections.lease()


def test_90_streams_share_a_connection_and_the_91st_has_another(
    connections: SpeechConnections,
) -> None:
    """HTTP/2 carries about 100 streams; the one after that would hang without an error."""
    assert STREAMS_PER_CONNECTION == 90
    leased = [connections.lease() for _ in range(90)]
    assert {id(connection) for connection in leased} == {id(leased[0])}
    other = connections.lease()
    assert other is not leased[0]
    assert other.channel is not leased[0].channel
    assert (leased[0].leases, other.leases) == (90, 1)


def test_a_lease_given_back_is_room_for_another(pairs: SpeechConnections) -> None:
    """Connections are kept and filled up again before a new one is made."""
    first, also_first, second = pairs.lease(), pairs.lease(), pairs.lease()
    assert first is also_first
    assert second is not first
    pairs.release(first)
    assert pairs.lease() is first
    assert pairs.lease() is second
    third = pairs.lease()
    assert third not in (first, second)


def test_the_last_release_keeps_the_connection(pairs: SpeechConnections) -> None:
    """The next call after a quiet night need not shake hands again."""
    first = pairs.lease()
    pairs.release(first)
    assert first.leases == 0
    assert pairs.lease() is first


def test_no_race_of_streams_passes_the_limit() -> None:
    """45 streams at one moment: 9 connections of 5, all full."""
    connections = SpeechConnections(None, emulator_host=NOBODY, streams_per_connection=5)
    barrier = threading.Barrier(45)

    def lease(_: int) -> SpeechConnection:
        barrier.wait(10)
        return connections.lease()

    with ThreadPoolExecutor(45) as pool:
        leased = list(pool.map(lease, range(45)))
    assert len({id(connection) for connection in leased}) == 9
    assert {connection.leases for connection in leased} == {5}
    connections.close()


def test_a_stream_that_comes_while_a_connection_is_made_shares_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The race, forced: the second stream comes while the first one's channel is being made."""
    connections = SpeechConnections(None, emulator_host=NOBODY)
    make, leased = grpc.insecure_channel, list[SpeechConnection]()
    rival = threading.Thread(target=lambda: leased.append(connections.lease()))

    def make_slowly(*args: Any, **kwargs: Any) -> grpc.Channel:
        if not rival.ident:
            rival.start()
            rival.join(0.1)  # it gets in if it can; the lock keeps it out until we are done
        return make(*args, **kwargs)

    monkeypatch.setattr(grpc, "insecure_channel", make_slowly)
    mine = connections.lease()
    rival.join(10)
    assert leased == [mine]
    assert mine.leases == 2
    connections.close()


def test_after_a_fork_the_child_makes_its_own(
    pairs: SpeechConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the parent leased is not touched, and can still be given back without harm."""
    parents = pairs.lease()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    childs = pairs.lease()
    assert childs is not parents
    assert pairs.lease() is childs
    pairs.release(parents)
    assert childs.leases == 2


def test_after_close_the_next_stream_connects_anew(pairs: SpeechConnections) -> None:
    """A closed channel is never leased again; an old lease may still be given back."""
    old = pairs.lease()
    pairs.close()
    new = pairs.lease()
    assert new is not old
    pairs.release(old)
    assert new.leases == 1
    with pytest.raises(ValueError, match=r"(?i)channel closed"):
        old.streaming_recognize(iter([]))


def test_each_connection_is_one_of_its_own_on_the_wire(google: SpeechServerThread) -> None:
    """gRPC would put channels with equal arguments on one HTTP/2 connection; these are two."""
    connections = SpeechConnections(None, emulator_host=google.address, streams_per_connection=2)
    requests = [FIRST, StreamingRecognizeRequest.pb()(audio_content=numbered_frame(1, 0))]
    for _ in range(4):
        assert list(connections.lease().streaming_recognize(iter(requests)))
    connections.close()
    peers = [stream.peer for stream in google.streams]
    first, second = set(peers[:2]), set(peers[2:])
    assert len(first) == len(second) == 1
    assert first != second
    assert {frame for stream in google.streams for frame in stream.frames} == {(1, 0)}


def test_a_stream_that_nobody_answers_can_be_cancelled() -> None:
    """The client's own method would block until the first response; this one returns at once."""
    connections = SpeechConnections(None, emulator_host=NOBODY)
    hung_up = threading.Event()

    def silence() -> Iterator[Any]:
        hung_up.wait(60)
        return
        yield

    call = connections.lease().streaming_recognize(silence())
    call.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    hung_up.set()
    assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    connections.close()


def is_closed(connection: SpeechConnection) -> bool:
    try:
        connection.streaming_recognize(iter([])).cancel()
    except ValueError:  # "Cannot invoke RPC on closed channel!"
        return True
    return False


def test_a_retired_connection_is_leased_no_more(pairs: SpeechConnections) -> None:
    """Neither its free place nor its slot among the connections is left."""
    hanging, fine = pairs.lease(), [pairs.lease(), pairs.lease()][1]
    pairs.retire(hanging)
    pairs.release(hanging)  # one of its two: there would be room
    assert pairs.lease() is fine
    others = {id(pairs.lease()) for _ in range(4)}
    assert len(others) == 2
    assert id(hanging) not in others


def test_streams_on_a_retired_connection_go_on(pairs: SpeechConnections) -> None:
    """Only one of them hangs; the connection is closed when the last of them is over."""
    hanging = pairs.lease()
    assert pairs.lease() is hanging
    pairs.retire(hanging)
    pairs.retire(hanging)  # by the other stream, which hangs as well
    assert hanging.leases == 2
    pairs.release(hanging)
    assert not is_closed(hanging)
    pairs.release(hanging)
    assert is_closed(hanging)


def test_a_connection_that_nobody_holds_is_closed_when_it_is_retired(
    pairs: SpeechConnections,
) -> None:
    """The stream that hung may be over before its connection is blamed."""
    hanging = pairs.lease()
    pairs.release(hanging)
    assert not is_closed(hanging)
    pairs.retire(hanging)
    assert is_closed(hanging)
    assert pairs.lease() is not hanging


def recording(size: int = 800) -> Any:
    """A plain request with so many bytes of audio, in frames that the stand-in names."""
    frames = b"".join(numbered_frame(1, seq) for seq in range(size // 160))
    return RecognizeRequest.pb(
        RecognizeRequest(
            config=Recognition("en-US").config(), audio=RecognitionAudio(content=frames)
        )
    )


@pytest.fixture
def connection(google: SpeechServerThread) -> Iterator[SpeechConnection]:
    """A connection to the stand-in."""
    connections = SpeechConnections(None, emulator_host=google.address)
    yield connections.lease()
    connections.close()


def test_a_plain_call_brings_its_results(
    google: SpeechServerThread, connection: SpeechConnection
) -> None:
    """Also one of a minute's audio, the most that Google takes; nothing is leased for it here."""
    [result] = connection.recognize(recording(), 10.0).result().results
    assert result.alternatives[0].transcript == "call 1 frames 0-4"
    [result] = connection.recognize(recording(480_000), 10.0).result().results
    assert result.alternatives[0].transcript == "call 1 frames 0-2999"
    assert google.recordings[1].config.language_code == "en-US"
    assert connection.leases == 1


def test_a_plain_call_fails_as_a_stream_does(
    google: SpeechServerThread, connection: SpeechConnection
) -> None:
    """With gRPC's own error: the code and Google's words."""
    google.order("recognize status=PERMISSION_DENIED text='not yours'")
    with pytest.raises(grpc.RpcError) as caught:
        connection.recognize(recording(), 10.0).result()
    assert StreamFault.of(caught.value) == StreamFault(Code.PERMISSION_DENIED, "not yours")


def test_a_plain_call_that_hangs_ends_at_its_timeout(
    google: SpeechServerThread, connection: SpeechConnection
) -> None:
    """Whoever waits for the result gets it back as a fault."""
    google.stall()
    with pytest.raises(grpc.RpcError) as caught:
        connection.recognize(recording(), 0.2).result()
    assert StreamFault.of(caught.value).code is Code.DEADLINE_EXCEEDED


def test_a_plain_call_can_be_cancelled(
    google: SpeechServerThread, connection: SpeechConnection
) -> None:
    """From another thread, while the result is waited for; the server hears of it."""
    google.stall()
    call = connection.recognize(recording(), 60.0)
    google.wait_for(lambda: len(google.recordings) == 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(call.result)
        call.cancel()
        assert isinstance(waiting.exception(10), grpc.FutureCancelledError)
    google.wait_for(lambda: google.recordings[0].status == "CANCELLED")


class BusyPort:
    """A port where nobody is at home: whoever connects is sent away, and noted."""

    def __init__(self) -> None:
        self.visitors = 0
        self._changed = threading.Condition()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._send_away)
        self._thread.start()

    def wait_for(self, visitors: int, timeout: float) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: self.visitors >= visitors, timeout)
        assert came, f"{self.visitors} of {visitors} in {timeout} s"

    def close(self) -> None:
        with suppress(OSError):  # closed before
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listening.close()

    def _send_away(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self._listening.accept()[0].close()
                with self._changed:
                    self.visitors += 1
                    self._changed.notify_all()


@pytest.fixture
def busy() -> Iterator[BusyPort]:
    port = BusyPort()
    yield port
    port.close()


def test_grpc_is_back_soon_after_google_is(busy: BusyPort) -> None:
    """Tries go on at most a second apart, after 3 s as well: gRPC's own would be 2 s apart by then.

    They make up to two minutes of it, in which every stream fails at once.
    """
    address = f"127.0.0.1:{busy.port}"
    connections = SpeechConnections(None, emulator_host=address, transport="grpc")
    connection = connections.lease()
    with pytest.raises(grpc.RpcError) as caught:
        list(connection.streaming_recognize(iter([])))
    assert StreamFault.of(caught.value).code is Code.UNAVAILABLE
    busy.wait_for(6, timeout=6.0)  # it takes 3 s; gRPC's own pauses would make it 10 s
    busy.close()
    with SpeechServerThread(FrameEcho(), port=busy.port) as google:
        grpc.channel_ready_future(connection.channel).result(3.0)
        assert list(connection.streaming_recognize(iter([FIRST]))) == []
        assert [stream.ended for stream in google.streams] == ["half-closed"]
    connections.close()


def test_the_next_stream_after_google_is_back_has_a_connection(busy: BusyPort) -> None:
    """No stream waits for a time at which a connection is tried again: each may try."""
    address = f"127.0.0.1:{busy.port}"
    connections = SpeechConnections(None, emulator_host=address, transport="h2")
    connection = connections.lease()
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as caught:
            list(connection.streaming_recognize(iter([])))
        assert StreamFault.of(caught.value).code is Code.UNAVAILABLE
    busy.close()
    with SpeechServerThread(FrameEcho(), port=busy.port) as google:
        give_up_at = time.monotonic() + 10.0
        while not _answers(connection):
            assert time.monotonic() < give_up_at
            time.sleep(0.05)  # the pause after a failed try: nothing tells its end
        assert [stream.ended for stream in google.streams] == ["half-closed"]
    connections.close()


def _answers(connection: SpeechConnection) -> bool:
    try:
        return list(connection.streaming_recognize(iter([FIRST]))) == []
    except grpc.RpcError:
        return False


def test_no_two_tries_to_connect_are_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long Google is away: a second is the most, for the stand-in's channels as well."""
    made: list[dict[str, int]] = []
    make = grpc.insecure_channel

    def insecure_channel(address: str, options: Any) -> grpc.Channel:
        made.append(dict(options))
        return make(address, options)

    monkeypatch.setattr(grpc, "insecure_channel", insecure_channel)
    connections = SpeechConnections(None, emulator_host=NOBODY)
    connections.lease()
    connections.close()
    assert made[0]["grpc.initial_reconnect_backoff_ms"] == 200
    assert made[0]["grpc.max_reconnect_backoff_ms"] == 1000


def test_with_credentials_the_channel_is_googles_and_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS to Google's own address, with these credentials, on a connection of its own."""
    made: list[tuple[str, dict[str, Any]]] = []

    def create_channel(host: str, **arguments: Any) -> grpc.Channel:
        made.append((host, arguments))
        return grpc.insecure_channel(NOBODY)

    monkeypatch.setattr(SpeechGrpcTransport, "create_channel", create_channel)
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth
    connections = SpeechConnections(credentials, streams_per_connection=1)
    connections.lease()
    connections.lease()
    connections.close()
    assert [host for host, _ in made] == ["speech.googleapis.com:443"] * 2
    for _, arguments in made:
        assert arguments["credentials"] is credentials
        assert ("grpc.use_local_subchannel_pool", 1) in arguments["options"]
        assert ("grpc.max_reconnect_backoff_ms", 1000) in arguments["options"]
        # the client's own options, such as the size of messages, are kept
        assert ("grpc.max_receive_message_length", -1) in arguments["options"]
