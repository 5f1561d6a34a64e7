"""Loading a model, and what the worker threads do first."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

import whisper_workers
from end_pointing import CHUNK, Samples
from whisper_workers import BadModel, Reading, WhisperWorkers


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    """A directory that holds no model, or a broken one, is refused by its name."""
    with pytest.raises(BadModel, match=f"no faster-whisper model in {tmp_path}"):
        WhisperWorkers(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"nonsense")
    with pytest.raises(BadModel, match=f"cannot read the model in {tmp_path}"):
        WhisperWorkers(tmp_path)


def test_finals_go_before_interims(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one thread, a final that came last is read before the interims that wait."""
    order: list[str] = []
    begin, go_on = threading.Event(), threading.Event()

    class SlowModel:
        supported_languages = ("en",)

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def transcribe(self, samples: Samples, **_: object) -> tuple[list[object], None]:
            order.append(f"{samples[0]:.0f}")
            if samples[0] == 1:
                begin.set()
                go_on.wait(5)
            return [], None

    monkeypatch.setattr(whisper_workers, "ShortWindowModel", SlowModel)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    workers = WhisperWorkers("any", threads=1)

    def read(number: int, *, is_final: bool) -> Future[Reading | None]:
        samples = np.full(CHUNK, number, np.float32)
        return workers.read(samples, "en", is_final=is_final)

    first = read(1, is_final=False)
    assert begin.wait(5)
    interims = [read(number, is_final=False) for number in (2, 3, 4)]
    assert interims[1].cancel()
    final = read(5, is_final=True)
    go_on.set()
    for future in (first, final, interims[0], interims[2]):
        assert future.result(5) is None
    workers.close()
    assert order == ["0", "1", "5", "2", "4"]
    assert read(6, is_final=True).cancelled()
