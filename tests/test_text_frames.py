"""Whole text messages are cut out as the parser of `websockets` would, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from text_frames import next_frame, whole_texts

MOST = 65_536
TEXT = Frame(Opcode.TEXT, b"hello").serialize(mask=True)


def text(data: bytes) -> bytes:
    return Frame(Opcode.TEXT, data).serialize(mask=True)


@given(st.lists(st.binary(max_size=400), max_size=5), st.integers(0, 40))
def test_all_that_is_whole_is_taken_and_no_byte_more(messages: list[bytes], cut: int) -> None:
    """Wherever the bytes end: the rest is left for the next read."""
    frames = [text(message) for message in messages]
    data = b"".join(frames)
    data = data[: max(0, len(data) - cut)]
    texts, taken = whole_texts(data, MOST)
    assert texts == messages[: len(texts)]
    assert taken == sum(map(len, frames[: len(texts)]))
    if len(texts) < len(messages):
        assert taken + len(frames[len(texts)]) > len(data)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535])
def test_every_length_is_read(size: int) -> None:
    """7 bits of length, or 16."""
    assert whole_texts(text(bytes(size)) + TEXT, MOST)[0] == [bytes(size), b"hello"]


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.TEXT, b"hello").serialize(mask=False),  # a client must mask
        Frame(Opcode.TEXT, b"hello", fin=False).serialize(mask=True),
        bytes([TEXT[0] | 0x40]) + TEXT[1:],  # a reserved bit
        Frame(Opcode.CONT, b"hello").serialize(mask=True),
        Frame(Opcode.BINARY, b"hello").serialize(mask=True),
        text(bytes(65_536)),  # 64 bits of length
        text(bytes(200)),  # more than may come
    ],
    ids=range(7),  # not the frames: their masks are chance
)
def test_what_is_no_whole_text_is_left_to_the_parser(frame: bytes) -> None:
    """All before it is taken; it is neither text nor control, so from it on all is the parser's."""
    texts, taken = whole_texts(TEXT + frame + TEXT, 199)
    assert (texts, taken) == ([b"hello"], len(TEXT))
    assert next_frame(frame, 199) is None


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CLOSE])
def test_the_end_of_a_control_frame_is_known(opcode: Opcode) -> None:
    """So that it can be given to the parser whole, with a text behind it."""
    frame = Frame(opcode, b"\x03\xe8").serialize(mask=True)
    assert whole_texts(frame + TEXT, MOST) == ([], 0)
    assert next_frame(frame + TEXT, MOST) == len(frame)


@given(st.sampled_from([TEXT, text(bytes(300)), Frame(Opcode.PING, b"x").serialize(mask=True)]))
def test_a_frame_that_is_not_whole_ends_beyond_the_data(frame: bytes) -> None:
    """However little of it is there."""
    for size in range(len(frame)):
        end = next_frame(frame[:size], MOST)
        assert end is not None
        assert end > size
    assert next_frame(frame, MOST) == len(frame)
