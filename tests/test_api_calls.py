"""One call: what it says, its transcript in each format, and deletion, also of a number."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from api_parts import OWN_NUMBER, Office, api_app
from databases import fresh_sqlite
from flask import Flask
from postgres_server import PostgresServer
from sqlalchemy import event

from database import db

CALLER = "+972541111111"


@pytest.fixture
def office(api: Flask) -> Office:
    return Office(api)


def test_a_call_with_what_was_said(office: Office) -> None:
    """In the order of its start, in UTC."""
    sid = office.call("שלום", "hello", caller=CALLER, rotations=2, results=2, delay_sum_ms=501)
    call = office.client.get(f"/api/calls/{sid}").get_json()
    assert (call["call_sid"], call["from"], call["to"]) == (sid, CALLER, OWN_NUMBER)
    assert call["started_at"] == "2026-11-01T08:00:00.000Z"
    assert call["ended_at"] == "2026-11-01T08:00:30.000Z"
    assert (call["rotations"], call["delay_mean_ms"], call["outcome"]) == (2, 250, "completed")
    said = [(one["track"], one["start_ms"], one["text"]) for one in call["utterances"]]
    assert said == [("inbound", 0, "שלום"), ("outbound", 2000, "hello")]


@pytest.mark.parametrize(
    ("asked", "accept", "content_type", "holds"),
    [
        ("", None, "text/plain; charset=utf-8", "[0:00:00] Caller: שלום\n"),
        ("?format=text", "text/vtt", "text/plain; charset=utf-8", "Business: hello"),
        ("?format=srt", None, "application/x-subrip; charset=utf-8", "00:00:02,000 --> "),
        ("?format=vtt", None, "text/vtt; charset=utf-8", "<v Caller>שלום</v>"),
        ("?format=json", None, "application/json", '"text":"שלום"'),
        ("", "text/vtt", "text/vtt; charset=utf-8", "WEBVTT\n"),
        ("", "text/html, application/json;q=0.9", "application/json", '"start_ms":2000'),
        ("", "*/*", "text/plain; charset=utf-8", "Caller"),
    ],
)
def test_a_transcript_in_each_format(
    office: Office, asked: str, accept: str | None, content_type: str, holds: str
) -> None:
    """By the query, else by Accept, else plain text; with the name of a file."""
    sid = office.call("שלום", "hello")
    headers = {"Accept": accept} if accept else {}
    answer = office.client.get(f"/api/calls/{sid}/transcript{asked}", headers=headers)
    assert (answer.status_code, answer.content_type) == (200, content_type)
    assert holds in answer.text
    assert f'filename="{sid}.' in answer.headers["Content-Disposition"]


def test_a_transcript_of_no_known_kind(office: Office) -> None:
    """406 by Accept, 422 by the query."""
    path = f"/api/calls/{office.call('hello')}/transcript"
    assert office.client.get(path, headers={"Accept": "image/png"}).status_code == 406
    assert office.client.get(f"{path}?format=pdf").status_code == 422


def test_a_call_is_deleted_with_all_that_is_its(office: Office) -> None:
    """Once; its lead and other calls stay."""
    sid, other = office.call("one", "two", events=3), office.call("three")
    office.lead(CALLER)
    answer = office.client.delete(f"/api/calls/{sid}")
    assert answer.get_json() == {"calls": 1, "utterances": 2, "events": 3, "leads": 0}
    assert office.client.delete(f"/api/calls/{sid}").status_code == 404
    assert office.client.get(f"/api/calls/{other}").status_code == 200
    assert (office.rows()["calls"], office.rows()["leads"]) == (1, 1)


def test_a_live_call_is_not_deleted(office: Office) -> None:
    """409, and all of it is there."""
    sid = office.call("one", ended=False)
    answer = office.client.delete(f"/api/calls/{sid}")
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    assert office.rows()["utterances"] == 1


def test_everything_about_a_number_is_deleted(office: Office) -> None:
    """Its calls in either direction and its lead; nothing of others, nor what was counted."""
    office.call("one", "two", caller=CALLER, events=1)
    office.call("three", caller=OWN_NUMBER, called=CALLER, direction="outbound-api")
    office.call("four", caller="+972542222222")
    office.lead(CALLER, name="Dana")
    office.lead("+972542222222")
    office.used("2026-11", 3, 90, 90)
    elsewhere = Office(office.app)
    elsewhere.call("five", caller=CALLER)
    elsewhere.lead(CALLER)
    answer = office.client.delete(f"/api/numbers/{CALLER}")
    assert answer.get_json() == {"calls": 2, "utterances": 3, "events": 1, "leads": 1}
    left = {"calls": 1, "utterances": 1, "leads": 1, "events": 0, "usage": 1, "webhooks": 0}
    assert office.rows() == left
    assert elsewhere.rows()["calls"] == elsewhere.rows()["leads"] == 1
    answer = office.client.delete(f"/api/numbers/{CALLER}")
    assert answer.get_json() == {"calls": 0, "utterances": 0, "events": 0, "leads": 0}


def test_the_businesses_own_number_is_nobodys_that_called(office: Office) -> None:
    """Deleting it deletes no call that was made to it."""
    office.call("one")
    assert office.client.delete(f"/api/numbers/{OWN_NUMBER}").get_json()["calls"] == 0
    assert office.rows()["calls"] == 1


def test_a_number_on_the_line_is_not_deleted(office: Office) -> None:
    """409 while one of its calls is live, and nothing of it is gone."""
    office.call("one", caller=CALLER)
    office.call(caller=CALLER, ended=False)
    office.lead(CALLER)
    assert office.client.delete(f"/api/numbers/{CALLER}").status_code == 409
    assert (office.rows()["calls"], office.rows()["leads"]) == (2, 1)


def test_a_call_that_begins_while_its_number_is_deleted_stays(
    postgres: PostgresServer,
) -> None:
    """It comes between the look at the calls and their deletion; SQLite lets nothing in there."""
    app = api_app(postgres.fresh())
    office = Office(app)
    office.call("old", caller=CALLER)
    live: list[str] = []

    def begin_one(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE FROM calls") and not live:
            live.append("")
            with ThreadPoolExecutor(1) as another:
                live[0] = another.submit(office.call, caller=CALLER, ended=False).result()

    with app.app_context():
        engine = db.session.get_bind()
    event.listen(engine, "before_cursor_execute", begin_one)
    assert office.client.delete(f"/api/numbers/{CALLER}").get_json()["calls"] == 1
    assert office.client.get(f"/api/calls/{live[0]}").status_code == 200


def test_deleted_words_are_not_in_sqlites_file() -> None:
    """Neither where they stood nor in the index of words; what else was said is found as before."""
    url = fresh_sqlite()
    path = Path(url.removeprefix("sqlite:///"))
    office = Office(api_app(url))
    office.call("pineapple, a secret one", "pineapples", caller=CALLER)
    office.call("banana", caller="+972542222222")
    assert words_in(path, b"pineapple") > 0
    assert office.client.delete(f"/api/numbers/{CALLER}").get_json()["utterances"] == 2
    assert words_in(path, b"pineapple") == 0
    assert len(office.client.get("/api/search?q=banana").get_json()["results"]) == 1


def words_in(path: Path, words: bytes) -> int:
    """How often they stand in the file, what its log has included."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    return path.read_bytes().count(words)


def test_errors_below_api_are_problems_and_others_are_let_be(office: Office) -> None:
    """RFC 9457, also for what no address of the API answers."""
    for answer, status in (
        (office.client.get("/api/nothing"), 404),
        (office.client.post("/api/calls"), 405),
        (office.client.get("/api/calls/CA1"), 404),
    ):
        assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
        assert answer.get_json()["status"] == status
        assert answer.get_json()["type"] == "about:blank"
    assert "Allow" in office.client.post("/api/calls").headers
    assert office.client.get("/nothing").content_type.startswith("text/html")


def test_a_fault_of_ours_tells_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 as a problem, without what went wrong."""
    app: Flask = office.app

    def broken(**_: object) -> None:
        raise RuntimeError("the secret")

    monkeypatch.setitem(app.view_functions, "api.show_usage", broken)
    answer = office.client.get("/api/usage")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "secret" not in answer.text
