"""/api/calls and /api/numbers: calls, what was said on them, and the deletion of both."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flask_smorest
from flask import Response, abort, request
from marshmallow import fields, validate

import transcript_formats
from api_access import tenant_id
from api_blueprint import blueprint
from api_fields import (
    CALL_SID,
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
from business_deletions import delete_call, delete_number
from business_records import load_call, utterances_of
from call_records import Outcome
from call_search import CallFilter, CallPlace, find_calls
from database import db, writes
from models import Call, Utterance
from search_words import asked_words

_SID = {
    "in": "path",
    "name": "call_sid",
    "required": True,
    "schema": {"type": "string", "pattern": CALL_SID},
    "description": "Twilio's CallSid",
}
_NUMBER = {
    "in": "path",
    "name": "number",
    "required": True,
    "schema": {"type": "string", "pattern": NUMBER},
    "description": "a caller's number, as +972541234567",
}


class CallSchema(StrictSchema):
    """A call."""

    call_sid = fields.String(required=True)
    caller = fields.String(required=True, data_key="from")
    called = fields.String(required=True, data_key="to")
    direction = fields.String(required=True)
    started_at = Moment(required=True)
    ended_at = Moment(required=True, allow_none=True, metadata={"description": "null: it is live"})
    outcome = fields.String(
        required=True, allow_none=True, validate=validate.OneOf([*Outcome, None])
    )
    reason = fields.String(required=True, allow_none=True)
    close_code = fields.Integer(required=True, allow_none=True)
    seconds = fields.Float(required=True, metadata={"description": "of audio"})
    google_seconds = fields.Float(required=True, metadata={"description": "sent to Google"})
    frames = fields.Integer(required=True)
    dropped = fields.Integer(required=True, metadata={"description": "frames that were dropped"})
    lost_seconds = fields.Float(
        required=True, metadata={"description": "of audio that was not recognised"}
    )
    streams = fields.Integer(required=True)
    rotations = fields.Integer(required=True)
    fallbacks = fields.Integer(required=True)
    delay_mean_ms = fields.Integer(
        required=True, allow_none=True, metadata={"description": "of recognition"}
    )
    delay_worst_ms = fields.Integer(required=True)


class UtteranceSchema(StrictSchema):
    """What was said, on the call's clock."""

    uid = fields.String(required=True, data_key="id")
    track = fields.String(
        required=True, metadata={"description": "inbound: the caller; outbound: the business"}
    )
    start_ms = fields.Integer(required=True)
    end_ms = fields.Integer(required=True)
    text = fields.String(required=True)
    confidence = fields.Float(required=True, allow_none=True)
    fallback = fields.Boolean(
        required=True, metadata={"description": "made of the last interim, for want of a final"}
    )
    said_at = Moment(required=True)


class WholeCallSchema(CallSchema):
    """A call, with what was said."""

    utterances = fields.List(fields.Nested(UtteranceSchema), required=True)


class CallsSchema(StrictSchema):
    """A page of calls, newest first."""

    calls = fields.List(fields.Nested(CallSchema), required=True)
    next = next_field()


class CallsAskedSchema(PageSchema):
    """Which calls."""

    cursor = Cursor(2, "`next` of the page before")
    since = Moment(data_key="from", metadata={"description": "began at this moment or later"})
    until = Moment(data_key="to", metadata={"description": "began before this moment"})
    number = number_field()
    text = Line(
        validate=validate.Length(1, 200),
        metadata={"description": "words that were said on the call, as in /api/search"},
    )
    outcome = fields.String(validate=validate.OneOf(list(Outcome)))
    live = fields.Boolean(truthy={"true"}, falsy={"false"})


class DeletedSchema(StrictSchema):
    """How much was deleted."""

    calls = fields.Integer(required=True)
    utterances = fields.Integer(required=True)
    events = fields.Integer(required=True)
    leads = fields.Integer(required=True)


class TranscriptAskedSchema(StrictSchema):
    """In which format; without one, by Accept."""

    format = fields.String(validate=validate.OneOf(["text", "srt", "vtt", "json"]))


class TranscriptSchema(StrictSchema):
    """A transcript as JSON."""

    call_sid = fields.String(required=True)
    started_at = Moment(required=True)
    utterances = fields.List(fields.Nested(UtteranceSchema), required=True)


@blueprint.address("GET", "/calls")
@blueprint.arguments(CallsAskedSchema, location="query")
@blueprint.response(200, CallsSchema)
def list_calls(asked: dict[str, Any]) -> dict[str, Any]:
    """Calls, newest first

    A new call moves nothing: whoever follows `next` sees each call once.
    """
    limit = asked["limit"]
    place = place_of(asked["cursor"]) if "cursor" in asked else None
    said = asked_words(asked["text"]) if "text" in asked else []
    if "text" in asked and not said:
        return {"calls": [], "next": None}
    filters = CallFilter(
        since=asked.get("since"),
        until=asked.get("until"),
        number=asked.get("number"),
        outcome=asked.get("outcome"),
        live=asked.get("live"),
        said=said,
    )
    after = CallPlace(moment_of(place[0]), place[1]) if place else None
    page, more = page_of(find_calls(tenant_id(), filters, limit + 1, after), limit)
    last = cursor_of(micros_of(page[-1].started_at), page[-1].id) if more else None
    return {"calls": page, "next": last}


