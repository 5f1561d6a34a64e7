"""The common tick: all wait for the same moments, few calls for shorter ones, nobody for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import pytest

from audio_tick import AudioTick, Turn

PATIENCE = 10.0


class Grid:
    """Time that stands still until a test lets it pass a tick."""

    def __init__(self) -> None:
        self.now = 1000.013
        self.asked: SimpleQueue[float] = SimpleQueue()
        self._go: SimpleQueue[BaseException | None] = SimpleQueue()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.asked.put(seconds)
        fault = self._go.get(timeout=PATIENCE)
        if fault is not None:
            raise fault
        self.now += seconds

    def pass_tick(self, fault: BaseException | None = None) -> float:
        seconds = self.asked.get(timeout=PATIENCE)
        self._go.put(fault)
        return seconds


def waiting(turn: Turn, done: SimpleQueue[Turn], look: Callable[[], bool] | None = None) -> None:
    def wait() -> None:
        turn.wait(look)
        done.put(turn)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize(("calls", "steps"), [(1, 1), (4, 1), (5, 2), (16, 4), (17, 5), (500, 5)])
def test_turns_follow_the_number_of_calls(calls: int, steps: int) -> None:
    """A quiet worker's audio is with Google sooner."""
    tick = AudioTick()
    turns = [tick.join() for _ in range(calls)]
    assert tick.steps == steps
    for turn in turns:
        turn.leave()
        turn.leave()
    assert tick.steps == 1


@pytest.mark.parametrize(("batch_ms", "steps"), [(20, 1), (40, 2), (100, 5), (1000, 5)])
def test_a_turn_comes_when_a_message_is_due(batch_ms: int, steps: int) -> None:
    """No more rarely than messages were asked for, nor than every 100 ms."""
    tick = AudioTick(batch_ms)
    turns = [tick.join() for _ in range(100)]
    assert tick.steps == steps
    assert turns


def test_all_that_wait_go_on_at_the_same_tick() -> None:
    """It falls on a grid of time, so that its length does not depend on the work."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    turns = [tick.join() for _ in range(3)]
    for turn in turns:
        waiting(turn, done)
    assert grid.pass_tick() == pytest.approx(0.007)
    assert {id(done.get(timeout=PATIENCE)) for _ in turns} == {id(turn) for turn in turns}
    for turn in turns:
        turn.leave()
    assert grid.pass_tick() == pytest.approx(0.02)


@pytest.mark.parametrize(("calls", "groups"), [(20, 1), (60, 1), (61, 2), (240, 4), (600, 5)])
def test_many_calls_take_turns_in_groups(calls: int, groups: int) -> None:
    """Each call has one tick of five; the groups are as large as one another, and not too large."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    waiter, *turns = [tick.join() for _ in range(calls)]
    assert tick.groups == groups
    came: list[Turn] = []
    for turn in turns:
        turn.come = partial(came.append, turn)  # type: ignore[method-assign]
    waiting(waiter, done)
    sizes: list[int] = []
    grid.asked.get(timeout=PATIENCE)
    for _ in range(groups):
        grid._go.put(None)
        grid.asked.get(timeout=PATIENCE)  # the tick has been done
        sizes.append(len(came) - sum(sizes))
    assert {id(turn) for turn in came} == {id(turn) for turn in turns}
    assert sizes == pytest.approx([calls / groups] * groups, abs=1)
    assert len(came) == calls - 1
    tick._turns.clear()
    grid._go.put(None)


def test_a_tick_that_came_meanwhile_counts() -> None:
    """Whoever was busy at the tick does not wait for the next one."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    idle, busy = tick.join(), tick.join()
    waiting(idle, done)
    grid.pass_tick()
    assert done.get(timeout=PATIENCE) is idle
    grid.asked.get(timeout=PATIENCE)  # the next one is on its way, and does not come
    busy.wait()
    grid._go.put(None)
    for turn in (idle, busy):
        turn.leave()


def test_who_looks_is_woken_only_when_needed() -> None:
    """At each turn there is one look, in the ticks' thread, and none while nobody waits."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    turn = tick.join()
    answers, looks = iter([False, False, True]), list[str]()

    def look() -> bool:
        looks.append(threading.current_thread().name)
        return next(answers)

    waiting(turn, done, look)
    for _ in range(2):
        grid.pass_tick()
    assert done.empty()
    grid.pass_tick()
    assert done.get(timeout=PATIENCE) is turn
    grid.pass_tick()
    grid.asked.get(timeout=PATIENCE)  # that tick has been done
    assert looks == ["audio-tick"] * 3
    turn.wait(look)  # a tick came meanwhile: at once, and without a look
    assert len(looks) == 3
    turn.leave()
    grid._go.put(None)


def test_ticks_end_with_the_last_call_and_begin_again() -> None:
    """A worker without calls has no thread for them."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    for _ in range(2):
        turn = tick.join()
        waiting(turn, done)
        grid.pass_tick()
        assert done.get(timeout=PATIENCE) is turn
        [thread] = [t for t in threading.enumerate() if t.name == "audio-tick"]
        turn.leave()
        grid.pass_tick()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_sleep_that_ends_early_makes_no_second_tick() -> None:
    """A clock that is a little behind the timer's would make two of each."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    turn = tick.join()
    waiting(turn, done)
    grid.pass_tick()
    grid.now -= 0.002
    assert done.get(timeout=PATIENCE) is turn
    turn.leave()
    assert grid.pass_tick() == pytest.approx(0.022)


def test_nobody_waits_for_a_tick_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the thread that makes them fail, all are let go, and the next wait has a new one."""
    grid, done = Grid(), SimpleQueue[Turn]()
    tick = AudioTick(clock=grid.clock, sleep=grid.sleep)
    turn = tick.join()
    faults = SimpleQueue[object]()
    monkeypatch.setattr(threading, "excepthook", lambda args: faults.put(args.exc_type))
    waiting(turn, done, lambda: False)
    grid.pass_tick(fault=SystemExit())
    assert done.get(timeout=PATIENCE) is turn
    assert faults.get(timeout=PATIENCE) is SystemExit
    waiting(turn, done)
    grid.pass_tick()
    assert done.get(timeout=PATIENCE) is turn
    turn.leave()
    grid.pass_tick()
