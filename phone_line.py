"""The line of one placed call: what is spoken on it, frame by frame, while its time passes.

Time goes on from the answer, whether anybody listens or not: what the caller says while no
stream is open is gone. Runs on an asyncio loop, one task a call (`run`), beside which the call's
verbs wait for frames to pass (`wait`). At a pace of 0 time passes only while a verb waits for
it, and as fast as the listening streams take it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Protocol

from twilio_stream import FRAME_SECONDS, Pacing, Track
from wav_frames import FRAME_BYTES, SILENCE

SILENT_FRAME = SILENCE * FRAME_BYTES


class Listener(Protocol):
    """What hears the line: a stream."""

    async def hear(self, position: int, frames: Mapping[Track, bytes]) -> None:
        """Take the frames of 20 ms; must return at once, unless the pace is 0."""


class PhoneLine:
    """Two tracks and the listeners; `position` is in frames since the answer.

    A frame is 160 bytes of mu-law; an empty one is 20 ms in which nothing is sent.
    """

    def __init__(self, caller: Sequence[bytes], pacing: Pacing) -> None:
        self.caller, self.pacing = caller, pacing
        self.position = 0
        self.listeners: list[Listener] = []
        self._sent: set[int] = set()  # the caller's frames that a stream has sent
        self._business: Sequence[bytes] = ()
        self._business_from = 0
        self._answered = asyncio.Event()
        self._wanted = asyncio.Event()
        self._woken: asyncio.Future[None] | None = None
        self._dead = False

    @property
    def left(self) -> int:
        """Frames until the caller has said everything."""
        return max(0, len(self.caller) - self.position)

    @property
    def unsent_seconds(self) -> float:
        """How much of what the caller said went into no stream."""
        spoken = min(self.position, len(self.caller))
        return (spoken - len(self._sent)) * FRAME_SECONDS

    def mark_sent(self, position: int) -> None:
        """A stream has sent what the caller said at `position`."""
        if position < len(self.caller):
            self._sent.add(position)

    def answer(self) -> None:
        """Let the call's time begin; a second time changes nothing."""
        self._answered.set()

    def join(self, business: Sequence[bytes]) -> int:
        """The business is on the line from now on; returns the frames until both are through."""
        self._business, self._business_from = business, self.position
        return max(self.left, len(business))

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        try:
            await self._answered.wait()
            await self._pass_time(self.pacing)
        finally:
            self._dead = True  # or who waits would wait for ever
            self.wake()

    async def _pass_time(self, pacing: Pacing) -> NoReturn:
        began = pacing.clock()
        while True:
            if pacing.seconds:
                await pacing.sleep(
                    max(0.0, began + self.position * pacing.seconds - pacing.clock())
                )
            else:
                await self._wanted.wait()
                await asyncio.sleep(0)
            await self._tick()

    async def wait(self, frames: int, unless: Callable[[], bool] = lambda: False) -> None:
        """Let `frames` pass, or fewer if `unless` comes true (tell by `wake`). One at a time."""
        until = self.position + frames
        while self.position < until and not unless():
            if self._dead:
                raise RuntimeError("no time passes on this line any more")
            self._woken = asyncio.get_running_loop().create_future()
            self._wanted.set()
            await self._woken
        self._wanted.clear()

    def wake(self) -> None:
        """Have who waits look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def leave(self, listener: Listener) -> None:
        """Take `listener` off the line, if it is on it."""
        with contextlib.suppress(ValueError):
            self.listeners.remove(listener)

    async def _tick(self) -> None:
        frames: dict[Track, bytes] = {
            "inbound": _at(self.caller, self.position),
            "outbound": _at(self._business, self.position - self._business_from),
        }
        position, self.position = self.position, self.position + 1
        for listener in tuple(self.listeners):
            await listener.hear(position, frames)
        # At a pace of 0 the next frame waits until who wanted this one has looked.
        if not self.pacing.seconds:
            self._wanted.clear()
        self.wake()


def _at(frames: Sequence[bytes], number: int) -> bytes:
    return frames[number] if 0 <= number < len(frames) else SILENT_FRAME
