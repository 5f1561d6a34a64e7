"""The businesses as the database has them, kept in memory: a call asks, and never waits.

The watch (`record_watch.py`) looks for changes twice a second, in a native thread, so a change
holds for the next call without a restart. While the database is away, what was known holds.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from business_rules import check
from businesses import Business, Businesses
from database import Engines, insert_into
from models import ServiceState, Tenant, TenantNumber

_FIELDS = tuple(
    name for name in Business.__struct_fields__ if name not in ("tenant_id", "numbers", "hints")
)


class TenantDirectory:
    """Finds businesses in what was last read. `known`: what holds until something was."""

    def __init__(self, known: Businesses | None = None) -> None:
        self._known = known or Businesses()
        self._version: int | None = None

    @property
    def is_read(self) -> bool:
        """Whether the businesses were read; without them no call can be taken."""
        return self._version is not None

    def of_number(self, number: str) -> Business | None:
        """Whose number this is; `default` for unknown ones, None if there is no default."""
        return self._known.of_number(number)

    def of_id(self, tenant_id: str) -> Business | None:
        """The business of this id."""
        return self._known.of_id(tenant_id)

    def look(self, engines: Engines) -> bool:
        """Read the businesses anew if they have changed; whether they had. Waits."""
        with engines.reading() as session:
            version = session.scalar(select(ServiceState.version))
            if version == self._version and version is not None:
                return False
            known = Businesses(read_businesses(session))
        self._known = known  # at once: whoever asks sees all of the old ones or all of the new
        self._version = version
        return True


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
