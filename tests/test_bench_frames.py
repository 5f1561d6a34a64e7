"""The frames that the bench sends, and what is counted of them."""

from __future__ import annotations

from bench_frames import Spread, read_frames, spread, stamped_frame, tally


def message(*frames: tuple[int, int, int]) -> bytes:
    return b"".join(stamped_frame(*frame) for frame in frames)


def test_frames_are_read_as_they_were_stamped() -> None:
    """Call, place and moment come back, from one frame or from many in a message."""
    sent = [(0, 0, 5), (239, 4_000_000_000, 2**63)]
    assert read_frames(message(*sent)) == (sent, 0)
    assert len(stamped_frame(1, 2, 3)) == 160


def test_bytes_that_are_no_frame_are_counted() -> None:
    """Silence, and the rest of a cut message, are nobody's frames."""
    frames, unreadable = read_frames(message((1, 2, 3)) + b"\xff" * 160 + b"\xff" * 7)
    assert (frames, unreadable) == ([(1, 2, 3)], 167)


def test_only_frames_of_the_window_are_counted() -> None:
    """From its beginning on, and before its end."""
    counted = tally([(100, message((1, 0, 9), (1, 1, 10), (1, 2, 19), (1, 3, 20)))], 10, 20)
    assert (counted.received, counted.messages) == (2, 1)
    assert counted.delays_ns == [81, 90]


def test_doubled_and_disordered_frames_are_told_apart() -> None:
    """A frame that comes again is no second one; one that was overtaken is counted as such."""
    came = [(100, message((1, 0, 10), (1, 2, 12))), (101, message((1, 1, 11), (1, 2, 12)))]
    counted = tally(came, 0, 50)
    assert (counted.received, counted.doubled, counted.disordered) == (3, 1, 1)


def test_calls_are_counted_each_for_itself() -> None:
    """The same place in two calls is two frames, in whatever order."""
    counted = tally([(100, message((2, 7, 10), (1, 7, 10), (1, 8, 10), (2, 8, 10)))], 0, 50)
    assert (counted.received, counted.doubled, counted.disordered) == (4, 0, 0)


def test_a_spread_is_by_nearest_rank() -> None:
    """Of 100 values the 50th, 95th and 99th; of one value that one; of none, none."""
    assert spread(list(range(1, 101)), 10) == Spread(5.0, 9.5, 9.9, 10.0)
    assert spread([7]) == Spread(7, 7, 7, 7)
    assert spread([]) is None
