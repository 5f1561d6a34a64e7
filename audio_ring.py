"""The audio of a call that no final result has covered yet, and where it is on the call's clock.

The call's clock counts every byte that the call brought, also those that were not kept (dropped
frames, gaps); it is never wall time. A *position* counts the bytes that were kept, silence put
into gaps included: a stream to Google gets a run of positions without a hole, so that a time of
Google's is a position by one addition, and the ring says where that is on the call's clock.

The call's handler appends, one stream at a time reads (`stream_feed`), and the streaming thread
releases what finals have covered. One lock, which is never held while anything waits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from native_threads import brief_lock

BYTES_PER_MS = 8  # 8,000 samples a second, one byte each (ITU-T G.711 mu-law)
BYTES_PER_SECOND = 8000
FRAME_BYTES = 160  # the 20 ms that Twilio sends at a time, nominally
SILENCE = b"\xff"  # mu-law's zero

_start = attrgetter("start")


class Chunk(NamedTuple):
    """Some frames in a row, with no hole between them on the call's clock.

    `start`, `end`: positions. `arrived`: when its last byte came (seconds). `frames`: how many
    of the call's frames are in it (none in silence that fills a gap); `frames_end`: how many the
    ring has taken up to its end.
    """

    audio: bytes
    start: int
    call_start: int
    arrived: float
    frames: int
    frames_end: int

    @property
    def end(self) -> int:
        return self.start + len(self.audio)

    @property
    def call_end(self) -> int:
        return self.call_start + len(self.audio)

    def part(self, start: int, end: int) -> Chunk:
        """What lies between these positions; its frames are counted by their share."""
        head, tail = _overlap(self.start, self.end, start, end)
        if (head, tail) == (0, len(self.audio)):
            return self
        before, upto = (round(self.frames * at / len(self.audio)) for at in (head, tail))
        return Chunk(
            self.audio[head:tail],
            self.start + head,
            self.call_start + head,
            self.arrived - _seconds(len(self.audio) - tail),
            upto - before,
            self.frames_end - self.frames + upto,
        )


class Evicted(NamedTuple):
    """Audio that was given up before anything covered it."""

    start: int
    end: int
    frames: int

    def part(self, start: int, end: int) -> Evicted:
        """What lies between these positions; its frames are counted by their share."""
        head, tail = _overlap(self.start, self.end, start, end)
        before, upto = (round(self.frames * at / (self.end - self.start)) for at in (head, tail))
        return Evicted(self.start + head, self.start + tail, upto - before)


class Place(NamedTuple):
    """A point of the audio: its offset from the call's start, in bytes, and when it arrived."""

    call_bytes: int
    arrived: float


