"""Whether a piece of mu-law audio is loud enough to be speech. Pure.

It decides nothing about the text: it tells a silent caller from a Google that does not answer,
and finds a breath in which a stream is better replaced than in the middle of a word.
"""

from __future__ import annotations

# mu-law is sign, exponent and mantissa, all bits inverted (ITU-T G.711). A magnitude (of 7 bits)
# of 48 is 31 dB under full scale: the peaks of speech on a line are far above it.
_LOUD = 48
_QUIET_BYTES = bytes(byte for byte in range(256) if ~byte & 0x7F < _LOUD)
_SHARE = 20  # one loud sample in so many is enough: between the peaks of a voice it is quiet


def is_loud(audio: bytes) -> bool:
    """Whether a piece of 8 kHz mu-law (some 20 to 200 ms) may hold speech."""
    loud = len(audio.translate(None, _QUIET_BYTES))
    return loud * _SHARE > len(audio)
