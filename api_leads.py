"""/api/leads: who called, with the names and notes that the business gives them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from flask import Response, request, stream_with_context
from flask_smorest import abort
from marshmallow import fields, validate
from sqlalchemy import literal, tuple_
from werkzeug.exceptions import UnsupportedMediaType

from api_access import tenant_id
from api_blueprint import blueprint
from api_fields import (
    NUMBER,
    Cursor,
    Line,
    Moment,
    PageSchema,
    StrictSchema,
    cursor_of,
    micros_of,
    moment_of,
    next_field,
    number_field,
    page_of,
    place_of,
)
from business_records import leads_of, load_lead
from database import db, writes
from models import Lead

_CSV_ROWS = 1000
_COLUMNS = ("number", "name", "notes", "calls", "first_call_at", "last_call_at")
# What a spreadsheet would take for a formula; a tab and line ends before it are skipped, and the
# full-width signs (U+FF1D, FF0B, FF0D, FF20) read as the plain ones
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# The same behind what may separate cells or end rows: where a semicolon does, as in half of Europe,
# no quotes hold a cell together that stands behind a comma. Not numbers, nor the dashes of a list.
_INNER = re.compile(
    r"""([;\t\r\n]"*)(?![+-][0-9]*(?:[;\s]|$))(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"""
)
_NUMBER = {
    "in": "path",
    "name": "number",
    "required": True,
    "schema": {"type": "string", "pattern": NUMBER},
    "description": "as +972541234567",
}


class LeadSchema(StrictSchema):
    """Somebody who called."""

    number = fields.String(required=True)
    name = fields.String(required=True)
    notes = fields.String(required=True)
    calls = fields.Integer(required=True)
    first_call_at = Moment(required=True)
    last_call_at = Moment(required=True)


class LeadsSchema(StrictSchema):
    """A page of leads; who called last stands first."""

    leads = fields.List(fields.Nested(LeadSchema), required=True)
    next = next_field()


class LeadsAskedSchema(PageSchema):
    """Which leads."""

    cursor = Cursor(2, "`next` of the page before")
    number = number_field()
    name = Line(validate=validate.Length(1, 200), metadata={"description": "a part of the name"})
    since = Moment(data_key="from", metadata={"description": "called at this moment or later"})


class LeadChangeSchema(StrictSchema):
    """What a business may change; what is left out stays."""

    name = Line(validate=validate.Length(0, 200))
    notes = Line(validate=validate.Length(0, 10_000))


@blueprint.address("GET", "/leads")
@blueprint.arguments(LeadsAskedSchema, location="query")
@blueprint.response(200, LeadsSchema)
def list_leads(asked: dict[str, Any]) -> dict[str, Any]:
    """Leads; who called last stands first

    Somebody who calls while pages are read moves to the front, to be seen at the next reading.
    """
    leads = leads_of(tenant_id())
    if "number" in asked:
        leads = leads.where(Lead.number == asked["number"])
    if "name" in asked:
        leads = leads.where(Lead.name.icontains(asked["name"], autoescape=True))
    if "since" in asked:
        leads = leads.where(Lead.last_call_at >= asked["since"])
    if "cursor" in asked:
        micros, lead_id = place_of(asked["cursor"])
        last = literal(moment_of(micros), Lead.last_call_at.type)
        leads = leads.where(
            tuple_(Lead.last_call_at, Lead.id) < tuple_(last, literal(lead_id, Lead.id.type))
        )
    limit = asked["limit"]
    newest = leads.order_by(Lead.last_call_at.desc(), Lead.id.desc()).limit(limit + 1)
    page, more = page_of(db.session.scalars(newest).all(), limit)
    end = cursor_of(micros_of(page[-1].last_call_at), page[-1].id) if more else None
    return {"leads": page, "next": end}


@blueprint.address("GET", "/leads.csv")
@blueprint.response(200, {"type": "string"}, content_type="text/csv")
def export_leads() -> Response:
    """All leads as CSV (RFC 4180, UTF-8 with a mark that spreadsheets need)

    A cell that begins with `=`, `+`, `-` or `@` has an apostrophe before it, or a spreadsheet would
    carry it out; so have these signs behind a semicolon, a tab or a line end. Numbers that are
    nothing but a plus and digits have none: they do no harm.
    """
    business = tenant_id()
    first = _rows_after(business, 0)

    def lines() -> Iterator[str]:
        yield "\ufeff" + _csv([_COLUMNS])
        rows = first
        while rows:
            yield _csv([cells for _, cells in rows])
            rows = _rows_after(business, rows[-1][0])

    return Response(
        stream_with_context(lines()),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="leads.csv"'},
    )


@blueprint.address("GET", "/leads/<number>", 404, 422, parameters=[_NUMBER])
@blueprint.response(200, LeadSchema)
def show_lead(number: str) -> Lead:
    """A lead, by its number"""
    return load_lead(tenant_id(), _checked(number))


@blueprint.address("PATCH", "/leads/<number>", 400, 404, 413, 415, parameters=[_NUMBER])
@blueprint.arguments(LeadChangeSchema)
@blueprint.response(200, LeadSchema)
def change_lead(change: dict[str, str], number: str) -> Lead:
    """Change a lead's name or notes"""
    if not request.is_json:  # webargs would find nothing to change, and say that all is well
        raise UnsupportedMediaType("send Content-Type: application/json")
    writes()
    lead = load_lead(tenant_id(), _checked(number))
    for name, value in change.items():
        setattr(lead, name, value)
    db.session.commit()
    return lead


def _rows_after(business: str, lead_id: int) -> list[tuple[int, Sequence[str]]]:
    found = leads_of(business).where(Lead.id > lead_id).order_by(Lead.id).limit(_CSV_ROWS)
    shown = LeadSchema()
    rows: list[tuple[int, Sequence[str]]] = []
    for lead in db.session.scalars(found):
        cells = shown.dump(lead)
        rows.append((lead.id, [_safe(str(cells[name])) for name in _COLUMNS]))
    return rows


def _safe(cell: str) -> str:
    safe = _INNER.sub(r"\1'", cell)
    if cell.startswith(_FORMULA) and not re.fullmatch(r"\+[0-9]+", cell):
        return "'" + safe
    return safe


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    # all of them: some spreadsheets take a semicolon and a tab for separators beside the comma
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def _checked(number: str) -> str:
    if not re.fullmatch(NUMBER.strip("^$"), number):
        abort(422, messages={"path": {"number": [f"Does not match {NUMBER}"]}})
    return number
