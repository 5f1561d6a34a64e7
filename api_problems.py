"""Errors of the API as `application/problem+json` (RFC 9457); other addresses keep their own."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from marshmallow import Schema, fields
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound as WerkzeugNotFound

from call_log import logger
from database_faults import cause_of
from errors import NotFound

CONTENT_TYPE = "application/problem+json"
# When to ask again while the database is away
RETRY_SECONDS = 5

# What may be raised when the database is away or too slow
DATABASE_FAULTS = (OperationalError, InterfaceError, PoolTimeout)

_SQLITE_ERROR = 1  # a statement that is wrong in itself


class ProblemSchema(Schema):
    """What an error says."""

    class Meta:
        title = "Problem"

    type = fields.String(required=True, metadata={"description": "always about:blank"})
    title = fields.String(required=True, metadata={"description": "the status, in words"})
    status = fields.Integer(required=True)
    detail = fields.String(metadata={"description": "what is wrong, and how to mend it"})
    errors = fields.Dict(
        keys=fields.String(), metadata={"description": "what is wrong, by place and field"}
    )


def problem(
    status: int, detail: str = "", errors: Any = None, headers: dict[str, str] | None = None
) -> Response:
    """An answer that says what is wrong."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
    }
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = errors
    text = json.dumps(body, ensure_ascii=False)
    return current_app.response_class(text, status, headers, content_type=CONTENT_TYPE)


def attach(app: Flask, prefix: str) -> None:
    """Have the errors at addresses below `prefix` answered so."""

    def refused(fault: HTTPException) -> Response | HTTPException:
        if not f"{request.path}/".startswith(prefix):
            return fault
        return _of_http(fault)

    def missing(fault: NotFound) -> Response:
        return problem(404, str(fault))

    def away(fault: Exception) -> Response:
        if _is_our_own(fault):
            raise fault
        logger.error("[API] 503: the database: %s", cause_of(fault))
        return database_away()

    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(NotFound, missing)
    for kind in DATABASE_FAULTS:
        app.register_error_handler(kind, away)


def cannot_connect(fault: Exception) -> bool:
    """Whether nobody can use the database, as against one statement that took too long."""
    if isinstance(fault, DBAPIError):
        return fault.connection_invalidated or fault.statement is None
    return False


def _is_our_own(fault: Exception) -> bool:
    """SQLite has one kind of error for locked files and for wrong statements."""
    code = getattr(getattr(fault, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF == _SQLITE_ERROR


def database_away() -> Response:
    """503: the records cannot be read just now."""
    retry = {"Retry-After": str(RETRY_SECONDS)}
    return problem(503, "the records cannot be read now, try again", headers=retry)


def _of_http(fault: HTTPException) -> Response:
    ready = fault.get_response()
    if fault.code is None or ready.status_code < 400:
        return current_app.make_response(ready)
    found = getattr(fault, "data", None) or {}  # webargs leaves there what it found
    errors = found.get("messages")
    detail = "" if fault.code == 500 else fault.description or ""
    if isinstance(fault, WerkzeugNotFound) and request.url_rule is None:
        detail = "there is no such address; /api/openapi.json has them all"
    if errors is not None:
        detail = "see errors"
    kept = {name: ready.headers[name] for name in ("Allow", "Retry-After") if name in ready.headers}
    return problem(fault.code, detail, errors, kept)
