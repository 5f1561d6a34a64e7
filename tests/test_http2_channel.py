"""Calls over HTTP/2, against a server on another library: statuses, windows, ends, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, ClassVar

import grpc
import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from http2_server import OK, PATIENCE, Http2Server, echo, message, nothing
from threads_left import no_thread_left

from grpc_status import CallError, Status
from http2_channel import Http2Channel, StreamCall
from http2_connection import Http2Connection
from wire import connect

Code = grpc.StatusCode
HTTP = "Received http2 header with status:"
HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"google.example"),
    (b":path", b"/Speech/Stream"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


class Requests:
    """The requests of a call, as a test gives them. The first opens the stream."""

    made: ClassVar[list[Requests]] = []

    def __init__(self, *requests: bytes) -> None:
        self.made.append(self)
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self.give(*requests)

    def __iter__(self) -> Iterator[bytes]:
        while (request := self._queue.get(timeout=PATIENCE)) is not None:
            yield request

    def give(self, *requests: bytes) -> None:
        for request in requests:
            self._queue.put(request)

    def end(self) -> None:
        self._queue.put(None)


Open = Callable[[Http2Server], Http2Channel]


@pytest.fixture
def open_channel() -> Iterator[Open]:
    channels: list[Http2Channel] = []

    def open_channel(server: Http2Server) -> Http2Channel:
        host, port = server.address.split(":")
        channels.append(
            Http2Channel(lambda: connect(host, int(port), None, PATIENCE), lambda path: HEADERS)
        )
        return channels[-1]

    with no_thread_left(lambda name: name.startswith(("http2", "grpc"))):
        yield open_channel
        for channel in channels:
            channel.close()
        while Requests.made:  # as a stream's feed does when the stream is over
            Requests.made.pop().end()


def begin(channel: Http2Channel, requests: Any) -> StreamCall:
    return channel.stream_stream("/Speech/Stream", bytes, bytes)(requests)


def fault_of(call: StreamCall) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallError) as caught:
        list(call)
    return caught.value.code(), caught.value.details()


def test_messages_go_there_and_back(open_channel: Open) -> None:
    """Each as a message of gRPC's; the end of the requests is a half-close."""
    with Http2Server(echo) as server:
        call = begin(open_channel(server), [b"one", b"", b"three" * 1000])
        assert list(call) == [b"one", b"", b"three" * 1000]
        assert dict(server.of(RequestReceived)[0].headers)[":path"] == "/Speech/Stream"


def test_a_listener_is_told_each_response(open_channel: Open) -> None:
    """All that come, in order; whoever iterates gets the end alone."""
    with Http2Server(echo) as server:
        requests, heard = Requests(), list[bytes]()
        call = begin(open_channel(server), requests)
        call.hear(heard.append)
        requests.give(b"one", b"", b"three" * 1000)
        requests.end()
        assert list(call) == []
        assert heard == [b"one", b"", b"three" * 1000]


def test_a_listener_is_told_nothing_that_cannot_be_read(open_channel: Open) -> None:
    """The call is over with the first such response."""
    with Http2Server(echo) as server:
        requests, heard = Requests(), list[int]()
        call = open_channel(server).stream_stream("/Speech/Stream", bytes, int)(iter(requests))
        call.hear(heard.append)
        requests.give(b"1", b"x")
        code, text = fault_of(call)
        assert (code, text) == (Code.INTERNAL, "Exception deserializing response!")
        assert heard == [1]


def test_a_message_that_comes_in_pieces_is_one(open_channel: Open) -> None:
    """Cut anywhere, also within its prefix."""

    def answer(server: Http2Server, event: Event) -> None:
        if isinstance(event, RequestReceived):
            server.h2.send_headers(1, OK)
            for byte in message(b"whole") + message(b"again"):
                server.h2.send_data(1, bytes([byte]))
            server.h2.send_headers(1, [("grpc-status", "0")], end_stream=True)

    with Http2Server(answer) as server:
        assert list(begin(open_channel(server), Requests(b""))) == [b"whole", b"again"]


