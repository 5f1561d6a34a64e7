"""A call's WebSocket, against the client of the `websockets` library over a real connection."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from simple_websocket import ConnectionClosed
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from audio_tick import AudioTick
from media_socket import BINARY, MAX_MESSAGE_BYTES, PING_SECONDS, BinaryMessage, MediaSocket

Message = bytes | BinaryMessage


class Peer:
    """The client's end: sends what a test says, and keeps the frames that come back."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.protocol = ClientProtocol(parse_uri("ws://tamlil.example/media"))
        self.request = self.protocol.connect()
        self.frames: list[Frame] = []
        self.response: Response | None = None
        sock.settimeout(10)

    def environ(self, sock: socket.socket, server: str = "gunicorn.socket") -> dict[str, Any]:
        """The WSGI environment of the upgrade, as a server that holds `sock` would make it."""
        environ: dict[str, Any] = {"PATH_INFO": "/media", "REQUEST_METHOD": "GET", server: sock}
        for name, value in self.request.headers.raw_items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        return environ

    def shake_hands(self) -> None:
        self.protocol.send_request(self.request)
        self.protocol.data_to_send()  # the WSGI server has read it: it went by the environment
        while self.response is None:
            self.read()
        assert self.protocol.state is State.OPEN

    def read(self) -> bool:
        """Take what has come; False at the end."""
        data = self.sock.recv(65536)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self.frames.append(event)
        self.flush()
        return bool(data)

    def flush(self) -> None:
        for data in self.protocol.data_to_send():
            with contextlib.suppress(BrokenPipeError):
                if data:
                    self.sock.sendall(data)
                else:
                    self.sock.shutdown(socket.SHUT_WR)

    def send(self, text: bytes) -> None:
        self.protocol.send_text(text)
        self.flush()

    def read_to_the_end(self) -> Close:
        """Read until the server's end; what it closed with. A reset would raise."""
        while self.read():
            pass
        assert self.protocol.close_rcvd is not None
        return self.protocol.close_rcvd

    def close_frames(self) -> list[Close]:
        return [Close.parse(f.data) for f in self.frames if f.opcode is Opcode.CLOSE]

    def reset(self) -> None:
        """Vanish, as a machine does that lost its power and came back."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a TCP connection of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server, client:
        yield server, client


@pytest.fixture
def peer(pair: tuple[socket.socket, socket.socket]) -> Peer:
    return Peer(pair[1])


@pytest.fixture
def media(pair: tuple[socket.socket, socket.socket], peer: Peer) -> MediaSocket:
    """The server's end, with the handshake done on both sides."""
    media = MediaSocket(peer.environ(pair[0]))
    peer.shake_hands()
    return media


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Future[Any]]]:
    """`in_thread(f)` runs `f` beside the test."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def end_of(media: MediaSocket) -> tuple[int, str]:
    """How the conversation ended, as flask-sock is told, when nothing more is received."""
    while True:
        try:
            media.receive()
        except ConnectionClosed as end:
            return int(end.reason), str(end.message)


def receive(media: MediaSocket, count: int) -> list[Message]:
    """The next `count` messages, by however many reads."""
    messages: list[Message] = []
    while len(messages) < count:
        messages += media.receive()
    return messages


# Messages


def test_messages_come_in_order_and_all_that_have_come(peer: Peer, media: MediaSocket) -> None:
    """Several frames that arrive together are one read."""
    texts = [f"message {n}".encode() for n in range(50)]
    for text in texts:
        peer.protocol.send_text(text)
    peer.sock.sendall(b"".join(peer.protocol.data_to_send()))
    assert receive(media, 50) == texts


def test_a_message_that_comes_in_pieces_is_one(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """TCP may cut anywhere, also within a frame's header."""
    received = in_thread(media.receive)
    peer.protocol.send_text(b"x" * 200)
    for data in peer.protocol.data_to_send():
        for at in range(len(data)):
            peer.sock.sendall(data[at : at + 1])
    assert received.result(10) == [b"x" * 200]


