"""Loudness: what may be speech, and what is a breath."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loudness import is_loud


def magnitude(byte: int) -> int:
    """What a sample of mu-law means, by ITU-T G.711, without its sign; 32,124 at the most."""
    inverted = ~byte & 0xFF
    exponent, mantissa = (inverted >> 4) & 7, inverted & 15
    return (((mantissa << 3) + 0x84) << exponent) - 0x84


# 31 dB under full scale, in linear samples
LOUD = [byte for byte in range(256) if magnitude(byte) >= 924]
QUIET = [byte for byte in range(256) if magnitude(byte) < 924]


@pytest.mark.parametrize("byte", range(256))
def test_each_sample_is_as_loud_as_g711_says(byte: int) -> None:
    """Both signs, every value: loud from 31 dB under full scale on."""
    assert is_loud(bytes([byte]) * 160) is (byte in LOUD)


def test_silence_is_quiet() -> None:
    """Zero of either sign, a line's faint noise, and no audio at all."""
    assert not is_loud(b"\xff" * 800)
    assert not is_loud(b"\x7f" * 800)
    assert not is_loud(bytes([0xF0, 0x70, 0xE8, 0x68] * 200))
    assert not is_loud(b"")


@given(
    size=st.integers(1, 1600), loud=st.integers(0, 1600), a=st.sampled_from(LOUD), data=st.data()
)
def test_more_than_one_loud_sample_in_twenty_is_enough(
    size: int, loud: int, a: int, data: st.DataObject
) -> None:
    """A voice has peaks and is quiet between them; one click makes no speech."""
    loud = min(loud, size)
    quiet = data.draw(st.sampled_from(QUIET))
    audio = bytes([a]) * loud + bytes([quiet]) * (size - loud)
    assert is_loud(audio) is (loud > size / 20)


def test_one_loud_sample_in_twenty_is_not_enough() -> None:
    """The limit itself, from both sides."""
    assert not is_loud(b"\x80" * 8 + b"\xff" * 152)
    assert is_loud(b"\x80" * 8 + b"\xff" * 151)
