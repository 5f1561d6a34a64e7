"""Who asks: the business whose key stands in `Authorization: Bearer KEY`."""

from __future__ import annotations

from flask import Request, Response, g

from api_keys import find_business
from api_problems import problem

_CHALLENGE = 'Bearer realm="tamlil"'
# Far more than a key has; what is longer is none
_KEY_LENGTH = 200


def key_of(request: Request) -> str | None:
    """The key that a request brings; None without one."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not 0 < len(key) <= _KEY_LENGTH or not key.isascii():
        return None
    return key


def let_in(key: str) -> bool:
    """Whether `key` is a business's, which is who asks from now on. Waits for the database."""
    g.tenant_id = find_business(key)
    return g.tenant_id is not None


def tenant_id() -> str:
    """The business that asks. Views only: whoever is not let in comes to none."""
    business: str = g.tenant_id
    return business


def refusal(key: str | None) -> Response:
    """401: no key, or a wrong one."""
    detail = "this key is wrong, or was revoked" if key else "send Authorization: Bearer KEY"
    return problem(401, detail, headers={"WWW-Authenticate": _CHALLENGE})
