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
    """Lets those in whom `limits` and their key let in.

    Before this service stand so many `proxies`, each of which adds to `X-Forwarded-For` whom it
    had the request from.
    """

    def __init__(
        self, limits: ApiLimits, proxies: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._proxies = proxies
        self._clock = clock
        self._away_until = 0.0

    def around(self, view: View) -> View:
        """`view` as it is called by Flask."""

        @functools.wraps(view)
        def guarded(**arguments: Any) -> Response:
            key = api_access.key_of(request)
            if key is None:  # nothing is looked up for it, so there is nothing to count
                return api_access.refusal(key)
            try:
                if not self._limits.is_used_up(key):
                    if self._clock() < self._away_until:
                        return database_away()
                    if not api_access.let_in(key):
                        return self._refused(key)
                wait, headers = self._limits.take(key)
                if wait:
                    return _too_many("too many requests with this key", wait, headers)
                db.session.rollback()  # the view's transaction begins anew: it may have to write
                response = current_app.make_response(view(**arguments))
            except DATABASE_FAULTS as fault:
                if cannot_connect(fault):
                    self._away_until = self._clock() + _AWAY_SECONDS
                raise
            response.headers.update(headers)
            return response

        return guarded

    def _refused(self, key: str) -> Response:
        if wait := self._limits.take_wrong(self._address()):
            return _too_many("too many wrong keys from your address", wait)
        return api_access.refusal(key)

    def _address(self) -> str:
        """Who asks: whom the outermost proxy saw; what stands before that anybody may make up."""
        hops = request.headers.get("X-Forwarded-For", "").split(",")
        if 0 < self._proxies <= len(hops):
            return hops[-self._proxies].strip()
        return request.headers.get(ADDRESS_HEADER, "")


def _too_many(detail: str, wait: int, headers: dict[str, str] | None = None) -> Response:
    return problem(429, detail, headers={**(headers or {}), "Retry-After": str(wait)})
