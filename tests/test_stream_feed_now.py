"""Live audio is sent by whoever brings it, while the stream's own thread has nothing to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest
from session_parts import PATIENCE, Clock

from audio_ring import AudioRing
from stream_feed import _IDLE_SECONDS, StreamFeed


class Stream:
    """A stream that sends what it is given, and has a thread that takes the rest."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.ring = AudioRing(800, 10**6)
        self.feed = StreamFeed(self.ring, 100, clock=self.clock)
        self.feed.send_now = self._send
        self.ring.on_chunk = self.feed.wake
        self.has_room = True
        self.sent: list[tuple[str, bytes]] = []
        self.taken: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._take_all, daemon=True)
        self._thread.start()

    def _send(self, audio: bytes) -> bool:
        if self.has_room:
            self.sent.append(("at once", audio))
        return self.has_room

    def _take_all(self) -> None:
        while (audio := self.feed.take()) is not None:
            self.sent.append(("taken", audio))
            self.taken.put(audio)
        self.taken.put(None)

    def push(self, name: bytes, frames: int = 5) -> None:
        self.ring.extend([name * 160] * frames, self.clock(), whole=True)

    def wait_until_idle(self) -> None:
        give_up_at = time.monotonic() + PATIENCE
        while not self.feed._idle:
            assert time.monotonic() < give_up_at
            time.sleep(0.001)  # the thread tells nobody that it has nothing to do

    def start(self) -> None:
        """Let it be live, with nothing to take."""
        self.feed.start(0)
        give_up_at = time.monotonic() + PATIENCE
        while self.feed.behind or not self.feed._idle:
            assert time.monotonic() < give_up_at
            time.sleep(0.001)  # as above

    def hang_up(self) -> None:
        self.feed.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def stream() -> Iterator[Stream]:
    stream = Stream()
    yield stream
    stream.hang_up()


def names(stream: Stream) -> list[tuple[str, bytes]]:
    return [(how, audio[:1]) for how, audio in stream.sent]


def test_live_audio_is_sent_when_it_comes(stream: Stream) -> None:
    """As one message, also if it is a frame more than a batch; and it counts as taken."""
    stream.start()
    stream.push(b"a", 6)
    stream.clock.now += 0.1
    stream.push(b"b", 4)
    assert names(stream) == [("at once", b"a"), ("at once", b"b")]
    assert (stream.feed.position, stream.feed.sent_bytes) == (1600, 1600)
    assert stream.feed.waiting == 0
    assert stream.feed.quiet_bytes + stream.feed.unanswered_loud_bytes == 1600


def test_larger_batches_are_not_left_lying() -> None:
    """What one read brings is no whole message then: the rest of it goes after a pause."""
    ring = AudioRing(4000, 10**6)
    feed = StreamFeed(ring, 500)
    feed.send_now = lambda audio: False
    ring.on_chunk = feed.wake
    taken: SimpleQueue[bytes | None] = SimpleQueue()
    thread = threading.Thread(target=lambda: [*map(taken.put, iter(feed.take, None))], daemon=True)
    thread.start()
    feed.start(0)
    ring.extend([b"x" * 160], 0.0, whole=False)
    assert taken.get(timeout=_IDLE_SECONDS / 2) == b"x" * 160
    feed.stop()
    thread.join(PATIENCE)


def test_what_finds_no_room_is_taken_by_the_thread(stream: Stream) -> None:
    """It has waited for its turn, and what comes after it does not pass it."""
    stream.start()
    stream.has_room = False
    stream.push(b"a")
    assert stream.taken.get(timeout=PATIENCE) == b"a" * 800
    assert names(stream) == [("taken", b"a")]


def test_nothing_passes_what_the_thread_is_about_to_take(stream: Stream) -> None:
    """Where two chunks wait, the newest is not the next one."""
    stream.start()
    stream.has_room = False
    stream.ring.on_chunk = lambda: None
    stream.push(b"a")
    stream.has_room = True
    stream.ring.on_chunk = stream.feed.wake
    stream.push(b"b")
    stream.taken.get(timeout=PATIENCE)
    stream.clock.now += 0.1
    assert stream.taken.get(timeout=PATIENCE)[:1] == b"b"  # type: ignore[index]
    assert names(stream) == [("taken", b"a"), ("taken", b"b")]


def test_before_the_start_nothing_is_sent(stream: Stream) -> None:
    """A stream that follows another gets its audio when it takes over, and the replay first."""
    stream.push(b"a")
    assert stream.sent == []
    stream.feed.start(0)
    assert stream.taken.get(timeout=PATIENCE) == b"a" * 800


def test_a_burst_is_paced_after_a_little(stream: Stream) -> None:
    """What had missed its moment goes at once; a backlog at the pace of a replay."""
    stream.start()
    for name in (b"a", b"b", b"c"):
        stream.push(name)
    assert names(stream) == [("at once", b"a"), ("at once", b"b"), ("at once", b"c")]
    stream.push(b"d")
    assert len(stream.sent) == 3  # 300 ms in no time: the next one waits for the clock
    stream.clock.now += 0.1
    assert stream.taken.get(timeout=PATIENCE) == b"d" * 800


@pytest.mark.parametrize("end", [StreamFeed.stop, StreamFeed.finish])
def test_after_its_end_nothing_is_sent(stream: Stream, end: Callable[[StreamFeed], None]) -> None:
    """What comes after a half-close is the next stream's."""
    stream.start()
    end(stream.feed)
    assert stream.taken.get(timeout=PATIENCE) is None
    stream.push(b"a")
    assert stream.sent == []
