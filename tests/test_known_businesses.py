"""The businesses as calls know them."""

from __future__ import annotations

from businesses import Business
from known_businesses import KnownBusinesses

CLINIC = Business("clinic", ("+97231234567",))


def test_nothing_is_known_until_it_is_told() -> None:
    """Which is not the same as that there is nobody."""
    known = KnownBusinesses()
    assert not known.is_read
    assert known.of_id("clinic") is known.of_number("+97231234567") is None
    known.tell([])
    assert known.is_read
    assert known.of_id("clinic") is None


def test_what_is_told_last_holds() -> None:
    """All of it, at once."""
    known = KnownBusinesses()
    known.tell([CLINIC, Business("default")])
    assert known.of_number("+97231234567") == known.of_id("clinic") == CLINIC
    assert known.of_number("+1") == Business("default")
    known.tell([Business("garage")])
    assert known.of_id("clinic") is known.of_number("+97231234567") is None
