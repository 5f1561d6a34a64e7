"""How often may be asked: each key by itself, wrong keys by address, and what a 429 says."""

from __future__ import annotations

import pytest
from api_parts import Office, api_app, client_of
from databases import fresh_sqlite

import api_access


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
    """A right key never is, also one that nobody has seen before; nor is another address."""
    app = api_app(fresh_sqlite(), api_wrong_keys_per_minute=3)
    office = Office(app)
    answers = [client_of(app, f"tml_{turn}").get("/api/usage") for turn in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert answers[4].content_type == "application/problem+json"
    assert 1 <= int(answers[4].headers["Retry-After"]) <= 60
    assert client_of(app, office.new_key()).get("/api/usage").status_code == 200
    elsewhere = client_of(app, "tml_x").get("/api/usage", headers={"X-Tamlil-Address": "192.0.2.7"})
    assert elsewhere.status_code == 401


def test_a_request_without_a_key_is_no_wrong_key() -> None:
    """It costs no look at the database, and takes no try from whoever has the same address."""
    app = api_app(fresh_sqlite(), api_wrong_keys_per_minute=1)
    tries = [None, None, "x" * 500, "tml_wrong", None, "tml_wrong"]
    answers = [client_of(app, key).get("/api/usage").status_code for key in tries]
    assert answers == [401, 401, 401, 401, 401, 429]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "answers"),
    [
        (0, ["192.0.2.1", "192.0.2.2"], [401, 429]),  # nobody is believed
        (1, ["192.0.2.1", "192.0.2.2"], [401, 401]),
        (1, ["6.6.6.6, 192.0.2.1", "7.7.7.7,192.0.2.1"], [401, 429]),  # made up by who asks
        (1, ['x, ", 192.0.2.1', 'y, ", 192.0.2.1'], [401, 429]),
        (2, ["192.0.2.1, 10.0.0.1", "192.0.2.2, 10.0.0.1"], [401, 401]),
        (2, ["6.6.6.6, 192.0.2.1, 10.0.0.1", "192.0.2.1, 10.0.0.2"], [401, 429]),
        (2, ["192.0.2.1", "192.0.2.2"], [401, 429]),  # it did not come through both
    ],
)
def test_whose_the_wrong_keys_are(proxies: int, forwarded: list[str], answers: list[int]) -> None:
    """Behind a router theirs whom the router names, and nobody else's whom they name themselves."""
    app = api_app(fresh_sqlite(), api_wrong_keys_per_minute=1, trusted_proxies=proxies)
    told = [
        client_of(app, "tml_x").get("/api/usage", headers={"X-Forwarded-For": hops}).status_code
        for hops in forwarded
    ]
    assert told == answers


def test_a_key_that_is_used_up_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks on and on with it costs the database nothing."""
    app = api_app(fresh_sqlite(), api_requests_per_minute=1)
    office = Office(app)
    assert office.client.get("/api/usage").status_code == 200
    monkeypatch.setattr(api_access, "find_business", None)  # whoever asked it would fail
    assert office.client.get("/api/usage").status_code == 429


def test_wrong_keys_cost_the_right_one_nothing() -> None:
    """Whoever knows a key's id, but not the key, cannot use its requests up."""
    app = api_app(fresh_sqlite(), api_requests_per_minute=2)
    office = Office(app)
    for _ in range(5):
        client_of(app, office.key[:-4] + "beef").get("/api/usage")
    assert office.client.get("/api/usage").headers["RateLimit-Remaining"] == "1"
