"""WAV files as mu-law frames: what is kept byte for byte, what is converted, what is refused."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from wav_frames import BadWav, cut_frames, encode_mulaw, read_frames, read_mulaw

SAMPLES = Path(__file__).parent.parent / "samples"
EVERY_BYTE = bytes(range(256))


def riff(*chunks: tuple[bytes, bytes], data_size: int | None = None) -> bytes:
    """A RIFF/WAVE file of these chunks; `data_size` overrides what the data chunk says."""
    body = b"WAVE"
    for name, content in chunks:
        size = data_size if name == b"data" and data_size is not None else len(content)
        body += name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def mulaw_format(rate: int = 8000, channels: int = 1) -> bytes:
    return struct.pack("<HHIIHHH", 7, channels, rate, rate * channels, channels, 8, 0)


def decoded(mulaw: bytes) -> Any:
    samples, _ = soundfile.read(
        io.BytesIO(mulaw), samplerate=8000, channels=1, format="RAW", subtype="ULAW"
    )
    return samples


def loudest_frequency(samples: Any, rate: int = 8000) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def sine(rate: int, seconds: float, hertz: float, channels: int, level: float = 0.5) -> Any:
    wave = level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    return np.column_stack([wave] * channels)


def test_a_mulaw_file_passes_byte_for_byte(tmp_path: Path) -> None:
    """All 256 codes come out as they went in, both zeros too, and odd chunks are stepped over."""
    wav = tmp_path / "call.wav"
    wav.write_bytes(
        riff((b"fmt ", mulaw_format()), (b"LIST", b"odd"), (b"data", EVERY_BYTE), (b"x   ", b"y"))
    )
    assert read_mulaw(wav) == EVERY_BYTE


def test_the_samples_pass_byte_for_byte() -> None:
    """The recorded calls of this project are played as they are."""
    wav = SAMPLES / "clinic-appointment.wav"
    content = wav.read_bytes()
    audio = content[content.index(b"data") + 8 :]
    frames = read_frames(wav)
    assert b"".join(frames)[: len(audio)] == audio
    assert len(frames) == -(-len(audio) // 160)


def test_an_extensible_mulaw_file_passes_byte_for_byte(tmp_path: Path) -> None:
    """The newer form of the header, with the format in its sub-format, is known too."""
    extensible = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 8000, 1, 8, 22, 8, 4)
    guid = struct.pack("<H", 7) + bytes.fromhex("000000001000800000aa00389b71")
    wav = tmp_path / "call.wav"
    wav.write_bytes(riff((b"fmt ", extensible + guid), (b"data", EVERY_BYTE)))
    assert read_mulaw(wav) == EVERY_BYTE


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_file_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    """A data chunk that claims more than there is holds what there is."""
    wav = tmp_path / "call.wav"
    wav.write_bytes(riff((b"fmt ", mulaw_format()), (b"data", EVERY_BYTE), data_size=size))
    assert read_mulaw(wav) == EVERY_BYTE


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [
        (44100, 2, "PCM_16"),
        (48000, 1, "PCM_24"),
        (16000, 1, "FLOAT"),
        (8000, 1, "PCM_16"),
        (11025, 1, "PCM_U8"),
        (8000, 2, "ULAW"),
        (16000, 1, "ULAW"),
    ],
)
def test_other_wavs_are_converted(tmp_path: Path, rate: int, channels: int, subtype: str) -> None:
    """Any rate, channels and width come out at 8 kHz with their length, pitch and level."""
    wav = tmp_path / "sine.wav"
    soundfile.write(wav, sine(rate, 1.0, 440, channels), rate, subtype=subtype)
    samples = decoded(read_mulaw(wav))
    assert len(samples) == pytest.approx(8000, abs=1)
    assert loudest_frequency(samples) == pytest.approx(440, abs=2)
    assert float(np.max(np.abs(samples))) == pytest.approx(0.5, rel=0.08)


def test_what_a_telephone_cannot_carry_is_filtered_out(tmp_path: Path) -> None:
    """A tone above 4 kHz does not come back as a lower one (aliasing)."""
    wav = tmp_path / "high.wav"
    soundfile.write(wav, sine(44100, 0.5, 6000, 1), 44100, subtype="PCM_16")
    inner = decoded(read_mulaw(wav))[400:-400]
    assert float(np.max(np.abs(inner))) < 0.005


def test_encoding_clips_and_survives_what_is_no_number() -> None:
    """Too loud is the loudest code, not a wrapped one; NaN is silence."""
    assert encode_mulaw(np.array([2.0, -2.0, np.nan, 0.0])) == bytes([0x80, 0x00, 0xFF, 0xFF])


@given(st.binary(max_size=1000))
def test_cutting_keeps_every_byte(audio: bytes) -> None:
    """Frames are 160 bytes each, in order; only the last is filled up, with silence."""
    frames = cut_frames(audio)
    assert all(len(frame) == 160 for frame in frames)
    whole = b"".join(frames)
    assert whole[: len(audio)] == audio
    assert len(whole) - len(audio) < 160
    assert set(whole[len(audio) :]) <= {0xFF}


def test_repeating_leaves_no_gap(tmp_path: Path) -> None:
    """A file that does not fill its last frame is repeated without silence in between."""
    wav = tmp_path / "call.wav"
    wav.write_bytes(riff((b"fmt ", mulaw_format()), (b"data", EVERY_BYTE)))
    frames = read_frames(wav, repeat=3)
    assert b"".join(frames) == EVERY_BYTE * 3 + b"\xff" * (5 * 160 - 3 * 256)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"ID3\x03 this is an mp3", "not a WAV file"),
        (b"RIFF\x04\x00\x00\x00AVI ", "not a WAV file"),
        (riff((b"fmt ", mulaw_format()), (b"data", b"")), "holds no audio"),
        (riff((b"fmt ", mulaw_format(16000)), (b"data", b"")), "holds no audio"),
        (riff((b"fmt ", b"\x07\x00")), "cannot be read"),
        (riff((b"data", EVERY_BYTE)), "cannot be read"),
        (riff(), "cannot be read"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    """The error names the file and says what is wrong with it."""
    wav = tmp_path / "bad.wav"
    wav.write_bytes(content)
    with pytest.raises(BadWav) as caught:
        read_mulaw(wav)
    message = str(caught.value)
    assert str(wav) in message
    assert words in message
    assert "\n" not in message


def test_missing_files_are_refused_in_one_line(tmp_path: Path) -> None:
    """So are a path that is not there and a folder."""
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(BadWav, match="name a WAV file that can be read"):
            read_mulaw(path)


@given(content=st.binary(max_size=200))
def test_no_broken_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever follows a WAV's first bytes, it is audio or BadWav."""
    wav = tmp_path_factory.getbasetemp() / "broken.wav"
    wav.write_bytes(b"RIFF\x00\x00\x00\x00WAVE" + content)
    with contextlib.suppress(BadWav):
        assert read_mulaw(wav)
