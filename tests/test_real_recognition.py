"""Real recordings through the real service and a real recogniser: whose words are they?"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jiwer
import psutil
import pytest
from running_service import PROJECT, RunningService, service_environment

import local_recogniser
from local_recogniser import WhisperRecogniser
from service_log import parse_line
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls
from wav_frames import read_frames

SAMPLES = PROJECT / "samples"


@pytest.fixture
def recogniser(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpeechServerThread]:
    """The speech server with Whisper behind it; interims, which cost the most, are few."""
    monkeypatch.setattr(local_recogniser, "INTERIM_SECONDS", 3.0)
    with SpeechServerThread(WhisperRecogniser()) as server:
        yield server


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


class Part(NamedTuple):
    """Some sentences of a sample, each a line of its text: from one pause to another."""

    sample: str
    lines: slice
    begins: float  # seconds, near the middle of a pause; 0: the sample's beginning
    ends: float

    @property
    def frames(self) -> list[bytes]:
        frames = read_frames(SAMPLES / f"{self.sample}.wav")
        first = pause_near(frames, self.begins) if self.begins else 0
        return frames[first : pause_near(frames, self.ends)]

    @property
    def text(self) -> str:
        lines = (SAMPLES / f"{self.sample}.txt").read_text().splitlines()
        return words(" ".join(lines[self.lines]))


CLINIC = Part("clinic-appointment", slice(1, 2), 6.3, 11.9)
CLINIC_AGAIN = Part("clinic-appointment", slice(2, 3), 12.0, 19.0)
GREETING = Part("garage-quote", slice(1), 0.0, 4.1)
GARAGE = Part("garage-quote", slice(2), 0.0, 10.3)


def test_three_calls_at_once_keep_their_words(recogniser: SpeechServerThread) -> None:
    """3 calls, 2 businesses, 2 workers: each call's words under its own id and business."""
    parts = {
        ("CA" + "1" * 32, "clinic"): CLINIC,
        ("CA" + "2" * 32, "garage"): GREETING,
        ("CA" + "3" * 32, "clinic"): CLINIC_AGAIN,
    }
    plan = [
        PlannedCall(part.frames, tenant=tenant, call_sid=call_sid)
        for (call_sid, tenant), part in parts.items()
    ]
    with RunningService(
        SPEECH_EMULATOR_HOST=recogniser.address, WEB_CONCURRENCY=2, STT_LANGUAGE="en-US"
    ) as service:
        reports = asyncio.run(play_calls(service.url, plan, ramp=1.0))
        service.wait_for(lambda lines: sum("session closed" in x for x in lines) == 3)
    assert [report.error for report in reports] == [None] * 3
    said: dict[tuple[str, str], list[str]] = {}
    for line in map(parse_line, service.lines):
        if line is not None and line.kind == "final":
            said.setdefault((line.call, line.tenant), []).append(line.text)
    assert said.keys() == parts.keys()
    for call, part in parts.items():
        assert jiwer.wer(part.text, words(" ".join(said[call]))) <= 0.05, part


def pause_near(frames: list[bytes], seconds: float) -> int:
    """The middle of the longest stretch of quiet frames within 2 s of `seconds`, as an index."""
    at = int(seconds * 50)
    quiet = [
        # mu-law's quietest codes are the highest of each sign
        sum((byte & 0x7F) > 0x68 for byte in frame) > 150
        for frame in frames[at - 100 : at + 100]
    ]
    best, run, end = 0, 0, 0
    for number, is_quiet in enumerate(quiet):
        run = run + 1 if is_quiet else 0
        if run > best:
            best, end = run, number
    assert best >= 10, "no pause there: has the sample changed?"
    return at - 100 + end - best // 2


def start_demo(recording: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "demo.py", str(recording)],
        cwd=PROJECT,
        env=service_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_demo_shows_the_words_and_the_counts(tmp_path: Path) -> None:
    """The demo ends with exit code 0, interims and finals as they came, the right transcript."""
    frames = len(GARAGE.frames)
    whole = (SAMPLES / "garage-quote.wav").read_bytes()
    recording = tmp_path / "garage.wav"  # cut short: it is read to its end
    recording.write_bytes(whole[: whole.index(b"data") + 8 + 160 * frames])
    demo = start_demo(recording)
    out, err = demo.communicate(timeout=90)
    assert (demo.returncode, err) == (0, "")
    live, transcript = out.split("Transcript of")
    assert live.count("🟡 Partial(") >= 2
    assert live.count("🟢 Final:") >= 2
    text = "\n".join(re.findall(r"^  (\S.*)$", transcript, re.MULTILINE))
    assert jiwer.wer(GARAGE.text, words(text)) <= 0.05
    assert f"frames={frames} dropped=0" in live
    assert f"{frames} frames ({frames * 0.02:.1f} s of audio) sent" in transcript


def test_demo_stops_what_it_started_on_ctrl_c() -> None:
    """Ctrl-C in the middle of the call: exit code 130, and no process is left."""
    demo = start_demo(SAMPLES / "clinic-appointment.wav")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "session started" in line:
            break
    children = psutil.Process(demo.pid).children(recursive=True)
    assert len(children) >= 4  # the speech server, gunicorn and its two workers
    os.kill(demo.pid, signal.SIGINT)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in out + err
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert len(gone) == len(children)


def test_demo_refuses_a_file_that_is_no_recording(tmp_path: Path) -> None:
    """A bad file is one clear line and exit code 2, before anything is started."""
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    result = subprocess.run(
        [sys.executable, "demo.py", str(bad)], cwd=PROJECT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "bad.wav" in result.stderr
