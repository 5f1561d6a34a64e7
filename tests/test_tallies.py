"""Refusals and faults are counted under a few names, whatever a peer makes up."""

from __future__ import annotations

import threading

import grpc
import pytest

import tallies
from stream_faults import Code, Remedy, StreamFault
from tallies import Refusal


def test_invented_texts_and_codes_make_no_new_names() -> None:
    """A thousand texts of Google's and all close codes: the names are those of fixed sets."""
    for number in range(1_000):
        tallies.stream_failed(StreamFault(Code.UNAVAILABLE, f"made up {number}"))
    for code in range(1_000, 5_000):
        tallies.refused_stream(code)
    codes, remedies = zip(*tallies.stream_faults(), strict=True)
    assert set(codes) <= {code.name for code in grpc.StatusCode}
    assert set(remedies) <= {remedy.name.lower() for remedy in Remedy}
    assert set(tallies.refusals()) <= set(Refusal)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1002, Refusal.PROTOCOL),
        (1003, Refusal.PROTOCOL),
        (1008, Refusal.NOT_ADMITTED),
        (1012, Refusal.DRAINING),
        (1013, Refusal.FULL),
        (4711, Refusal.OTHER),
    ],
)
def test_a_refused_stream_is_counted_by_its_close_code(code: int, reason: Refusal) -> None:
    """Each once, under its reason."""
    before = tallies.refusals()
    tallies.refused_stream(code)
    assert tallies.refusals() - before == {reason: 1}


def test_one_code_is_told_apart_by_its_remedy() -> None:
    """A limit of Google's is no trouble; the same code otherwise is."""
    limit = StreamFault(Code.OUT_OF_RANGE, "Exceeded maximum allowed stream duration of 305 s")
    assert tallies.fault_class(limit) == ("OUT_OF_RANGE", "rotate")
    assert tallies.fault_class(StreamFault(Code.OUT_OF_RANGE, "?")) == ("OUT_OF_RANGE", "back_off")


def test_threads_lose_no_count() -> None:
    """Under `flask run` they are real ones."""
    before = tallies.refusals()[Refusal.SIGNATURE]

    def refuse() -> None:
        for _ in range(5_000):
            tallies.refused(Refusal.SIGNATURE)

    threads = [threading.Thread(target=refuse) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tallies.refusals()[Refusal.SIGNATURE] - before == 20_000
