"""How much unfinalised audio a process keeps, over all of its calls.

Each call's ring has a limit of its own; together they have this one. What is over it is evicted:
the oldest audio of the process, whosever it is. Any thread; nothing waits in it.
"""

from __future__ import annotations

from audio_ring import BYTES_PER_SECOND, AudioRing
from native_threads import brief_lock

# At a time: a look at all rings for each chunk would cost more than the chunk
_EVICTED_BYTES = BYTES_PER_SECOND


class WaitingAudio:
    """The rings of a process, and how many bytes of audio they keep."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = brief_lock()
        self._rings: set[AudioRing] = set()
        self.kept = 0

    def new_ring(self, chunk_bytes: int, max_bytes: int) -> AudioRing:
        """A ring for a call; give it back with `discard()`."""
        ring = AudioRing(chunk_bytes, max_bytes, self._kept)
        with self._lock:
            self._rings.add(ring)
        return ring

    def discard(self, ring: AudioRing) -> None:
        """Forget a ring, with all that it keeps."""
        ring.evict(ring.kept)
        with self._lock:
            self._rings.discard(ring)

    def _kept(self, change: int) -> None:
        with self._lock:
            self.kept += change
            if change <= 0 or self.kept <= self._limit_bytes:
                return
            rings = list(self._rings)
        # Without the lock: evicting reports here what it has freed
        for ring in sorted(rings, key=lambda ring: ring.oldest):  # nearly always the first will do
            ring.evict(max(change, _EVICTED_BYTES))
            if self.kept <= self._limit_bytes:
                return
