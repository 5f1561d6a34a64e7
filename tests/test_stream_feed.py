"""A stream's feed: what it takes, in which messages and how fast, in time that only waits move."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest
from audio_parts import LOUD, QUIET, VirtualTime
from hypothesis import given
from hypothesis import strategies as st

from audio_ring import BYTES_PER_MS, BYTES_PER_SECOND, AudioRing
from stream_feed import StreamFeed

FRAME = 160


class Scene:
    """A ring and a feed, in virtual time, and what was taken when."""

    def __init__(self, batch_ms: int = 100, chunk: int = 800, room: int = 10**9) -> None:
        self.time = VirtualTime()
        self.ring = AudioRing(chunk, room)
        self.taken: list[tuple[float, bytes]] = []
        with patch("stream_feed.threading.Event", self.time.event):
            self.feed = StreamFeed(self.ring, batch_ms, clock=self.time.clock)
        self.ring.on_chunk = self.feed.wake
        self.number = 0

    def push(self, frames: int = 1, size: int = FRAME) -> None:
        for _ in range(frames):
            self.ring.append(bytes([self.number % 256]) * size, self.time.now)
            self.number += 1

    def hang_up(self) -> None:
        self.ring.close()
        self.feed.finish()

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        self.time.at(seconds, action)

    def take(self) -> bytes | None:
        audio = self.feed.take()
        if audio is not None:
            self.taken.append((self.time.now, audio))
        return audio

    def take_all(self) -> bytes:
        while self.take():
            pass
        return self.audio

    @property
    def audio(self) -> bytes:
        return b"".join(audio for _, audio in self.taken)

    @property
    def sizes(self) -> list[int]:
        return [len(audio) for _, audio in self.taken]


@given(
    frames=st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 500)), max_size=30),
    waiting=st.lists(st.integers(1, 500), max_size=10),
    begin=st.floats(0, 1),
    batch_ms=st.sampled_from([20, 100, 200]),
    chunk=st.sampled_from([160, 800]),
)
def test_every_byte_is_taken_once_in_order(
    frames: list[tuple[float, int]], waiting: list[int], begin: float, batch_ms: int, chunk: int
) -> None:
    """From the position where it starts to the end, however audio comes, in no message too big."""
    scene = Scene(batch_ms, chunk)
    for size in waiting:
        scene.push(1, size)
    start = round(begin * scene.ring.end)
    everything = b"".join(bytes([n % 256]) * size for n, size in enumerate(waiting))
    now = 0.0
    for number, (pause, size) in enumerate(frames, start=len(waiting)):
        now += pause
        everything += bytes([number % 256]) * size
        scene.at(now, lambda size=size: scene.push(1, size))  # type: ignore[misc]  # its default
    scene.at(now, scene.hang_up)
    scene.feed.start(start)
    assert scene.take_all() == everything[start:]
    assert max(scene.sizes, default=0) <= 2 * batch_ms * BYTES_PER_MS
    assert scene.feed.sent_bytes == len(scene.audio)
    assert scene.feed.position == scene.ring.end
    assert scene.feed.waiting == scene.feed.lost_frames == 0
    assert scene.feed.take() is None


@given(
    seconds=st.integers(1, 20), batch_ms=st.sampled_from([20, 100, 500]), frame=st.integers(80, 900)
)
def test_what_waits_goes_at_four_times_real_time(seconds: int, batch_ms: int, frame: int) -> None:
    """No burst at any moment of a replay, in messages of 100 ms, and no slower than that either."""
    scene = Scene(batch_ms, chunk=batch_ms * BYTES_PER_MS)
    total = seconds * BYTES_PER_SECOND // frame * frame
    scene.push(total // frame, frame)
    scene.hang_up()
    scene.feed.start(0)
    scene.take_all()
    assert max(scene.sizes) <= min(batch_ms, 100) * BYTES_PER_MS
    sent = 0
    for at, audio in scene.taken:
        assert sent <= 4 * BYTES_PER_SECOND * at + 0.001
        sent += len(audio)
    assert sent == total
    last_at, last = scene.taken[-1]
    assert last_at == pytest.approx((total - len(last)) / (4 * BYTES_PER_SECOND), abs=0.001)


def test_live_audio_goes_by_the_batch_as_soon_as_it_is_there() -> None:
    """Once all that waited is taken, a message is a batch, taken when its last frame comes."""
    scene = Scene(batch_ms=200, chunk=1600)
    scene.push(10)
    scene.feed.start(0)
    assert [scene.take(), scene.take()] == [scene.audio[:800], scene.audio[800:]]  # still behind
    assert not scene.feed.behind
    for frame in range(20):
        scene.at(1 + 0.02 * frame, scene.push)
    scene.at(2.0, scene.hang_up)
    scene.take_all()
    assert scene.sizes == [800, 800, 1600, 1600]
    assert [at for at, _ in scene.taken[2:]] == pytest.approx([1.18, 1.38])


def test_what_makes_no_whole_message_goes_after_a_pause() -> None:
    """When the caller's frames stop coming, Google still gets the last ones: 200 ms later."""
    scene = Scene()
    scene.feed.start(0)
    scene.at(1.0, lambda: scene.push(2))
    assert scene.take() is not None
    at, audio = scene.taken[0]
    assert len(audio) == 2 * FRAME
    assert 1.0 <= at <= 1.0 + 2 * 0.2 + 0.001  # a pause may have begun before them


