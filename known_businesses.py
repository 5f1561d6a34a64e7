"""The businesses as calls know them, kept in memory: who asks never waits.

The records' process looks for changes twice a second, so a change holds for the next call without a
restart. While the database is away, what was known holds.
"""

from __future__ import annotations

from collections.abc import Iterable

from businesses import Business, Businesses


class KnownBusinesses:
    """Finds businesses in what was last told."""

    def __init__(self) -> None:
        self._known: Businesses | None = None

    @property
    def is_read(self) -> bool:
        """Whether the businesses are known; without them no call can be taken."""
        return self._known is not None

    def tell(self, businesses: Iterable[Business]) -> None:
        """These are all, from now on: whoever asks sees all of the old ones or all of these."""
        self._known = Businesses(businesses)

    def of_number(self, number: str) -> Business | None:
        """Whose number this is; `default` for unknown ones, None if there is no default."""
        return None if self._known is None else self._known.of_number(number)

    def of_id(self, tenant_id: str) -> Business | None:
        """The business of this id."""
        return None if self._known is None else self._known.of_id(tenant_id)
