"""The directory of a master: its own, nobody else's to read, and gone when it is not needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from running_service import PROJECT

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


# A worker: it must import the library after the directory is named to it
WORKER = """
import os
from metrics import Metrics
metrics = Metrics()
metrics.workers.set(1)
metrics.calls_started.labels("clinic").inc(3)
metrics.frames.inc(50)
metrics.frame_delay.note(0.003)
metrics.final_delay.note(0.7)
metrics.flush()
print(os.getpid())
"""


def ended_worker() -> int:
    """The number of a worker that has left its figures."""
    worker = [sys.executable, "-c", WORKER]
    return int(subprocess.run(worker, cwd=PROJECT, capture_output=True, check=True).stdout)


def figures(path: Path) -> dict[str, float]:
    """What a scrape would have, without what is 0."""
    collector = MultiProcessCollector(None, str(path))  # type: ignore[no-untyped-call]
    families = collector.collect()  # type: ignore[no-untyped-call]
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
        if sample.value
    }


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("*.db"))


def test_what_dead_workers_have_counted_stays_in_one_pair_of_files() -> None:
    """What they had going does not; and a scrape takes no longer for each that has ended."""
    path = metrics_files.make()
    workers = [ended_worker() for _ in range(3)]
    before = figures(path)
    assert before["tamlil_frames_received_total[]"] == 150
    assert before["tamlil_frame_delay_seconds_count[]"] == 3
    assert before.pop("tamlil_workers[]") == 3
    for pid in workers[:2]:
        metrics_files.forget(pid)
        metrics_files.forget(pid)  # once more changes nothing
    assert figures(path) == before | {"tamlil_workers[]": 1}
    metrics_files.forget(workers[2])
    assert figures(path) == before
    assert names(path) == ["counter_ended.db", "histogram_ended.db"]
    assert list(path.glob("*.new")) == []


def test_nothing_is_added_up_while_somebody_reads() -> None:
    """A scrape would count it twice, or not at all; the master does not wait for its end."""
    path = metrics_files.make()
    pid = ended_worker()
    before = names(path)
    with metrics_files.reading(path):
        metrics_files.forget(pid)
        assert names(path) == [name for name in before if not name.startswith("gauge")]
    metrics_files.forget(pid)
    assert names(path) == ["counter_ended.db", "histogram_ended.db"]


def test_a_file_that_cannot_be_read_costs_no_other_figures() -> None:
    """A worker was killed when it had only just made it: every scrape would fail at it."""
    path = metrics_files.make()
    metrics_files.forget(ended_worker())
    before = figures(path)
    (path / "counter_7.db").touch()
    metrics_files.forget(7)
    assert figures(path) == before


def test_another_worker_s_figures_are_left_alone() -> None:
    """Whose number only ends alike."""
    path = metrics_files.make()
    files = ["counter_77.db", "gauge_livesum_77.db", "histogram_77.db"]
    for name in files:
        (path / name).touch()
    metrics_files.forget(7)
    assert names(path) == files
    metrics_files.remove(path)
    metrics_files.forget(77)  # it ended after the master had cleared up
