"""The OpenAPI document against the running service: what it says is what comes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from api_parts import Office, api_app, until_answered
from databases import fresh_sqlite
from running_service import RunningService

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def found_by_schemathesis(examples: int, cwd: Path) -> str:
    """What it says at its end, having made so many requests for each thing that it tries."""
    url = fresh_sqlite()
    office = Office(api_app(url))
    for minute in range(3):
        office.call("שלום", "hello", caller="+972541111111", minutes=minute)
    office.lead("+972541111111")
    office.used("2026-11", 3, 90, 90)
    settings: dict[str, Any] = {
        "SPEECH_EMULATOR_HOST": "127.0.0.1:1",
        "API_REQUESTS_PER_MINUTE": 1_000_000,
        "API_WRONG_KEYS_PER_MINUTE": 1_000_000,
    }
    with RunningService(DATABASE_URL=url, WEB_CONCURRENCY=1, **settings) as service:
        until_answered(service.address, office.key)
        done = subprocess.run(
            [
                str(SCHEMATHESIS),
                "run",
                f"{service.address}/api/openapi.json",
                *("--header", f"Authorization: Bearer {office.key}"),
                *("--phases", "coverage,fuzzing", "--max-examples", str(examples)),
                *("--seed", "1", "--generation-database", "none"),
                *("--continue-on-failure", "--no-color"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
        )
        assert "Traceback" not in service.log
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_no_answer_is_a_fault_or_undocumented(tmp_path: Path) -> None:
    """Good and bad requests to every address: the status, the type, the headers and the body."""
    told = found_by_schemathesis(4, tmp_path)
    tested = re.search(r"Tested: (\d+)", told)
    assert tested is not None
    assert int(tested[1]) >= 11


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_answer_is_a_fault_or_undocumented_in_many_tries(tmp_path: Path) -> None:
    """The same with 50 times as many requests."""
    found_by_schemathesis(400, tmp_path)
