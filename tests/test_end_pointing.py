"""Decoding, and finding utterances with a detector that takes any sound for speech."""

from __future__ import annotations

import numpy as np

import end_pointing
import speech_messages as messages
from end_pointing import (
    CHUNK,
    CHUNK_SECONDS,
    AudioDecoder,
    EndPointer,
    Samples,
    SpeechBegan,
    SpeechEnded,
    Utterance,
)


def test_mulaw_is_decoded_as_g711_has_it() -> None:
    """The table agrees with the standard's known values: both zeros, both ends, a small step."""
    samples = AudioDecoder(messages.MULAW, 16000).decode(bytes([0xFF, 0x7F, 0x00, 0x80, 0xFE]))
    assert [round(float(s) * 32768) for s in samples] == [0, 0, -32124, 32124, 8]


def voiced_end_pointer() -> EndPointer:
    """An end-pointer for LINEAR16 at 16 kHz that takes any sound for speech."""
    decoder = AudioDecoder(messages.LINEAR16, 16000)
    return EndPointer(decoder, lambda chunk: float(np.abs(chunk).max() > 0.001))


def linear(samples: Samples) -> bytes:
    """Samples as LINEAR16."""
    return (samples * 32768).astype("<i2").tobytes()


def speech_chunks(count: int, first: int = 1) -> Samples:
    """Chunks of sound, each of which can be told from the others by its samples' value."""
    values = (np.arange(first, first + count) + 100) / 32768
    return np.repeat(values, CHUNK).astype(np.float32)


def silent_chunks(count: int) -> Samples:
    """Chunks of silence."""
    return np.zeros(count * CHUNK, np.float32)


def test_an_utterance_has_silence_around_it() -> None:
    """Lead-in and tail are kept, the end time is that of the speech, events come in order."""
    ears = voiced_end_pointer()
    sound = np.concatenate((silent_chunks(40), speech_chunks(20), silent_chunks(40)))
    happened = ears.push(linear(sound))
    began, ended, utterance = happened
    assert began == SpeechBegan(43 * CHUNK_SECONDS)
    assert ended == SpeechEnded((60 + end_pointing.END_SILENCE) * CHUNK_SECONDS)
    assert isinstance(utterance, Utterance)
    assert utterance.end == 60 * CHUNK_SECONDS
    chunks = utterance.samples.reshape(-1, CHUNK)[:, 0]
    spoken = np.flatnonzero(chunks)
    assert (len(spoken), spoken[0]) == (20, end_pointing.LEAD_IN)
    assert len(chunks) - spoken[-1] - 1 == end_pointing.TAIL
    assert ears.finish() == []


def test_a_click_is_no_speech() -> None:
    """Fewer chunks than a syllable has neither begin an utterance nor reach the recogniser."""
    ears = voiced_end_pointer()
    for length in (1, 2):
        sound = np.concatenate((silent_chunks(30), speech_chunks(length), silent_chunks(40)))
        assert ears.push(linear(sound)) == []


def test_endless_speech_is_cut_without_loss() -> None:
    """Of speech without any pause each chunk comes exactly once, cut at the quietest place."""
    ears = voiced_end_pointer()
    sound = speech_chunks(2000, first=1000)
    quiet = end_pointing.LONGEST - 60
    sound[quiet * CHUNK : (quiet + 5) * CHUNK] = 300 / 32768
    happened = ears.push(linear(sound)) + ears.finish()
    pieces = [h for h in happened if isinstance(h, Utterance)]
    assert len(happened) == len(pieces) + 1  # one BEGIN, and no END of what did not end
    assert max(piece.seconds for piece in pieces) < 28
    together = np.concatenate([piece.samples for piece in pieces])
    assert np.array_equal(together, sound)
    assert pieces[0].end == (quiet + 2) * CHUNK_SECONDS


def test_long_speech_ends_at_a_short_pause() -> None:
    """A pause that would be too short otherwise ends an utterance that is already long."""
    ears = voiced_end_pointer()
    long, pause = end_pointing.LONG + 10, end_pointing.LONG_SILENCE + 1
    sound = np.concatenate((speech_chunks(long), silent_chunks(pause), speech_chunks(50)))
    happened = ears.push(linear(sound)) + ears.finish()
    first, second = [h for h in happened if isinstance(h, Utterance)]
    assert first.end == long * CHUNK_SECONDS
    assert np.count_nonzero(first.samples) == long * CHUNK
    assert np.count_nonzero(second.samples) == 50 * CHUNK
