"""The numbered frames and the recogniser that names them."""

from __future__ import annotations

import random
from array import array

import pytest

from frame_echo import (
    FRAME_BYTES,
    DamagedFrames,
    FrameReader,
    frames_said,
    numbered_frame,
    read_frames,
    say_frames,
)


@pytest.mark.parametrize("size", [16, 17, 160, 320, 4096])
def test_frame_has_the_size_that_was_asked_for(size: int) -> None:
    """A numbered frame is as long as it was ordered, and reads back as itself."""
    frame = numbered_frame(7, 123_456, size)
    assert len(frame) == size
    assert read_frames(frame) == [(7, 123_456)]


@pytest.mark.parametrize("size", [0, 15, 4097])
def test_frame_of_an_impossible_size_is_refused(size: int) -> None:
    """Sizes that cannot carry the header, or that the reader would not take, are refused."""
    with pytest.raises(ValueError, match="16 to 4096"):
        numbered_frame(1, 1, size)


def test_no_two_frames_are_equal() -> None:
    """Every call and sequence number makes its own bytes."""
    frames = {numbered_frame(call, seq) for call in range(20) for seq in range(50)}
    assert len(frames) == 1000


def test_any_changed_byte_is_noticed() -> None:
    """Damage anywhere in a frame, filler included, is never read as a sound frame."""
    frame = numbered_frame(3, 9)
    for at in range(FRAME_BYTES):
        damaged = bytearray(frame)
        damaged[at] ^= 1
        with pytest.raises(DamagedFrames):
            read_frames(bytes(damaged))


def test_a_shift_is_noticed() -> None:
    """Audio that lost its first byte is not read as whole frames."""
    audio = numbered_frame(1, 0) + numbered_frame(1, 1)
    with pytest.raises(DamagedFrames, match="159 of 319 bytes"):
        read_frames(audio[1:])


def test_reader_takes_frames_cut_anywhere() -> None:
    """However the bytes are cut into messages, the same frames come out, each at its place."""
    dice = random.Random(5)
    sizes = [dice.choice([16, 160, 320]) for _ in range(200)]
    audio = b"".join(numbered_frame(2, seq, size) for seq, size in enumerate(sizes))
    reader = FrameReader()
    found, at = [], 0
    while at < len(audio):
        step = dice.randrange(1, 400)
        found += reader.read(audio[at : at + step])
        at += step
    assert [frame.seq for frame in found] == list(range(200))
    assert [frame.end - frame.start for frame in found] == sizes
    assert found[-1].end == len(audio)
    assert reader.finish() == 0


def test_reader_skips_silence_and_damage() -> None:
    """What is no frame is counted in bytes, and the frames behind it are still found."""
    damaged = bytearray(numbered_frame(4, 1))
    damaged[100] ^= 0xFF
    reader = FrameReader()
    audio = b"\xff" * 160 + numbered_frame(4, 0) + bytes(damaged) + numbered_frame(4, 2)
    found = reader.read(audio) + reader.read(b"\xff" * 30)
    assert [frame[:2] for frame in found] == [(4, 0), (4, 2)]
    assert reader.finish() == 160 + 160 + 30


def test_text_names_exactly_the_frames() -> None:
    """The text tells gaps, repeats and calls apart, and reads back as the same frames."""
    frames = [(7, 0), (7, 1), (7, 2), (7, 5), (7, 5), (8, 0), (7, 6)]
    text = say_frames(frames)
    assert text == "call 7 frames 0-2,5-5,5-5; call 8 frames 0-0; call 7 frames 6-6"
    assert frames_said(text) == frames
    assert frames_said(" call 7 frames 0-24") == [(7, seq) for seq in range(25)]
    assert say_frames([]) == ""


def test_packed_frames_hold_large_numbers() -> None:
    """Call and sequence numbers of 32 bits survive the record's packing."""
    packed = array("Q", [4_000_000_000 << 32 | 4_000_000_001])
    assert (packed[0] >> 32, packed[0] & 0xFFFFFFFF) == (4_000_000_000, 4_000_000_001)
    assert read_frames(numbered_frame(4_000_000_000, 4_000_000_001)) == [
        (4_000_000_000, 4_000_000_001)
    ]
