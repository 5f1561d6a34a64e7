"""From telephone audio to utterances: decoding, resampling, voice activity, end-pointing.

Pure computation without I/O, clocks or threads of its own: one `EndPointer` a stream, used by
one thread or loop at a time. A chunk of 32 ms costs about 1.3 ms, so the caller feeds it in
small pieces and lets others run in between. Times are seconds of this stream's audio.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from speech_messages import LINEAR16, MULAW

Samples: TypeAlias = npt.NDArray[np.float32]
# The probability of speech in one chunk of 512 samples at 16 kHz.
VoiceDetector: TypeAlias = Callable[[Samples], float]

RATE = 16_000  # what whisper and the voice detector take
CHUNK = 512
CHUNK_SECONDS = CHUNK / RATE

SPEECH_STARTS = 0.5
# Lower than where it starts: a voice that sinks at the end of a word is still speech.
SPEECH_GOES_ON = 0.35


def _chunks(seconds: float) -> int:
    return math.ceil(seconds / CHUNK_SECONDS)


ONSET = 3  # chunks of speech in a row before it is believed
LEAD_IN = _chunks(0.3)  # the first consonant is often under the threshold
TAIL = _chunks(0.25)  # and so is the last
LEAST_SPEECH = 5  # chunks; less than this is a click or a cough
LEAST_REST = 2  # but behind a cut it may be the end of a word
END_SILENCE = _chunks(0.7)
# Whisper takes 30 s at most. From the first length on a short pause ends an utterance; at the
# second it is cut at the quietest place of its last part.
LONG = _chunks(14.0)
LONG_SILENCE = _chunks(0.3)
LONGEST = _chunks(24.0)
CUT_WINDOW = _chunks(8.0)
CUT_WIDTH = 5  # chunks that must be quiet together, to find a pause and not a consonant


@dataclass(frozen=True)
class SpeechBegan:
    """Voice activity began; `at` is when that was noticed."""

    at: float


@dataclass(frozen=True)
class SpeechEnded:
    """Voice activity ended; `at` is when that was noticed."""

    at: float


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech at 16 kHz, with a little silence around it; `end` is its speech's."""

    samples: Samples
    end: float

    @property
    def seconds(self) -> float:
        """How long its samples last."""
        return len(self.samples) / RATE


Happening: TypeAlias = SpeechBegan | SpeechEnded | Utterance


def _mulaw_table() -> Samples:
    # Computed rather than taken from audioop, which Python 3.13 no longer has. ITU-T G.711.
    code = ~np.arange(256, dtype=np.uint8)
    sign = np.where(code & 0x80, -1, 1)
    exponent = (code >> 4) & 7
    mantissa = (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    table: Samples = (sign * magnitude / 32768).astype(np.float32)
    return table


_MULAW = _mulaw_table()


class AudioDecoder:
    """Bytes of one encoding and sample rate to samples at 16 kHz, as a continuous stream."""

    def __init__(self, encoding: int, rate: int) -> None:
        if encoding not in (MULAW, LINEAR16):
            raise ValueError(f"cannot decode encoding {encoding}")
        self._encoding = encoding
        self._odd = b""
        # LQ holds back a few milliseconds only, and telephone speech has nothing above 3.4 kHz.
        self._resampler = (
            None if rate == RATE else soxr.ResampleStream(rate, RATE, 1, "float32", quality="LQ")
        )

    def decode(self, audio: bytes, *, last: bool = False) -> Samples:
        """The samples that are complete by now; `last` flushes the resampler."""
        samples = self._samples(audio)
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples, last=last)
        return resampled

    def _samples(self, audio: bytes) -> Samples:
        if self._encoding == MULAW:
            return _MULAW[np.frombuffer(audio, np.uint8)]
        data = self._odd + audio
        whole = len(data) & ~1
        self._odd = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)


