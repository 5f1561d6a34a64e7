"""The client's side of HTTP/2, as far as gRPC's streams need it. Pure: no I/O, no thread, no lock.

Why not `h2`, the library for it: it takes 15 µs to send a message and 20 to receive a frame, which
was a fifth of all that a call costs; here it is 2. And when a server lets a connection end in
order (GOAWAY, as Google does every hour or so), `h2` takes it for dead and refuses the frames
that follow, the last finals of all calls on it. What is left out is what a client of gRPC has no
use for: push, priorities, upgrades. Headers are packed by `hpack`, the library.

Whatever the other side may not do raises `Http2Error`, after which nothing may be called.

Source: RFC 9113; the numbers are its sections.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple

Headers = list[tuple[bytes, bytes]]

CANCEL, NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR = 8, 0, 1, 3

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # 3.4
_HEADER = struct.Struct(">HBBBI")  # 4.1: length (16 and 8 bits), type, flags, stream
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
_TWO_NUMBERS = struct.Struct(">II")

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE = 0, 1, 3, 4, 5  # 6
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 6, 7, 8, 9
_ACK = _END_STREAM = 1
_END_HEADERS, _PADDED, _HAS_PRIORITY = 4, 8, 32

_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADERS = range(
    1, 7
)
_DEFAULT_WINDOW, _DEFAULT_FRAME, _LARGEST_WINDOW = 65_535, 16_384, 2**31 - 1
_DEFAULT_TABLE = 4096
_HEADER_BYTES = 64 * 1024  # a response's headers, all in all


class Http2Error(Exception):
    """The other side broke the protocol, or speaks another one."""


class HeadersCame(NamedTuple):
    """A response's headers, or its trailers. `ended`: nothing more comes on the stream."""

    stream: int
    headers: dict[bytes, bytes]
    ended: bool


class DataCame(NamedTuple):
    stream: int
    data: bytes
    ended: bool


class ResetCame(NamedTuple):
    """The other side gave the stream up."""

    stream: int
    code: int


class GoAway(NamedTuple):
    """No more streams; those after `last_stream` were not taken, the others go on."""

    last_stream: int
    code: int
    text: str


Event = HeadersCame | DataCame | ResetCame | GoAway


class _Stream:
    """What is counted of an open stream."""

    __slots__ = ("open", "room", "taken")

    def __init__(self, room: int) -> None:
        self.room = room  # bytes that the other side takes
        self.taken = 0  # bytes of it that were taken, and for which no new room was given
        self.open = True  # our own half


