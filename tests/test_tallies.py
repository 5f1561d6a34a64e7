"""Refusals and faults are counted under a few names, whatever a peer makes up."""

from __future__ import annotations

import threading
import time

import grpc
import pytest
from flask import Flask

import tallies
from businesses import Business
from service import create_app
from settings import Settings
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


@pytest.fixture
def app() -> Flask:
    """A service that takes unsigned webhooks, with room for one call, and one business."""
    app = create_app(
        Settings(speech_emulator_host="127.0.0.1:1", allow_unsigned=True, max_concurrent_calls=1)
    )
    app.extensions["tamlil"].records.businesses.tell([Business("clinic", numbers=("+9721",))])
    return app


def test_calls_that_webhooks_turn_away_are_counted(app: Flask) -> None:
    """Each by its reason; a call that is taken is none."""
    client, registry = app.test_client(), app.extensions["tamlil"].registry
    before = tallies.refusals()
    client.post("/voice", data={"To": "+9721"})
    assert tallies.refusals() == before
    client.post("/voice", data={"To": "+9722"})
    client.post(f"/voice/next?tenant=clinic&retries=3&since={int(time.time())}")
    registry.take_slot("CA1", "clinic")
    client.post("/voice", data={"To": "+9721"})
    assert tallies.refusals() - before == {
        Refusal.NO_BUSINESS: 1,
        Refusal.STREAMS_ENDED: 1,
        Refusal.TURNED_AWAY_FULL: 1,
    }


def test_a_call_before_any_business_is_known_is_counted() -> None:
    """The database was away at the start."""
    app = create_app(Settings(speech_emulator_host="127.0.0.1:1", allow_unsigned=True))
    before = tallies.refusals()
    app.test_client().post("/voice", data={"To": "+9721"})
    assert tallies.refusals() - before == {Refusal.NO_DATABASE: 1}


def test_a_request_that_is_not_signed_is_counted() -> None:
    """Whatever it asks for."""
    app = create_app(
        Settings(
            speech_emulator_host="127.0.0.1:1", twilio_auth_token="a" * 32, secret_key="k" * 64
        )
    )
    before = tallies.refusals()
    assert app.test_client().post("/voice").status_code == 403
    assert app.test_client().post("/status").status_code == 403
    assert tallies.refusals() - before == {Refusal.SIGNATURE: 2}
