"""Keys to a business's records: made, shown once, and known again by their hash.

A key is `tml_<id>_<secret>`. The id (16 hex digits) is no secret: it names the key in lists, and
finds its row. The secret is 32 random bytes (64 hex digits), so guessing is hopeless and a slow
hash, which is there for passwords that people think up, would only make each request slow: one
SHA-256 of the whole key is kept.

All of it uses `db.session`, within an application's context, and waits for the database: it is for
the records' process and for commands, never for a worker that carries calls. Whoever calls commits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from sqlalchemy import select

from business_records import load_key, load_tenant
from database import db, now
from models import ApiKey

_KEY = re.compile(r"tml_([0-9a-f]{16})_[0-9a-f]{64}")
# What an unknown id is compared with: no text that is known has this hash
_NOBODYS_HASH = "0" * 64


def make_key(tenant_id: str, name: str = "") -> tuple[ApiKey, str]:
    """A new key of this business: its row, and its text, which nobody can get again.

    Raises `NotFound` if there is no such business.
    """
    load_tenant(tenant_id)
    key_id = secrets.token_hex(8)
    text = f"tml_{key_id}_{secrets.token_hex(32)}"
    key = ApiKey(id=key_id, tenant_id=tenant_id, name=name, hash=_hash(text), created_at=now())
    db.session.add(key)
    db.session.flush()
    return key, text


def revoke_key(tenant_id: str, key_id: str) -> ApiKey:
    """Have this business's key count no more; it is revoked once. Raises `NotFound`.

    The key itself does in place of its id.
    """
    shape = _KEY.fullmatch(key_id)
    key = load_key(tenant_id, shape[1] if shape else key_id)
    if key.revoked_at is None:
        key.revoked_at = now()
        db.session.flush()
    return key


def find_business(text: str) -> str | None:
    """The id of the business whose key this is; None if it is no key, or a revoked one.

    The only query that goes by no business: it is how a business is known. It takes as long for an
    unknown id as for a wrong secret.
    """
    shape = _KEY.fullmatch(text)
    if shape is None:
        return None
    key = db.session.scalar(select(ApiKey).where(ApiKey.id == shape[1]))
    is_right = hmac.compare_digest(_hash(text), key.hash if key is not None else _NOBODYS_HASH)
    if key is None or not is_right or key.revoked_at is not None:
        return None
    return key.tenant_id


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