class Http2Client:
    """One connection. `window`: how much may come on it, and on a stream, before it is read."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._out: list[bytes] = []
        self._rest = b""
        self._encoder, self._decoder = Encoder(), Decoder()
        self._decoder.max_header_list_size = _HEADER_BYTES
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._room = _DEFAULT_WINDOW
        self._taken = 0
        self._initial_room = _DEFAULT_WINDOW
        self._max_frame = _DEFAULT_FRAME
        self._table = self._smallest_table = _DEFAULT_TABLE  # for the next headers
        self._max_streams = _LARGEST_WINDOW
        self._block: tuple[int, int, bytes] | None = None  # headers that are not whole yet
        self.is_ready = False  # the other side has spoken
        settings = {_ENABLE_PUSH: 0, _INITIAL_WINDOW: window, _MAX_HEADERS: _HEADER_BYTES}
        self._out.append(_PREFACE)
        self._frame(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in settings.items()))
        self._grant(0, window - _DEFAULT_WINDOW)
        self._handlers: dict[int, Callable[[int, int, bytes, list[Event]], None]] = {
            _DATA: self._data_came,
            _HEADERS: self._headers_came,
            _RST_STREAM: self._reset_came,
            _SETTINGS: self._settings_came,
            _PUSH_PROMISE: self._push_came,
            _PING: self._ping_came,
            _GOAWAY: self._goaway_came,
            _WINDOW_UPDATE: self._window_came,
            _CONTINUATION: self._continuation_came,
        }

    # What is sent

    @property
    def has_to_send(self) -> bool:
        return bool(self._out)

    def data_to_send(self) -> bytes:
        """All that is to be sent by now."""
        out, self._out = self._out, []
        return b"".join(out)

    @property
    def has_place(self) -> bool:
        """Whether a stream may be opened (5.1.2)."""
        return self.is_ready and len(self._streams) < self._max_streams

    def open(self, headers: Headers) -> int:
        """Open a stream; its number."""
        number, self._next = self._next, self._next + 2
        if number > _LARGEST_WINDOW:
            raise Http2Error("the connection has no more numbers for streams")
        self._resize_table()
        block = self._encoder.encode(
            [NeverIndexedHeaderTuple(*h) if h[0] == b"authorization" else h for h in headers]
        )
        kind = _HEADERS
        for at in range(0, len(block), self._max_frame):
            last = at + self._max_frame >= len(block)
            self._frame(kind, _END_HEADERS * last, number, block[at : at + self._max_frame])
            kind = _CONTINUATION
        self._streams[number] = _Stream(self._initial_room)
        return number

    def _resize_table(self) -> None:
        """Tell of the smallest table since the last headers, and of the last (RFC 7541, 4.2)."""
        for size in (self._smallest_table, self._table):
            if size != self._encoder.header_table_size:
                self._encoder.header_table_size = size
        self._smallest_table = self._table

    def room(self, number: int) -> int:
        """How many bytes may be sent on an open stream now (6.9); may be less than none."""
        room = self._streams[number].room
        return room if room < self._room else self._room

    def send(self, number: int, data: bytes) -> None:
        """Send what there is room for."""
        size = len(data)
        self._streams[number].room -= size
        self._room -= size
        if size <= self._max_frame:  # nearly always
            self._out += (_HEADER.pack(size >> 8, size & 0xFF, _DATA, 0, number), data)
            return
        for at in range(0, size, self._max_frame):
            self._frame(_DATA, 0, number, data[at : at + self._max_frame])

    def end(self, number: int) -> None:
        """Send no more on a stream."""
        self._frame(_DATA, _END_STREAM, number, b"")
        self._streams[number].open = False

    def reset(self, number: int, code: int) -> None:
        """Give a stream up."""
        del self._streams[number]
        self._frame(_RST_STREAM, 0, number, _NUMBER.pack(code))

    def ping(self) -> None:
        self._frame(_PING, 0, 0, bytes(8))

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._out += (_HEADER.pack(size >> 8, size & 0xFF, kind, flags, number), payload)

    def _grant(self, number: int, size: int) -> None:
        self._frame(_WINDOW_UPDATE, 0, number, _NUMBER.pack(size))

    # What comes

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes, and those before them, say. There may be something to send then."""
        data = self._rest + data if self._rest else data
        events: list[Event] = []
        at = 0
        while len(data) - at >= _HEADER.size:
            high, low, kind, flags, number = _HEADER.unpack_from(data, at)
            size = high << 8 | low
            if size > _DEFAULT_FRAME or not (self.is_ready or kind == _SETTINGS):
                raise Http2Error("the other side does not speak HTTP/2")
            begin, at = at + _HEADER.size, at + _HEADER.size + size
            if at > len(data):
                at = begin - _HEADER.size
                break
            if self._block is not None and kind != _CONTINUATION:
                raise Http2Error("headers were interrupted")
            handler = self._handlers.get(kind)
            if handler is not None:  # others are to be ignored (5.5)
                handler(flags, number & _LARGEST_WINDOW, data[begin:at], events)
        self._rest = data[at:]
        return events

    def _data_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        if not self._was_opened(number):
            raise Http2Error("data on a stream that was not opened")
        self._taken += size
        if self._taken * 2 >= self._window:
            self._grant(0, self._taken)
            self._taken = 0
        stream = self._streams.get(number)
        if stream is None:  # given up here, which the other side may not know yet
            return
        stream.taken += size
        ended = bool(flags & _END_STREAM)
        if stream.taken * 2 >= self._window and not ended:
            self._grant(number, stream.taken)
            stream.taken = 0
        events.append(DataCame(number, _unpadded(flags, payload), ended))
        if ended:
            self._end_of(number, stream)

    def _headers_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if not self._was_opened(number):
            raise Http2Error("headers on a stream that was not opened")
        payload = _unpadded(flags, payload)
        if flags & _HAS_PRIORITY:
            payload = payload[5:]
        self._take_block(flags, number, flags, payload, events)

    def _continuation_came(
        self, flags: int, number: int, payload: bytes, events: list[Event]
    ) -> None:
        if self._block is None or self._block[0] != number:
            raise Http2Error("a continuation of nothing")
        _, first_flags, block = self._block
        self._take_block(flags, number, first_flags, block + payload, events)

    def _take_block(
        self, flags: int, number: int, first_flags: int, block: bytes, events: list[Event]
    ) -> None:
        if len(block) > _HEADER_BYTES:
            raise Http2Error("headers of more bytes than are taken")
        if not flags & _END_HEADERS:
            self._block = (number, first_flags, block)
            return
        self._block = None
        try:
            headers: dict[bytes, bytes] = dict(self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise Http2Error(f"headers that cannot be read: {error}") from None
        stream = self._streams.get(number)
        if stream is None or headers.get(b":status", b"").startswith(b"1"):  # only a hint
            return
        ended = bool(first_flags & _END_STREAM)
        events.append(HeadersCame(number, headers, ended))
        if ended:
            self._end_of(number, stream)

    def _was_opened(self, number: int) -> bool:
        return number % 2 == 1 and number < self._next

    def _end_of(self, number: int, stream: _Stream) -> None:
        if stream.open:  # it has no use for what we would still send
            self.reset(number, NO_ERROR)
        else:
            del self._streams[number]

    def _reset_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        (code,) = _read(_NUMBER, payload)
        if self._streams.pop(number, None) is not None:
            events.append(ResetCame(number, code))

    def _settings_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if flags & _ACK:
            return
        if number or len(payload) % _SETTING.size:
            raise Http2Error("settings of a wrong size")
        self.is_ready = True
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == _INITIAL_WINDOW:
                if value > _LARGEST_WINDOW:
                    raise Http2Error("a window that is too large")
                for stream in self._streams.values():
                    stream.room += value - self._initial_room
                self._initial_room = value
            elif setting == _MAX_STREAMS:
                self._max_streams = value
            elif setting == _MAX_FRAME:
                self._max_frame = max(_DEFAULT_FRAME, value)
            elif setting == _HEADER_TABLE_SIZE:
                self._table = min(value, _DEFAULT_TABLE)
                self._smallest_table = min(self._smallest_table, self._table)
        self._frame(_SETTINGS, _ACK, 0, b"")

    def _push_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        raise Http2Error("a push, which we had forbidden")

    def _ping_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 8:
            raise Http2Error("a ping of a wrong size")
        if not flags & _ACK:
            self._frame(_PING, _ACK, 0, payload)

    def _goaway_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        last, code = _read(_TWO_NUMBERS, payload[: _TWO_NUMBERS.size])
        text = payload[_TWO_NUMBERS.size :].decode(errors="replace")[:200]
        events.append(GoAway(last & _LARGEST_WINDOW, code, text))

    def _window_came(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        size = _read(_NUMBER, payload)[0] & _LARGEST_WINDOW
        if number == 0:
            self._room += size
            if not size or self._room > _LARGEST_WINDOW:
                raise Http2Error("a window of a wrong size")
            return
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.room += size
        if not size or stream.room > _LARGEST_WINDOW:  # ends that stream alone (6.9)
            code = FLOW_CONTROL_ERROR if size else PROTOCOL_ERROR
            self.reset(number, code)
            events.append(ResetCame(number, code))


def _read(kind: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != kind.size:
        raise Http2Error("a frame of a wrong size")
    return kind.unpack(payload)


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Error("more padding than frame")
    return payload[1 : len(payload) - payload[0]]
