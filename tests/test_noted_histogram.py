"""What is noted into a histogram is what `prometheus_client` would have observed."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from noted_histogram import NotedHistogram

BUCKETS = (0.1, 1, 5)
VALUES = st.lists(st.floats(0, 10) | st.sampled_from(BUCKETS))


@given(VALUES, VALUES)
def test_notes_are_observations(first: list[float], second: list[float]) -> None:
    """Also those that stand on a bucket's bound, and over several flushes."""
    observed, noted = CollectorRegistry(), CollectorRegistry()
    plain = Histogram("a_seconds", "A.", registry=observed, buckets=BUCKETS)
    ours = NotedHistogram("a_seconds", "A.", registry=noted, buckets=BUCKETS)
    for values in (first, second):
        for value in values:
            plain.observe(value)
            ours.note(value)
        ours.flush()
    count = {"a_seconds_count": len(first) + len(second)}
    assert _buckets(noted) == _buckets(observed)
    assert count["a_seconds_count"] == noted.get_sample_value("a_seconds_count")
    total = noted.get_sample_value("a_seconds_sum")
    assert total is not None
    assert abs(total - sum(first) - sum(second)) < 1e-6


def test_nothing_is_there_before_the_flush_and_nothing_twice_after_it() -> None:
    """A flush with nothing new changes nothing; labelled children keep their own notes."""
    registry = CollectorRegistry()
    parent = NotedHistogram("a_seconds", "A.", ("k",), registry=registry, buckets=BUCKETS)
    one, other = parent.labels("one"), parent.labels("other")
    one.note(0.5)
    assert registry.get_sample_value("a_seconds_count", {"k": "one"}) == 0
    for _ in range(3):
        one.flush()
        other.flush()
    assert registry.get_sample_value("a_seconds_count", {"k": "one"}) == 1
    assert registry.get_sample_value("a_seconds_count", {"k": "other"}) == 0


def test_threads_lose_no_note() -> None:
    """Under `flask run` results come in real threads while the pulse flushes."""
    registry = CollectorRegistry()
    histogram = NotedHistogram("a_seconds", "A.", registry=registry, buckets=BUCKETS)

    def note() -> None:
        for _ in range(2_000):
            histogram.note(0.5)
            histogram.flush()

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("a_seconds_count") == 8_000


def _buckets(registry: CollectorRegistry) -> list[bytes]:
    return [line for line in generate_latest(registry).splitlines() if b"_bucket" in line]