def test_frames_that_come_one_by_one_are_no_pause() -> None:
    """Only a wait without any new frame is one: slow frames still make a whole message."""
    scene = Scene()
    scene.feed.start(0)
    for number in range(5):
        scene.at(0.15 * number, scene.push)
    assert scene.take() is not None
    assert scene.sizes == [800]


def test_nothing_is_taken_before_the_start() -> None:
    """A stream that opens beside another one leaves it the audio until it is its turn."""
    scene = Scene()
    scene.push(10)
    scene.at(5.0, lambda: scene.feed.start(800))
    assert scene.take() == b"".join(bytes([n]) * FRAME for n in range(5, 10))
    assert scene.time.now == 5.0


@pytest.mark.parametrize("started", [True, False])
def test_stop_ends_a_wait_for_audio_at_once(started: bool) -> None:
    """A stream that is over does not wait for audio or for its turn."""
    scene = Scene()
    if started:
        scene.feed.start(0)
    scene.at(0.07, scene.feed.stop)
    assert scene.take() is None
    assert scene.time.now == 0.07


def test_stop_ends_the_wait_for_the_next_message_of_a_replay() -> None:
    """And leaves all that was not taken yet where it is."""
    scene = Scene(batch_ms=100)
    scene.push(50)
    scene.feed.start(0)
    scene.take()
    scene.at(0.01, scene.feed.stop)
    assert scene.take() is None
    assert scene.time.now == 0.01
    assert scene.feed.position == 800


def test_finish_takes_what_the_close_flushed_and_then_ends() -> None:
    """The last frames of a call make no whole chunk, and are sent all the same; again and again."""
    scene = Scene()
    scene.feed.start(0)
    scene.at(0.5, lambda: scene.push(7))
    scene.at(0.6, scene.hang_up)
    scene.take_all()
    assert scene.sizes == [800, 320]
    assert [at for at, _ in scene.taken] == [0.5, 0.6]
    assert scene.feed.take() is None


def test_a_finish_before_the_start_waits_for_the_start() -> None:
    """A call that is hung up in mid-rotation: the next stream gets the rest."""
    scene = Scene()
    scene.push(5)
    scene.hang_up()
    scene.at(1.0, lambda: scene.feed.start(0))
    scene.take_all()
    assert scene.sizes == [800]


def test_what_was_evicted_is_skipped_and_counted() -> None:
    """Its frames are lost, once, and the rest goes on from the first that is still there."""
    scene = Scene(room=10 * FRAME)
    scene.push(5)
    scene.feed.start(0)
    scene.take()
    scene.push(25)  # 30 frames in all; the last 10 are kept, and five were taken
    scene.hang_up()
    scene.take_all()
    assert scene.audio == b"".join(bytes([n]) * FRAME for n in [*range(5), *range(20, 30)])
    assert scene.feed.lost_frames == 15
    assert scene.feed.position == 30 * FRAME
    assert scene.ring.count_lost(0, 30 * FRAME) == 5  # were taken: lost only if not covered


def test_a_hole_of_half_a_chunk_is_counted_by_its_half() -> None:
    """What was taken of a chunk before it was evicted is not lost to this stream."""
    scene = Scene(batch_ms=200, chunk=1600, room=1600)
    scene.push(10)
    scene.feed.start(0)
    scene.take()
    scene.push(10)
    scene.hang_up()
    scene.take_all()
    assert scene.feed.lost_frames == 5
    assert len(scene.audio) == 800 + 1600


def test_an_offset_is_a_position_from_where_the_stream_started() -> None:
    """Both ends alike where there is no hole; beyond what was sent it is the end of that."""
    scene = Scene()
    scene.push(20)
    scene.feed.start(5 * FRAME)
    scene.take()
    for offset in (0, 1, 400, 800):
        assert scene.feed.position_of(offset) == 800 + offset
        assert scene.feed.position_of(offset, start=True) == 800 + offset
    assert scene.feed.position_of(9_999) == 1600