@pytest.mark.parametrize(
    ("headers", "trailers", "code", "text"),
    [
        (OK, [("grpc-status", "3"), ("grpc-message", "no%20x")], Code.INVALID_ARGUMENT, "no x"),
        (OK, [("grpc-status", "13"), ("grpc-message", "%D7%AA%F0%z")], Code.INTERNAL, "ת\ufffd%z"),
        (OK, [("grpc-status", "99")], Code.UNKNOWN, ""),
        (OK, [("x", "y")], Code.UNKNOWN, "the stream ended without a status"),
        ([*OK, ("grpc-status", "7")], None, Code.PERMISSION_DENIED, ""),
        ([(":status", "503")], None, Code.UNAVAILABLE, f"{HTTP} 503"),
        ([(":status", "404")], None, Code.UNIMPLEMENTED, f"{HTTP} 404"),
        ([(":status", "403")], None, Code.PERMISSION_DENIED, f"{HTTP} 403"),
        ([(":status", "418")], None, Code.UNKNOWN, f"{HTTP} 418"),
    ],
)  # fmt: skip
def test_the_status_is_found_where_it_stands(
    open_channel: Open,
    headers: list[tuple[str, str]],
    trailers: list[tuple[str, str]] | None,
    code: grpc.StatusCode,
    text: str,
) -> None:
    """In trailers, in headers that are all there is, or by HTTP's own."""

    def answer(server: Http2Server, event: Event) -> None:
        if isinstance(event, RequestReceived):
            server.h2.send_headers(1, headers, end_stream=trailers is None)
            if trailers is not None:
                server.h2.send_headers(1, trailers, end_stream=True)

    with Http2Server(answer) as server:
        assert fault_of(begin(open_channel(server), Requests(b""))) == (code, text)


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (ErrorCodes.REFUSED_STREAM, Code.UNAVAILABLE),
        (ErrorCodes.CANCEL, Code.CANCELLED),
        (ErrorCodes.ENHANCE_YOUR_CALM, Code.RESOURCE_EXHAUSTED),
        (ErrorCodes.INADEQUATE_SECURITY, Code.PERMISSION_DENIED),
        (ErrorCodes.INTERNAL_ERROR, Code.INTERNAL),
        (77, Code.UNKNOWN),
    ],
)
def test_a_reset_stream_has_grpcs_status(
    open_channel: Open, reset: int, code: grpc.StatusCode
) -> None:
    """Only that stream is over."""

    def answer(server: Http2Server, event: Event) -> None:
        if isinstance(event, RequestReceived) and event.stream_id == 1:
            server.h2.reset_stream(1, reset)
        else:
            echo(server, event)

    with Http2Server(answer) as server:
        channel = open_channel(server)
        assert fault_of(begin(channel, Requests(b"")))[0] is code
        assert list(begin(channel, [b"next"])) == [b"next"]
        assert server.connections == 1


def test_a_lost_connection_is_unavailable_and_the_next_call_has_another(
    open_channel: Open,
) -> None:
    """All streams on it learn of it at once."""
    with Http2Server(nothing) as server:
        channel = open_channel(server)
        calls = [begin(channel, Requests(b"")) for _ in range(3)]
        server.wait_for(lambda: len(server.of(RequestReceived)) == 3)
        server.hang_up()
        assert {fault_of(call)[0] for call in calls} == {Code.UNAVAILABLE}
        begin(channel, Requests(b""))
        server.wait_for(lambda: server.connections == 2)


def test_streams_go_on_after_goaway_and_new_ones_have_another_connection(
    open_channel: Open,
) -> None:
    """A server that ends a connection in order takes no new streams; no word of the old is lost."""
    with Http2Server(echo) as server:
        channel = open_channel(server)
        requests = Requests(b"before")
        old = begin(channel, requests)
        assert next(old) == b"before"
        first = server.h2

        def go_away(h2: Any) -> None:
            frame = b"\0\0\x08\x07\0\0\0\0\0" + (1).to_bytes(4, "big") + bytes(4)
            assert server._sock is not None
            server._sock.sendall(frame)  # of h2's own making it would end h2's connection

        server.do(go_away)
        requests.give(b"after")
        assert next(old) == b"after"
        requests.end()
        assert list(old) == []
        # the used-up connection is closed by us, and the server takes the next one
        assert list(begin(channel, [b"new"])) == [b"new"]
        assert server.h2 is not first


def test_a_stream_that_goaway_leaves_out_is_unavailable(open_channel: Open) -> None:
    """The server has not taken it: somebody else may try again."""

    def answer(server: Http2Server, event: Event) -> None:
        if isinstance(event, RequestReceived):
            server.h2.close_connection(ErrorCodes.NO_ERROR, b"so long", last_stream_id=0)

    with Http2Server(answer) as server:
        code, text = fault_of(begin(open_channel(server), Requests(b"")))
        assert code is Code.UNAVAILABLE
        assert "GOAWAY 0: so long" in text


