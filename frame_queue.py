"""The bounded queue between a call's handler, which may never wait, and its recognition stream.

One thread puts single frames in; another takes them out by the message, and is woken once a
message instead of once a frame. Only standard `threading`, so it serves greenlets as well.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class QueuedFrame(NamedTuple):
    """A frame of audio, where it ends on the call's clock, and when it came."""

    audio: bytes
    call_end: int  # bytes from the call's start to this frame's end
    arrived: float  # seconds


class FrameQueue:
    """At most `room` frames; `message_bytes` of them wake the one who takes.

    There is one thread that puts, and one that takes at a time.
    """

    def __init__(self, room: int, message_bytes: int) -> None:
        self.room = room
        self._settled_room = room
        self._message_bytes = message_bytes
        self._frames: deque[QueuedFrame] = deque()
        # Each is written by one side alone, so no lock is needed to know what is queued.
        self._bytes_in = 0
        self._bytes_out = 0
        self._closed = False
        self._wake = threading.Event()
        self._taken = threading.Event()
        self._taking = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: QueuedFrame) -> bool:
        """Add a frame, without waiting; False if the queue is full or closed, and it is not."""
        if len(self._frames) >= self.room or self._closed:
            return False
        self._frames.append(frame)
        if self._closed and self._withdraw(frame):  # closed meanwhile: nobody may come for it
            return False
        self._bytes_in += len(frame.audio)
        if self._bytes_in - self._bytes_out >= self._message_bytes:
            self._wake.set()
        return True

    def wait_for_room(self, frames: int, timeout: float) -> bool:
        """Wait until so many frames more fit; False if they do not within `timeout` seconds.

        For the one who puts, when a burst has come that is longer than the queue.
        """
        while len(self._frames) + frames > self.room:
            self._taken.clear()
            if len(self._frames) + frames <= self.room:
                break  # taken between the look and the clearing
            if self._closed or not self._taken.wait(timeout):
                return False
        return True

    def _withdraw(self, frame: QueuedFrame) -> bool:
        """Take the last frame back; False if it has been taken or thrown away already."""
        with self._taking:
            if self._frames and self._frames[-1] is frame:
                self._frames.pop()
                return True
        return False

    def take(self, pause: float, stopped: Callable[[], bool]) -> list[QueuedFrame]:
        """Wait for a message's worth of frames and take it.

        A shorter one is taken if no frame came for `pause` seconds, and at the close. An empty
        list means the end: the queue is closed and empty, or `stopped()` holds, and then nothing
        was taken. After `stopped` changes, `wake()` ends the wait.
        """
        while True:
            self._wake.clear()
            queued = self._bytes_in - self._bytes_out
            if stopped() or self._closed or queued >= self._message_bytes:
                break
            if not self._wake.wait(pause) and queued and queued == self._bytes_in - self._bytes_out:
                break
        taken: list[QueuedFrame] = []
        size = 0
        with self._taking:  # one who was stopped must not take what is its successor's
            while self._frames and size < self._message_bytes and not stopped():
                frame = self._frames.popleft()
                taken.append(frame)
                size += len(frame.audio)
            self._bytes_out += size
            if len(self._frames) < self._settled_room:
                self.room = self._settled_room
        self._taken.set()
        return taken

    def settle(self, room: int) -> None:
        """Have room for `room` frames from the moment on at which fewer are queued.

        Not at once: what waited for a slow beginning may go out before a frame is dropped.
        """
        self._settled_room = room

    def wake(self) -> None:
        """Make the one who waits in `take()` look again."""
        self._wake.set()

    def close(self) -> None:
        """Take no more frames; what is queued can still be taken."""
        self._closed = True
        self._wake.set()
        self._taken.set()

    def clear(self) -> int:
        """Throw away what is queued; how many frames that was."""
        with self._taking:
            left = len(self._frames)
            self._frames.clear()
            self._bytes_out = self._bytes_in
        return left
