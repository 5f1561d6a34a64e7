"""Prometheus's own checker, for tests: `make test` puts it into .venv (`ops/get_promtool.sh`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MISSING = "promtool is not installed: sh ops/get_promtool.sh .venv/bin"


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """What promtool says to this; the test fails if it finds a fault, is skipped without it."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which("promtool", path=path)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    done = subprocess.run(
        [program, *map(str, arguments)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
