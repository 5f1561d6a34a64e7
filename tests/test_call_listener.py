"""A result is logged, noted in the record and measured; a plain call's final is no delay."""

from __future__ import annotations

from typing import Any

from call_listener import CallListener
from call_log import CallLog
from metrics import Metrics
from utterances import Final, Interim, Utterance


class HandRecord:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int | str]] = []

    def heard(self, delay_ms: int) -> None:
        self.told.append(("heard", delay_ms))

    def said(self, track: str, final: Final) -> None:
        self.told.append((track, final.text))

    def ended(self, code: int, reason: str, session: Any) -> None:
        raise AssertionError("a track's results do not end the call")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    metrics.flush()
    return metrics.registry.get_sample_value(f"tamlil_{name}", labels)


def test_delays_go_into_their_histograms() -> None:
    """In seconds, interims and finals apart."""
    metrics, record = Metrics(), HandRecord()
    listener = CallListener(CallLog("CA1", "clinic"), record, "inbound", metrics)
    listener.partial(Interim("hello", 400, 0.9, delay_ms=180))
    listener.final(Final("hello there", 0, 900, 0.9, delay_ms=700), Utterance(0))
    listener.final(Final("later", 900, 1_800, 0.9, delay_ms=60_000, fallback=True), Utterance(0))
    assert value(metrics, "recognition_delay_seconds_sum", result="interim") == 0.18
    assert value(metrics, "recognition_delay_seconds_sum", result="final") == 0.7
    assert value(metrics, "recognition_delay_seconds_count", result="final") == 1
    assert value(metrics, "fallback_finals_total") == 1
    assert record.told == [("heard", 180), ("inbound", "hello there"), ("inbound", "later")]


def test_a_call_without_a_record_is_heard_all_the_same() -> None:
    """Its slot was closed before it had one."""
    metrics = Metrics()
    listener = CallListener(CallLog("CA1", "clinic"), None, "", metrics)
    listener.partial(Interim("hello", 400, 0.9, delay_ms=180))
    listener.final(Final("hello there", 0, 900, 0.9, delay_ms=700), Utterance(0))
    assert value(metrics, "recognition_delay_seconds_count", result="interim") == 1