def test_an_offset_behind_a_hole_is_moved_by_it() -> None:
    """As an end it is that of the audio before the hole, as a beginning that of what follows."""
    scene = Scene(room=1600)
    scene.push(5)
    scene.feed.start(0)
    scene.take()
    scene.push(20)  # of the positions up to 4000 those from 2400 on are kept
    scene.hang_up()
    scene.take_all()
    assert scene.feed.position_of(799, start=True) == 799
    assert scene.feed.position_of(800) == 800
    assert scene.feed.position_of(800, start=True) == 2400
    assert scene.feed.position_of(801) == 2401
    assert scene.feed.position_of(2400) == scene.feed.position_of(5000) == 4000


def test_a_hole_at_the_very_beginning() -> None:
    """What the stream should have started with is gone: its first byte is a later one."""
    scene = Scene(room=800)
    scene.push(10)
    scene.feed.start(0)
    scene.take()
    assert scene.feed.position_of(0) == 0
    assert scene.feed.position_of(0, start=True) == 800
    assert scene.feed.position_of(1) == 801
    assert scene.feed.lost_frames == 5


def test_offsets_before_any_audio() -> None:
    """Google may speak before it heard anything: that is about the start."""
    scene = Scene()
    assert scene.feed.position_of(700) == 0
    scene.push(10)
    scene.feed.start(320)
    assert scene.feed.position_of(700) == scene.feed.position_of(700, start=True) == 320


def test_waiting_counts_frames_that_were_not_taken() -> None:
    """Also those that make no chunk yet; silence in a gap is none of them."""
    scene = Scene()
    scene.push(7)
    scene.feed.start(0)
    assert scene.feed.waiting == 7
    scene.take()
    assert scene.feed.waiting == 2
    scene.ring.fill(1600, 0.0)  # which makes a chunk of the two
    assert scene.feed.waiting == 2
    scene.take()
    assert scene.feed.waiting == 0
    scene.push(1)
    assert scene.feed.waiting == 1


def test_a_stream_that_starts_late_does_not_count_what_was_before() -> None:
    """Its queue holds what comes from its start on."""
    scene = Scene()
    scene.push(12)
    scene.feed.start(800)
    assert scene.feed.waiting == 7


def test_a_burst_is_behind_until_it_is_taken() -> None:
    """A gap filled with seconds of silence goes out in a replay's messages, then live again."""
    scene = Scene(batch_ms=200, chunk=1600)
    assert scene.feed.behind
    scene.feed.start(0)
    scene.at(0.5, lambda: scene.push(10))
    scene.take()  # came upon an empty ring: live
    assert scene.sizes == [1600]
    assert not scene.feed.behind
    scene.ring.fill(3200, 0.5)
    scene.feed.expect_burst()
    assert scene.feed.behind
    for _ in range(4):
        scene.take()
    assert scene.sizes[1:] == [800] * 4
    assert not scene.feed.behind


def test_a_burst_that_was_taken_before_it_was_told_of() -> None:
    """Nothing is behind any more: the next look finds that out."""
    scene = Scene()
    scene.feed.start(0)
    scene.push(5)
    scene.take()
    scene.feed.expect_burst()
    scene.at(1.0, scene.feed.stop)
    assert scene.take() is None
    assert not scene.feed.behind


def test_loud_audio_without_an_answer_is_counted() -> None:
    """What the caller said since Google last answered, and how long it has been quiet."""
    scene = Scene()
    scene.feed.start(0)
    steps: list[tuple[int, int]] = []
    for sample in (LOUD, LOUD, QUIET, QUIET, LOUD):
        scene.ring.append(sample * 800, 0.0)
        scene.take()
        steps.append((scene.feed.unanswered_loud_bytes, scene.feed.quiet_bytes))
    assert steps == [(800, 0), (1600, 0), (1600, 800), (1600, 1600), (2400, 0)]
    scene.feed.answered()
    assert (scene.feed.unanswered_loud_bytes, scene.feed.quiet_bytes) == (0, 0)


def test_each_message_is_told() -> None:
    """Who waits for room in the queue is woken by what makes it."""
    time, ring, told = VirtualTime(), AudioRing(800, 10**6), list[int]()
    with patch("stream_feed.threading.Event", time.event):
        feed = StreamFeed(ring, 100, on_taken=lambda: told.append(feed.waiting), clock=time.clock)
    for _ in range(10):
        ring.append(bytes(FRAME), 0.0)
    feed.start(0)
    feed.take()
    feed.take()
    assert told == [5, 0]
