"""The frame queue: bounded, never waiting for the one who puts, nothing lost, doubled or moved."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frame_queue import FrameQueue, QueuedFrame

FRAME = 160
T = TypeVar("T")
FOREVER = 60.0  # a pause that no test waits out


def never() -> bool:
    return False


def frame(number: int, size: int = FRAME) -> QueuedFrame:
    return QueuedFrame(bytes(size), number, float(number))


def numbers(frames: list[QueuedFrame]) -> list[int]:
    return [one.call_end for one in frames]


def take_all(queue: FrameQueue) -> list[int]:
    """What is left in a closed queue."""
    taken: list[int] = []
    while frames := queue.take(FOREVER, never):
        taken += numbers(frames)
    return taken


def test_a_full_queue_refuses_the_newest() -> None:
    """The frame that finds it full is the one that is dropped; the others keep their order."""
    queue = FrameQueue(3, 5 * FRAME)
    assert [queue.put(frame(n)) for n in range(5)] == [True, True, True, False, False]
    assert len(queue) == 3
    queue.close()
    assert take_all(queue) == [0, 1, 2]


def test_a_message_is_taken_at_once_and_no_more_than_that() -> None:
    """Five frames of 20 ms are one message of 100 ms; the sixth waits for its own."""
    queue = FrameQueue(16, 5 * FRAME)
    for n in range(6):
        queue.put(frame(n))
    assert numbers(queue.take(FOREVER, never)) == [0, 1, 2, 3, 4]
    assert len(queue) == 1


def test_frames_are_counted_by_their_bytes() -> None:
    """A frame may have any length: a big one is a message by itself, small ones wait."""
    queue = FrameQueue(16, 800)
    queue.put(frame(1, 2000))
    queue.put(frame(2, 1))
    assert numbers(queue.take(FOREVER, never)) == [1]
    assert numbers(queue.take(0.001, never)) == [2]


def test_a_short_message_is_taken_after_a_pause() -> None:
    """When the caller's frames stop coming, what is there still goes to Google."""
    queue = FrameQueue(16, 800)
    queue.put(frame(1))
    assert numbers(queue.take(0.001, never)) == [1]


def test_the_one_who_takes_is_woken_by_a_whole_message_alone() -> None:
    """A wake-up for each frame would cost five times as much; the fifth frame brings it."""
    queue = FrameQueue(16, 5 * FRAME)
    looks: list[int] = []
    first_look = threading.Event()

    def stopped() -> bool:
        looks.append(len(queue))
        first_look.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(queue.take, FOREVER, stopped)
        assert first_look.wait(10)
        for n in range(5):
            queue.put(frame(n))
        assert numbers(taken.result(10)) == [0, 1, 2, 3, 4]
    # one look before the wait, one after it, and one for each frame that is taken
    assert len(looks) <= 2 + 5


class CountedEvent(threading.Event):
    """Counts how often it was set, and looks away from it while `on_wait` stands for a wait."""

    def __init__(self) -> None:
        super().__init__()
        self.sets = 0
        self.on_wait: Callable[[], None] | None = None

    def set(self) -> None:
        self.sets += 1
        super().set()

    def wait(self, timeout: float | None = None) -> bool:
        if self.on_wait is None:
            return super().wait(timeout)
        self.on_wait()
        return False  # the time is over


@pytest.fixture
def event(monkeypatch: pytest.MonkeyPatch) -> CountedEvent:
    """What wakes the one who takes, in the queues that are made from now on."""
    event = CountedEvent()
    monkeypatch.setattr("frame_queue.threading.Event", lambda: event)
    return event


def test_frames_that_make_no_message_wake_nobody(event: CountedEvent) -> None:
    """One wake-up for five frames; and what was thrown away does not count towards one."""
    queue = FrameQueue(16, 5 * FRAME)
    for n in range(4):
        queue.put(frame(n))
    assert event.sets == 0
    queue.clear()
    for n in range(4):
        queue.put(frame(n))
    assert event.sets == 0
    queue.put(frame(4))
    assert event.sets == 1


def test_a_frame_that_comes_in_a_pause_begins_it_anew(event: CountedEvent) -> None:
    """Frames that come one by one are no pause: only a wait without any new one is."""
    queue = FrameQueue(16, 5 * FRAME)
    coming = iter([frame(1), frame(2)])
    waits: list[int] = []

    def wait() -> None:
        waits.append(len(queue))
        new = next(coming, None)
        if new is not None:
            queue.put(new)

    event.on_wait = wait
    queue.put(frame(0))
    assert numbers(queue.take(FOREVER, never)) == [0, 1, 2]
    assert waits == [1, 2, 3]