class AudioRing:
    """Keeps the call's audio in chunks of `chunk_bytes`, at most `max_bytes` of it.

    What is over that is evicted, the oldest first. Evicted audio is not lost yet: Google may
    have it, and cover it. It is lost when it is needed again (`count_lost`, `lose`).
    `on_kept(bytes)` is told how much more or less is kept than before.
    """

    def __init__(
        self,
        chunk_bytes: int,
        max_bytes: int,
        on_kept: Callable[[int], None] = lambda change: None,
    ) -> None:
        self._chunk_bytes = chunk_bytes
        self._max_bytes = max_bytes
        self._on_kept = on_kept
        self._lock = brief_lock()
        self._chunks: list[Chunk] = []
        self._newest: Chunk | None = None
        self._evicted: list[Evicted] = []
        self._pending: list[bytes] = []  # frames of the chunk that is not whole yet
        self._pending_bytes = 0
        self._pending_arrived = 0.0
        # Where the front was when it was last let go of: position, and place
        self._front, self._front_place = 0, Place(0, 0.0)
        self.kept = 0  # bytes in whole chunks
        self.end = 0  # the position after the last whole chunk
        self.clock = 0  # bytes from the call's start, those that were not kept included
        self.frames = 0  # frames that were taken
        self._closed = False
        # Called in the appending thread when a chunk is whole: whoever reads is woken by it
        self.on_chunk: Callable[[], None] = lambda: None

    # For the call's handler

    def append(self, frame: bytes, arrived: float) -> bool:
        """Take a frame, at the end of the call's clock as it stands; False after the close."""
        with self._lock:
            if self._closed:
                return False
            self._pending.append(frame)
            self._pending_bytes += len(frame)
            self._pending_arrived = arrived
            self.frames += 1
            self.clock += len(frame)
            if self._pending_bytes < self._chunk_bytes:
                return True
            change = self._make_chunk()
        self._tell(change)
        return True

    def extend(self, frames: list[bytes], arrived: float, *, whole: bool) -> bool:
        """Take frames that came together, as `append` takes one.

        `whole`: with those before them they are a chunk, whatever its size.
        """
        with self._lock:
            if self._closed:
                return False
            size = sum(map(len, frames))
            self._pending += frames
            self._pending_bytes += size
            self._pending_arrived = arrived
            self.frames += len(frames)
            self.clock += size
            if self._pending_bytes < self._chunk_bytes and not whole:
                return True
            change = self._make_chunk()
        self._tell(change)
        return True

    def skip(self, size: int) -> None:
        """Move the call's clock by `size` bytes that are not kept."""
        self.flush()  # a chunk has no hole in it
        with self._lock:
            self.clock += size

    def fill(self, size: int, arrived: float) -> None:
        """Take `size` bytes of silence, none of the call's frames; nothing after the close."""
        self.flush()
        for left in range(size, 0, -self._chunk_bytes):
            audio = SILENCE * min(self._chunk_bytes, left)
            with self._lock:
                if self._closed:
                    return
                change = self._keep(Chunk(audio, self.end, self.clock, arrived, 0, self.frames))
                self.clock += len(audio)
            self._tell(change)

    # For whoever reads: one stream at a time

    def read(self, position: int) -> Chunk | None:
        """The chunk at `position`, or else the next one after it; None if there is none yet."""
        with self._lock:
            index = max(0, bisect_right(self._chunks, position, key=_start) - 1)
            for chunk in self._chunks[index : index + 2]:
                if position < chunk.end:
                    return chunk
        return None

    @property
    def newest(self) -> Chunk | None:
        """The last chunk that came, if it is still kept."""
        return self._newest if self.kept else None

    @property
    def has_pending(self) -> bool:
        """Whether frames wait for a chunk to be whole."""
        return bool(self._pending)

    def flush(self) -> None:
        """Make a chunk of the frames that wait for one to be whole."""
        with self._lock:
            if not self._pending:
                return
            change = self._make_chunk()
        self._tell(change)

    def close(self) -> None:
        """Take no more frames; those that waited for a whole chunk make a last one."""
        with self._lock:
            self._closed = True
        self.flush()

    # For the streaming thread

    def place(self, position: int, *, start: bool = False) -> Place:
        """Where the byte before `position` ends, and when it came; `start`: where the next begins.

        Beyond the end it is the end (Google rounds). What was let go of is taken to have had no
        hole in it.
        """
        with self._lock:
            index = bisect_right(self._chunks, position - (not start), key=_start) - 1
            if index >= 0:
                chunk = self._chunks[index]
                known, place = chunk.end, Place(chunk.call_end, chunk.arrived)
                position = min(position, self.end)
            elif position > self._front and self._chunks:
                chunk = self._chunks[0]
                known = chunk.start
                place = Place(chunk.call_start, chunk.arrived - _seconds(len(chunk.audio)))
            else:
                known, place = self._front, self._front_place
                position = min(position, known)
        back = known - position
        return Place(max(0, place.call_bytes - back), place.arrived - _seconds(back))

    def frames_before(self, position: int) -> int:
        """How many of the frames that were taken lie before `position`."""
        chunk = self.read(position)
        if chunk is None:
            return self.frames - len(self._pending)
        return chunk.frames_end - chunk.part(position, chunk.end).frames

    def chunks(self, start: int, end: int) -> list[Chunk]:
        """What is kept from `start` to `end`."""
        with self._lock:
            first, last = self._between(start, end)
            return [chunk.part(start, end) for chunk in self._chunks[first:last]]

    def release(self, start: int, end: int) -> None:
        """Let go of the audio from `start` to `end`, which is covered."""
        with self._lock:
            self._take_evicted(start, end)
            change, _ = self._take_out(start, end)
        self._on_kept(change)

    def lose(self, start: int, end: int) -> int:
        """Let go of the audio from `start` to `end`, which nothing will cover; its frames."""
        with self._lock:
            lost = self._take_evicted(start, end)
            change, frames = self._take_out(start, end)
        self._on_kept(change)
        return lost + frames

    def count_lost(self, start: int, end: int) -> int:
        """How many frames from `start` to `end` were evicted; each is counted once."""
        with self._lock:
            return self._take_evicted(start, end)

    # For whoever keeps the process within its memory

    @property
    def oldest(self) -> float:
        """When the oldest audio that is kept came; infinity if there is none."""
        with self._lock:
            return self._chunks[0].arrived if self._chunks else float("inf")

    def evict(self, size: int) -> None:
        """Give up the oldest `size` bytes, in whole chunks."""
        with self._lock:
            change = self._evict(size)
        self._on_kept(change)

    # Inside, with the lock held; `change` is how many bytes more are kept

    def _make_chunk(self) -> int:
        audio = b"".join(self._pending)
        chunk = Chunk(
            audio,
            self.end,
            self.clock - len(audio),
            self._pending_arrived,
            len(self._pending),
            self.frames,
        )
        self._pending, self._pending_bytes = [], 0
        return self._keep(chunk)

    def _keep(self, chunk: Chunk) -> int:
        self._chunks.append(chunk)
        self._newest = chunk
        self.kept += len(chunk.audio)
        self.end = chunk.end
        over = self.kept - self._max_bytes
        return len(chunk.audio) + (self._evict(over) if over > 0 else 0)

    def _evict(self, size: int) -> int:
        count = freed = 0
        while freed < size and count < len(self._chunks):
            chunk = self._chunks[count]
            self._note_evicted(Evicted(chunk.start, chunk.end, chunk.frames))
            freed += len(chunk.audio)
            count += 1
        self._let_go_of_front(self._chunks[:count])
        del self._chunks[:count]
        self.kept -= freed
        return -freed

    def _note_evicted(self, new: Evicted) -> None:
        """One entry for a long row of pieces of which all hold as many frames for their size."""
        if self._evicted:
            last = self._evicted[-1]
            alike = last.frames * (new.end - new.start) == new.frames * (last.end - last.start)
            if last.end == new.start and alike:
                self._evicted[-1] = Evicted(last.start, new.end, last.frames + new.frames)
                return
        self._evicted.append(new)

    def _take_evicted(self, start: int, end: int) -> int:
        """Forget what was evicted there; how many frames that was."""
        frames = 0
        left: list[Evicted] = []
        for piece in self._evicted:
            taken = piece.part(start, end)
            frames += taken.frames
            left += (piece.part(piece.start, taken.start), piece.part(taken.end, piece.end))
        self._evicted = [piece for piece in left if piece.start < piece.end]
        return frames

    def _take_out(self, start: int, end: int) -> tuple[int, int]:
        first, last = self._between(start, end)
        found = self._chunks[first:last]
        if not found:
            return 0, 0
        gone = [chunk.part(start, end) for chunk in found]
        left = [found[0].part(found[0].start, start), found[-1].part(end, found[-1].end)]
        self._chunks[first:last] = [chunk for chunk in left if chunk.audio]
        if first == 0 and not left[0].audio:
            self._let_go_of_front(gone)
        freed = sum(len(chunk.audio) for chunk in gone)
        self.kept -= freed
        return -freed, sum(chunk.frames for chunk in gone)

    def _let_go_of_front(self, gone: list[Chunk]) -> None:
        if gone:
            last = gone[-1]
            self._front, self._front_place = last.end, Place(last.call_end, last.arrived)

    def _between(self, start: int, end: int) -> tuple[int, int]:
        """The slice of the chunks that overlap the positions from `start` to `end`."""
        if start >= end:
            return 0, 0
        first = max(0, bisect_right(self._chunks, start, key=_start) - 1)
        if first < len(self._chunks) and self._chunks[first].end <= start:
            first += 1
        return first, max(first, bisect_right(self._chunks, end - 1, key=_start))

    # Without the lock

    def _tell(self, change: int) -> None:
        self._on_kept(change)
        self.on_chunk()


def _overlap(begin: int, finish: int, start: int, end: int) -> tuple[int, int]:
    """The part of `begin` to `finish` between `start` and `end`, counted from `begin`."""
    head = min(max(start, begin), finish)
    return head - begin, max(head, min(end, finish)) - begin


def _seconds(size: int) -> float:
    return size / BYTES_PER_SECOND