@blueprint.address("GET", "/calls/<call_sid>", 404, 422, parameters=[_SID])
@blueprint.response(200, WholeCallSchema)
def show_call(call_sid: str) -> dict[str, Any]:
    """A call, with what was said in the order of its start"""
    call = load_call(tenant_id(), _checked_sid(call_sid))
    shown = {name: getattr(call, name) for name in CallSchema().fields}
    return {**shown, "utterances": _utterances(call)}


@blueprint.address("GET", "/calls/<call_sid>/transcript", 404, 406, 422, parameters=[_SID])
@blueprint.arguments(TranscriptAskedSchema, location="query")
@blueprint.response(200, TranscriptSchema)
@blueprint.alt_response(200, content_type="text/plain", schema={"type": "string"}, success=True)
@blueprint.alt_response(
    200, content_type="application/x-subrip", schema={"type": "string"}, success=True
)
@blueprint.alt_response(200, content_type="text/vtt", schema={"type": "string"}, success=True)
def show_transcript(asked: dict[str, Any], call_sid: str) -> Any:
    """A call's transcript as plain text, SRT, WebVTT or JSON, as a file"""
    kind = asked.get("format") or _accepted()
    call = load_call(tenant_id(), _checked_sid(call_sid))
    said = _utterances(call)
    extension = _EXTENSIONS[kind]
    headers = {"Content-Disposition": f'attachment; filename="{call_sid}.{extension}"'}
    if kind == "json":
        shown = {"call_sid": call_sid, "started_at": call.started_at, "utterances": said}
        return shown, 200, headers
    lines = [transcript_formats.Line(one.track, one.start_ms, one.end_ms, one.text) for one in said]
    write, content_type = _WRITTEN[kind]
    return Response(write(lines), headers=headers, content_type=content_type)


@blueprint.address("DELETE", "/calls/<call_sid>", 404, 409, 422, parameters=[_SID])
@blueprint.response(200, DeletedSchema)
def remove_call(call_sid: str) -> dict[str, int]:
    """Delete a call, with what was said on it and its events

    The lead of its caller stays. A live call cannot be deleted.
    """
    writes()
    deleted = delete_call(tenant_id(), _checked_sid(call_sid))
    if deleted is None:
        abort(409, description="the call is live: try again when it is over")
    db.session.commit()
    return deleted._asdict()


@blueprint.address("DELETE", "/numbers/<number>", 409, 422, parameters=[_NUMBER])
@blueprint.response(200, DeletedSchema)
def remove_number(number: str) -> dict[str, int]:
    """Delete everything about a caller's number

    Its calls (those from it, and those that the business made to it), what was said on them, their
    events, and the lead. What was counted for the month stays: it names nobody. While a call of it
    is live nothing is deleted.
    """
    writes()
    deleted = delete_number(tenant_id(), _checked(number, NUMBER, "number"))
    if deleted is None:
        abort(409, description="a call of this number is live: try again when it is over")
    db.session.commit()
    return deleted._asdict()


_EXTENSIONS = {"text": "txt", "srt": "srt", "vtt": "vtt", "json": "json"}
_WRITTEN: dict[str, tuple[Callable[..., str], str]] = {
    "text": (transcript_formats.as_text, "text/plain; charset=utf-8"),
    "srt": (transcript_formats.as_srt, "application/x-subrip; charset=utf-8"),
    "vtt": (transcript_formats.as_vtt, "text/vtt; charset=utf-8"),
}
_ACCEPTED = {
    "text/plain": "text",
    "application/x-subrip": "srt",
    "text/vtt": "vtt",
    "application/json": "json",
}


def _accepted() -> str:
    best = request.accept_mimetypes.best_match(list(_ACCEPTED))
    if best is None and request.accept_mimetypes:
        abort(406, description=f"to be had are {', '.join(_ACCEPTED)}")
    return _ACCEPTED[best or "text/plain"]


def _utterances(call: Call) -> list[Utterance]:
    said = utterances_of(tenant_id()).where(Utterance.call_id == call.id)
    return list(db.session.scalars(said.order_by(Utterance.start_ms, Utterance.id)))


def _checked_sid(call_sid: str) -> str:
    return _checked(call_sid, CALL_SID, "call_sid")


def _checked(value: str, pattern: str, name: str) -> str:
    """A part of the path, which no schema reads."""
    if not re.fullmatch(pattern.strip("^$"), value):
        flask_smorest.abort(422, messages={"path": {name: [f"Does not match {pattern}"]}})
    return value
