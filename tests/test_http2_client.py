"""The client's side of HTTP/2, byte by byte: what the other side must not do, and what it may."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from http2_client import (
    CANCEL,
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    DataCame,
    GoAway,
    HeadersCame,
    Http2Client,
    Http2Error,
    ResetCame,
)

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"google.example"),
    (b":path", b"/x"),
    (b"authorization", b"Bearer " + b"t" * 20_000),  # more than a frame holds
]
BLOCK = Encoder().encode([(b":status", b"200")])
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def client(streams: int = 1) -> Http2Client:
    """One whose connection is open, with so many streams."""
    http2 = Http2Client(1 << 20)
    http2.receive(SETTINGS)
    for _ in range(streams):
        http2.open(REQUEST[:4])
    http2.data_to_send()
    return http2


def test_another_library_understands_it() -> None:
    """Headers longer than a frame, a secret that is not kept in tables, data, the end."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    http2 = Http2Client(1 << 20)
    assert not http2.has_place  # the other side has not spoken
    http2.receive(server.data_to_send())
    assert http2.has_place
    server.receive_data(http2.data_to_send())
    number = http2.open(REQUEST)
    http2.send(number, b"hello")
    http2.end(number)
    events = server.receive_data(http2.data_to_send())
    [request] = [event for event in events if isinstance(event, RequestReceived)]
    assert [tuple(header) for header in request.headers] == REQUEST
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"hello", b""]


@given(st.integers(1, 60))
def test_bytes_may_be_cut_anywhere(step: int) -> None:
    """What they say does not depend on it."""
    said = (
        SETTINGS
        + frame(1, 0, 1, BLOCK[:0])
        + frame(9, 4, 1, BLOCK)
        + frame(0, 0, 1, b"one")
        + frame(0, 8, 1, b"\2two\0\0")
        + frame(99, 0, 0, b"a kind that nobody knows")
        + frame(1, 4 | 8 | 32, 1, b"\1" + bytes(5) + BLOCK + b"\0")
        + frame(1, 5, 1, BLOCK)
        + frame(3, 0, 3, (8).to_bytes(4, "big"))
        + frame(7, 0, 0, (3).to_bytes(4, "big") + bytes(4) + b"bye")
    )
    http2 = client(2)
    events = [e for at in range(0, len(said), step) for e in http2.receive(said[at : at + step])]
    status = {b":status": b"200"}
    assert events == [
        HeadersCame(1, status, False),
        DataCame(1, b"one", False),
        DataCame(1, b"two", False),
        HeadersCame(1, status, False),
        HeadersCame(1, status, True),
        ResetCame(3, 8),
        GoAway(3, 0, "bye"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(6, 0, 0, bytes(8)),  # before its settings
        SETTINGS + frame(0, 0, 0, b"x"),
        SETTINGS + frame(0, 0, 9, b"x"),  # a stream that was not opened
        SETTINGS + frame(1, 4, 2, BLOCK),
        SETTINGS + frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),  # no headers at all
        SETTINGS + frame(1, 0, 1, BLOCK) + frame(0, 0, 1, b"x"),
        SETTINGS + frame(9, 4, 1, BLOCK),
        SETTINGS + frame(5, 4, 1, bytes(4) + BLOCK),  # a push
        SETTINGS + frame(4, 0, 0, b"x"),
        SETTINGS + frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),  # a window of 4 GB
        SETTINGS + frame(6, 0, 0, b"x"),
        SETTINGS + frame(3, 0, 1, b"x"),
        SETTINGS + frame(7, 0, 0, b"x"),
        SETTINGS + frame(8, 0, 0, bytes(4)),
        SETTINGS + frame(8, 0, 0, b"\x7f\xff\xff\xff"),
        SETTINGS + frame(0, 8, 1, b"\3xx"),  # more padding than frame
        SETTINGS + frame(0, 0, 1, bytes(16_385)),
        SETTINGS + b"".join(frame(k, 0, 1, bytes(16_000)) for k in (1, 9, 9, 9, 9)),
    ],
)  # fmt: skip
def test_who_breaks_the_protocol_is_found_out(said: bytes) -> None:
    """Nothing of it is passed on as if it were sound."""
    http2 = Http2Client(1 << 20) if not said.startswith(SETTINGS) else client()
    with pytest.raises(Http2Error):
        http2.receive(said)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(junk: bytes) -> None:
    """Whatever comes, it is the protocol's fault or none."""
    http2 = client()
    try:
        http2.receive(junk)
    except Http2Error:
        return


