"""What a call holds in memory: the difference of two looks, for each call."""

from __future__ import annotations

import pytest
from call_memory import report


def test_what_grew_is_shown_for_each_call_the_largest_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was there before is not counted, and what is new is."""
    before = {"ring.py:1": (1000, 10), "feed.py:2": (5000, 5)}
    during = {"ring.py:1": (3000, 30), "feed.py:2": (5000, 5), "log.py:3": (8000, 2)}
    report(2, before, during, 1_000_000, 1_204_800)
    said, resident, _, *rows = capsys.readouterr().out.splitlines()
    assert said == "2 calls: 4.9 KB a call by tracemalloc,"
    assert resident.strip().startswith("100.0 KB of resident memory")
    assert [row.split() for row in rows] == [
        ["4000", "1.0", "log.py:3"],
        ["1000", "10.0", "ring.py:1"],
        ["0", "0.0", "feed.py:2"],
    ]
