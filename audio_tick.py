"""Common moments at which the sockets of a process's calls are read, and their audio sent.

Twilio sends 50 frames a second for each call, each at a time of its own. To wake up for each
costs a system call and a switch of threads or greenlets each time; and each message to Google,
sent alone, one more. Here the calls' threads wait for their turn: a read then brings what has
come since the last one, 5 frames at 100 ms, and the messages of all whose turn it is leave
together. It waits for nobody: frames wait in TCP meanwhile, as they would in a queue of ours for
the next message to Google to be full. Who waits may leave the read to the ticks' own thread, which
then goes from call to call without a switch for each, and wakes only who is needed.

There is a tick every 20 ms. While there are few calls, each is a turn of all of them, and their
audio is with Google at once; that is what 27 ms of CPU in a second are spent on with one call, and
70 with four. With more of them it is every second, third … fifth tick. What is
done together is cheapest; but nothing else must wait for it for long, so that many calls are split
into groups with ticks of their own.

One thread (a greenlet in a gevent worker) makes the ticks, while there is anybody to wait for
them, and sleeps through those that are nobody's turn. It wakes the others or looks for them, and
must never block on anything but time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from native_threads import brief_lock

TICK_MS = 20
LONGEST_MS = 100  # from one turn to the next
CALLS_A_STEP = 4  # so many calls more make it longer by a tick
CALLS_A_GROUP = 60  # they take about 5 ms


class Turn:
    """One waiting thread's place. `wait()` belongs to that thread."""

    def __init__(self, tick: AudioTick, number: int) -> None:
        self._tick = tick
        self.number = number
        # Held but for a moment at each tick: the cheapest way to wake one thread that there is
        self._gate = threading.Lock()
        self._gate.acquire()
        self._look: Callable[[], bool] | None = None
        self._looking = brief_lock()  # while it is held, `_look` stays what it is

    def wait(self, look: Callable[[], bool] | None = None) -> None:
        """Return at the next turn, or at once if there was one since the last wait.

        With `look`, only at the first turn at which that says True. It is called in the ticks'
        thread, at each turn, must not wait, and must let nothing out. It is never called after
        this has returned.
        """
        self._tick.run()
        if look is not None:
            with self._looking:
                if self._gate.locked():
                    self._look = look
        self._gate.acquire()  # without a timeout, which would cost as much again

    def come(self) -> None:
        """It is time. Only the ticks' own thread calls it."""
        with self._looking:
            if self._look is not None:
                if not self._look():
                    return
                self._look = None
            if self._gate.locked():
                self._gate.release()

    def wake(self) -> None:
        """Let who waits go on, whatever a look would say."""
        with self._looking:
            self._look = None
            if self._gate.locked():
                self._gate.release()

    def leave(self) -> None:
        """Wait no more; may be called twice."""
        self._tick.leave(self)


class AudioTick:
    """The ticks of a process, on a common grid of time.

    `longest_ms`: from one turn to the next, at the most.
    """

    def __init__(
        self,
        longest_ms: int = LONGEST_MS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most_steps = max(1, min(longest_ms, LONGEST_MS) // TICK_MS)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._turns: dict[Turn, None] = {}
        self._joined = 0
        self._running = False

    @property
    def steps(self) -> int:
        """How many ticks there are from one turn to the next, by the number of calls."""
        return min(self._most_steps, 1 + max(0, len(self._turns) - 1) // CALLS_A_STEP)

    @property
    def groups(self) -> int:
        """How many groups of calls have turns of their own, one after the other."""
        return min(self.steps, 1 + max(0, len(self._turns) - 1) // CALLS_A_GROUP)

    def join(self) -> Turn:
        """A place for one more call. Give it back with `leave()`."""
        with self._lock:
            self._joined += 1
            turn = Turn(self, self._joined)
            self._turns[turn] = None
        return turn

    def leave(self, turn: Turn) -> None:
        with self._lock:
            self._turns.pop(turn, None)

    def run(self) -> None:
        """See to it that there are ticks: nobody waits without a thread that will end the wait."""
        if not self._running:
            with self._lock:
                if not self._running:
                    threading.Thread(target=self._run, name="audio-tick", daemon=True).start()
                    self._running = True

    def _run(self) -> None:
        try:
            while self._turns:
                for turn in self._due(self._sleep_until_next()):
                    turn.come()
        finally:
            with self._lock:
                self._running = False
            for turn in self._all():  # whoever joined just now, or waits after a fault of ours
                turn.wake()

    def _due(self, tick: int) -> list[Turn]:
        """Whose turn it is at this tick."""
        own, steps = self._own_ticks(), self.steps
        due = [group for group, own_tick in enumerate(own) if own_tick == tick % steps]
        return [turn for turn in self._all() if turn.number % len(own) in due]

    def _own_ticks(self) -> list[int]:
        """Which of the ticks from one turn to the next is each group's."""
        steps, groups = self.steps, self.groups
        return [group * steps // groups for group in range(groups)]

    def _sleep_until_next(self) -> int:
        """Sleep to the next tick that is anybody's turn; its number."""
        ticks = self._clock() * 1000 / TICK_MS
        # A sleep may end a little early: then that was the tick, and not this
        number = int(ticks + 0.25) + 1
        own, steps = self._own_ticks(), self.steps
        while number % steps not in own:
            number += 1
        self._sleep((number - ticks) * TICK_MS / 1000)
        return number

    def _all(self) -> list[Turn]:
        with self._lock:
            return list(self._turns)
