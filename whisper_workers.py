"""Whisper in a few threads: finals first, interims when there is time.

The model is loaded once and shared; CTranslate2 gives up the GIL while it computes, so the
event loop goes on. `read` may be called from any thread and never blocks; it must never be
given more than 30 seconds of audio, which is all that whisper takes.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel

from end_pointing import RATE, Samples
from speech_server_rules import SpeechServerError

# Above the first and under the second together, or above the third, it is no speech.
NO_SPEECH = 0.6
DOUBTFUL_LOGPROB = -0.8
SURELY_NO_SPEECH = 0.9
# Text that compresses better than this goes round in circles.
CIRCLING = 2.4
# Speech has about 4 tokens a second; what is far above is a model that goes round in circles,
# and would be at it for seconds.
TOKENS_A_SECOND = 12
SPARE_TOKENS = 16
# Whisper's window is 30 s, and its encoder's time grows faster than the window: half a window
# takes a quarter of the time. Down to this much, and with this much silence behind the speech,
# the text was the same on every sample; with less, it begins to differ.
LEAST_WINDOW_SECONDS = 15
SILENCE_BEHIND_SECONDS = 3
FEATURES_A_SECOND = 100


class BadModel(SpeechServerError):
    """The directory holds no model that faster-whisper can read."""


@dataclass(frozen=True)
class Reading:
    """What whisper read: words with its punctuation, and how sure it was (0 to 1)."""

    text: str
    confidence: float


@dataclass
class _Job:
    samples: Samples
    language: str
    is_final: bool
    reading: Future[Reading | None] = field(default_factory=Future)


class ShortWindowModel(WhisperModel):  # type: ignore[misc]  # faster-whisper has no types
    """Whisper that encodes no more of its window than the audio needs."""

    def encode(self, features: npt.NDArray[np.float32]) -> object:
        """Encode features (mel bands by hundredths of a second, zero behind the audio)."""
        audible = np.flatnonzero(features.any(axis=0))
        used = int(audible[-1]) + 1 if len(audible) else 0
        needed = max(
            LEAST_WINDOW_SECONDS * FEATURES_A_SECOND,
            used + SILENCE_BEHIND_SECONDS * FEATURES_A_SECOND,
        )
        # The encoder halves the rate: an even number.
        return super().encode(features[..., : needed + needed % 2])


class WhisperWorkers:
    """Threads that share a model. One of several workers is always kept for finals."""

    def __init__(self, model: str | Path, threads: int = 2) -> None:
        """Loads the model; raises `BadModel`."""
        directory = Path(model)
        if not (directory / "model.bin").is_file():
            raise BadModel(f"no faster-whisper model in {directory}: it has no model.bin")
        try:
            self._model = ShortWindowModel(
                str(directory),
                device="cpu",
                compute_type="int8",
                cpu_threads=1,
                num_workers=threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise BadModel(f"cannot read the model in {directory}: {error}") from error
        self.languages: Sequence[str] = self._model.supported_languages
        self._finals: deque[_Job] = deque()
        self._interims: deque[_Job] = deque()
        self._interims_at_once = max(1, threads - 1)
        self._interims_running = 0
        self._closed = False
        self._work = threading.Condition()
        # The first decode allocates: better now than in the first call.
        self._decode(_Job(np.zeros(RATE, np.float32), self.languages[0], False))
        self._threads = [
            threading.Thread(target=self._run, name=f"whisper-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def read(self, samples: Samples, language: str, *, is_final: bool) -> Future[Reading | None]:
        """Read up to 30 s at 16 kHz; None where there is no speech. Cancel what is not needed."""
        job = _Job(samples, language, is_final)
        with self._work:
            if self._closed:
                job.reading.cancel()
            else:
                (self._finals if is_final else self._interims).append(job)
                self._work.notify()
        return job.reading

    def close(self) -> None:
        """Cancel what waits, and let the threads end after the job in hand."""
        with self._work:
            self._closed = True
            for job in (*self._finals, *self._interims):
                job.reading.cancel()
            self._finals.clear()
            self._interims.clear()
            self._work.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                if job.reading.set_running_or_notify_cancel():
                    job.reading.set_result(self._decode(job))
            except Exception as error:  # handed on: whoever waits for the reading deals with it
                job.reading.set_exception(error)
            finally:
                self._done(job)

    def _next(self) -> _Job | None:
        with self._work:
            while not self._closed:
                if self._finals:
                    return self._finals.popleft()
                if self._interims and self._interims_running < self._interims_at_once:
                    self._interims_running += 1
                    return self._interims.popleft()
                self._work.wait()
        return None

    def _done(self, job: _Job) -> None:
        if not job.is_final:
            with self._work:
                self._interims_running -= 1
                self._work.notify()

    def _decode(self, job: _Job) -> Reading | None:
        seconds = len(job.samples) / RATE
        segments, _ = self._model.transcribe(
            job.samples,
            language=job.language,
            beam_size=1,
            # A second try at random is worth its time for a final only.
            temperature=(0.0, 0.2, 0.6) if job.is_final else 0.0,
            compression_ratio_threshold=CIRCLING,
            condition_on_previous_text=False,
            without_timestamps=True,
            max_new_tokens=int(seconds * TOKENS_A_SECOND) + SPARE_TOKENS,
        )
        kept = [segment for segment in segments if _is_speech(segment)]
        text = " ".join(segment.text.strip() for segment in kept).strip()
        if not any(letter.isalnum() for letter in text):
            return None
        logprob = sum(segment.avg_logprob for segment in kept) / len(kept)
        return Reading(text, min(1.0, math.exp(logprob)))


def _is_speech(segment: object) -> bool:
    no_speech: float = getattr(segment, "no_speech_prob", 0.0)
    logprob: float = getattr(segment, "avg_logprob", 0.0)
    circling: float = getattr(segment, "compression_ratio", 0.0)
    if no_speech > SURELY_NO_SPEECH or circling > CIRCLING:
        return False
    return not (no_speech > NO_SPEECH and logprob < DOUBTFUL_LOGPROB)
