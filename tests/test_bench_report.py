"""The bench's tables and its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_frames import Spread
from bench_parts import some_case
from bench_report import Results, cpu_table, full_table, page, ratios, shown_in

PROJECT = Path(__file__).resolve().parent.parent


def some_results() -> Results:
    slow = some_case("node", 60, cpu_ms=5.0, delay_ms=Spread(1.0, 2.0, 3.0, 4.0))
    over = some_case("node", 120, missing=7)
    return Results(
        {"CPU": "2 × some"},
        {"window": 10.0},
        "ours",
        {"ours": "Tamlil", "node": "Node"},
        [some_case(calls=60), slow, some_case(calls=120, cpu_ms=1.5), over],
        {"node, 240": "fewer were too many already"},
    )


def test_each_figure_has_its_ratio_to_ours() -> None:
    """At the same number of calls; ours itself has none."""
    found = ratios(some_results().cases[1], some_results().cases[0])
    assert found["CPU-ms per call-second"] == 2.5
    assert found["p99"] == 0.033
    assert "5.00 (×2.5)" in full_table(some_results())


def test_the_curve_is_a_row_for_each_peer() -> None:
    """What was not carried has no figure: a peer that drops work is not cheap."""
    assert cpu_table(some_results()).splitlines()[2:] == [
        "| Tamlil | 2.00 | 1.50 |",
        "| Node | 5.00 (×2.5) | over its limit |",
    ]


def test_the_record_can_be_read_back() -> None:
    """Through JSON, with nothing lost."""
    saved = json.loads(json.dumps(some_results().to_json()))
    assert saved["cases"][1]["ratios"]["CPU-ms per call-second"] == 2.5
    assert Results.from_json(saved) == some_results()


def test_what_is_in_doubt_or_left_out_is_said() -> None:
    """A busy machine, a late load; a peer that is not there."""
    results = some_results()
    results.cases[0] = some_case(others_share=0.8, load_late_ms=Spread(1, 2, 30, 40))
    text = page(results)
    assert "Tamlil, 60 calls: the load itself was late: p99 30 ms; other programs took 80%" in text
    assert "- node, 240 calls: fewer were too many already" in text


def test_a_busy_machine_is_not_a_peers_limit() -> None:
    """What was not carried while other programs ran has neither a figure nor a verdict."""
    results = some_results()
    results.cases[3] = some_case("node", 120, missing=7, others_share=1.5)
    assert cpu_table(results).endswith("| in doubt |")
    readme = shown_in("<!-- measured: begin --><!-- measured: end -->", results)
    assert "The machine was busy" in readme


def test_a_new_table_takes_the_place_of_the_old_one() -> None:
    """Nothing else in the README is touched, however often."""
    empty = "before\n<!-- measured: begin -->\n<!-- measured: end -->\nafter\n"
    once = shown_in(empty, some_results())
    assert shown_in(once, some_results()) == once
    assert once.startswith("before\n<!--")
    assert once.endswith("-->\nafter\n")
    assert f"\n\n{cpu_table(some_results())}\n\n<!--" in once
    with pytest.raises(ValueError, match="no place"):
        shown_in("before\nafter\n", some_results())


def test_the_readme_shows_what_was_measured() -> None:
    """Its table is that of the record beside the picture."""
    results = Results.from_json(json.loads((PROJECT / "bench/measured/results.json").read_text()))
    assert cpu_table(results) in (PROJECT / "README.md").read_text()
    assert page(results) == (PROJECT / "bench/measured/results.md").read_text()