def test_close_lets_what_is_queued_be_taken_and_then_ends() -> None:
    """The flush at the end of a call: all that is queued, then the end, again and again."""
    queue = FrameQueue(16, 5 * FRAME)
    for n in range(7):
        queue.put(frame(n))
    queue.close()
    assert queue.put(frame(7)) is False
    assert numbers(queue.take(FOREVER, never)) == [0, 1, 2, 3, 4]
    assert numbers(queue.take(FOREVER, never)) == [5, 6]
    assert queue.take(FOREVER, never) == []
    assert queue.take(FOREVER, never) == []


def test_close_wakes_the_one_who_waits() -> None:
    """A silent call that is hung up does not wait for a frame that never comes."""
    queue = FrameQueue(16, 800)
    looked = threading.Event()

    def stopped() -> bool:
        looked.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(queue.take, FOREVER, stopped)
        assert looked.wait(10)
        queue.close()
        assert taken.result(10) == []


def test_one_who_is_stopped_takes_nothing_and_leaves_all_to_the_next() -> None:
    """The old stream's thread wakes, sees that it is over, and the new stream gets every frame."""
    queue = FrameQueue(16, 5 * FRAME)
    over, looked = threading.Event(), threading.Event()

    def stopped() -> bool:
        looked.set()
        return over.is_set()

    with ThreadPoolExecutor(2) as pool:
        old = pool.submit(queue.take, FOREVER, stopped)
        assert looked.wait(10)
        over.set()
        queue.wake()
        assert old.result(10) == []
        for n in range(5):
            queue.put(frame(n))
        assert queue.take(FOREVER, stopped) == []  # also with a whole message there
        assert numbers(queue.take(FOREVER, never)) == [0, 1, 2, 3, 4]


def test_less_room_is_kept_to_only_once_so_few_are_queued() -> None:
    """What waited for a slow beginning goes out first, and no frame is dropped meanwhile."""
    queue = FrameQueue(250, 5 * FRAME)
    for n in range(27):
        assert queue.put(frame(n))
    queue.settle(16)
    assert queue.put(frame(27))  # not at once
    assert len(queue.take(FOREVER, never)) == len(queue.take(FOREVER, never)) == 5
    assert len(queue) == 18
    assert [queue.put(frame(n)) for n in range(28, 31)] == [True] * 3  # 21 are queued, still
    assert len(queue.take(FOREVER, never)) == 5
    assert len(queue) == 16
    assert queue.put(frame(31))  # 16 are not fewer than 16
    assert len(queue.take(FOREVER, never)) == 5
    assert len(queue) == 12
    assert [queue.put(frame(n)) for n in range(32, 38)] == [True] * 4 + [False] * 2
    queue.close()
    assert take_all(queue) == list(range(20, 36))


def test_room_settles_at_the_next_taking_of_a_queue_that_holds_little() -> None:
    """Also one that never held more, and also when nothing is left in it."""
    queue = FrameQueue(250, FRAME)
    queue.settle(2)
    queue.put(frame(0))
    assert numbers(queue.take(FOREVER, never)) == [0]
    assert [queue.put(frame(n)) for n in range(1, 5)] == [True, True, False, False]


def test_room_that_was_not_settled_stays() -> None:
    """Taking alone changes nothing: a stream that is not open yet has its room for the opening."""
    queue = FrameQueue(20, FRAME)
    queue.put(frame(0))
    queue.take(FOREVER, never)
    assert all(queue.put(frame(n)) for n in range(20))


def test_clear_says_how_many_frames_it_threw_away() -> None:
    """The count of dropped frames includes what Google would not take in time."""
    queue = FrameQueue(16, 800)
    for n in range(4):
        queue.put(frame(n))
    assert queue.clear() == 4
    assert len(queue) == 0
    assert queue.clear() == 0
    queue.put(frame(9))
    assert numbers(queue.take(0.001, never)) == [9]  # its account of bytes is right again


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 1000)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("settle"), st.integers(1, 20)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(steps, st.integers(1, 1600))
def test_it_agrees_with_a_plain_list(plan: list[tuple[str, int]], message: int) -> None:
    """Any order of putting and taking, against a plain model."""
    queue, model, room, settled = FrameQueue(16, message), list[QueuedFrame](), 16, 16
    for number, (step, value) in enumerate(plan):
        if step == "put":
            new = frame(number, value)
            assert queue.put(new) is (len(model) < room)
            if len(model) < room:
                model.append(new)
        elif step == "take" and model:
            expected: list[QueuedFrame] = []
            while model and sum(len(one.audio) for one in expected) < message:
                expected.append(model.pop(0))
            assert queue.take(0, never) == expected
            room = settled if len(model) < settled else room
        elif step == "settle":
            settled = value
            queue.settle(value)
        elif step == "clear":
            assert queue.clear() == len(model)
            model.clear()
        assert len(queue) == len(model)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=400),
    room=st.integers(1, 20),
    message=st.integers(1, 1600),
)
def test_nothing_is_lost_doubled_or_moved_between_two_threads(
    sizes: list[int], room: int, message: int
) -> None:
    """What put() took is what take() gave, in order, however the two threads fall."""
    queue = FrameQueue(room, message)
    start = threading.Barrier(2)

    def put_all() -> list[int]:
        start.wait(10)
        put = [n for n, size in enumerate(sizes) if queue.put(frame(n, size))]
        queue.close()
        return put

    def take() -> list[int]:
        start.wait(10)
        return take_all(queue)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as pool:
            put, taken = pool.submit(put_all), pool.submit(take)
            assert taken.result(30) == put.result(30)
    finally:
        sys.setswitchinterval(interval)


