"""Recorded calls: a WAV file as the 20 ms frames of 8 kHz mu-law that a telephone line carries.

A file that is mu-law at 8 kHz already is played byte for byte; anything else that is a WAV is
mixed to one channel, resampled and encoded. Plain functions that read whole files: call them
before a call begins, never on the loop that paces it.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 8000
FRAME_BYTES = 160  # 20 ms, a byte a sample
SILENCE = b"\xff"  # mu-law for zero (ITU-T G.711)

_MULAW = 7  # WAVE_FORMAT_MULAW
_EXTENSIBLE = 0xFFFE  # WAVE_FORMAT_EXTENSIBLE: the real format opens its sub-format GUID


class BadWav(ValueError):
    """The file cannot be played; the text names it and says in one line what is wrong."""


def read_frames(path: str | Path, repeat: int = 1) -> list[bytes]:
    """The file at `path` as frames of 160 bytes, played `repeat` times without a gap between.

    Only the very last frame is filled up with silence. Raises BadWav.
    """
    return cut_frames(read_mulaw(path) * repeat)


def cut_frames(audio: bytes) -> list[bytes]:
    """8 kHz mu-law cut into frames of 160 bytes (20 ms); the last is filled up with silence."""
    frames = [audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES)]
    if frames:
        frames[-1] = frames[-1].ljust(FRAME_BYTES, SILENCE)
    return frames


def read_mulaw(path: str | Path) -> bytes:
    """The audio of the WAV at `path` as 8 kHz mono mu-law, a byte a sample.

    Raises BadWav if there is no such file, it is not a WAV, is broken, or holds no audio.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadWav(f"{path}: {error.strerror}: name a WAV file that can be read") from None
    if not content:
        raise BadWav(f"{path}: the file is empty: record it again")
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64") or content[8:12] != b"WAVE":
        raise BadWav(f"{path}: not a WAV file: convert it to WAV first")
    audio = _stored_mulaw(content)
    if audio is None:
        audio = _converted(path, content)
    if not audio:
        raise BadWav(f"{path}: the WAV holds no audio: record it again")
    return audio


def encode_mulaw(samples: np.ndarray) -> bytes:
    """Mono float samples between -1 and 1, at 8 kHz, as mu-law; what is beyond is clipped."""
    # Clipped here: libsndfile looks a float up in a table without asking whether it is in it.
    whole = np.round(np.clip(np.nan_to_num(samples), -1.0, 1.0) * 32767).astype(np.int16)
    encoded = io.BytesIO()
    soundfile.write(encoded, whole, SAMPLE_RATE, format="RAW", subtype="ULAW")
    return encoded.getvalue()


def _stored_mulaw(content: bytes) -> bytes | None:
    """The audio bytes of a RIFF file that is 8 kHz mono mu-law; None if it is anything else.

    soundfile only hands out decoded samples, and encoding them again is not the same bytes:
    mu-law has two zeros.
    """
    if content[:4] != b"RIFF":
        return None
    telephone = False
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        # A WAV that was written to a pipe gives a size beyond the file's end: read to the end.
        body = content[at + 8 : at + 8 + size]
        if name == b"fmt ":
            telephone = _is_telephone(body)
        elif name == b"data":
            return body if telephone else None
        at += 8 + size + size % 2  # chunks are padded to an even length
    return None


def _is_telephone(fmt: bytes) -> bool:
    if len(fmt) < 16:
        return False
    code, channels, rate = struct.unpack_from("<HHI", fmt)
    if code == _EXTENSIBLE and len(fmt) >= 26:
        (code,) = struct.unpack_from("<H", fmt, 24)
    return bool((code, channels, rate) == (_MULAW, 1, SAMPLE_RATE))


def _converted(path: str | Path, content: bytes) -> bytes:
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise BadWav(f"{path}: the WAV cannot be read ({reason}): save it as PCM") from None
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE and len(mono):
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return encode_mulaw(mono)
