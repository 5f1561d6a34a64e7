"""The process's limit on audio that waits: kept over all calls, the oldest given up first."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

from audio_parts import PATIENCE, hasty_threads
from hypothesis import given
from hypothesis import strategies as st

from audio_ring import AudioRing
from waiting_audio import WaitingAudio

SECOND = 8_000


def push(ring: AudioRing, size: int, arrived: float) -> None:
    ring.append(bytes(size), arrived)


def test_what_the_rings_keep_is_added_up() -> None:
    """More when a chunk is whole, less when it is let go of, however that happens."""
    waiting = WaitingAudio(10**6)
    one, other = waiting.new_ring(800, 10**6), waiting.new_ring(800, 1600)
    push(one, 800, 0.0)
    push(one, 100, 0.0)  # no chunk yet
    assert waiting.kept == 800
    for _ in range(3):
        push(other, 800, 0.0)  # over its own limit with the third
    assert waiting.kept == 800 + 1600
    other.release(800, 1200)
    assert waiting.kept == 2000
    one.lose(0, 100)
    assert waiting.kept == 1900


def test_the_oldest_audio_of_the_process_is_given_up() -> None:
    """Whosever it is, not that of the call that has just brought some."""
    waiting = WaitingAudio(3 * SECOND)
    first, second, third = (waiting.new_ring(SECOND, 10**6) for _ in range(3))
    push(first, SECOND, 2.0)
    push(second, SECOND, 1.0)
    push(third, SECOND, 3.0)
    assert waiting.kept == 3 * SECOND
    push(third, SECOND, 4.0)
    assert [ring.kept for ring in (first, second, third)] == [SECOND, 0, 2 * SECOND]
    push(first, SECOND, 5.0)
    assert [ring.kept for ring in (first, second, third)] == [SECOND, 0, 2 * SECOND]
    assert [one.arrived for one in first.chunks(0, 10**6)] == [5.0]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 30_000), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_the_limit_holds_whatever_comes(plan: list[tuple[int, int, bool]]) -> None:
    """Big frames and small ones, pieces of less than a chunk, many rings with little in each."""
    waiting = WaitingAudio(20_000)
    rings = [waiting.new_ring(800, 30_000) for _ in range(5)]
    for now, (number, size, flush) in enumerate(plan):
        push(rings[number], size, float(now))
        if flush:
            rings[number].flush()
        assert waiting.kept == sum(ring.kept for ring in rings) <= 20_000


def test_one_big_piece_makes_room_for_itself() -> None:
    """Also where one call has all of the audio, in small chunks."""
    waiting = WaitingAudio(3 * SECOND)
    ring = waiting.new_ring(800, 10**6)
    for now in range(30):
        push(ring, 800, float(now))
    push(ring, 2 * SECOND, 30.0)
    assert waiting.kept == 3 * SECOND


def test_a_ring_that_was_given_back_is_held_by_nobody() -> None:
    """A process that lives for weeks does not remember its calls."""
    waiting = WaitingAudio(1000)
    ring = waiting.new_ring(800, 10**6)
    remembered = weakref.ref(ring)
    waiting.discard(ring)
    del ring
    gc.collect()
    assert remembered() is None


def test_a_call_that_ends_leaves_nothing_behind() -> None:
    """Its audio counts no more, and it is not asked to give up any."""
    waiting = WaitingAudio(2 * SECOND)
    gone, here = waiting.new_ring(SECOND, 10**6), waiting.new_ring(SECOND, 10**6)
    push(gone, SECOND, 0.0)
    waiting.discard(gone)
    assert waiting.kept == gone.kept == 0
    for now in range(1, 4):
        push(here, SECOND, float(now))
    assert (waiting.kept, here.kept) == (2 * SECOND, 2 * SECOND)
    waiting.discard(gone)  # once more does no harm


def test_audio_that_comes_when_there_is_no_ring_any_more() -> None:
    """The last call's handler was on its way in when the call was closed: that is no error."""
    waiting = WaitingAudio(100)
    ring = waiting.new_ring(800, 10**6)
    waiting.discard(ring)
    push(ring, 800, 0.0)
    waiting.discard(ring)
    assert waiting.kept == 0


def test_many_calls_at_once_are_added_up_exactly() -> None:
    """Four handlers append, each evicts of the others, and in the end all is accounted for."""
    waiting = WaitingAudio(4 * SECOND)
    rings = [waiting.new_ring(800, 10**6) for _ in range(4)]
    start = threading.Barrier(4)

    def handle(ring: AudioRing) -> None:
        start.wait(PATIENCE)
        for number in range(100):
            push(ring, 400, float(number))
            if number % 7 == 0:
                ring.release(0, number * 100)

    with hasty_threads(), ThreadPoolExecutor(4) as pool:
        for work in [pool.submit(handle, ring) for ring in rings]:
            work.result(30)
    assert waiting.kept == sum(ring.kept for ring in rings) <= 4 * SECOND
    for ring in rings:
        waiting.discard(ring)
    assert waiting.kept == 0
