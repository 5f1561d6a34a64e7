"""The directory of a master: its own, nobody else's to read, and gone when it is not needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import metrics_files


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(metrics_files.VARIABLE, "/of/the/master/before")


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_is_this_process_s_own() -> None:
    """Only its user may look into it; the workers get it by the variable, whatever that was."""
    path = metrics_files.make()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert os.environ[metrics_files.VARIABLE] == str(path)
    metrics_files.remove(path)
    assert not path.exists()


def test_what_killed_masters_left_is_cleared_away(tmp_path: Path) -> None:
    """Those of processes that are gone, or had this one's number; not those of the living."""
    names = {
        f"tamlil-metrics-{dead_pid()}-aaaa": False,
        f"tamlil-metrics-{os.getpid()}-aaaa": False,
        f"tamlil-metrics-{os.getppid()}-aaaa": True,
        "tamlil-metrics-mine-aaaa": True,
        f"tamlil-other-{dead_pid()}-aaaa": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "counter_1.db").touch()
    metrics_files.make()
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_link_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write to /tmp could have anything removed otherwise."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / f"tamlil-metrics-{dead_pid()}-aaaa").symlink_to(kept)
    metrics_files.make()
    assert kept.is_dir()


def test_a_dead_worker_s_live_figures_are_forgotten() -> None:
    """Its counts stay, what it had going does not; nor does it touch another worker's."""
    path = metrics_files.make()
    names = ["gauge_livesum_7.db", "gauge_livesum_77.db", "counter_7.db", "histogram_7.db"]
    for name in names:
        (path / name).touch()
    metrics_files.forget(7)
    assert sorted(file.name for file in path.iterdir()) == sorted(names[1:])
    metrics_files.remove(path)
    metrics_files.forget(77)  # it ended after the master had cleared up
