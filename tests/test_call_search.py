"""The lists of calls and the search in what was said, through the API, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from api_parts import OWN_NUMBER, START, Office
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_server import PostgresServer

import call_search
from database import db
from models import Call


@pytest.fixture
def office(api: Flask) -> Office:
    return Office(api)


def pages(office: Office, path: str, kind: str, limit: int) -> list[list[Any]]:
    """All pages of a list."""
    found, cursor = [], ""
    while True:
        answer = office.client.get(f"{path}limit={limit}{cursor}")
        assert answer.status_code == 200, answer.text
        found.append(answer.get_json()[kind])
        if answer.get_json()["next"] is None:
            return found
        cursor = f"&cursor={answer.get_json()['next']}"


def sids(office: Office, query: str = "") -> list[str]:
    answer = office.client.get(f"/api/calls?{query}")
    assert answer.status_code == 200, answer.text
    return [call["call_sid"] for call in answer.get_json()["calls"]]


def snippets(office: Office, question: str) -> list[str]:
    answer = office.client.get("/api/search", query_string={"q": question})
    assert answer.status_code == 200, answer.text
    return [found["snippet"] for found in answer.get_json()["results"]]


def test_calls_in_pages_newest_first(office: Office) -> None:
    """Each once, also those that began at the same moment."""
    made = [office.call(minutes=minute // 3) for minute in range(10)]
    found = pages(office, "/api/calls?", "calls", 3)
    assert [len(page) for page in found] == [3, 3, 3, 1]
    assert [call["call_sid"] for page in found for call in page] == made[::-1]
    assert pages(office, "/api/calls?", "calls", 10)[0] == [call for page in found for call in page]


def test_a_new_call_moves_no_page(office: Office) -> None:
    """Who follows `next` sees each call that there was, once."""
    made = [office.call(minutes=minute) for minute in range(4)]
    first = office.client.get("/api/calls?limit=2").get_json()
    office.call(minutes=100)
    assert sids(office, f"limit=2&cursor={first['next']}") == made[1::-1]


def test_calls_by_time_number_outcome_and_life(office: Office) -> None:
    """Each filter by itself, and together."""
    old = office.call(caller="+972541111111", minutes=0)
    outbound = office.call(
        caller=OWN_NUMBER, called="+972541111111", direction="outbound-api", minutes=1
    )
    lost = office.call(caller="+972542222222", minutes=2, outcome="lost")
    live = office.call(caller="anonymous", minutes=3, ended=False)
    assert sids(office, "from=2026-11-01T08:01:00Z&to=2026-11-01T08:03:00Z") == [lost, outbound]
    assert sids(office, "from=2026-11-01T10:02:00%2B02:00") == [live, lost]
    assert sids(office, "number=%2B972541111111") == [outbound, old]
    assert sids(office, "number=anonymous") == [live]
    assert sids(office, f"number=%2B{OWN_NUMBER[1:]}") == [live, lost, outbound, old]
    assert sids(office, "outcome=lost") == [lost]
    assert sids(office, "live=true") == [live]
    assert sids(office, "live=false&number=%2B972541111111&limit=1") == [outbound]
    assert sids(office, "outcome=lost&live=true") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "from=yesterday",
        "from=2026-11-01T08:01:00",
        "to=0001-01-01T00:00:00%2B14:00",
        "number=%27%20OR%201",
        "outcome=won",
        "live=perhaps",
        "cursor=1",
        "cursor=99999999999999999999.1",
        "text=",
        "text=%00",
        "form=csv",
    ],
)
def test_what_cannot_be_asked(office: Office, query: str) -> None:
    """422, and the field's name."""
    answer = office.client.get(f"/api/calls?{query}")
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]["query"]) == [query.split("=")[0]]


def test_calls_by_what_was_said(office: Office) -> None:
    """With the other filters, and every word somewhere in one utterance of the call."""
    first = office.call("אני רוצה תור", "מתי?", caller="+972541111111", minutes=0)
    second = office.call("תור למחר", caller="+972542222222", minutes=1)
    office.call("no appointment", minutes=2)
    assert sids(office, "text=תור") == [second, first]
    assert sids(office, "text=תור&limit=1") == [second]
    assert sids(office, "text=תור&number=%2B972541111111") == [first]
    assert sids(office, "text=תור מתי") == []
    assert sids(office, "text=תור רוצה") == [first]
    assert sids(office, "text=appoint*&live=false") != []
    assert sids(office, "text=,") == []