def test_texts_between_other_frames_keep_their_order(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """Pings, then fragments, from which on the parser has it all; cut anywhere."""
    for number in range(3):
        peer.protocol.send_text(b"text %d" % number)
        peer.protocol.send_ping(b"%d" % number)
    peer.protocol.send_text(b"frag", fin=False)
    peer.protocol.send_continuation(b"ments", fin=True)
    peer.protocol.send_binary(b"x")
    peer.protocol.send_text(b"last")
    expected = [b"text 0", b"text 1", b"text 2", b"fragments", BINARY, b"last"]
    received = in_thread(receive, media, len(expected))
    data = b"".join(peer.protocol.data_to_send())
    for at in range(0, len(data), 7):
        peer.sock.sendall(data[at : at + 7])
    assert received.result(10) == expected
    while sum(frame.opcode is Opcode.PONG for frame in peer.frames) < 3:
        assert peer.read()
    assert [f.data for f in peer.frames if f.opcode is Opcode.PONG] == [b"0", b"1", b"2"]


class Ticks:
    """Ticks that come when a test says so."""

    def __init__(self) -> None:
        self._asleep, self._ticks = threading.Semaphore(0), threading.Semaphore(0)
        self.tick = AudioTick(sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self._asleep.release()
        self._ticks.acquire(timeout=10)

    def wait_for_sleep(self) -> None:
        """Until the ticks' thread waits for the next one: it is through with the one before."""
        assert self._asleep.acquire(timeout=10)

    def come(self) -> None:
        self._ticks.release()


@pytest.fixture
def ticks() -> Iterator[Ticks]:
    ticks = Ticks()
    yield ticks
    ticks.tick._turns.clear()
    ticks.come()


@pytest.fixture
def live(pair: tuple[socket.socket, socket.socket], peer: Peer, ticks: Ticks) -> MediaSocket:
    """The socket of a live call, read at the ticks."""
    media = MediaSocket(peer.environ(pair[0]), tick=ticks.tick)
    peer.shake_hands()
    return media


def refuse(texts: list[bytes]) -> bool:
    return False


def test_at_the_tick_all_that_has_come_is_one_read(
    live: MediaSocket, peer: Peer, ticks: Ticks, in_thread: Callable[..., Future[Any]]
) -> None:
    """Nothing is read before it, though it is there; and its place is given back at the end."""
    received = in_thread(live.receive, at_tick=refuse)
    ticks.wait_for_sleep()
    for number in range(5):
        peer.send(b"%d" % number)
    assert not received.done()
    ticks.come()
    assert received.result(10) == [b"0", b"1", b"2", b"3", b"4"]
    assert len(ticks.tick._turns) == 1
    peer.protocol.send_close(1000)
    peer.flush()
    live.linger()
    assert not ticks.tick._turns


def test_what_is_taken_at_ticks_wakes_nobody(
    live: MediaSocket, peer: Peer, ticks: Ticks, in_thread: Callable[..., Future[Any]]
) -> None:
    """The handler gets what is not taken, and all that is no plain text, with all behind it."""
    taken: list[list[bytes]] = []

    def take(texts: list[bytes]) -> bool:
        if b"stop" in texts:
            return False
        taken.append(texts)
        return True

    received = in_thread(live.receive, at_tick=take)
    ticks.wait_for_sleep()
    for number in range(3):
        peer.send(b"%d" % number)
        peer.send(b"more")
        ticks.come()
        ticks.wait_for_sleep()
    assert taken == [[b"%d" % number, b"more"] for number in range(3)]
    assert not received.done()
    for text in (b"before", b"stop", b"after"):
        peer.send(text)
    ticks.come()
    assert received.result(10) == [b"before", b"stop", b"after"]

    ticks.wait_for_sleep()
    received = in_thread(live.receive, at_tick=take)
    peer.send(b"text")
    peer.protocol.send_ping(b"?")
    peer.send(b"last")
    ticks.come()
    assert received.result(10) == [b"text", b"last"]
    while not any(frame.opcode is Opcode.PONG for frame in peer.frames):
        assert peer.read()
    assert len(taken) == 3


def test_a_message_cut_by_a_tick_is_whole_at_the_next_read(
    live: MediaSocket, peer: Peer, ticks: Ticks, in_thread: Callable[..., Future[Any]]
) -> None:
    """Neither half is lost, nor taken for a message."""
    taken: list[bytes] = []

    def take(texts: list[bytes]) -> bool:
        taken.extend(texts)
        return True

    peer.protocol.send_text(b"cut in two")
    data = b"".join(peer.protocol.data_to_send())
    received = in_thread(live.receive, at_tick=take)
    ticks.wait_for_sleep()
    peer.sock.sendall(data[:9])
    ticks.come()
    ticks.wait_for_sleep()
    peer.sock.sendall(data[9:])
    assert received.result(10) == [b"cut in two"]
    assert not taken


def test_a_fault_at_a_tick_is_the_handlers(
    live: MediaSocket, peer: Peer, ticks: Ticks, in_thread: Callable[..., Future[Any]]
) -> None:
    """It ends this call; the ticks go on for the others."""

    def fail(texts: list[bytes]) -> bool:
        raise RuntimeError("a fault of ours")

    received = in_thread(live.receive, at_tick=fail)
    ticks.wait_for_sleep()
    peer.send(b"text")
    ticks.come()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        received.result(10)
    ticks.wait_for_sleep()  # for the next tick


def test_a_close_between_ticks_is_heard_at_the_next(
    live: MediaSocket, peer: Peer, ticks: Ticks, in_thread: Callable[..., Future[Any]]
) -> None:
    """Ours and the peer's: the handler goes on, and has what came before."""
    received = in_thread(live.receive, at_tick=refuse)
    ticks.wait_for_sleep()
    peer.send(b"said before")
    live.close(1001, "drain")
    ticks.come()
    assert received.result(10) == [b"said before"]
    ticks.wait_for_sleep()
    received = in_thread(live.receive, at_tick=refuse)
    peer.protocol.send_close(1001)
    peer.flush()
    ticks.come()
    with pytest.raises(ConnectionClosed, match="1001"):
        received.result(10)


def test_fragments_are_joined(peer: Peer, media: MediaSocket) -> None:
    """A message in fragments, with empty ones and a ping in between, is one message."""
    peer.protocol.send_text(b"", fin=False)
    peer.protocol.send_continuation(b"one ", fin=False)
    peer.protocol.send_ping(b"?")
    peer.protocol.send_continuation(b"", fin=False)
    peer.protocol.send_continuation("שתיים".encode(), fin=True)
    peer.protocol.send_text(b"next")
    peer.flush()
    assert receive(media, 2) == ["one שתיים".encode(), b"next"]


def test_a_binary_message_is_told_apart(peer: Peer, media: MediaSocket) -> None:
    """Whole or in fragments: that it came is all that is kept of it, the next text is whole."""
    peer.protocol.send_binary(b"\x00\x01")
    peer.protocol.send_binary(b"\x02", fin=False)
    peer.protocol.send_continuation(b"\x03", fin=True)
    peer.protocol.send_text(b"text")
    peer.flush()
    assert receive(media, 3) == [BINARY, BINARY, b"text"]


def test_empty_fragments_without_end_take_no_memory(peer: Peer, media: MediaSocket) -> None:
    """They count for no limit, so they must not be kept either."""
    peer.protocol.send_text(b"a", fin=False)
    for _ in range(1000):
        peer.protocol.send_continuation(b"", fin=False)
    peer.flush()
    peer.sock.shutdown(socket.SHUT_WR)
    assert end_of(media)[0] == 1006
    assert len(media._parts) == 1


def test_nothing_is_read_until_it_is_asked_for(peer: Peer, media: MediaSocket) -> None:
    """A slow handler leaves the bytes to TCP, which makes the sender wait: no list grows."""
    peer.sock.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 100_000_000:
            peer.protocol.send_text(b"x" * 60_000)
            sent += sum(peer.sock.send(data) for data in peer.protocol.data_to_send())
    assert sent < 100_000_000


def test_a_ping_is_answered_while_the_handler_waits(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """No message comes of it, and the pong carries the ping's data."""
    received = in_thread(media.receive)
    peer.protocol.send_ping(b"are you there")
    peer.flush()
    while not peer.frames:
        peer.read()
    assert [(f.opcode, bytes(f.data)) for f in peer.frames] == [(Opcode.PONG, b"are you there")]
    assert not received.done()
    peer.send(b"now")
    assert received.result(10) == [b"now"]


def test_a_silent_stream_is_pinged(
    pair: tuple[socket.socket, socket.socket], peer: Peer, in_thread: Callable[..., Future[Any]]
) -> None:
    """Once for each 25 s without a byte, by the clock that it was given; no message comes of it."""
    now = 0.0
    media = MediaSocket(peer.environ(pair[0]), close_seconds=0.01, clock=lambda: now)
    peer.shake_hands()

    def later() -> None:
        nonlocal now
        now += 5.0
        if now > 80.0:
            peer.send(b"now")

    assert media.receive(later) == [b"now"]
    now = 0.0
    lingered = in_thread(media.linger)
    peer.read_to_the_end()
    lingered.result(10)
    assert [frame.opcode for frame in peer.frames] == [Opcode.PING] * 3 + [Opcode.CLOSE]


def test_a_stream_with_audio_is_not_pinged(
    pair: tuple[socket.socket, socket.socket], peer: Peer, in_thread: Callable[..., Future[Any]]
) -> None:
    """What comes keeps the connection open by itself, however long it goes on."""
    now = 0.0
    media = MediaSocket(peer.environ(pair[0]), close_seconds=0.01, clock=lambda: now)
    peer.shake_hands()
    waits: list[float] = []

    def later() -> None:
        waits.append(now)
        if len(waits) % 4 == 0:
            peer.send(b"audio")

    for _ in range(5):
        assert media.receive(later) == [b"audio"]
        now += PING_SECONDS - 1.0
    assert len(waits) == 20
    lingered = in_thread(media.linger)
    peer.read_to_the_end()
    lingered.result(10)
    assert [frame.opcode for frame in peer.frames] == [Opcode.CLOSE]


# Limits and faults


def test_the_longest_message_is_taken(peer: Peer, media: MediaSocket) -> None:
    """64 KiB to the byte."""
    assert MAX_MESSAGE_BYTES == 65536
    peer.send(b"x" * MAX_MESSAGE_BYTES)
    assert receive(media, 1) == [b"x" * MAX_MESSAGE_BYTES]


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_longer_message_closes_with_1009(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]], pieces: int
) -> None:
    """In one frame or in fragments; what came before it is still delivered."""
    text = b"x" * (MAX_MESSAGE_BYTES + 1)
    size = -(-len(text) // pieces)
    peer.protocol.send_text(b"before")
    peer.protocol.send_text(text[:size], fin=pieces == 1)
    for at in range(size, len(text), size):
        peer.protocol.send_continuation(text[at : at + size], fin=at + size >= len(text))
    sent = in_thread(peer.flush)
    assert receive(media, 1) == [b"before"]
    assert end_of(media)[0] == 1009
    sent.result(10)
    lingered = in_thread(media.linger)
    assert peer.read_to_the_end().code == 1009
    lingered.result(10)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.TEXT, b"x").serialize(mask=False),  # a client must mask
        b"\x80\x81\x00\x00\x00\x00x",  # a continuation of nothing
        b"\x83\x80\x00\x00\x00\x00",  # an opcode that does not exist
        b"\x09\x80\x00\x00\x00\x00",  # a ping in fragments
    ],
)
def test_what_is_no_websocket_closes_with_1002(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]], frame: bytes
) -> None:
    """The conversation ends with a code that names the fault; no exception comes of it."""
    peer.sock.sendall(frame)
    assert end_of(media)[0] == 1002
    lingered = in_thread(media.linger)
    assert peer.read_to_the_end().code == 1002
    lingered.result(10)


