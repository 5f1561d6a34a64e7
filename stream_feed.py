"""A stream's own queue: its place in the call's ring, from which gRPC's thread takes its audio.

Each stream has one, so that a stream that is over can take nothing of the next one's audio. What
waits (a replay, or what came while no stream could be had) goes out at up to four times real
time in messages of at most 100 ms; once all of it is taken, audio goes as it comes, by the
batch.

`take()` is called by gRPC's thread for the stream's requests, `wake()` by the call's handler, all
else by the call's streaming thread. Where the stream can send without waiting, `wake()` does it
at once while that thread has nothing to do: to wake it for each message would cost more than the
message.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter

from audio_ring import BYTES_PER_MS, BYTES_PER_SECOND, AudioRing, Chunk
from audio_tick import LONGEST_MS
from loudness import is_loud
from native_threads import brief_lock

# While `wake()` sends what comes, how often gRPC's thread looks for itself
_IDLE_SECONDS = 5.0
# How much sooner than its pace allows a live message may go: one that had missed its moment does
# not wake gRPC's thread for the next one
_AHEAD_SECONDS = 0.06
REPLAY_SPEED = 4  # times real time: Google refuses bursts
REPLAY_MESSAGE_MS = 100
MESSAGE_MS = 1000  # at the most: 8,000 bytes, where Google's documents disagree from 15,360 on


class StreamFeed:
    """Audio for one stream, in messages of `batch_ms` once it is live.

    `on_taken()` is called in gRPC's thread after each message. Times are seconds on `clock`.
    """

    def __init__(
        self,
        ring: AudioRing,
        batch_ms: int,
        *,
        on_taken: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._whole = batch_ms <= LONGEST_MS  # what one read brings is a message
        # What came together goes together, also if it is a frame more than a batch
        self._message_bytes = min(2 * batch_ms, MESSAGE_MS) * BYTES_PER_MS
        self._replay_bytes = min(batch_ms, REPLAY_MESSAGE_MS) * BYTES_PER_MS
        # Twice a message's time is a pause, not the jitter of the frame that is due just now
        self._pause = 2 * batch_ms / 1000
        self._on_taken = on_taken
        self._clock = clock
        # Held while a message is taken, which never waits
        self._lock = brief_lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._started = False
        self._finishing = False
        # The stream's audio from each of these offsets on is the ring's from that position on:
        # one run, unless something was evicted before it could be sent.
        self._runs: list[tuple[int, int]] = []
        self._next_message = float("-inf")
        self._idle = False  # gRPC's thread waits for audio
        # Sends a message, or says that it cannot without waiting
        self.send_now: Callable[[bytes], bool] | None = None

        self.position = 0  # the position after what was taken
        self.sent_bytes = 0
        self.lost_frames = 0  # evicted before they could be sent
        self.delay_seconds: float | None = None  # of the last message, since its last frame came
        self.frames_taken = 0  # in the ring's count
        self.behind = True  # there is more than live audio to be taken
        self.unanswered_loud_bytes = 0  # loud audio since `answered()`
        self.quiet_bytes = 0  # how much of the last audio taken was quiet

    # For the streaming thread

    def start(self, position: int) -> None:
        """Let audio be taken, from this position of the ring on."""
        self.position = position
        self.frames_taken = self._ring.frames_before(position)
        self._runs = [(0, position)]
        self._started = True
        self._wake.set()

    def finish(self) -> None:
        """No more comes into the ring: end when all that is in it has been taken."""
        self._finishing = True
        self._wake.set()

    def stop(self) -> None:
        """Let nothing more be taken: what was taken up to now is all."""
        with self._lock:
            self._stop.set()
        self._wake.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be taken."""
        return self._stop.is_set()

    def answered(self) -> None:
        """Google said something."""
        self.unanswered_loud_bytes = 0

    def expect_burst(self) -> None:
        """More audio than live came at once, and is to be taken at its own pace."""
        with self._lock:
            self.behind = True

    def position_of(self, offset: int, *, start: bool = False) -> int:
        """The ring's position of an offset (bytes) in this stream's audio.

        As the end of the audio before it or, with `start`, as the beginning of that behind it.
        """
        offset = min(offset, self.sent_bytes)
        run = bisect_right(self._runs, offset - (not start), key=itemgetter(0)) - 1
        began, position = self._runs[max(0, run)] if self._runs else (offset, self.position)
        return position + offset - began

    # For the call's handler

    def wake(self) -> None:
        """A chunk is whole. Never waits."""
        if self.send_now is None or not self._sent_now(self.send_now):
            self._wake.set()

    def _sent_now(self, send: Callable[[bytes], bool]) -> bool:
        with self._lock:
            if not self._idle or self.behind or self._finishing or self._stop.is_set():
                return False
            if self._clock() + _AHEAD_SECONDS < self._next_message:
                return False
            chunk = self._ring.newest
            if chunk is None or chunk.start != self.position:  # others come before it
                return False
            if len(chunk.audio) > self._message_bytes or not send(chunk.audio):
                return False
            self._note(chunk, len(chunk.audio))
            return True

    @property
    def waiting(self) -> int:
        """How many frames wait to be taken."""
        return self._ring.frames - self.frames_taken

    # For gRPC's thread

    def take(self) -> bytes | None:
        """Wait for the next message's audio and take it; None at the end."""
        while True:
            self._wake.clear()  # before the looks: what comes after them wakes
            if self._stop.is_set():
                return None
            finishing = self._finishing  # as it was before the look: what is there then is all
            if not self._started:
                self._wake.wait()
                continue
            early = self._next_message - self._clock()
            if early > 0:
                self._stop.wait(early)
                continue
            with self._lock:
                audio = b"" if self._stop.is_set() else self._next_audio()
            if audio:
                return audio
            if finishing:
                return None
            frames = self._ring.frames
            woken = self._wait()
            if not woken and frames == self._ring.frames:
                self._ring.flush()  # the caller's frames stopped coming: send what there is

    def _wait(self) -> bool:
        """Wait for more audio; False if none came in time."""
        with self._lock:
            self._idle = True
        # Where all is sent as it comes, frames wait for more of them only if they came one by one
        unhurried = self.send_now is not None and self._whole and not self._ring.has_pending
        woken = self._wake.wait(_IDLE_SECONDS if unhurried else self._pause)
        with self._lock:
            self._idle = False
        return woken

    def _next_audio(self) -> bytes:
        chunk = self._ring.read(self.position)
        if chunk is None:
            self.behind = False
            return b""
        if chunk.start > self.position:  # what should have come here was evicted
            self.lost_frames += self._ring.count_lost(self.position, chunk.start)
            self._runs.append((self.sent_bytes, chunk.start))
            self.position = chunk.start
        return self._note(chunk, self._replay_bytes if self.behind else self._message_bytes)

    def _note(self, chunk: Chunk, size: int) -> bytes:
        audio = self._take(chunk, size)
        now = self._clock()
        self.delay_seconds = now - chunk.arrived
        self._next_message = (
            max(now, self._next_message) + len(audio) / BYTES_PER_SECOND / REPLAY_SPEED
        )
        if is_loud(audio):
            self.unanswered_loud_bytes += len(audio)
            self.quiet_bytes = 0
        else:
            self.quiet_bytes += len(audio)
        return audio

    def _take(self, chunk: Chunk, size: int) -> bytes:
        begin = self.position - chunk.start
        audio = chunk.audio[begin : begin + size]
        self.position += len(audio)
        self.sent_bytes += len(audio)
        if self.position == chunk.end:
            self.frames_taken = chunk.frames_end
            if self.position == self._ring.end:
                self.behind = False
        self._on_taken()
        return audio
