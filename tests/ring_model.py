"""A model of the audio ring, for its tests: it keeps account of each byte by itself."""

from __future__ import annotations

import pytest

from audio_ring import BYTES_PER_SECOND, AudioRing

FRAME = 4  # bytes: small, so that cuts at a frame fall everywhere
CHUNK = 12
ROOM = 40


class Model:
    """For each position: its byte, its place on the call's clock, its frame and its fate."""

    def __init__(self) -> None:
        self.audio: list[int] = []
        self.call: list[int] = []
        self.arrived: list[float] = []  # when its chunk's last byte came, less the way to that
        self.frame: list[int] = []  # -1: silence
        self.state: list[str] = []  # pending, kept, evicted, released, lost
        self.chunks: list[list[int]] = []  # of positions
        self.pending: list[int] = []
        self.clock = 0
        self.frames = 0
        self.counted_lost = 0

    def do(self, ring: AudioRing, step: str, where: int, size: int) -> None:
        """Do one step in both. Cuts lie at the beginning of a frame, or at the end of all."""
        time = self.clock / BYTES_PER_SECOND
        if step == "append":
            assert ring.append(bytes(self._take(FRAME, self.frames)), time)
            self.frames += 1
            self._when_whole(time)
        elif step == "skip":
            ring.skip(size)
            self.flush()
            self.clock += size
        elif step == "fill":
            ring.fill(size, time)
            self.flush()
            for left in range(size, 0, -CHUNK):
                self._take(min(CHUNK, left), -1)
                self._make_chunk(time)
        elif step == "flush":
            ring.flush()
            self.flush()
        elif step == "evict":
            ring.evict(size)
            self.evict(size)
        else:
            self._cut(ring, step, where, size)

    def _cut(self, ring: AudioRing, step: str, where: int, size: int) -> None:
        cuts = [
            at
            for at in range(self.end + 1)
            if at in (0, self.end) or self.frame[at] != self.frame[at - 1]
        ]
        first, last = sorted((cuts[where % len(cuts)], cuts[size % len(cuts)]))
        if step == "release":
            ring.release(first, last)
            self.let_go(first, last, "released", ("kept", "evicted"))
        elif step == "release_front":  # as a final does
            ring.release(0, last)
            self.let_go(0, last, "released", ("kept", "evicted"))
        elif step == "lose":
            lost = ring.lose(first, last)
            assert lost == self.let_go(first, last, "lost", ("kept", "evicted"))
        else:
            lost = ring.count_lost(first, last)
            assert lost == self.let_go(first, last, "lost", ("evicted",))

    @property
    def end(self) -> int:
        return len(self.state) - len(self.pending)

    def _take(self, size: int, frame: int) -> list[int]:
        first = len(self.audio)
        new = [255 if frame < 0 else at % 251 for at in range(first, first + size)]
        for byte in new:
            self.pending.append(len(self.audio))
            self.audio.append(byte)
            self.call.append(self.clock)
            self.frame.append(frame)
            self.state.append("pending")
            self.clock += 1
        return new

    def _when_whole(self, time: float) -> None:
        self._time = time
        if len(self.pending) >= CHUNK:
            self._make_chunk(time)

    def flush(self) -> None:
        if self.pending:
            self._make_chunk(self._time)

    def _make_chunk(self, time: float) -> None:
        for at in self.pending:
            self.state[at] = "kept"
            self.arrived.append(time - (self.pending[-1] - at) / BYTES_PER_SECOND)
        self.chunks.append(self.pending)
        self.pending = []
        self.evict(self.kept - ROOM)

    @property
    def kept(self) -> int:
        return self.state.count("kept")

    def evict(self, size: int) -> None:
        wanted = self.kept - size
        while self.chunks and self.kept > wanted:
            for at in self.chunks.pop(0):
                self.state[at] = "evicted"

    def let_go(self, start: int, end: int, state: str, of: tuple[str, ...]) -> int:
        """How many frames that was."""
        gone = [at for at in range(start, end) if self.state[at] in of]
        for at in gone:
            self.state[at] = state
        runs: list[list[int]] = []
        for chunk in self.chunks:
            last = -2
            for at in (at for at in chunk if self.state[at] == "kept"):
                if at != last + 1 or last < chunk[0]:
                    runs.append([])
                runs[-1].append(at)
                last = at
        self.chunks = runs
        frames = len({self.frame[at] for at in gone} - {-1})
        self.counted_lost += frames if state == "lost" else 0
        return frames

    def frames_in(self, state: str) -> int:
        """Each frame is in one state as a whole: cuts lie between them."""
        return len(
            {frame for frame, at in zip(self.frame, self.state, strict=True) if at == state} - {-1}
        )

    def check(self, ring: AudioRing) -> None:
        """The ring says the same of all that it can be asked for."""
        assert (ring.end, ring.clock, ring.frames, ring.kept) == (
            self.end,
            self.clock,
            self.frames,
            self.kept,
        )
        found = ring.chunks(0, self.end)
        assert [list(range(one.start, one.end)) for one in found] == self.chunks
        for one in found:
            assert list(one.audio) == self.audio[one.start : one.end]
            assert list(range(one.call_start, one.call_end)) == self.call[one.start : one.end]
            assert one.arrived == pytest.approx(self.arrived[one.end - 1])
            frames = set(self.frame[one.start : one.end]) - {-1}
            assert one.frames == len(frames)
            assert one.frames_end == 1 + max(self.frame[: one.end], default=-1)
        for at in range(self.end + 1):
            self._check_position(ring, at)

    def _check_position(self, ring: AudioRing, at: int) -> None:
        following = [chunk for chunk in self.chunks if chunk[-1] >= at]
        read = ring.read(at)
        assert (None if read is None else read.start) == (following[0][0] if following else None)
        if at and self.state[at - 1] == "kept":
            place = ring.place(at)
            assert place.call_bytes == self.call[at - 1] + 1
            assert place.arrived == pytest.approx(self.arrived[at - 1])
        if at < self.end and self.state[at] == "kept":
            place = ring.place(at, start=True)
            assert place.call_bytes == self.call[at]
            assert place.arrived == pytest.approx(self.arrived[at] - 1 / BYTES_PER_SECOND)
            if at == 0 or self.frame[at] != self.frame[at - 1]:
                assert ring.frames_before(at) == 1 + max(self.frame[:at], default=-1)
        if at == self.end:
            assert ring.frames_before(at) == 1 + max(self.frame[:at], default=-1)
