"""The businesses in the database: read for the calls when they change, and added.

Runs in the records' own process and in commands; what calls know is in `known_businesses.py`.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from business_rules import check
from businesses import Business
from database import Engines, insert_into
from models import ServiceState, Tenant, TenantNumber

_FIELDS = tuple(
    name for name in Business.__struct_fields__ if name not in ("tenant_id", "numbers", "hints")
)

_VERSION = select(ServiceState.version)  # asked twice a second: put together once


class BusinessReader:
    """Reads the businesses anew when they have changed."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._version: int | None = None

    def look(self) -> list[Business] | None:
        """All businesses, if they have changed since the last look; else None."""
        with self._engines.reading() as session:
            version = session.scalar(_VERSION)
            if version == self._version and version is not None:
                return None
            found = read_businesses(session)
        self._version = version
        return found


def read_businesses(session: Session) -> list[Business]:
    """All businesses, with their numbers."""
    numbers: dict[str, list[str]] = {}
    for number in session.scalars(select(TenantNumber).order_by(TenantNumber.number)):
        numbers.setdefault(number.tenant_id, []).append(number.number)
    return [
        business_of(tenant, tuple(numbers.get(tenant.id, ())))
        for tenant in session.scalars(select(Tenant).order_by(Tenant.id))
    ]


def business_of(tenant: Tenant, numbers: tuple[str, ...]) -> Business:
    """A business's row, as calls know it."""
    fields = {name: getattr(tenant, name) for name in _FIELDS}
    return Business(tenant_id=tenant.id, numbers=numbers, hints=tuple(tenant.hints), **fields)


def add_business(session: Session, business: Business) -> Tenant:
    """Put a new business into the database. Raises `BadBusiness`."""
    check(business)
    fields = {name: getattr(business, name) for name in _FIELDS}
    fields["name"] = business.name or business.tenant_id
    tenant = Tenant(id=business.tenant_id, hints=list(business.hints), **fields)
    session.add(tenant)
    session.flush()
    for number in business.numbers:
        session.add(TenantNumber(number=number, tenant_id=tenant.id))
    changed(session)
    return tenant


def changed(session: Session) -> None:
    """A business was changed in this transaction: workers read all of them again."""
    insert = insert_into(session, ServiceState).values(id=1, version=1)
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["id"], set_={"version": ServiceState.version + 1}
        )
    )
