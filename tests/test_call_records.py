"""What a live call notes: its own business, everything counted, nothing that no database takes."""

from __future__ import annotations

import pytest
from record_parts import AT, PARTIES

from call_records import (
    CallParties,
    CallRecord,
    Outcome,
    Record,
    Said,
    StreamCounts,
    StreamEnded,
    StreamStarted,
    storable,
)
from utterances import Final


class Session:
    """Has counted."""

    def counts(self) -> StreamCounts:
        return StreamCounts(100, 3, 0.5, 2, 2.0, 2.5)


def record_of(parties: CallParties = PARTIES) -> tuple[CallRecord, list[Record]]:
    kept: list[Record] = []

    def put(record: Record) -> bool:
        kept.append(record)
        return True

    return CallRecord(put, "CA1", "clinic", parties, lambda: AT), kept


def final(text: str, **fields: object) -> Final:
    known = {"start_ms": 100, "end_ms": 900, "confidence": 0.8, "delay_ms": 200}
    return Final(text, **(known | fields))  # type: ignore[arg-type]  # of several kinds


def test_a_stream_from_its_slot_to_its_end() -> None:
    """Start, text and end carry one id and one business; delays and fallbacks are counted."""
    record, kept = record_of()
    record.heard(400)
    record.said("outbound", final(" שלום "))
    record.said("", final("b", fallback=True, delay_ms=900, confidence=None))
    record.ended(1000, "the call has ended", Session())
    start, first, second, end = kept
    assert start == StreamStarted(record.stream_id, "CA1", "clinic", PARTIES, AT)
    assert isinstance(first, Said)
    assert isinstance(second, Said)
    assert (first.text, first.track, first.start_ms, first.end_ms) == ("שלום", "outbound", 100, 900)
    assert first.uid != second.uid
    assert (second.fallback, second.confidence) == (True, None)
    assert {first.stream_id, second.stream_id} == {record.stream_id}
    assert {first.tenant_id, second.tenant_id} == {"clinic"}
    assert isinstance(end, StreamEnded)
    assert end.counts == Session().counts()
    assert (end.results, end.fallbacks, end.delay_sum_ms, end.delay_worst_ms) == (3, 1, 1500, 900)


def test_a_stream_that_never_got_a_session_has_counted_nothing() -> None:
    """It was replaced, or refused, at its very start."""
    record, kept = record_of()
    record.ended(1011, "internal error", None)
    end = kept[-1]
    assert isinstance(end, StreamEnded)
    assert end.counts == StreamCounts()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (1000, Outcome.COMPLETED),
        (1001, Outcome.SILENT),
        (1012, None),
        (1006, None),
        (1011, None),
        (1013, None),
    ],
)
def test_what_an_end_makes_of_the_call(code: int, outcome: Outcome | None) -> None:
    """After a deploy or a break another stream may come."""
    record, kept = record_of()
    record.ended(code, "", None)
    end = kept[-1]
    assert isinstance(end, StreamEnded)
    assert end.outcome is outcome


@pytest.mark.parametrize(
    ("text", "stored"), [("a\0b", "ab"), ("\ud800", "?"), ("שָׁלוֹם 🙂", "שָׁלוֹם 🙂"), ("", "")]
)
def test_what_no_database_takes_is_left_out(text: str, stored: str) -> None:
    """NUL and half characters; all else stays as it was said."""
    assert storable(text) == stored
    record, kept = record_of()
    record.said("", final(text))
    assert isinstance(kept[-1], Said)
    assert kept[-1].text == stored


def test_numbers_and_reasons_have_a_length() -> None:
    """What a peer makes longer is cut, not refused: the call goes on."""
    record, kept = record_of(CallParties("9" * 500, "\0" * 3, "x" * 99))
    record.ended(1006, "r" * 999, None)
    start, end = kept[0], kept[-1]
    assert isinstance(start, StreamStarted)
    assert isinstance(end, StreamEnded)
    assert start.parties == CallParties("9" * 40, "", "x" * 40)
    assert len(end.reason) == 200


def test_both_tracks_make_one_count() -> None:
    """Everything is added, but the call lasts as long as its longer side."""
    one, other = StreamCounts(1, 2, 3.0, 4, 5.0, 6.0), StreamCounts(10, 20, 30.0, 40, 4.0, 60.0)
    assert one.joined(other) == StreamCounts(11, 22, 33.0, 44, 5.0, 66.0)