@settings(max_examples=15, deadline=None)
@given(handovers=st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_nothing_is_lost_when_streams_succeed_each_other(handovers: list[int]) -> None:
    """Each stream is stopped in the midst of its work and the next one starts beside it."""
    queue = FrameQueue(10_000, 800)
    total, got, lock = 400, list[int](), threading.Lock()

    def stream(over: threading.Event) -> None:
        while frames := queue.take(FOREVER, over.is_set):
            with lock:
                got.extend(numbers(frames))

    overs = [threading.Event() for _ in range(len(handovers) + 1)]
    threads = [threading.Thread(target=stream, args=(over,)) for over in overs]
    threads[0].start()
    changes: dict[int, list[int]] = {}
    at = 0
    for index, gap in enumerate(handovers):
        at += gap
        changes.setdefault(at, []).append(index)
    for n in range(total):
        queue.put(frame(n))
        for index in changes.get(n, []):
            overs[index].set()
            queue.wake()
            threads[index + 1].start()
    queue.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(got) == list(range(total))


def interrupted(
    run: Callable[[], T], function: Callable[..., Any], line: int, do: Callable[[], None]
) -> tuple[T, bool]:
    """What `run()` returns with `do()` before the `line`-th line of `function`; if it came."""
    lines = 0

    def local(code: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        if event in ("line", "return"):
            lines += 1
            if lines == line:
                do()
        return local

    def trace(code: FrameType, event: str, arg: Any) -> Any:
        return local if code.f_code is function.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return run(), lines >= line
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("end", ["taken", "cleared", "left"])
def test_a_frame_put_while_the_queue_closes_is_never_unaccounted_for(end: str) -> None:
    """At whichever line the reaper closes the call: accepted means taken or counted as cleared."""
    line, came = 0, True
    while came:
        line += 1
        queue = FrameQueue(16, FRAME)
        out: list[int] = []

        def close(queue: FrameQueue = queue, out: list[int] = out) -> None:
            queue.close()
            if end == "taken":
                out += take_all(queue)
            elif end == "cleared":
                out += [1] * queue.clear()

        accepted, came = interrupted(
            lambda queue=queue: queue.put(frame(1)),  # type: ignore[misc]
            FrameQueue.put,
            line,
            close,
        )
        if not came:
            queue.close()
        if end == "left" or not came:
            out += take_all(queue)
        assert (out == [1]) is accepted, f"at line {line}"
        assert len(queue) == 0
    assert line > 4


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", range(1, 6))
def test_no_wake_up_is_lost(line: int) -> None:
    """At whichever line on the way to the wait the message becomes whole, it is not slept over."""
    queue = FrameQueue(16, 5 * FRAME)

    def put() -> None:
        for n in range(5):
            queue.put(frame(n))

    taken, came = interrupted(lambda: queue.take(1e6, never), FrameQueue.take, line, put)
    assert came
    assert numbers(taken) == [0, 1, 2, 3, 4]


def test_a_burst_waits_until_the_taker_has_made_room() -> None:
    """`wait_for_room()` returns as soon as what was asked for fits."""
    queue = FrameQueue(4, 2)
    for number in range(4):
        assert queue.put(QueuedFrame(b"a", number + 1, 0.0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.wait_for_room, 2, 10.0)
        assert len(queue.take(10.0, lambda: False)) == 2
        assert waiting.result(10)
    assert len(queue) == 2


def test_a_burst_does_not_wait_where_nobody_takes() -> None:
    """It is False after the time that was given, and at once when the queue is closed."""
    queue = FrameQueue(1, 1)
    assert queue.wait_for_room(1, 10.0)
    queue.put(QueuedFrame(b"a", 1, 0.0))
    assert not queue.wait_for_room(1, 0.01)
    queue.close()
    assert not queue.wait_for_room(1, 60.0)
