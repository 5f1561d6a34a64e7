"""Every address of the API, asked by an owner, a teammate, a stranger and people without a key.

The addresses come from the URL map: a new one that is not in `ADDRESSES` fails here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from api_parts import Office, api_app, client_of
from databases import fresh_sqlite
from flask import Flask
from werkzeug.test import TestResponse

from api_keys import revoke_key
from database import db
from service import create_app
from settings import Settings

MARK = "מרציפן"
CALLER = "+972547777777"


@dataclass(frozen=True)
class Address:
    """How one is asked, what it tells its owner, and what a stranger gets.

    `tells`: MARK or CALLER stands in the answer. `stranger`: the status; 200 must tell nothing.
    `public`: everybody gets it, and it holds no record.
    """

    path: str
    tells: str = ""
    stranger: int = 200
    body: dict[str, str] | None = None
    public: bool = False


ADDRESSES = {
    ("GET", "/api/openapi.json"): Address("/api/openapi.json", public=True),
    ("GET", "/api/calls"): Address("/api/calls", CALLER),
    ("GET", "/api/calls/<call_sid>"): Address("/api/calls/{sid}", MARK, 404),
    ("GET", "/api/calls/<call_sid>/transcript"): Address("/api/calls/{sid}/transcript", MARK, 404),
    ("DELETE", "/api/calls/<call_sid>"): Address("/api/calls/{sid}", '"calls":1', 404),
    ("DELETE", "/api/numbers/<number>"): Address(f"/api/numbers/{CALLER}", '"calls":1'),
    ("GET", "/api/leads"): Address("/api/leads", CALLER),
    ("GET", "/api/leads.csv"): Address("/api/leads.csv", CALLER),
    ("GET", "/api/leads/<number>"): Address(f"/api/leads/{CALLER}", CALLER, 404),
    ("PATCH", "/api/leads/<number>"): Address(
        f"/api/leads/{CALLER}", CALLER, 404, {"name": "changed"}
    ),
    ("GET", "/api/search"): Address(f"/api/search?q={MARK}", MARK),
    ("GET", "/api/usage"): Address("/api/usage", "2019-07"),
}
PEOPLE = ["owner", "teammate", "stranger", "nobody", "somebody with a wrong key", "a former one"]


@pytest.fixture(scope="module")
def app() -> Flask:
    return api_app(fresh_sqlite())


def addresses_of(app: Flask) -> set[tuple[str, str]]:
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_address_is_in_the_table(app: Flask) -> None:
    """What the application answers, and nothing else."""
    assert addresses_of(app) == set(ADDRESSES)


def test_a_worker_only_hands_on() -> None:
    """No address of a worker's own lies below /api."""
    app = create_app(Settings(allow_unsigned=True, speech_emulator_host="127.0.0.1:1"))
    assert addresses_of(app) == set()


def marked_office(app: Flask) -> tuple[Office, str]:
    """A business with one of everything, and its call's SID."""
    office = Office(app)
    sid = office.call(f"יש לכם {MARK}?", caller=CALLER, events=1)
    office.lead(CALLER, name="דנה")
    office.used("2019-07", 1, 60, 60)
    return office, sid


def key_of(person: str, office: Office) -> str | None:
    keys: dict[str, Callable[[], str | None]] = {
        "owner": lambda: office.key,
        "teammate": office.new_key,
        "stranger": lambda: Office(office.app).key,
        "nobody": lambda: None,
        "somebody with a wrong key": lambda: office.key[:-4] + "beef",
        "a former one": lambda: office.new_key(revoked=True),
    }
    return keys[person]()


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("method_and_rule", ADDRESSES, ids=" ".join)
def test_who_gets_what(app: Flask, method_and_rule: tuple[str, str], person: str) -> None:
    """Its owner and a teammate all; a stranger nothing, and changes nothing; others a 401."""
    address, method = ADDRESSES[method_and_rule], method_and_rule[0]
    office, sid = marked_office(app)
    before = everything(office, sid)
    client = client_of(app, key_of(person, office))
    more: dict[str, Any] = {"json": address.body} if address.body else {}
    answer = client.open(address.path.format(sid=sid), method=method, **more)
    if address.public:
        assert answer.status_code == 200
        assert not tells_of(office, sid, answer)
    elif person in ("owner", "teammate"):
        assert answer.status_code == 200, answer.text
        assert address.tells in answer.text
        assert (everything(office, sid) == before) is (method == "GET")
    else:
        assert answer.status_code == (address.stranger if person == "stranger" else 401)
        assert not tells_of(office, sid, answer)
        assert everything(office, sid) == before


def everything(office: Office, sid: str) -> tuple[object, ...]:
    """What the business holds, as it sees it itself."""
    lead = office.client.get(f"/api/leads/{CALLER}")
    return (office.rows(), office.client.get(f"/api/calls/{sid}").text, lead.text)


def tells_of(office: Office, sid: str, answer: TestResponse) -> bool:
    """Whether an answer has anything of the business's records in it, but for what was asked."""
    told = answer.text
    if answer.status_code == 404:
        told = told.replace(sid, "").replace(CALLER, "")
    return any(part in told for part in (sid, CALLER, MARK, "דנה", "2019-07", office.tenant_id))


def test_a_key_is_refused_as_soon_as_it_is_revoked(app: Flask) -> None:
    """Also where it was right a moment ago, and whichever address is asked."""
    office, _ = marked_office(app)
    key = office.new_key()
    client = client_of(app, key)
    assert client.get("/api/calls").status_code == 200
    with app.app_context():
        revoke_key(office.tenant_id, key.split("_")[1])
        db.session.commit()
    answer = client.get("/api/calls")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.content_type == "application/problem+json"
