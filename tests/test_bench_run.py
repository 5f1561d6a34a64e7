"""The bench itself, as its users start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench_peers import cpu_seconds
from bench_run import main, parse

BENCH = Path(__file__).resolve().parent.parent / "bench"


def test_a_short_run_measures_the_service(tmp_path: Path) -> None:
    """Two calls for 2 s, signed: every frame comes, and all three files are there."""
    command = [sys.executable, str(BENCH / "bench_run.py"), "--calls", "2", "--peers", "ours"]
    run = subprocess.run(
        [*command, "--seconds", "2", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    [case] = json.loads((tmp_path / "results.json").read_text())["cases"]
    assert case["missing"] == case["doubled"] == case["disordered"] == 0
    assert 190 <= case["frames"] <= 210
    assert case["cpu_ms"] > 0
    assert case["delay_ms"]["p50"] < case["delay_ms"]["worst"]
    assert case["loop_ms"]["p95"] > 0
    assert "| Tamlil |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")
    assert "🟢 Final: " in (tmp_path / "ours.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--peers", "ours,rust"], "no peer rust"),
        (["--calls", "0"], "calls are from 1 to"),
        (["--seconds", "0.5"], "at least 1"),
        (["--setting", "STT_BATCH_MS"], "write NAME=VALUE"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and what is wrong with it."""
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_service_that_does_not_start_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and where its output is."""
    wrong = ["--calls", "2", "--peers", "ours", "--setting", "STT_BATCH_MS=7"]
    assert main([*wrong, "--out", str(tmp_path)]) == 1
    assert "ours does not answer; its output is in" in capsys.readouterr().out
    assert "STT_BATCH_MS=7" in (tmp_path / "ours.log").read_text()


def test_cpu_time_is_read_more_finely_than_proc_has_it() -> None:
    """The same as the process itself counts it, of another process."""
    code = (
        "import time\n"
        "while time.process_time() < 0.1: pass\n"
        "print(time.process_time(), flush=True)\n"
        "input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        own = float(process.stdout.readline())
        assert own <= cpu_seconds(process.pid) < own + 0.05
        process.communicate(b"\n")
