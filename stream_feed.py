"""A stream's own queue: its place in the call's ring, from which gRPC's thread takes its audio.

Each stream has one, so that a stream that is over can take nothing of the next one's audio. What
waits (a replay, or what came while no stream could be had) goes out at up to four times real
time in messages of at most 100 ms; once all of it is taken, audio goes as it comes, by the
batch.

`take()` is called by gRPC's thread for the stream's requests, `wake()` by the call's handler, all
else by the call's streaming thread.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter

from audio_ring import BYTES_PER_MS, BYTES_PER_SECOND, AudioRing, Chunk
from loudness import is_loud

REPLAY_SPEED = 4  # times real time: Google refuses bursts
REPLAY_MESSAGE_MS = 100


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
        self._message_bytes = batch_ms * BYTES_PER_MS
        self._replay_bytes = min(batch_ms, REPLAY_MESSAGE_MS) * BYTES_PER_MS
        # Twice a message's time is a pause, not the jitter of the frame that is due just now
        self._pause = 2 * batch_ms / 1000
        self._on_taken = on_taken
        self._clock = clock
        # Held while a message is taken, which never waits
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._started = False
        self._finishing = False
        # The stream's audio from each of these offsets on is the ring's from that position on:
        # one run, unless something was evicted before it could be sent.
        self._runs: list[tuple[int, int]] = []
        self._next_message = float("-inf")

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
        """A chunk is whole."""
        self._wake.set()

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
            if not self._wake.wait(self._pause) and frames == self._ring.frames:
                self._ring.flush()  # the caller's frames stopped coming: send what there is

    def _next_audio(self) -> bytes:
        chunk = self._ring.read(self.position)
        if chunk is None:
            self.behind = False
            return b""
        if chunk.start > self.position:  # what should have come here was evicted
            self.lost_frames += self._ring.count_lost(self.position, chunk.start)
            self._runs.append((self.sent_bytes, chunk.start))
            self.position = chunk.start
        size = self._replay_bytes if self.behind else self._message_bytes
        audio = self._take(chunk, size)
        self._next_message = self._clock() + len(audio) / BYTES_PER_SECOND / REPLAY_SPEED
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
        self.delay_seconds = self._clock() - chunk.arrived
        self._on_taken()
        return audio
