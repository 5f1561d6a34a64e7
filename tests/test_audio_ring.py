"""The ring of a call's audio: where each byte is, who counts it, and that two threads agree."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from audio_parts import PATIENCE, hasty_threads, interrupted
from hypothesis import given
from hypothesis import strategies as st
from ring_model import CHUNK, ROOM, Model

from audio_ring import BYTES_PER_SECOND, SILENCE, AudioRing, Chunk, Place

# One step: what is done, and two numbers that say where or how much
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["append"] * 8
            + ["skip", "fill", "flush", "release", "evict", "lose", "count_lost", "release_front"]
        ),
        st.integers(0, 40),
        st.integers(1, 40),
    ),
    max_size=40,
)


def ring_of(*sizes: int, chunk: int = 4, room: int = 1_000) -> AudioRing:
    """A ring that took frames of these sizes, a byte per 1/8000 s; 0: 10 bytes that are missing."""
    ring = AudioRing(chunk, room)
    for number, size in enumerate(sizes):
        if size:
            ring.append(bytes([number]) * size, (ring.clock + size) / BYTES_PER_SECOND)
        else:
            ring.skip(10)
    return ring


@given(steps)
def test_it_agrees_with_a_model_of_single_bytes(plan: list[tuple[str, int, int]]) -> None:
    """Whatever is done in whatever order: positions, clock, places, frames and what is kept."""
    changes: list[int] = []
    ring, model = AudioRing(CHUNK, ROOM, changes.append), Model()
    for step, where, size in plan:
        model.do(ring, step, where, size)
        model.check(ring)
        assert sum(changes) == ring.kept <= ROOM
    ring.close()
    model.flush()
    lost = ring.lose(0, ring.end)
    assert lost == model.let_go(0, len(model.state), "lost", ("kept", "evicted"))
    assert sum(changes) == ring.kept == 0
    assert model.frames_in("lost") == model.counted_lost
    assert model.frames_in("lost") + model.frames_in("released") == ring.frames


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    cuts=st.lists(
        st.tuples(
            st.sampled_from(["lose", "count_lost", "evict"]),
            st.integers(0, 200),
            st.integers(1, 60),
        ),
        max_size=12,
    ),
)
def test_no_cut_doubles_or_forgets_a_frame(
    sizes: list[int], cuts: list[tuple[str, int, int]]
) -> None:
    """Also with frames of any length and cuts in the midst of them: each is counted just once."""
    ring = ring_of(*sizes, chunk=7, room=90)
    lost = 0
    for step, start, size in cuts:
        if step == "evict":
            ring.evict(size)
        else:
            lost += getattr(ring, step)(start, start + size)
    ring.close()
    assert lost + ring.lose(0, ring.end) == len(sizes)
    assert ring.lose(0, ring.end) == ring.count_lost(0, ring.end) == 0


def test_a_release_from_before_the_front_takes_all_of_it() -> None:
    """What was before it had been evicted: nothing of the released audio stays behind."""
    ring = ring_of(4, 4, 4)
    ring.evict(4)
    ring.release(0, 6)
    assert [(one.start, one.audio) for one in ring.chunks(0, 12)] == [(6, b"\1\1"), (8, b"\2" * 4)]
    assert ring.kept == 6


def test_a_piece_that_was_evicted_is_counted_by_its_parts() -> None:
    """The covered half of a chunk is not lost, the other half is, and each but once."""
    ring = ring_of(1, 1, 1, 1)
    ring.evict(4)
    ring.release(0, 1)
    assert ring.count_lost(1, 3) == 2
    assert ring.count_lost(1, 3) == 0
    assert ring.lose(0, 4) == 1


def test_a_chunk_never_spans_a_hole() -> None:
    """Frames on both sides of missing audio make two chunks, each at its place on the clock."""
    ring = ring_of(1, 1, 0, 1, 1)
    ring.flush()
    assert [(one.start, one.call_start) for one in ring.chunks(0, 9)] == [(0, 0), (2, 12)]
    assert ring.place(2).call_bytes == 2
    assert ring.place(2, start=True).call_bytes == 12


def test_silence_fills_a_gap_and_is_nobodys_frame() -> None:
    """It has positions and moves the clock as audio does, in chunks, and counts no frames."""
    ring = ring_of(2)
    ring.fill(9, 7.0)
    chunks = ring.chunks(0, 100)
    assert [one.audio for one in chunks[1:]] == [SILENCE * 4, SILENCE * 4, SILENCE]
    assert [one.frames for one in chunks] == [1, 0, 0, 0]
    assert (ring.frames, ring.end, ring.clock, chunks[-1].arrived) == (1, 11, 11, 7.0)


def test_the_oldest_goes_when_there_is_no_room() -> None:
    """Whole chunks, the oldest first, and the ring never keeps more than it may."""
    ring = ring_of(*[4] * 5, room=12)
    assert ring.kept == 12
    assert [one.start for one in ring.chunks(0, 100)] == [8, 12, 16]
    assert ring.count_lost(0, 100) == 2


def test_a_ring_without_room_for_a_chunk_keeps_none() -> None:
    """Less room than a chunk is no endless loop and no chunk too many."""
    ring = ring_of(4, 4, room=3)
    assert (ring.kept, ring.end, ring.count_lost(0, 8)) == (0, 8, 2)


def test_after_the_close_nothing_is_taken() -> None:
    """What waited for a whole chunk is a last one; frames and silence that come now are refused."""
    ring = ring_of(1, 1)
    ring.close()
    assert ring.append(b"a", 1.0) is False
    ring.fill(5, 1.0)
    assert [one.audio for one in ring.chunks(0, 9)] == [b"\0\1"]
    assert (ring.frames, ring.clock, ring.end, ring.kept) == (2, 2, 2, 2)


def test_each_whole_chunk_and_nothing_else_wakes_the_reader() -> None:
    """A wake-up for each frame would cost five times as much; also a flushed chunk brings one."""
    ring = AudioRing(3, 100)
    ends: list[int] = []
    ring.on_chunk = lambda: ends.append(ring.end)
    for _ in range(4):
        ring.append(b"a", 0.0)
    assert ends == [3]
    ring.flush()
    ring.flush()
    assert ends == [3, 4]
    ring.fill(5, 0.0)
    assert ends == [3, 4, 7, 9]


def test_the_next_chunk_is_read_where_there_is_none() -> None:
    """Before the front, and in a hole that was released: the one after it; at the end: none."""
    ring = ring_of(4, 4, 4, 4)
    ring.evict(4)
    ring.release(8, 12)

    def start(position: int) -> int | None:
        chunk = ring.read(position)
        return None if chunk is None else chunk.start

    assert [start(at) for at in (0, 4, 7, 8, 11, 12, 15, 16)] == [4, 4, 4, 12, 12, 12, 12, None]


def test_a_place_beyond_the_end_is_the_end() -> None:
    """Google rounds; frames that are not a chunk yet have no place."""
    ring = ring_of(4, 0, 4, 1)
    assert ring.place(99) == ring.place(8) == Place(18, 18 / BYTES_PER_SECOND)
    assert ring.place(99, start=True) == ring.place(8)


def test_a_place_in_audio_that_was_let_go_of() -> None:
    """It is reckoned back from where the front was, as if there had been no hole before that."""
    ring = ring_of(4, 4, 0, 4)
    ring.release(0, 8)
    assert ring.place(8) == Place(8, 8 / BYTES_PER_SECOND)
    assert ring.place(8, start=True).call_bytes == 18
    assert ring.place(5).call_bytes == 5
    ring.release(8, 12)
    assert ring.place(12) == ring.place(50) == Place(22, 22 / BYTES_PER_SECOND)
    assert ring.place(10).call_bytes == 20


def test_a_place_behind_the_front_of_evicted_audio() -> None:
    """Between what was let go of and the first chunk: reckoned back from that chunk."""
    ring = ring_of(4, 0, 4, 4)
    ring.release(0, 2)  # the front is at 2
    ring.evict(6)
    assert ring.place(9).call_bytes == 19
    assert ring.place(7).arrived == pytest.approx(17 / BYTES_PER_SECOND)
    assert ring.place(8, start=True).call_bytes == 18
    assert ring.place(6).call_bytes == 16


def test_a_place_when_all_was_evicted() -> None:
    """The last of it is still known, also where there had been a hole before it."""
    ring = ring_of(4, 0, 4)
    ring.evict(8)
    assert ring.place(8) == ring.place(9) == Place(18, 18 / BYTES_PER_SECOND)


def test_a_place_before_audio_of_which_a_later_part_was_released() -> None:
    """The front is where it was: what is kept is before that part."""
    ring = ring_of(4, 4, 0, 4)
    ring.release(0, 4)
    ring.release(6, 12)
    assert ring.place(4) == Place(4, 4 / BYTES_PER_SECOND)
    assert ring.place(3).call_bytes == 3


def test_what_only_touches_is_not_between() -> None:
    """No empty chunks where a cut lies at the end of one."""
    ring = ring_of(4, 4, 4)
    assert [one.start for one in ring.chunks(4, 8)] == [4]
    assert ring.chunks(4, 4) == ring.chunks(9, 3) == ring.chunks(12, 20) == []


def test_no_place_is_before_the_call() -> None:
    """Nobody asks for one, but the answer is not a negative time."""
    assert AudioRing(4, 100).place(0) == Place(0, 0.0)
    assert ring_of(4).place(-5).call_bytes == 0


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_part_of_a_chunk_is_what_lies_between(start: int, end: int) -> None:
    """Its bytes, place and time; nothing of it where the two have nothing in common."""
    chunk = Chunk(bytes(range(5, 13)), 5, 105, 2.0, 8, 30)
    part = chunk.part(start, end)
    assert list(part.audio) == [at for at in range(5, 13) if start <= at < end]
    if part.audio:
        assert (part.start, part.call_start) == (part.audio[0], part.audio[0] + 100)
        assert (part.end, part.call_end) == (part.audio[-1] + 1, part.audio[-1] + 101)
        assert part.arrived == pytest.approx(2.0 - (13 - part.end) / BYTES_PER_SECOND)
    assert part.frames == len(part.audio)
    if part.audio:
        assert part.frames_end == 30 - (13 - part.end)


def test_the_oldest_audio_is_known_by_its_arrival() -> None:
    """So the process finds whose audio to give up; a ring that keeps none is the last to ask."""
    ring = ring_of(4, 4)
    assert ring.oldest == pytest.approx(4 / BYTES_PER_SECOND)
    ring.release(0, 6)
    assert ring.oldest == pytest.approx(8 / BYTES_PER_SECOND)
    ring.evict(1)
    assert ring.oldest == float("inf")


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=120), chunk=st.integers(1, 900))
def test_nothing_is_lost_doubled_or_moved_between_threads(sizes: list[int], chunk: int) -> None:
    """One appends, one reads and releases behind itself, one flushes: every byte comes once."""
    kept = itertools.count()  # told under no lock, so each change is noted by its own number
    changes: dict[int, int] = {}
    ring = AudioRing(chunk, 10**9, lambda change: changes.__setitem__(next(kept), change))
    frames = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    start, done = threading.Barrier(3), threading.Event()

    def append_all() -> None:
        start.wait(PATIENCE)
        for frame in frames:
            assert ring.append(frame, 0.0)
        ring.close()
        done.set()

    def read_all() -> bytes:
        start.wait(PATIENCE)
        got = b""
        while True:
            closed = done.is_set()
            piece = ring.read(len(got))
            if piece is not None:
                assert piece.start == len(got)
                got += piece.audio
                ring.release(0, len(got))
            elif closed:
                return got

    def flush_often() -> None:
        start.wait(PATIENCE)
        while not done.is_set():
            ring.flush()

    with hasty_threads(), ThreadPoolExecutor(3) as pool:
        work = pool.submit(append_all), pool.submit(flush_often)
        assert pool.submit(read_all).result(30) == b"".join(frames)
        assert [one.result(30) for one in work] == [None, None]
    assert sum(changes.values()) == ring.kept == 0
    assert (ring.frames, ring.end) == (len(sizes), sum(sizes))


@pytest.mark.parametrize("size", [1, 4])
def test_a_frame_that_comes_while_the_ring_closes_is_accounted_for(size: int) -> None:
    """At whichever line the call ends: accepted means that it is in the last chunk."""
    for line in range(1, 40):
        ring = AudioRing(4, 100)
        accepted, came = interrupted(
            lambda ring=ring: ring.append(b"a" * size, 0.0),  # type: ignore[misc]  # its default
            AudioRing.append,
            line,
            ring.close,
        )
        if not came:
            break
        assert bool(ring.chunks(0, 9)) is accepted, f"at line {line}"
    assert 5 < line < 39


def taken_out(ring: AudioRing) -> None:
    ring.release(0, 6)


def appended(ring: AudioRing) -> None:
    ring.skip(10)
    ring.append(b"abcd", 1.0)


@pytest.mark.parametrize("change", [taken_out, appended])
@pytest.mark.parametrize("position", [6, 8, 20])
def test_a_place_that_is_asked_for_during_a_change(
    position: int, change: Callable[[AudioRing], None]
) -> None:
    """The answer is that before or that after the change, never one that never was."""
    for line in range(1, 40):
        ring, after = ring_of(4, 4), ring_of(4, 4)
        change(after)
        allowed = (ring.place(position), after.place(position))
        place, came = interrupted(
            lambda ring=ring: ring.place(position),  # type: ignore[misc]  # its default
            AudioRing.place,
            line,
            lambda ring=ring: change(ring),  # type: ignore[misc]  # its default
        )
        if not came:
            break
        assert place in allowed, f"at line {line}"
    assert 4 < line < 39


def test_frames_are_counted_by_size_of_their_own() -> None:
    """The real sizes: 20 ms frames in chunks of 100 ms, cut at a frame."""
    ring = AudioRing(5 * 160, 100_000)
    for number in range(12):
        ring.append(bytes(160), number / 50)
    assert [ring.frames_before(160 * n) for n in range(11)] == list(range(11))
    ring.release(0, 3 * 160)
    assert ring.frames_before(0) == ring.frames_before(3 * 160) == 3
    assert ring.lose(3 * 160, 7 * 160) == 4
    ring.close()
    assert ring.frames_before(12 * 160) == 12
