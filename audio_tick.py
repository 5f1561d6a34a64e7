"""One moment for all calls of a process at which their sockets are read, and their audio sent.

Twilio sends 50 frames a second for each call, each at a time of its own. To wake up for each
costs a system call and a switch of threads or greenlets each time; and each message to Google,
sent alone, one more. Here the calls' threads wait for a common tick: a read then brings what has
come since the last one, 5 frames at 100 ms, and the messages of all calls leave together. It
waits for nobody: frames wait in TCP meanwhile, as they would in a queue of ours for the next
message to Google to be full.

While there are few calls the tick is short, down to 20 ms, and their audio is with Google sooner.

One thread (a greenlet in a gevent worker) makes the ticks, while there is anybody to wait for
them. It only wakes the others, and must never block on anything but time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_MS = 100
SHORTEST_MS = 20
CALLS_A_STEP = 4  # so many calls more make the tick longer by its shortest


class Turn:
    """One waiting thread's place. `wait()` belongs to that thread."""

    __slots__ = ("_gate", "_tick")

    def __init__(self, tick: AudioTick) -> None:
        self._tick = tick
        # Held but for a moment at each tick: the cheapest way to wake one thread that there is
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self) -> None:
        """Return at the next tick, or at once if there was one since the last wait."""
        self._tick.run()
        self._gate.acquire()  # without a timeout, which would cost as much again

    def come(self) -> None:
        """It is time. Only the ticks' own thread calls it."""
        if self._gate.locked():
            self._gate.release()

    def leave(self) -> None:
        """Wait no more; may be called twice."""
        self._tick.leave(self)


class AudioTick:
    """The ticks of a process, on a common grid of time. `longest_ms`: between two, at the most."""

    def __init__(
        self,
        longest_ms: int = LONGEST_MS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._longest_ms = longest_ms
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._turns: dict[Turn, None] = {}
        self._running = False

    @property
    def seconds(self) -> float:
        """Between two ticks, by the number of calls."""
        steps = 1 + max(0, len(self._turns) - 1) // CALLS_A_STEP
        return min(self._longest_ms, SHORTEST_MS * steps) / 1000

    def join(self) -> Turn:
        """A place for one more call. Give it back with `leave()`."""
        turn = Turn(self)
        with self._lock:
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
                self._sleep(self._until_next())
                self._come()
        finally:
            with self._lock:
                self._running = False
            self._come()  # whoever joined just now, or waits after a fault of ours

    def _until_next(self) -> float:
        seconds = self.seconds
        left = seconds - self._clock() % seconds
        # A sleep may end a little early: then that was the tick, and not this
        return left if left > seconds / 4 else left + seconds

    def _come(self) -> None:
        with self._lock:
            turns = list(self._turns)
        for turn in turns:
            turn.come()
