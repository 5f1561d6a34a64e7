"""Leads: pages, one of them, changes, and the CSV that no spreadsheet carries out."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from api_parts import Office
from flask import Flask

import api_leads


@pytest.fixture
def office(api: Flask) -> Office:
    return Office(api)


def numbers(office: Office, query: str = "") -> list[str]:
    answer = office.client.get(f"/api/leads?{query}")
    assert answer.status_code == 200, answer.text
    return [lead["number"] for lead in answer.get_json()["leads"]]


def test_who_called_last_stands_first(office: Office) -> None:
    """In pages, each once."""
    for turn in range(5):
        office.lead(f"+97254000000{turn}", minutes=turn // 2)
    everybody = numbers(office)
    assert everybody == [f"+97254000000{turn}" for turn in (4, 3, 2, 1, 0)]
    first = office.client.get("/api/leads?limit=3").get_json()
    assert [lead["number"] for lead in first["leads"]] == everybody[:3]
    assert numbers(office, f"limit=3&cursor={first['next']}") == everybody[3:]


def test_leads_by_number_name_and_time(office: Office) -> None:
    """A part of the name will do, and its signs are no wildcards."""
    office.lead("+972540000001", name="דנה לוי")
    office.lead("+972540000002", name="100% Bob", minutes=10)
    assert numbers(office, "name=לוי") == ["+972540000001"]
    assert numbers(office, "name=bob") == numbers(office, "name=0%25") == ["+972540000002"]
    assert numbers(office, "name=%25") == ["+972540000002"]
    assert numbers(office, "name=_") == []
    assert numbers(office, "number=%2B972540000001") == ["+972540000001"]
    assert numbers(office, "from=2026-11-01T08:05:00Z") == ["+972540000002"]


def test_a_lead_is_changed(office: Office) -> None:
    """What is left out stays; what the calls have written cannot be changed."""
    office.lead("+972540000001", notes="old")
    path = "/api/leads/+972540000001"
    answer = office.client.patch(path, json={"name": "דנה"})
    assert answer.status_code == 200
    office.client.patch(path, json={"notes": "line one\nline two"})
    lead = office.client.get(path).get_json()
    assert (lead["name"], lead["notes"], lead["calls"]) == ("דנה", "line one\nline two", 1)
    assert office.client.patch(path, json={}).get_json() == lead


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (422, {"json": {"calls": 7}}),
        (422, {"json": {"name": "x" * 201}}),
        (422, {"json": {"notes": None}}),
        (422, {"json": {"name": "\x00"}}),
        (422, {"data": b'{"name": "\\ud800"}', "content_type": "application/json"}),
        (422, {"json": ["name"]}),
        (400, {"data": b"{", "content_type": "application/json"}),
        (413, {"json": {"notes": "x" * 70_000}}),
        (415, {"data": b'{"name": "Dana"}'}),
    ],
)
def test_what_cannot_be_changed(office: Office, status: int, more: dict[str, Any]) -> None:
    """Says so, and leaves the lead."""
    office.lead("+972540000001", name="Dana")
    before = office.client.get("/api/leads/+972540000001").text
    answer = office.client.patch("/api/leads/+972540000001", **more)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert office.client.get("/api/leads/+972540000001").text == before


def test_all_leads_as_csv(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several reads of the database, each once; Hebrew, quotes and line ends come back."""
    monkeypatch.setattr(api_leads, "_CSV_ROWS", 2)
    for turn in range(5):
        office.lead(f"+97254000000{turn}", name=f'דנה "{turn}", לוי', notes="one\ntwo")
    answer = office.client.get("/api/leads.csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.text.startswith('\ufeff"number","name","notes","calls",')
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"), newline="")))
    assert [row["number"] for row in rows] == [f"+97254000000{turn}" for turn in range(5)]
    assert rows[3]["name"] == 'דנה "3", לוי'
    assert rows[3]["notes"] == "one\ntwo"


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "+1 2", "\n=1", "\r\n=1"),
        *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)"),
    ],
)
def test_no_cell_is_a_formula(office: Office, text: str) -> None:
    """But a number in full is a number."""
    office.lead("+972540000001", name=text, notes="a = b")
    answer = office.client.get("/api/leads.csv").text.removeprefix("\ufeff")
    (row,) = csv.DictReader(io.StringIO(answer, newline=""))
    assert row["name"].startswith("'")
    assert row["name"].replace("'", "") == text.replace("'", "")
    assert (row["number"], row["notes"]) == ("+972540000001", "a = b")


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_no_formula_hides_where_another_sign_separates(
    office: Office, separator: str, quote: str
) -> None:
    """There a comma does not, and quotes behind one count for nothing."""
    office.lead(
        "+972540000001",
        name=f"Dana{separator}{quote}=HYPERLINK(1)",
        notes=f"x{separator}{quote}+cmd|' /C calc'!A0\n=1\r\n@SUM(1)\n{quote}\uff1d1",
    )
    answer = office.client.get("/api/leads.csv").text.removeprefix("\ufeff")
    cells = {
        cell
        for row in csv.reader(io.StringIO(answer, newline=""), delimiter=separator)
        for cell in row
    }
    assert len(cells) > 4
    assert not [cell for cell in cells if cell.startswith(("=", "+cmd", "@", "\uff1d"))]


def test_every_cell_is_quoted(office: Office) -> None:
    """So that it stays one where a semicolon separates beside the comma."""
    office.lead("+972540000001", name="Dana; Levi")
    answer = office.client.get("/api/leads.csv").text
    assert answer.splitlines()[1].startswith('"+972540000001","Dana; Levi","","1","2026-')


@pytest.mark.parametrize("text", ["home;+97231234567", "- one\n- two\n+97231234567 a\n-", "a;b=c"])
def test_lists_and_numbers_stay(office: Office, text: str) -> None:
    """Nobody wants them with apostrophes."""
    office.lead("+972540000001", notes=f"notes\n{text}")
    answer = office.client.get("/api/leads.csv").text.removeprefix("\ufeff")
    (row,) = csv.DictReader(io.StringIO(answer, newline=""))
    assert row["notes"] == f"notes\n{text}"


def test_a_business_without_leads(office: Office) -> None:
    """An empty list, the head of a CSV, and 404 for any of them."""
    assert numbers(office) == []
    assert office.client.get("/api/leads.csv").text.count("\n") == 1
    assert office.client.get("/api/leads/+972540000001").status_code == 404
