"""Changes of businesses, each checked as a whole and told to the workers with its transaction.

All of it uses `db.session`, within an application's context; whoever calls commits. A change begins
with `begin_change()`: then no other one is under way, also in another process.
"""

from __future__ import annotations

from typing import Any

import msgspec
from flask import current_app

import business_rules
from business_records import is_tenant, load_number, load_tenant, number_owner, numbers_of
from businesses import Business
from database import db, writes
from errors import BadBusiness
from models import TenantNumber
from tenant_directory import add_business, business_of, changed


def begin_change() -> None:
    """Begin a transaction that changes a business: others wait until it is over."""
    writes()
    changed(db.session())


def load_business(tenant_id: str) -> Business:
    """A business as calls know it. Raises `NotFound`."""
    tenant = load_tenant(tenant_id)
    numbers = db.session.scalars(numbers_of(tenant_id).order_by(TenantNumber.number))
    return business_of(tenant, tuple(number.number for number in numbers))


def create_business(business: Business) -> Business:
    """Add a new business. Raises `BadBusiness` also if its id or a number is another one's."""
    business_rules.check(business, _usual_language())
    if is_tenant(business.tenant_id):
        raise BadBusiness(
            f"there is a business {business.tenant_id} already; "
            f"flask tenant set {business.tenant_id} changes it"
        )
    numbers = tuple(dict.fromkeys(business.numbers))
    for number in numbers:
        _must_be_free(business.tenant_id, number)
    add_business(db.session(), msgspec.structs.replace(business, numbers=numbers))
    return load_business(business.tenant_id)


def change_business(tenant_id: str, changes: dict[str, Any]) -> tuple[Business, Business]:
    """Change fields of a business, but for its id and numbers: it before, and it after.

    Raises `NotFound`, and `BadBusiness` if the business as a whole could not be so.
    """
    before = load_business(tenant_id)
    if changes.get("name") == "":
        changes = changes | {"name": tenant_id}
    after = msgspec.structs.replace(before, **changes)
    business_rules.check(after, _usual_language())
    tenant = load_tenant(tenant_id)
    for field in changes:
        value = getattr(after, field)
        setattr(tenant, field, list(value) if isinstance(value, tuple) else value)
    db.session.flush()
    return before, after


def add_number(tenant_id: str, number: str) -> Business:
    """Give a business one more number: it after that. Raises `NotFound` and `BadBusiness`."""
    before = load_business(tenant_id)
    if number in before.numbers:
        raise BadBusiness(f"{number} belongs to {tenant_id} already")
    after = msgspec.structs.replace(before, numbers=(*before.numbers, number))
    business_rules.check(after, _usual_language())
    _must_be_free(tenant_id, number)
    db.session.add(TenantNumber(number=number, tenant_id=tenant_id))
    db.session.flush()
    return load_business(tenant_id)


def remove_number(tenant_id: str, number: str) -> Business:
    """Take a number from a business: it after that. Raises `NotFound`."""
    load_tenant(tenant_id)
    db.session.delete(load_number(tenant_id, number))
    db.session.flush()
    return load_business(tenant_id)


def _must_be_free(tenant_id: str, number: str) -> None:
    owner = number_owner(number)
    if owner is not None:
        raise BadBusiness(
            f"{number} belongs to {owner}; flask tenant number remove {owner} {number} "
            f"frees it for {tenant_id}"
        )


def _usual_language() -> str | None:
    """STT_LANGUAGE, where the command has the service's environment."""
    usual: str | None = current_app.config.get("STT_LANGUAGE")
    return usual
