"""Keys to a business's records: made, found, revoked; nobody else's key is one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from databases import fresh_sqlite
from sqlalchemy import select

from api_keys import find_business, make_key, revoke_key
from businesses import Business
from database import db, writes
from errors import NotFound
from models import ApiKey
from record_setup import database_app
from settings import Settings
from tenant_directory import add_business


@pytest.fixture(autouse=True)
def two_businesses() -> Iterator[None]:
    """The clinic and the garage, in a database of their own."""
    with database_app(Settings(database_url=fresh_sqlite())).app_context():
        writes()
        add_business(db.session(), Business("clinic"))
        add_business(db.session(), Business("garage"))
        db.session.commit()
        yield
        db.session.remove()


def test_a_key_names_its_business() -> None:
    """Each key of each business leads to it and to no other, also once it was written down."""
    keys = {make_key(tenant)[1]: tenant for tenant in ("clinic", "garage", "clinic")}
    db.session.commit()
    db.session.expire_all()
    assert len(keys) == 3
    assert {text: find_business(text) for text in keys} == keys


def test_only_a_hash_of_it_is_kept() -> None:
    """The row has the id in clear and the SHA-256 of the whole; the secret is 32 bytes."""
    key, text = make_key("clinic", "the website")
    prefix, key_id, secret = text.split("_")
    assert (prefix, len(bytes.fromhex(secret))) == ("tml", 32)
    assert key_id == key.id
    assert len(key_id) == 16
    assert key.hash == hashlib.sha256(text.encode()).hexdigest()
    kept = db.session.execute(select(*ApiKey.__table__.columns)).one()
    assert not any(secret in str(value) for value in kept)


def test_a_revoked_key_counts_no_more() -> None:
    """At once, and for good; the other key of the business goes on."""
    (key, text), (_, other) = make_key("clinic"), make_key("clinic")
    at = revoke_key("clinic", key.id).revoked_at
    assert at is not None
    assert find_business(text) is None
    assert find_business(other) == "clinic"
    assert revoke_key("clinic", key.id).revoked_at == at


def test_a_stranger_revokes_nothing() -> None:
    """Another business's key id is not found, exactly as one that does not exist."""
    key, text = make_key("clinic")
    for tenant, key_id in [("garage", key.id), ("clinic", "0" * 16), ("nobody", key.id)]:
        with pytest.raises(NotFound):
            revoke_key(tenant, key_id)
    assert find_business(text) == "clinic"


def test_nobody_gets_a_key_of_no_business() -> None:
    """A business that is not there has no keys."""
    with pytest.raises(NotFound, match="there is no business 'nobody'"):
        make_key("nobody")


def test_what_is_no_key_is_nobodys() -> None:
    """Neither a wrong secret, nor the id of another key, nor anything beside a key itself."""
    (one, text), (other, _) = make_key("clinic"), make_key("garage")
    last = "0" if text[-1] != "0" else "1"
    wrong = [
        "",
        "tml_",
        text[:-1],
        text[:-1] + last,
        text + "0",
        text + "\n",
        f" {text}",
        text.upper(),
        text.replace(one.id, other.id),
        text.replace(one.id, "0" * 16),
        text.replace(one.id, "٠" * 16),
        f"tml_{one.id}_{one.hash}",
        "א" * 85,
        "tml_" + "a" * 100_000,
    ]
    assert {found for key in wrong if (found := find_business(key)) is not None} == set()


@pytest.mark.parametrize("known", [True, False])
def test_an_unknown_id_is_compared_as_well(known: bool) -> None:
    """How long the answer takes does not tell whether there is such a key."""
    key, text = make_key("clinic")
    asked = text[:-1] + ("0" if text[-1] != "0" else "1")
    if not known:
        asked = asked.replace(key.id, "0" * 16)
    with patch.object(hmac, "compare_digest", wraps=hmac.compare_digest) as compare:
        assert find_business(asked) is None
    [call] = compare.call_args_list
    assert [len(text) for text in call.args] == [64, 64]
