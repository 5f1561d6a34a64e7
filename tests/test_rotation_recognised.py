"""Rotation with a real recogniser: whose words does it cost? Three minutes, so in `make soak`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import jiwer
import pytest
import session_parts
from law_parts import play
from running_service import PROJECT
from session_parts import Call, Google, Lines

from gcp_stt_stream import SessionLimits
from local_recogniser import WhisperRecogniser
from relay_limits import RelayLimits
from speech_server_thread import SpeechServerThread
from wav_frames import read_frames

# the fixtures of this module
lines = session_parts.lines

SAMPLE = PROJECT / "samples" / "clinic-appointment.wav"
ROUNDS = 7  # 184 s


class Recording:
    """A call that says a recording, over and over."""

    def __init__(self, call: Call, frames: list[bytes]) -> None:
        self.call = call
        self._frames = iter(frames)

    def push(self, count: int) -> None:
        for _ in range(count):
            self.call.session.push_audio(next(self._frames))

    def said(self) -> str:
        finals = sorted(self.call.finals, key=lambda final: final.start_ms)
        return words(" ".join(final.text for final in finals))


def words(text: str) -> str:
    """The words alone; a recogniser may write a number either way."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower())).replace(" 9 ", " nine ")


@pytest.fixture
def google() -> Iterator[Google]:
    with ExitStack() as cleanup:
        yield Google(SpeechServerThread(WhisperRecogniser()), cleanup)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_rotation_costs_no_words(google: Google, lines: Lines) -> None:
    """3 minutes with a new stream each 20 s: as few words are wrong as in one stream."""
    frames = read_frames(SAMPLE) * ROUNDS
    expected = " ".join([words(SAMPLE.with_suffix(".txt").read_text())] * ROUNDS)
    limits = {
        "one stream": RelayLimits(),
        "rotated at a pause from 20 s on": RelayLimits(rotate=20.0, rotate_hard=25.0),
        "rotated at 20 s anyway": RelayLimits(rotate=19.9, rotate_hard=20.0),
    }
    calls = {
        name: Recording(
            Call(google.connections, tenant_id=f"T{n}", limits=SessionLimits(relay=relay)), frames
        )
        for n, (name, relay) in enumerate(limits.items())
    }
    play(calls.values(), len(frames) * 0.02)
    for recording in calls.values():
        recording.call.session.close()
    errors = {name: jiwer.wer(expected, recording.said()) for name, recording in calls.items()}
    print()
    for n, (name, error) in enumerate(errors.items()):
        rotations = sum(f"tenant=T{n}" in line for line in lines.with_("[STT] rotated"))
        print(f"{name}: {rotations} rotations, word error rate {100 * error:.1f} %")
        assert rotations >= 7 or name == "one stream"
        assert error <= errors["one stream"] + 0.01
