"""A stream's feed between real threads: the handler, gRPC's threads, and the streaming thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from audio_parts import PATIENCE, VirtualTime, hasty_threads, interrupted
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_ring import AudioRing
from stream_feed import StreamFeed

Change = Callable[[StreamFeed, AudioRing], None]

FOREVER_MS = 10**8  # a batch, and so a pause, that no test waits out


def feed_of(
    ring: AudioRing, batch_ms: int = 100, on_taken: Callable[[], None] = lambda: None
) -> StreamFeed:
    """A feed whose clock goes so fast that it never waits for its turn."""
    seconds = itertools.count()
    return StreamFeed(ring, batch_ms, on_taken=on_taken, clock=lambda: float(next(seconds)))


def take_all(feed: StreamFeed, into: list[bytes]) -> None:
    while audio := feed.take():
        into.append(audio)


def start(feed: StreamFeed, ring: AudioRing) -> None:
    feed.start(0)


def stop(feed: StreamFeed, ring: AudioRing) -> None:
    feed.stop()


def finish(feed: StreamFeed, ring: AudioRing) -> None:
    ring.close()
    feed.finish()


def push(feed: StreamFeed, ring: AudioRing) -> None:
    ring.append(b"abcd", 0.0)


def push_and_finish(feed: StreamFeed, ring: AudioRing) -> None:
    """The last frames of a call come, and it is over before the taker has looked again."""
    ring.append(b"abc", 0.0)
    finish(feed, ring)


class Once:
    """Makes a change; called again, it waits until that is made, also if a lock holds it up."""

    def __init__(self, change: Change, feed: StreamFeed, ring: AudioRing) -> None:
        self._change, self._feed, self._ring = change, feed, ring
        self._begun = self._done = False
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            if self._begun:
                assert self._changed.wait_for(lambda: self._done, PATIENCE)
                return
            self._begun = True
        self._change(self._feed, self._ring)
        with self._changed:
            self._done = True
            self._changed.notify_all()


class StoppedAt:
    """Stops a feed, and notes where that was as soon as it is done."""

    def __init__(self, feed: StreamFeed) -> None:
        self._feed = feed
        self.positions: list[int] = []

    def __call__(self) -> None:
        self._feed.stop()
        self.positions.append(self._feed.position)


@pytest.mark.parametrize(
    ("change", "started", "result"),
    [
        (stop, False, None),
        (stop, True, None),
        (start, False, b"early"),
        (finish, True, None),
        (push, True, b"abcd"),
        (push_and_finish, True, b"abc"),
    ],
)
def test_no_wake_up_is_lost(change: Change, started: bool, result: bytes | None) -> None:
    """At whichever line on the way to the wait it happens, it is not slept over."""
    came, line = True, 0
    while came:
        line += 1
        time, ring = VirtualTime(), AudioRing(4, 1_000)
        with patch("stream_feed.threading.Event", time.event):
            feed = StreamFeed(ring, FOREVER_MS, clock=time.clock)
        ring.on_chunk = feed.wake
        if change is start:
            ring.append(b"early", 0.0)
        if started:
            feed.start(0)
        once = Once(change, feed, ring)
        time.at(1.0, once)  # for the lines that do not come before it
        taken, came = interrupted(feed.take, StreamFeed.take, line, once)
        assert taken == result, f"at line {line}"
        assert time.now <= 1.0, f"slept at line {line}"
    assert line > 4


def test_what_was_taken_up_to_the_stop_is_all() -> None:
    """At whichever line a stream is stopped: when that returns, it takes nothing any more."""
    results: set[bytes | None] = set()
    for line in range(1, 30):
        ring = AudioRing(4, 1_000)
        feed = feed_of(ring)
        ring.append(b"abcd", 0.0)
        ring.append(b"efgh", 0.0)
        feed.start(0)
        stopped = StoppedAt(feed)
        taken, came = interrupted(feed.take, StreamFeed.take, line, stopped)
        if not came:
            break
        assert stopped.positions == [feed.position] == [len(taken or b"")], f"at line {line}"
        assert feed.take() is None
        results.add(taken)
    assert results == {None, b"abcd"}


@pytest.mark.parametrize("line", range(1, 6))
@pytest.mark.parametrize("function", [StreamFeed._next_audio, StreamFeed._note])
def test_a_message_is_not_taken_between_a_stop_and_its_end(
    function: Callable[..., object], line: int
) -> None:
    """The same within the taking itself: it is done before `stop()` returns, or not at all."""
    ring = AudioRing(4, 1_000)
    feed = feed_of(ring)
    ring.append(b"abcd", 0.0)
    feed.start(0)
    stopped = StoppedAt(feed)
    taken, came = interrupted(feed.take, function, line, stopped)
    assert came
    assert taken == b"abcd"
    assert stopped.positions == [feed.position] == [4]


def test_an_old_stream_eats_nothing_of_the_next_one() -> None:
    """Its thread was blocked in the wait for audio when it was stopped: the next one gets all."""
    ring = AudioRing(4, 1_000)
    first = threading.Event()
    old, new = feed_of(ring, FOREVER_MS, first.set), feed_of(ring, FOREVER_MS)
    old.start(0)
    ring.on_chunk = old.wake
    before, after = list[bytes](), list[bytes]()
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(take_all, old, before)
        ring.append(b"abcd", 0.0)
        assert first.wait(PATIENCE)
        old.stop()
        new.start(old.position)
        ring.on_chunk = new.wake
        for number in range(40):
            ring.append(bytes([number]) * 4, 0.0)
        ring.close()
        new.finish()
        take_all(new, after)
        blocked.result(PATIENCE)
    assert before == [b"abcd"]
    assert after == [bytes([number]) * 4 for number in range(40)]


@settings(max_examples=20)
@given(handovers=st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_streams_that_succeed_each_other_share_nothing_and_lose_nothing(
    handovers: list[int],
) -> None:
    """Each is stopped in the midst of its work, and the next starts where it was."""
    ring = AudioRing(4, 10**6)
    feeds = [feed_of(ring) for _ in range(len(handovers) + 1)]
    got: list[list[bytes]] = [[] for _ in feeds]
    ends = list(itertools.accumulate(handovers))
    number = 0
    feeds[0].start(0)
    ring.on_chunk = feeds[0].wake
    with hasty_threads(), ThreadPoolExecutor(len(feeds)) as pool:
        work = [pool.submit(take_all, *pair) for pair in zip(feeds, got, strict=True)]
        for frame in range(300):
            while number < len(handovers) and ends[number] == frame:
                feeds[number].stop()
                feeds[number + 1].start(feeds[number].position)
                number += 1
                ring.on_chunk = feeds[number].wake
            ring.append(frame.to_bytes(2, "big"), 0.0)
        ring.close()
        feeds[number].finish()
        for one in work:
            one.result(30)
    parts = [b"".join(part) for part in got]
    assert b"".join(parts) == b"".join(frame.to_bytes(2, "big") for frame in range(300))
    for feed, part in zip(feeds, parts, strict=True):
        assert feed.sent_bytes == len(part)


@settings(max_examples=15)
@given(room=st.integers(4, 200), chunk=st.integers(1, 20))
def test_every_frame_is_taken_or_lost(room: int, chunk: int) -> None:
    """The handler appends, gRPC's thread takes, a third one releases, and old audio is evicted."""
    ring = AudioRing(chunk, room)
    some_taken, over = threading.Event(), threading.Event()
    feed = feed_of(ring, on_taken=some_taken.set)
    ring.on_chunk = feed.wake
    feed.start(0)
    got: list[bytes] = []
    go = threading.Barrier(3)

    def append_all() -> None:
        go.wait(PATIENCE)
        for number in range(600):
            assert ring.append(number.to_bytes(2, "big"), 0.0)
        ring.close()
        feed.finish()

    def release_often() -> None:
        """As finals do, at some distance, and never what was not sent."""
        go.wait(PATIENCE)
        released = 0
        while not over.is_set():
            assert some_taken.wait(PATIENCE)
            some_taken.clear()
            position = feed.position_of(max(0, feed.sent_bytes - 10)) // 2 * 2
            assert position <= feed.position
            ring.release(released, max(released, position))
            released = max(released, position)

    def take() -> None:
        go.wait(PATIENCE)
        take_all(feed, got)
        over.set()
        some_taken.set()

    with hasty_threads(), ThreadPoolExecutor(3) as pool:
        for one in [pool.submit(work) for work in (append_all, release_often, take)]:
            one.result(30)
    audio = b"".join(got)
    assert len(audio) % 2 == 0
    numbers = [int.from_bytes(audio[at : at + 2], "big") for at in range(0, len(audio), 2)]
    assert numbers == sorted(set(numbers))
    # What was evicted at the very end is known when the call is over
    assert len(numbers) + feed.lost_frames + ring.lose(feed.position, ring.end) == 600
    assert ring.end == 1200
