"""Every view of the API, and the look-up of its key, runs in a native thread: databases are slow.

`guard()` is laid around all views at once (`api.py`), so that none can be without a key, a limit or
the thread. What a view uses of the request is read before, because a socket belongs to its
greenlet; what it raises is brought back and raised here, because gevent would print it. A view must
not log. Its session ends in its thread.
"""

from __future__ import annotations

import contextvars
import functools
import time
from collections.abc import Callable
from typing import Any

from flask import Response, current_app, request
from flask.typing import ResponseReturnValue

import api_access
import native_threads
from api_limits import ApiLimits
from api_problems import DATABASE_FAULTS, cannot_connect, database_away, problem
from database import db

# As many may wait for an answer in a worker; with the database away each waits for seconds
MOST_WAITING = 16
# Who asks so soon after somebody found the database away is told so at once
_AWAY_SECONDS = 2.0

View = Callable[..., Any]


class ApiThreads:
    """Carries views out in native threads, for those whom `limits` and their key let in."""

    def __init__(self, limits: ApiLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._waiting = 0
        self._away_until = 0.0

    def guard(self, view: View) -> View:
        """`view` as it is called by Flask."""

        @functools.wraps(view)
        def guarded(**arguments: Any) -> ResponseReturnValue:
            address = request.remote_addr or ""
            key = api_access.key_of(request)
            if wait := self._limits.wait_of_address(address, key):
                return _too_many("too many wrong keys from your address", wait)
            if key is None:
                self._limits.note_wrong(address)
                return api_access.refusal(key)
            wait, headers = self._limits.take(key)
            if wait:
                return _too_many("too many requests with this key", wait, headers)
            request.get_data(cache=True)
            answer = self._call(view, arguments, key)
            if answer is None:
                self._limits.note_wrong(address)
                return api_access.refusal(key)
            self._limits.note_right(key)
            response = current_app.make_response(answer)
            response.headers.update(headers)
            return response

        return guarded

    def _call(self, view: View, arguments: dict[str, Any], key: str) -> ResponseReturnValue | None:
        if self._waiting >= MOST_WAITING or self._clock() < self._away_until:
            return database_away()
        self._waiting += 1
        try:
            answer: ResponseReturnValue | None = run_in_thread(_answer, view, arguments, key)
        except DATABASE_FAULTS as fault:
            if cannot_connect(fault):
                self._away_until = self._clock() + _AWAY_SECONDS
            raise
        finally:
            self._waiting -= 1
        return answer


def run_in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns or raises, from a native thread with this request's context."""
    context = contextvars.copy_context()
    done, fault = native_threads.here().call(context.run, _finish, function, *arguments)
    if fault is not None:
        raise fault
    return done


def _answer(view: View, arguments: dict[str, Any], key: str) -> ResponseReturnValue | None:
    if not api_access.let_in(key):
        return None
    db.session.rollback()  # the view's transaction begins anew: it may have to write
    answer: ResponseReturnValue = view(**arguments)
    return answer


def _finish(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        try:
            return function(*arguments), None
        finally:
            db.session.remove()
    except Exception as fault:  # whatever it is, the greenlet raises it
        return None, fault


def _too_many(detail: str, wait: int, headers: dict[str, str] | None = None) -> Response:
    return problem(429, detail, headers={**(headers or {}), "Retry-After": str(wait)})
