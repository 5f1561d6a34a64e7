"""/api/search: what was said, across all calls of a business."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from api_access import tenant_id
from api_blueprint import blueprint
from api_fields import (
    Cursor,
    Line,
    Moment,
    PageSchema,
    StrictSchema,
    cursor_of,
    next_field,
    page_of,
    place_of,
)
from call_search import find_utterances
from models import Utterance
from search_words import AskedWord, asked_words, places_of

_SNIPPET_LETTERS = 160
_BEFORE = 40


class FoundSchema(StrictSchema):
    """Something that was said, and where."""

    call_sid = fields.String(required=True)
    id = fields.String(required=True, metadata={"description": "the utterance's"})
    track = fields.String(required=True)
    start_ms = fields.Integer(required=True)
    end_ms = fields.Integer(required=True)
    said_at = Moment(required=True)
    snippet = fields.String(
        required=True, metadata={"description": "the text, or what of it lies about the first word"}
    )
    matches = fields.List(
        fields.List(fields.Integer(), validate=validate.Length(equal=2)),
        required=True,
        metadata={"description": "where in the snippet the words are: [start, end] in characters"},
    )


class ResultsSchema(StrictSchema):
    """A page of what was found, newest first."""

    results = fields.List(fields.Nested(FoundSchema), required=True)
    next = next_field()


class SearchSchema(PageSchema):
    """What is looked for."""

    q = Line(
        required=True,
        validate=validate.Length(1, 200),
        metadata={
            "description": "words, all of which must have been said in one go; wor* finds what "
            "begins so. Niqqud, accents, case and final letters make no difference, and a Hebrew "
            "word is found behind ו ה ב כ ל מ ש too."
        },
    )
    cursor = Cursor(1, "`next` of the page before")


@blueprint.address("GET", "/search")
@blueprint.arguments(SearchSchema, location="query")
@blueprint.response(200, ResultsSchema)
def search(asked: dict[str, Any]) -> dict[str, Any]:
    """What was said, newest first"""
    words = asked_words(asked["q"])
    if not words:
        return {"results": [], "next": None}
    limit = asked["limit"]
    before = place_of(asked["cursor"])[0] if "cursor" in asked else None
    page, more = page_of(find_utterances(tenant_id(), words, limit + 1, before), limit)
    return {
        "results": [_found(utterance, call_sid, words) for utterance, call_sid in page],
        "next": cursor_of(page[-1][0].id) if more else None,
    }


def _found(utterance: Utterance, call_sid: str, words: list[AskedWord]) -> dict[str, Any]:
    snippet, matches = snippet_of(utterance.text, words)
    return {
        "call_sid": call_sid,
        "id": utterance.uid,
        "track": utterance.track,
        "start_ms": utterance.start_ms,
        "end_ms": utterance.end_ms,
        "said_at": utterance.said_at,
        "snippet": snippet,
        "matches": matches,
    }


def snippet_of(text: str, words: list[AskedWord]) -> tuple[str, list[list[int]]]:
    """At most `_SNIPPET_LETTERS` of `text` about the first of `words`, and where they are in it."""
    places = places_of(text, words)
    if len(text) <= _SNIPPET_LETTERS:
        return text, [list(place) for place in places]
    first = max(0, places[0][0] - _BEFORE) if places else 0
    if first:  # not in the middle of a word
        first = text.rfind(" ", 0, first) + 1
    cut = text[first : first + _SNIPPET_LETTERS]
    before, after = "…" * (first > 0), "…" * (first + len(cut) < len(text))
    shift = len(before) - first
    matches = [[start + shift, end + shift] for start, end in places if end <= first + len(cut)]
    return before + cut + after, matches