def test_rare_words_are_found_however_long_ago(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the newest that are looked through first, in both lists and in all their pages."""
    monkeypatch.setattr(call_search, "_NEWEST_UTTERANCES", 1)
    monkeypatch.setattr(call_search, "_NEWEST_CALLS", 1)
    rare = [office.call(f"marzipan {turn}", minutes=turn) for turn in range(5)]
    for minute in range(10, 20):
        office.call("hello", "hello again", minutes=minute)
    found = pages(office, "/api/search?q=marzipan&", "results", 2)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [one["call_sid"] for page in found for one in page] == rare[::-1]
    calls = pages(office, "/api/calls?text=marzipan&", "calls", 2)
    assert [call["call_sid"] for page in calls for call in page] == rare[::-1]
    assert sids(office, "text=marzipan&number=%2B972541111111&limit=2") == rare[:2:-1]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("תור", "אפשר תּוֹר למחר?"),
        ("תור", "רוצה לקבוע לתור"),
        ("תור", "מה עם התור שלי"),
        ("של*", "שָׁלוֹם לכם"),
        ("שלום", "שלום."),
        ("שלומ", "שלום."),
        ('צה"ל', "שירתתי בצה״ל"),
        ("בית ספר", "בית־ספר יסודי"),
        ("cafe", "CAFÉ Tamar"),
        ("dont", "I don't know"),
        ("doctor tomorrow", "tomorrow, doctor?"),
        ("03 1234567", "03-1234567"),
    ],
)
def test_what_finds_what(office: Office, question: str, text: str) -> None:
    """Niqqud, prefixes, beginnings, final letters, quotes, accents, case and signs."""
    office.call(text, "משהו אחר לגמרי")
    assert snippets(office, question) == [text]


@pytest.mark.parametrize("question", ["תורים", "ור", "doc", "doctor nurse", "*", "AND", "של"])
def test_what_finds_nothing(office: Office, question: str) -> None:
    """Other words, parts of words, and what is a sign in a database's own language."""
    office.call("התור אצל doctor, שלום")
    assert snippets(office, question) == []


def test_a_result_says_where(office: Office) -> None:
    """The call, the track, the times, and the words within the snippet."""
    sid = office.call("hello", "כן, יש תור פנוי")
    answer = office.client.get("/api/search?q=תור").get_json()
    (found,) = answer["results"]
    assert (found["call_sid"], found["track"]) == (sid, "outbound")
    assert (found["start_ms"], found["end_ms"]) == (2000, 3500)
    assert [found["snippet"][start:end] for start, end in found["matches"]] == ["תור"]
    assert answer["next"] is None


def test_a_long_utterance_is_cut_about_the_word(office: Office) -> None:
    """The places are within what is shown."""
    office.call("word " * 100 + "marzipan " + "more " * 100)
    (found,) = office.client.get("/api/search?q=marzipan").get_json()["results"]
    assert len(found["snippet"]) < 200
    assert found["snippet"].startswith("…")
    assert found["snippet"].endswith("…")
    assert [found["snippet"][start:end] for start, end in found["matches"]] == ["marzipan"]


def test_what_is_deleted_is_found_no_more(api: Flask, office: Office) -> None:
    """With its call, whichever way that goes; and the rest still is."""
    gone = office.call("marzipan one")
    kept = office.call("marzipan two")
    with api.app_context():
        db.session.execute(db.delete(Call).where(Call.call_sid == gone))
        db.session.commit()
    assert snippets(office, "marzipan") == ["marzipan two"]
    assert sids(office, "text=marzipan") == [kept]


def test_businesses_share_an_index_and_nothing_else(api: Flask, office: Office) -> None:
    """The same words, of another business, are not found."""
    other = Office(api)
    other.call("marzipan")
    assert snippets(office, "marzipan") == []
    assert sids(office, "text=marzipan") == []


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(question=st.text(min_size=1, max_size=40))
def test_every_question_is_answered(office: Office, question: str) -> None:
    """200, or 422 for what cannot be written; never an error of a database's language."""
    for path, name in (("/api/search", "q"), ("/api/calls", "text")):
        answer = office.client.get(path, query_string={name: question})
        assert answer.status_code in (200, 422), (question, answer.text)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(word=st.text("אבגדהוזחטיכלמנסעפצקרשתםןץףabcXYZéÜ0189'\"״", min_size=1, max_size=12))
def test_every_word_that_was_said_is_found(office: Office, word: str) -> None:
    """The databases split a text into the same words as the question."""
    text = f"לפני {word} אחרי"
    office.call(text)
    found = snippets(office, word)
    assert not word.strip("'\"״") or text in found


def test_moments_of_the_database_are_kept_to_the_microsecond(api: Flask, office: Office) -> None:
    """A cursor that were less exact would skip calls, or show them twice."""
    made = [office.call(minutes=turn / 60_000_000) for turn in range(3)]
    assert [page[0]["call_sid"] for page in pages(office, "/api/calls?", "calls", 1)] == made[::-1]
    assert START.microsecond == 0


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_the_places_of_a_stretch_hold_all_of_its_ids(before: int, length: int) -> None:
    """At least as many ids as asked for, and no gap: its places follow one another."""
    low, places = call_search._places(before, length)
    assert 0 <= low <= max(0, before - length)
    kind = places[0] & 3
    bits = call_search._PLACE_BITS[kind]
    assert [place & 3 for place in places] == [kind] * len(places)
    assert [place >> 2 for place in places] == list(range(low >> bits, ((before - 1) >> bits) + 1))
    assert low == (low >> bits) << bits
    assert kind == 3 or len(places) <= call_search._MOST_PLACES


def test_postgresql_has_the_same_places(postgres: PostgresServer) -> None:
    """The index and the question count the runs of ids alike."""
    url = postgres.fresh()
    for number in (1, 1023, 1024, 999_999, 2**40 + 5):
        [(places,)] = postgres.execute(f"SELECT search_places_of({number})", url.rsplit("/", 1)[1])
        bits_of = enumerate(call_search._PLACE_BITS)
        assert places == [number >> bits << 2 | kind for kind, bits in bits_of]
        for length in (1, 40_000, 600_000, 2**30):
            assert set(places) & set(call_search._places(number + 1, length)[1])
