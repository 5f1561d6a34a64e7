"""How often may be asked: each key by itself, wrong keys by address, and what a 429 says."""

from __future__ import annotations

import pytest
from api_parts import Office, api_app, client_of
from databases import fresh_sqlite

import api_limits


def test_a_key_has_so_many_requests_a_minute() -> None:
    """The answers count down; the next one is a 429 that says when; other keys are let be."""
    app = api_app(fresh_sqlite(), api_requests_per_minute=3)
    office = Office(app)
    answers = [office.client.get("/api/usage") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[3]
    assert refused.content_type == "application/problem+json"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Limit"] == "3"
    assert client_of(app, office.new_key()).get("/api/usage").status_code == 200


def test_wrong_keys_are_stopped_by_address() -> None:
    """With and without a key; a key that was right before is let through, a new one is not."""
    app = api_app(fresh_sqlite(), api_wrong_keys_per_minute=3)
    office = Office(app)
    assert office.client.get("/api/usage").status_code == 200
    tries = [None, "tml_wrong", "x" * 500, None]
    answers = [client_of(app, key).get("/api/usage") for key in tries]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert int(answers[3].headers["Retry-After"]) >= 1
    assert office.client.get("/api/usage").status_code == 200
    assert client_of(app, office.new_key()).get("/api/usage").status_code == 429
    elsewhere = {"X-Tamlil-Address": "192.0.2.7"}
    answer = client_of(app, office.new_key()).get("/api/usage", headers=elsewhere)
    assert answer.status_code == 200


def test_wrong_keys_cost_the_right_one_nothing() -> None:
    """Whoever knows a key's id, but not the key, cannot use its requests up."""
    app = api_app(fresh_sqlite(), api_requests_per_minute=2)
    office = Office(app)
    for _ in range(5):
        client_of(app, office.key[:-4] + "beef").get("/api/usage")
    assert office.client.get("/api/usage").headers["RateLimit-Remaining"] == "1"


def test_keys_that_are_remembered_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were right longest ago are forgotten."""
    monkeypatch.setattr(api_limits, "_REMEMBERED", 2)
    limits = api_limits.ApiLimits(per_key=10, wrong_keys=1)
    for key in ("one", "two", "one", "three"):
        limits.note_right(key)
    limits.note_wrong("address")
    waits = {key: limits.wait_of_address("address", key) for key in ("one", "two", "three")}
    assert (waits["one"], waits["three"]) == (0, 0)
    assert waits["two"] > 0
