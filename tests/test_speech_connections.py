"""The connections to Google: 90 calls each, another one for the 91st, none across a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from google.cloud.speech_v1.types import StreamingRecognizeRequest, StreamingRecognizeResponse

from speech_connections import CALLS_PER_CONNECTION, SpeechConnection, SpeechConnections

NOBODY = "127.0.0.1:9"  # a connection is lazy: nothing is asked for until a stream is opened


@pytest.fixture
def connections() -> Iterator[SpeechConnections]:
    connections = SpeechConnections(None, emulator_host=NOBODY)
    yield connections
    connections.close()


@pytest.fixture
def pairs() -> Iterator[SpeechConnections]:
    """Connections that take two calls each."""
    connections = SpeechConnections(None, emulator_host=NOBODY, calls_per_connection=2)
    yield connections
    connections.close()


class Google:
    """A server that answers each stream with nothing, and notes from which connection it came."""

    def __init__(self) -> None:
        self.peers: list[str] = []
        self.requests: list[list[StreamingRecognizeRequest]] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(
            self._streaming_recognize,
            StreamingRecognizeRequest.deserialize,
            StreamingRecognizeResponse.serialize,
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "google.cloud.speech.v1.Speech", {"StreamingRecognize": handler}
                ),
            )
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _streaming_recognize(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.peers.append(context.peer())
        self.requests.append(list(requests))
        yield StreamingRecognizeResponse()

    def stop(self) -> None:
        self._server.stop(None).wait(10)


@pytest.fixture
def google() -> Iterator[Google]:
    server = Google()
    yield server
    server.stop()


def test_nothing_is_connected_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC does not survive a fork: the application is made before it, the connections after."""

    def no_channel(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a channel was made")

    monkeypatch.setattr(grpc, "insecure_channel", no_channel)
    connections = SpeechConnections(None, emulator_host=NOBODY)
    with pytest.raises(AssertionError, match="a channel was made"):
        connections.lease()


def test_90_calls_share_a_connection_and_the_91st_has_another(
    connections: SpeechConnections,
) -> None:
    """HTTP/2 carries about 100 streams; the one after that would hang without an error."""
    assert CALLS_PER_CONNECTION == 90
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


def test_no_race_of_calls_passes_the_limit() -> None:
    """45 calls at one moment: 9 connections of 5, all full."""
    connections = SpeechConnections(None, emulator_host=NOBODY, calls_per_connection=5)
    barrier = threading.Barrier(45)

    def lease(_: int) -> SpeechConnection:
        barrier.wait(10)
        return connections.lease()

    with ThreadPoolExecutor(45) as pool:
        leased = list(pool.map(lease, range(45)))
    assert len({id(connection) for connection in leased}) == 9
    assert {connection.leases for connection in leased} == {5}
    connections.close()


def test_a_call_that_comes_while_a_connection_is_made_shares_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The race, forced: the second call comes while the first one's channel is being made."""
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


def test_after_close_the_next_call_connects_anew(pairs: SpeechConnections) -> None:
    """A closed channel is never leased again; an old lease may still be given back."""
    old = pairs.lease()
    pairs.close()
    new = pairs.lease()
    assert new is not old
    pairs.release(old)
    assert new.leases == 1
    with pytest.raises(ValueError, match=r"(?i)channel closed"):
        old.streaming_recognize(iter([]))


def test_each_connection_is_one_of_its_own_on_the_wire(google: Google) -> None:
    """gRPC would put channels with equal arguments on one HTTP/2 connection; these are two."""
    connections = SpeechConnections(None, emulator_host=google.address, calls_per_connection=2)
    request = StreamingRecognizeRequest.pb()(audio_content=b"audio")
    for _ in range(4):
        answers = list(connections.lease().streaming_recognize(iter([request])))
        assert len(answers) == 1
    connections.close()
    first, second = set(google.peers[:2]), set(google.peers[2:])
    assert len(first) == len(second) == 1
    assert first != second
    assert google.requests[0][0].audio_content == b"audio"


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


def test_with_credentials_the_channel_is_googles_and_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS to Google's own address, with these credentials, on a connection of its own."""
    made: list[tuple[str, dict[str, Any]]] = []

    def create_channel(host: str, **arguments: Any) -> grpc.Channel:
        made.append((host, arguments))
        return grpc.insecure_channel(NOBODY)

    monkeypatch.setattr(SpeechGrpcTransport, "create_channel", create_channel)
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    connections = SpeechConnections(credentials, calls_per_connection=1)
    connections.lease()
    connections.lease()
    connections.close()
    assert [host for host, _ in made] == ["speech.googleapis.com:443"] * 2
    for _, arguments in made:
        assert arguments["credentials"] is credentials
        assert ("grpc.use_local_subchannel_pool", 1) in arguments["options"]
        # the client's own options, such as the size of messages, are kept
        assert ("grpc.max_receive_message_length", -1) in arguments["options"]
