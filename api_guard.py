"""Around every view of the API: who asks, how often, and a database that is away.

Laid around all views at once (`api.py`), so that none can be without a key or a limit.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from flask import Response, current_app, request

import api_access
from api_door import ADDRESS_HEADER
from api_limits import ApiLimits
from api_problems import DATABASE_FAULTS, cannot_connect, database_away, problem
from database import db

# Who asks so soon after somebody found the database away is told so at once
_AWAY_SECONDS = 2.0

View = Callable[..., Any]


class ApiGuard:
    """Lets those in whom `limits` and their key let in."""

    def __init__(self, limits: ApiLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._away_until = 0.0

    def around(self, view: View) -> View:
        """`view` as it is called by Flask."""

        @functools.wraps(view)
        def guarded(**arguments: Any) -> Response:
            address = request.headers.get(ADDRESS_HEADER, "")
            key = api_access.key_of(request)
            if wait := self._limits.wait_of_address(address, key):
                return _too_many("too many wrong keys from your address", wait)
            if key is None:
                self._limits.note_wrong(address)
                return api_access.refusal(key)
            wait, headers = self._limits.take(key)
            if wait:
                return _too_many("too many requests with this key", wait, headers)
            if self._clock() < self._away_until:
                return database_away()
            try:
                if not api_access.let_in(key):
                    self._limits.note_wrong(address)
                    return api_access.refusal(key)
                self._limits.note_right(key)
                db.session.rollback()  # the view's transaction begins anew: it may have to write
                response = current_app.make_response(view(**arguments))
            except DATABASE_FAULTS as fault:
                if cannot_connect(fault):
                    self._away_until = self._clock() + _AWAY_SECONDS
                raise
            response.headers.update(headers)
            return response

        return guarded


def _too_many(detail: str, wait: int, headers: dict[str, str] | None = None) -> Response:
    return problem(429, detail, headers={**(headers or {}), "Retry-After": str(wait)})
