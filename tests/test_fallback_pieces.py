"""How audio is cut into pieces for plain calls: whole, in order, short enough, and at breaths."""

from __future__ import annotations

from itertools import pairwise

import pytest
from audio_parts import LOUD, QUIET
from hypothesis import given
from hypothesis import strategies as st

from audio_ring import BYTES_PER_SECOND, Chunk
from fallback import PIECE_BYTES, Piece, cut, last_breath

SECOND = BYTES_PER_SECOND


def chunks_of(*seconds: float, begin: float = 0.0) -> list[Chunk]:
    """Chunks in a row: so many seconds of speech or, if negative, of quiet; 100: a hole of 100."""
    chunks: list[Chunk] = []
    at = int(begin * SECOND)
    for length in seconds:
        size = int(abs(length) * SECOND)
        if length != HOLE:
            audio = (LOUD if length > 0 else QUIET) * size
            chunks.append(Chunk(audio, at, at, at / SECOND, 0, 0))
        at += size
    return chunks


HOLE = 100


def in_seconds(pieces: list[Piece]) -> list[tuple[float, float]]:
    return [(piece.start / SECOND, piece.end / SECOND) for piece in pieces]


def test_what_is_short_enough_is_one_piece() -> None:
    """Up to 55 s, breaths or not."""
    chunks = chunks_of(*[1, -1] * 27, 1)
    assert in_seconds(cut(chunks, 0, 55 * SECOND)) == [(0, 55)]


def test_a_longer_one_is_cut_at_the_last_breath() -> None:
    """In the last five seconds before 55 s; words before and after it stay whole."""
    chunks = chunks_of(*[1] * 51, -1, *[1] * 20)
    assert in_seconds(cut(chunks, 0, 72 * SECOND)) == [(0, 52), (52, 72)]
    chunks = chunks_of(*[1] * 51, -1, 1, -1, *[1] * 20)
    assert in_seconds(cut(chunks, 0, 74 * SECOND)) == [(0, 54), (54, 74)]


def test_without_a_breath_it_is_cut_where_it_must_be() -> None:
    """Not at one so early that the piece would be much shorter than it may."""
    chunks = chunks_of(*[1] * 30, -1, *[1] * 40)
    assert in_seconds(cut(chunks, 0, 71 * SECOND)) == [(0, 55), (55, 71)]


def test_positions_begin_anywhere() -> None:
    """The audio that waits begins in the middle of the call, and of a chunk."""
    chunks = chunks_of(0.5, *[1] * 60, begin=100.5)
    assert in_seconds(cut(chunks, 100 * SECOND + SECOND // 2, 161 * SECOND)) == [
        (100.5, 155),
        (155, 161),
    ]


def test_audio_that_is_gone_belongs_to_a_piece() -> None:
    """Who counts what was lost asks by the pieces: none of the positions is left out."""
    assert in_seconds(cut([], 0, 80 * SECOND)) == [(0, 80)]
    pieces = cut(chunks_of(HOLE, *[1] * 10), 0, 110 * SECOND)
    assert in_seconds(pieces) == [(0, 100), (100, 110)]


def test_nothing_is_no_piece() -> None:
    """A call that is over with nothing left makes no call to Google."""
    assert cut([], 800, 800) == []


@given(
    st.lists(
        st.sampled_from([0.1, 1.0, 3.0, 10.0, -0.1, -0.5, -2.0, HOLE]), min_size=1, max_size=60
    ),
    st.floats(0, 50),
)
def test_pieces_are_the_audio_in_order_and_short_enough(lengths: list[float], begin: float) -> None:
    """Whatever speech, breaths and holes: each position once, no piece with more than 55 s."""
    chunks = chunks_of(*lengths, begin=begin)
    start = int(begin * SECOND)
    end = start + sum(int(abs(length) * SECOND) for length in lengths)
    pieces = cut(chunks, start, end)
    assert pieces[0].start == start
    assert pieces[-1].end == end
    assert all(one.end == other.start for one, other in pairwise(pieces))
    cuts = {chunk.start for chunk in chunks} | {chunk.end for chunk in chunks}
    assert {piece.end for piece in pieces[:-1]} <= cuts
    for piece in pieces:
        assert piece.start < piece.end
        sizes = [len(one.audio) for one in chunks if piece.start <= one.start < piece.end]
        assert sum(sizes) <= PIECE_BYTES
    if HOLE not in lengths:  # nor is any much shorter than it may be
        assert all(one.end - one.start > PIECE_BYTES - 10 * SECOND for one in pieces[:-1])


@pytest.mark.parametrize(
    ("lengths", "at"),
    [
        ((1, -1, 1, 1), 2.0),
        ((1, -1, 1, -1, 1), 4.0),
        ((1, 1, -1), 3.0),
        ((1, 1, 1), 1.0),
        ((-1, -1), 2.0),
    ],
)
def test_the_last_breath(lengths: tuple[float, ...], at: float) -> None:
    """Its end, so that no word is cut; where nobody breathes, the end of the first chunk."""
    assert last_breath(chunks_of(*lengths, begin=7)) == (7 + at) * SECOND
