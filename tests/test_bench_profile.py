"""How py-spy's stacks become a profile by function."""

from __future__ import annotations

from bench_profile import read_stacks, tables

STACKS = """\
run (app.py:1);read (socket.py:10) 3
run (app.py:1);read (socket.py:12) 2
run (app.py:2);parse (json.py:7);parse (json.py:8) 5
"""


def test_samples_are_counted_by_function() -> None:
    """A function's lines are one; one that calls itself is counted once in a stack."""
    profile = read_stacks(STACKS.splitlines())
    assert profile.samples == 10
    assert profile.own == {"read (socket.py)": 5, "parse (json.py)": 5}
    assert profile.cumulative["run (app.py)"] == 10
    assert profile.cumulative["parse (json.py)"] == 5


def test_the_tables_say_shares() -> None:
    """Of all samples, the largest first."""
    own, cumulative = tables(read_stacks(STACKS.splitlines())).split("\n\n")
    assert "  50.0%  read (socket.py)" in own
    assert cumulative.splitlines()[1] == " 100.0%  run (app.py)"