# The end


def test_the_peers_close_is_answered_and_told(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """Its code and its reason; and the message just before it is not lost."""
    peer.protocol.send_text(b"last")
    peer.protocol.send_close(1001, "going away")
    peer.flush()
    assert receive(media, 1) == [b"last"]
    assert end_of(media) == (1001, "going away")
    lingered = in_thread(media.linger)
    assert peer.read_to_the_end().code == 1001
    lingered.result(10)
    assert (media.close_code, media.close_reason) == (1001, "going away")


def test_a_close_without_a_code_is_1005(peer: Peer, media: MediaSocket) -> None:
    """As RFC 6455 has it for a peer that says none."""
    peer.protocol.send_close()
    peer.flush()
    assert end_of(media)[0] == 1005


def test_another_thread_can_close_while_the_handler_waits(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """The shutdown closes a silent call: the peer is told at once, and then receive() ends."""
    ended = in_thread(end_of, media)
    media.close(1012, "service restart")
    while not peer.frames:
        peer.read()  # which answers
    assert peer.close_frames() == [Close(1012, "service restart")]
    assert ended.result(10) == (1012, "service restart")
    lingered = in_thread(media.linger)
    assert peer.read_to_the_end().code == 1012
    lingered.result(10)


def test_one_close_frame_is_sent_however_many_close(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """The first one's code counts; the others change and raise nothing."""
    barrier = threading.Barrier(3)

    def close(code: int) -> None:
        barrier.wait(10)
        media.close(code, str(code))

    closes = [in_thread(close, code) for code in (1000, 1001, 1012)]
    for close_done in closes:
        close_done.result(10)
    lingered = in_thread(media.linger)
    peer.read_to_the_end()
    lingered.result(10)
    assert len(peer.close_frames()) == 1
    code = peer.close_frames()[0].code
    assert (media.close_code, media.close_reason) == (code, str(code))
    media.close(1011)
    assert media.close_code == code


def test_what_was_on_its_way_when_we_closed_is_heard(
    pair: tuple[socket.socket, socket.socket], peer: Peer, in_thread: Callable[..., Future[Any]]
) -> None:
    """Another thread closes the call: what the peer sends until it answers still counts."""
    media = MediaSocket(peer.environ(pair[0]))
    peer.shake_hands()
    media.close(1012)
    peer.send(b"late")
    assert in_thread(media.receive).result(10) == [b"late"]
    peer.send(b"later")
    peer.read()  # the close frame, which is answered
    assert in_thread(media.receive).result(10) == [b"later"]
    with pytest.raises(ConnectionClosed):
        in_thread(media.receive).result(10)
    assert media.close_code == 1012


def test_a_peer_that_does_not_answer_our_close_is_not_heard_for_ever(
    pair: tuple[socket.socket, socket.socket], peer: Peer, in_thread: Callable[..., Future[Any]]
) -> None:
    """It may go on sending; after `close_seconds` nobody listens."""
    now = [100.0]
    media = MediaSocket(peer.environ(pair[0]), close_seconds=2.0, clock=lambda: now[0])
    peer.shake_hands()
    media.close(1012)
    peer.send(b"late")
    assert in_thread(media.receive).result(10) == [b"late"]
    now[0] += 2.0
    peer.send(b"too late")
    with pytest.raises(ConnectionClosed):
        in_thread(media.receive).result(10)


def test_a_long_reason_is_cut_to_what_a_close_frame_holds(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """123 bytes, and no half of a letter at the end."""
    media.close(1003, "ש" * 200)
    lingered = in_thread(media.linger)
    assert peer.read_to_the_end() == Close(1003, "ש" * 61)
    lingered.result(10)


def test_bytes_unread_at_the_end_do_not_cost_the_close_frame(
    pair: tuple[socket.socket, socket.socket],
    peer: Peer,
    media: MediaSocket,
    in_thread: Callable[..., Future[Any]],
) -> None:
    """A socket closed over unread bytes is reset: linger() reads them first."""
    for _ in range(40):
        peer.protocol.send_text(b"x" * 10_000)
    sent = in_thread(peer.flush)
    media.receive()
    media.close(1012, "service restart")

    def end() -> None:
        media.linger()
        pair[0].close()  # as the WSGI server does

    ended = in_thread(end)
    sent.result(10)
    assert peer.read_to_the_end() == Close(1012, "service restart")
    ended.result(10)


def test_linger_closes_if_nobody_has(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]]
) -> None:
    """flask-sock's own close comes after it, and has nothing left to do."""
    lingered = in_thread(media.linger)
    assert peer.read_to_the_end() == Close(1000, "")
    lingered.result(10)
    media.close()
    assert len(peer.close_frames()) == 1


def test_linger_gives_up_on_a_peer_that_never_closes(
    pair: tuple[socket.socket, socket.socket], peer: Peer
) -> None:
    """It waits by the clock that it was given, and then shuts the connection down."""
    looks = iter([0.0, 0.0, 0.0])
    media = MediaSocket(peer.environ(pair[0]), close_seconds=0.01, clock=lambda: next(looks, 100.0))
    peer.shake_hands()
    media.linger()
    while peer.sock.recv(100):  # the close frame, and the end
        pass


@pytest.mark.parametrize("way", ["end", "reset"])
def test_a_peer_that_vanishes_is_1006(
    peer: Peer, media: MediaSocket, in_thread: Callable[..., Future[Any]], way: str
) -> None:
    """Without a close frame, with or without a reset, while the handler waits: an end like any."""
    ended = in_thread(end_of, media)
    if way == "reset":
        peer.reset()
    else:
        peer.sock.close()
    assert ended.result(10) == (1006, "the connection broke")
    media.close(1000)
    media.linger()
    assert media.close_code == 1006


def test_closing_towards_a_peer_that_is_gone_raises_nothing(
    pair: tuple[socket.socket, socket.socket], peer: Peer, media: MediaSocket
) -> None:
    """The shutdown closes sockets of which nobody knew that they were dead."""
    peer.reset()
    assert select.select([pair[0]], [], [], 10)[0]
    media.close(1012, "service restart")
    media.linger()
    assert end_of(media)[0] == 1012


# The handshake


@pytest.mark.parametrize("mode", ["gunicorn", "werkzeug"])
def test_the_mode_is_the_server_it_runs_under(
    pair: tuple[socket.socket, socket.socket], peer: Peer, mode: str
) -> None:
    """flask-sock ends the request in another way under each."""
    media = MediaSocket(peer.environ(pair[0], f"{mode}.socket"))
    assert media.mode == mode
    peer.shake_hands()


def test_a_server_without_a_socket_is_told() -> None:
    """Under another WSGI server there is nothing to read from."""
    with pytest.raises(RuntimeError, match="gunicorn or flask run"):
        MediaSocket({"PATH_INFO": "/media"})


def test_a_request_that_is_no_upgrade_is_answered_and_over(
    pair: tuple[socket.socket, socket.socket], peer: Peer
) -> None:
    """A browser that looks at the address gets 426, and its handler an end like any other."""
    media = MediaSocket({"PATH_INFO": "/media", "HTTP_HOST": "x", "gunicorn.socket": pair[0]})
    assert end_of(media)[0] == 1006
    media.close()
    media.linger()
    answer = b""
    while data := peer.sock.recv(65536):
        answer += data
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"\x88" not in answer  # no close frame after it


def test_a_peer_that_is_gone_before_the_handshake_is_an_end_like_any(
    pair: tuple[socket.socket, socket.socket], peer: Peer
) -> None:
    """An exception here would reach flask-sock, before any handler."""
    environ = peer.environ(pair[0])
    peer.reset()
    assert select.select([pair[0]], [], [], 10)[0]
    media = MediaSocket(environ)
    assert end_of(media) == (1006, "the connection broke")
    media.linger()