@pytest.mark.parametrize(
    ("size", "code"),
    [(bytes(4), PROTOCOL_ERROR), (b"\x7f\xff\xff\xff", FLOW_CONTROL_ERROR)],
)
def test_a_wrong_window_of_a_stream_ends_that_one_alone(size: bytes, code: int) -> None:
    """The others go on (6.9); and a bit that has no meaning is not looked at."""
    http2 = client(2)
    assert http2.receive(frame(8, 0, 1, size)) == [ResetCame(1, code)]
    assert http2.data_to_send() == frame(3, 0, 1, code.to_bytes(4, "big"))
    room = http2.room(3)
    http2.receive(frame(8, 0, 3, b"\x80\0\0\1") + frame(8, 0, 0, b"\x80\0\0\1"))
    assert http2.room(3) == room + 1


@given(st.lists(st.sampled_from([0, 100, 4096, 10_000]), max_size=4))
def test_tables_follow_all_settings_that_came_between_two_requests(sizes: list[int]) -> None:
    """Another library, with the strictest of checks, reads the headers (RFC 7541, 4.2)."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    http2 = Http2Client(1 << 20)
    http2.receive(server.data_to_send())
    server.receive_data(http2.data_to_send())
    for sizes_before in ([], sizes, [], sizes):
        for size in sizes_before:
            server.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
            http2.receive(server.data_to_send())
            server.receive_data(http2.data_to_send())
        http2.open(REQUEST[:4])
        [request] = server.receive_data(http2.data_to_send())
        assert isinstance(request, RequestReceived)
        assert [tuple(header) for header in request.headers] == REQUEST[:4]


def test_a_new_window_is_that_of_open_streams_too() -> None:
    """Also if it is smaller than what was sent by then: then there is less than no room."""
    http2 = client()
    http2.send(1, bytes(1000))
    http2.receive(frame(4, 0, 0, b"\0\4" + (500).to_bytes(4, "big")))
    assert http2.room(1) == -500
    http2.receive(frame(8, 0, 1, (700).to_bytes(4, "big")))
    assert http2.room(1) == 200


def test_settings_pings_and_data_are_answered() -> None:
    """Acknowledged, sent back, and given new room before the old is used up."""
    http2 = client()
    http2.receive(SETTINGS + frame(6, 0, 0, b"12345678") + frame(6, 1, 0, b"87654321"))
    assert http2.data_to_send() == frame(4, 1, 0) + frame(6, 1, 0, b"12345678")
    http2.receive(frame(0, 0, 1, bytes(16_000)) * 33)
    sent = http2.data_to_send()
    assert frame(8, 0, 0, (528_000).to_bytes(4, "big")) in sent
    assert frame(8, 0, 1, (528_000).to_bytes(4, "big")) in sent


def test_what_comes_on_a_stream_that_was_given_up_is_nothing() -> None:
    """The other side may not know it yet. Its headers are read all the same: all share a table."""
    http2 = client()
    http2.reset(1, CANCEL)
    said = frame(1, 4, 1, BLOCK) + frame(0, 0, 1, b"x") + frame(3, 0, 1, bytes(4))
    assert http2.receive(said + frame(8, 0, 1, (5).to_bytes(4, "big"))) == []


def test_a_hint_before_the_response_is_not_the_response() -> None:
    """HTTP may say "100 Continue" first."""
    hint = Encoder().encode([(b":status", b"103")])
    assert client().receive(frame(1, 4, 1, hint)) == []


def test_a_stream_that_the_server_ends_is_closed_on_our_side() -> None:
    """Or it would count for ever; where we had ended it before, there is nothing to say."""
    http2 = client(2)
    http2.end(3)
    http2.data_to_send()
    http2.receive(frame(1, 5, 1, BLOCK) + frame(1, 5, 3, BLOCK))
    assert http2.data_to_send() == frame(3, 0, 1, bytes(4))