def test_the_servers_limit_of_streams_is_kept(open_channel: Open) -> None:
    """The third of two waits for its turn, and can be cancelled meanwhile."""
    with Http2Server(nothing, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as server:
        channel = open_channel(server)
        calls = [begin(channel, Requests(b"")) for _ in range(2)]
        server.wait_for(lambda: len(server.of(RequestReceived)) == 2)
        third, fourth = begin(channel, Requests(b"")), begin(channel, Requests(b""))
        fourth.cancel()
        assert fault_of(fourth)[0] is Code.CANCELLED
        calls[0].cancel()
        server.wait_for(lambda: len(server.of(RequestReceived)) == 3)
        assert server.of(StreamReset)[0].error_code == ErrorCodes.CANCEL
        third.cancel()


def test_no_more_is_sent_than_the_window_has_room_for(open_channel: Open) -> None:
    """The requests wait where they come from, and go on when there is room again."""
    with Http2Server(nothing, window=100) as server:
        requests = Requests(bytes(70), bytes(70))
        call = begin(open_channel(server), requests)
        server.wait_for(lambda: len(server.data) == 100)
        assert not call.send_now(b"x")  # which would have to wait
        server.do(lambda h2: h2.increment_flow_control_window(1000, 1))
        server.wait_for(lambda: len(server.data) == 150)
        assert server.data == message(bytes(70)) * 2
        assert call.send_now(b"x")
        server.wait_for(lambda: server.data.endswith(message(b"x")))
        call.cancel()


def test_many_large_responses_fit_their_windows(open_channel: Open) -> None:
    """Room for more is given as they come."""

    class Sender:
        left = 200

        def __call__(self, server: Http2Server, event: Event) -> None:
            if isinstance(event, RequestReceived):
                server.h2.send_headers(1, OK)
            while (
                self.left and server.h2.streams and server.h2.local_flow_control_window(1) > 16384
            ):
                server.h2.send_data(1, message(bytes(16_000)))
                self.left -= 1
                if not self.left:
                    server.h2.send_headers(1, [("grpc-status", "0")], end_stream=True)

    with Http2Server(Sender()) as server:
        assert sum(map(len, begin(open_channel(server), Requests(b"")))) == 200 * 16_000


@pytest.mark.parametrize("prefix", [b"\1\0\0\0\1", b"\0\xff\0\0\0"])
def test_a_message_that_we_did_not_ask_for_is_refused(open_channel: Open, prefix: bytes) -> None:
    """Compressed, or of 4 GB: the stream is given up, the connection is not."""

    def answer(server: Http2Server, event: Event) -> None:
        if isinstance(event, RequestReceived):
            server.h2.send_headers(1, OK)
            server.h2.send_data(1, prefix + b"x")

    with Http2Server(answer) as server:
        assert fault_of(begin(open_channel(server), Requests(b"")))[0] is Code.INTERNAL
        server.wait_for(lambda: server.of(StreamReset))


def test_a_server_that_does_not_speak_http2_is_unavailable(open_channel: Open) -> None:
    """A web server of the old kind, for example."""

    with Http2Server(nothing, greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        code, text = fault_of(begin(open_channel(server), Requests(b"")))
        assert (code, text) == (
            Code.UNAVAILABLE,
            "HTTP/2: the other side does not speak HTTP/2",
        )


def test_headers_that_cannot_be_had_are_a_fault_of_the_call(open_channel: Open) -> None:
    """A key that Google refuses; in gRPC's words, by which that is known."""

    def refuse(path: str) -> Any:
        raise ValueError("invalid_grant: gone")

    channel = Http2Channel(lambda: connect("127.0.0.1", 9, None, 1.0), refuse)
    assert fault_of(begin(channel, Requests(b""))) == (
        Code.UNAVAILABLE,
        "Getting metadata from plugin failed with error: invalid_grant: gone",
    )


def test_requests_that_raise_end_the_call(open_channel: Open) -> None:
    """It is no half-close: the server would take it for all there is."""

    def broken() -> Iterator[bytes]:
        yield b"one"
        yield object()  # type: ignore[misc]  # which no serializer takes

    with Http2Server(nothing) as server:
        caught = SimpleQueue[Any]()
        hook, threading.excepthook = threading.excepthook, caught.put
        try:
            call = begin(open_channel(server), broken())
            assert fault_of(call) == (Code.UNKNOWN, "Exception iterating requests!")
            assert caught.get(timeout=PATIENCE).exc_type is TypeError
        finally:
            threading.excepthook = hook
        server.wait_for(lambda: server.of(StreamReset))


def test_a_burst_of_calls_shares_one_connection(open_channel: Open) -> None:
    """They come while it is being made, from many threads."""
    with Http2Server(echo) as server:
        channel = open_channel(server)
        calls = [begin(channel, [b"%d" % n] * 20) for n in range(50)]
        for n, call in enumerate(calls):
            assert list(call) == [b"%d" % n] * 20
        assert server.connections == 1


def test_a_failed_connection_is_tried_again_after_a_moment() -> None:
    """Many calls that fail together make one try, not as many."""
    tries: list[float] = []
    now = [100.0]

    def refuse() -> Any:
        tries.append(now[0])
        raise ConnectionRefusedError("nobody")

    channel = Http2Channel(refuse, lambda path: HEADERS, clock=lambda: now[0])
    for _ in range(5):
        assert fault_of(begin(channel, Requests(b""))) == (Code.UNAVAILABLE, "nobody")
    assert len(tries) == 1
    now[0] += 0.3
    fault_of(begin(channel, Requests(b"")))
    assert len(tries) == 2
    channel.close()


def test_a_closed_channel_begins_nothing_and_cancels_what_it_had(open_channel: Open) -> None:
    """As gRPC's does."""
    with Http2Server(nothing) as server:
        channel = open_channel(server)
        call = begin(channel, Requests(b""))
        server.wait_for(lambda: server.of(RequestReceived))
        channel.close()
        assert fault_of(call)[0] is Code.CANCELLED
        with pytest.raises(ValueError, match="Channel closed"):
            begin(channel, Requests(b""))


def test_a_cancelled_call_says_so_more_than_once(open_channel: Open) -> None:
    """Whoever asks again is not left waiting."""
    with Http2Server(nothing) as server:
        call = begin(open_channel(server), Requests(b""))
        call.cancel()
        call.cancel()
        assert fault_of(call) == fault_of(call)


def test_a_cancelled_call_is_reset_and_never_half_closed(
    open_channel: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests end when it is over, as a stream's feed does, however late the reset comes."""
    ended = threading.Event()
    cancel = Http2Connection.cancel

    def cancel_late(connection: Http2Connection, number: int) -> None:
        ended.wait(0.3)  # a busy machine runs everybody else first
        cancel(connection, number)

    monkeypatch.setattr(Http2Connection, "cancel", cancel_late)
    requests = Requests(b"one")

    def until_over() -> Iterator[bytes]:
        yield from requests
        ended.set()

    with Http2Server(nothing) as server:
        call = begin(open_channel(server), until_over())

        def read() -> None:
            fault_of(call)
            requests.end()

        reader = threading.Thread(target=read)
        reader.start()
        server.wait_for(lambda: server.of(DataReceived))
        call.cancel()
        reader.join()
        server.wait_for(lambda: server.of(StreamReset))
        assert server.of(StreamEnded) == []


def test_what_is_sent_together_leaves_together(open_channel: Open) -> None:
    """Messages that are there when the sender comes to its turn go in one write."""
    with Http2Server(nothing) as server:
        channel = open_channel(server)
        call = begin(channel, Requests(b""))
        server.wait_for(lambda: server.of(RequestReceived))
        started = time.monotonic()
        while not call.send_now(b"first"):
            assert time.monotonic() - started < PATIENCE
        for _ in range(50):
            assert call.send_now(b"more")
        server.wait_for(lambda: server.data.count(b"more") == 50)
        assert len(server.of(DataReceived)) == 52
        call.cancel()


def test_a_stream_is_given_up_while_its_connection_breaks() -> None:
    """The reader has found that the other side broke the protocol, and has told nobody yet."""
    connection = Http2Connection(lambda: connect("127.0.0.1", 1, None, PATIENCE), lambda *_: None)
    with connection._lock:
        connection._closed = True
        connection._streams[1] = nobody = Nobody()
    connection.cancel(1)
    assert nobody not in connection._streams.values()


class Nobody:
    """A stream that is told nothing."""

    def headers_came(self, headers: dict[bytes, bytes]) -> None:
        raise AssertionError

    def data_came(self, data: bytes) -> None:
        raise AssertionError

    def ended(self, status: Status | None) -> None:
        raise AssertionError