class EndPointer:
    """Finds utterances in one stream.

    1. Chunks of 32 ms get a probability of speech; a few in a row begin an utterance.
    2. Chunks gather until there is silence for long enough, which ends it.
    3. A long utterance ends at a short pause, or is cut at the quietest place; speech goes on.
    """

    def __init__(self, decoder: AudioDecoder, voice: VoiceDetector) -> None:
        self._decoder = decoder
        self._voice = voice
        self._rest = np.zeros(0, np.float32)
        self._heard = 0  # chunks so far
        self._kept: list[Samples] = []  # the lead-in, or the utterance so far
        self._speech: list[bool] = []  # of the same chunks
        self._least = LEAST_SPEECH
        self.speaking = False

    @property
    def now(self) -> float:
        """How much of the stream's audio was heard."""
        return self._heard * CHUNK_SECONDS

    @property
    def spoken(self) -> float:
        """Seconds of speech in the utterance that is going on."""
        return sum(self._speech) * CHUNK_SECONDS if self.speaking else 0.0

    def push(self, audio: bytes, *, last: bool = False) -> list[Happening]:
        """Hear some audio; what happened in it, in order."""
        fresh = self._decoder.decode(audio, last=last)
        samples = np.concatenate((self._rest, fresh)) if len(self._rest) else fresh
        happened: list[Happening] = []
        whole = len(samples) // CHUNK * CHUNK
        for at in range(0, whole, CHUNK):
            self._hear(samples[at : at + CHUNK], happened)
        self._rest = samples[whole:]
        return happened

    def finish(self) -> list[Happening]:
        """The audio is over: the utterance that was going on. No SpeechEnded, as with Google."""
        happened = self.push(b"", last=True)
        if len(self._rest):
            padding = np.zeros(CHUNK - len(self._rest), np.float32)
            self._hear(np.concatenate((self._rest, padding)), happened)
            self._rest = self._rest[:0]
        if self.speaking:
            self._utter(self._speech_end(), happened)
            self.speaking = False
        return happened

    def so_far(self) -> Utterance | None:
        """The utterance that is going on, up to now; None in silence."""
        if not self.speaking or sum(self._speech) < LEAST_SPEECH:
            return None
        return Utterance(np.concatenate(self._kept), self.now)

    def _hear(self, chunk: Samples, happened: list[Happening]) -> None:
        self._heard += 1
        threshold = SPEECH_GOES_ON if self._speech and self._speech[-1] else SPEECH_STARTS
        self._kept.append(chunk)
        self._speech.append(self._voice(chunk) >= threshold)
        if self.speaking:
            self._go_on(happened)
        elif all(self._speech[-ONSET:]) and len(self._speech) >= ONSET:
            self.speaking = True
            self._least = LEAST_SPEECH
            happened.append(SpeechBegan(self.now))
        else:
            del self._kept[: -(LEAD_IN + ONSET - 1)]
            del self._speech[: -(LEAD_IN + ONSET - 1)]

    def _go_on(self, happened: list[Happening]) -> None:
        length = len(self._kept)
        silence = length - self._speech_end()
        if silence >= END_SILENCE:
            happened.append(SpeechEnded(self.now))
            self._utter(self._speech_end(), happened)
            self.speaking = False
        elif length >= LONG and silence >= LONG_SILENCE and any(self._speech):
            self._utter(self._speech_end(), happened)
        elif length >= LONGEST:
            self._utter(self._quietest(), happened)

    def _speech_end(self) -> int:
        """The index behind the last chunk with speech."""
        return len(self._speech) - self._speech[::-1].index(True) if any(self._speech) else 0

    def _quietest(self) -> int:
        """The middle of the quietest short stretch in the last part of the utterance."""
        begin = len(self._kept) - CUT_WINDOW
        energy = [float(np.dot(chunk, chunk)) for chunk in self._kept[begin:]]
        loudness = np.convolve(energy, np.ones(CUT_WIDTH), "valid")
        return begin + int(np.argmin(loudness)) + CUT_WIDTH // 2

    def _utter(self, end: int, happened: list[Happening]) -> None:
        """End the utterance at chunk `end`: no chunk behind it with speech is in it."""
        if sum(self._speech[:end]) >= self._least:
            silent = next((i for i, s in enumerate(self._speech[end:]) if s), TAIL)
            samples = np.concatenate(self._kept[: end + min(silent, TAIL)])
            end_time = (self._heard - len(self._kept) + end) * CHUNK_SECONDS
            happened.append(Utterance(samples, end_time))
        del self._kept[:end]
        del self._speech[:end]
        self._least = LEAST_REST
