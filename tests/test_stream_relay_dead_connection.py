"""A connection that dies without a word, as where a router forgets it while nobody speaks.

Over real connections, at the pace of real calls, with the limits shortened.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import session_parts
from law_parts import check_law, play
from session_parts import PATIENCE, Call, Lines

from frame_echo import EchoAnswers, FrameEcho
from gcp_stt_stream import SessionLimits
from relay_limits import RelayLimits
from speech_connections import SpeechConnections
from speech_server_thread import SpeechServerThread

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines = session_parts.lines

LIMITS = SessionLimits(relay=RelayLimits(mute=0.6, drain=0.3))


class ForgetfulRouter:
    """Passes connections on until it forgets them: what is sent then is taken, and goes nowhere."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._to = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._known: set[socket.socket] = set()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._let_in)]
        self._threads[0].start()

    @property
    def connections(self) -> int:
        """How many have come."""
        return len(self._sockets) // 2

    def forget(self) -> None:
        """All the connections that there are."""
        self._known.clear()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for one in self._sockets:
            with suppress(OSError):  # the other side has closed it
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for one in (self._listening, *self._sockets):
            one.close()

    def _let_in(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                pair = near, socket.create_connection(self._to)
                self._sockets += pair
                self._known.update(pair)
                for source, sink in (pair, pair[::-1]):
                    self._threads.append(
                        threading.Thread(target=self._pass_on, args=(source, sink))
                    )
                    self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # whoever closes ends both
            while data := source.recv(65_536):
                if source in self._known:
                    sink.sendall(data)


@pytest.fixture
def router() -> Iterator[ForgetfulRouter]:
    """In front of a stand-in that takes, as Google does, more than a call says in this test."""
    echo = FrameEcho(EchoAnswers(final_every=10))
    with SpeechServerThread(echo, lookahead_bytes=None) as server:
        router = ForgetfulRouter(server.address)
        yield router
        router.close()


def test_the_next_stream_does_not_go_over_the_connection_that_is_dead(
    lines: Lines, router: ForgetfulRouter
) -> None:
    """One stream answers nothing, the next one has a new connection, and no word is lost."""
    connections = SpeechConnections(None, emulator_host=router.address)
    before = Call(connections, limits=LIMITS)
    play([before], 5.0, until=lambda: bool(before.finals))
    before.session.close()
    assert router.connections == 1
    router.forget()
    call = Call(connections, number=2, limits=LIMITS)
    play([call], 5.0, until=lambda: bool(call.finals))
    call.session.close()
    connections.close()
    check_law(before)
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(lines.with_("it answered nothing in ")) == 1
    assert router.connections == 2
    assert call.session.counts().rotations == 1
