"""The kinds of values that the API takes and gives, checked so that any database can bear them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

MOST_IN_A_PAGE = 200
IN_A_PAGE = 50

# As a caller's number is kept: in full, or a word such as anonymous
NUMBER = r"^(\+?[0-9]{3,20}|[A-Za-z]{3,20})$"
CALL_SID = r"^[A-Za-z0-9._-]{1,64}$"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# SQLite and PostgreSQL bear no NUL, UTF-8 no half of a surrogate pair, and people no bells
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_WRITABLE = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$"


class StrictSchema(Schema):
    """One that knows all of its fields, in order: a name that it does not know is an error."""

    class Meta:
        unknown = "raise"


class Moment(fields.AwareDateTime):
    """A moment with its time zone (RFC 3339); given back in UTC, to the millisecond."""

    default_error_messages = {  # noqa: RUF012  # as marshmallow has it
        "invalid_awareness": "Has no time zone: write 2026-11-27T10:00:00Z or …+02:00."
    }

    def _serialize(self, value: datetime | None, *_rest: Any, **_more: Any) -> str | None:
        if value is None:
            return None
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _deserialize(self, value: Any, *rest: Any, **more: Any) -> datetime:
        # in a query a + that was not escaped is a space
        text = value.replace(" ", "+") if isinstance(value, str) and "T" in value else value
        at: datetime = super()._deserialize(text, *rest, **more)
        if not _EPOCH <= at < _LATEST:
            raise ValidationError("Not between 1970 and 9000.")
        return at


class Line(fields.String):
    """A text that can be written down."""

    def __init__(self, *, metadata: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(metadata={"pattern": _WRITABLE, **(metadata or {})}, **more)

    def _deserialize(self, value: Any, *rest: Any, **more: Any) -> str:
        text: str = super()._deserialize(value, *rest, **more)
        if _UNWRITABLE.search(text):
            raise ValidationError("Has characters that cannot be written.")
        return text


class Cursor(fields.String):
    """The place of a page's last record: so many whole numbers, which nobody needs to read."""

    def __init__(self, parts: int, told: str) -> None:
        pattern = "^" + r"\.".join(["[0-9]{1,18}"] * parts) + "$"
        super().__init__(
            validate=validate.Regexp(pattern, error="Not a cursor of this list."),
            metadata={"description": told},
        )


def cursor_of(*place: int) -> str:
    """The cursor for a place."""
    return ".".join(map(str, place))


def place_of(cursor: str) -> tuple[int, ...]:
    """The place that a cursor is for."""
    return tuple(map(int, cursor.split(".")))


def micros_of(at: datetime) -> int:
    """A moment as a whole number."""
    return (at - _EPOCH) // _MICROSECOND


def moment_of(micros: int) -> datetime:
    """The moment of that number; the last one that there is for one beyond."""
    return _EPOCH + min(micros, micros_of(_LATEST)) * _MICROSECOND


class PageSchema(StrictSchema):
    """What every list takes."""

    limit = fields.Integer(
        load_default=IN_A_PAGE,
        strict=False,
        validate=validate.Range(1, MOST_IN_A_PAGE),
        metadata={"description": "how many at most"},
    )


def number_field(**more: Any) -> fields.String:
    """A phone number."""
    return fields.String(
        validate=validate.Regexp(
            NUMBER, error="Is no number such as +972541234567; in a URL its + is written %2B."
        ),
        metadata={"description": "a phone number, as +972541234567 (in a URL %2B972541234567)"},
        **more,
    )


def next_field() -> fields.String:
    """Where the next page begins."""
    return fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "the cursor of the next page; null after the last one"},
    )


def page_of(found: Sequence[Any], limit: int) -> tuple[Sequence[Any], bool]:
    """Of `limit` + 1 that were looked for: the page, and whether there is another one."""
    return found[:limit], len(found) > limit
