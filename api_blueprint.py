"""The blueprint of all of the API's addresses, and what their documentation has in common."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import flask_smorest
from webargs.flaskparser import FlaskParser

from api_problems import CONTENT_TYPE, ProblemSchema

_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds to wait"}}
_RATE = {
    f"RateLimit-{name}": {"schema": {"type": "integer"}, "description": told}
    for name, told in (
        ("Limit", "requests a minute that this key has"),
        ("Remaining", "how many of them are left"),
        ("Reset", "seconds until they are all there again"),
    )
}

_REFUSALS: dict[int, str] = {
    400: "The body is not JSON.",
    401: "No key, a wrong one, or one that was revoked.",
    404: "There is no such record in this business.",
    406: "None of the types in Accept is to be had.",
    409: "A live call is in the way.",
    413: "The body is longer than 64 KB.",
    415: "The body is not said to be JSON (Content-Type: application/json).",
    422: "What was asked for cannot be; `errors` says where.",
    429: "Too many requests, or too many wrong keys.",
    503: "The database is away, or too many ask at once.",
}
_ALWAYS = (401, 429, 503)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Parser(FlaskParser):
    """webargs', which would not tell somebody that they have mistyped a query's name."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {}  # noqa: RUF012  # as webargs has it


class ApiBlueprint(flask_smorest.Blueprint):  # type: ignore[misc]  # it has no types
    """Below /api: each address says which refusals it knows besides those that all know."""

    ARGUMENTS_PARSER = _Parser()

    def address(self, method: str, rule: str, *refusals: int, **options: Any) -> Decorator:
        """Decorates a view with its address, its method and its refusals."""

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            for status in sorted({*refusals, *_ALWAYS}):
                view = self.alt_response(status, HTTPStatus(status).name)(view)
            registered: Callable[..., Any] = self.route(rule, methods=[method], **options)(view)
            return registered

        return decorate

    def arguments(self, schema: Any, **options: Any) -> Decorator:
        """As flask-smorest's."""
        decorator: Decorator = super().arguments(schema, **options)
        return decorator

    def response(self, status_code: int, schema: Any = None, **options: Any) -> Decorator:
        """As flask-smorest's, with the headers that every answer to a right key has."""
        decorator: Decorator = super().response(status_code, schema, headers=_RATE, **options)
        return decorator

    def alt_response(self, status_code: int, response: Any = None, **options: Any) -> Decorator:
        """As flask-smorest's."""
        decorator: Decorator = super().alt_response(status_code, response, **options)
        return decorator


class DocumentedApi(flask_smorest.Api):  # type: ignore[misc]  # it has no types
    """flask-smorest's, with errors as `api_problems.py` answers them."""

    DEFAULT_ERROR_RESPONSE_NAME = None  # each address names its own

    def _register_error_handlers(self) -> None:
        """None: its own would be the whole application's."""

    def _register_responses(self) -> None:
        for status, told in _REFUSALS.items():
            response: dict[str, Any] = {
                "description": told,
                "content": {CONTENT_TYPE: {"schema": ProblemSchema}},
            }
            if status in (429, 503):
                response["headers"] = _RETRY
            self.spec.components.response(HTTPStatus(status).name, response, lazy=True)


blueprint = ApiBlueprint("api", __name__, url_prefix="/api")
