"""Businesses as calls know them: all of a row's fields, and changes without a restart."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from record_parts import engines_at

from businesses import Business
from database import Engines
from errors import BadBusiness
from models import Tenant
from tenant_directory import BusinessReader, add_business, changed

WHOLE = Business(
    "clinic",
    ("+97231234567", "+97231234568"),
    forward="+972541234567",
    language="en-US",
    model="phone_call",
    when_full="busy",
    sentence="Later, please.",
    max_calls=7,
    name="מרפאה",
    hints=("root canal", "crown"),
    punctuation=False,
    profanity_filter=True,
    region="eu",
    google_key_env="CLINIC_KEY",
    time_zone="Europe/London",
    keep_days=30,
)


@pytest.fixture
def engines(database_at: str) -> Iterator[Engines]:
    with engines_at(database_at) as engines:
        yield engines


def add(engines: Engines, *businesses: Business) -> None:
    with engines.writing() as session:
        for business in businesses:
            add_business(session, business)


def test_a_business_comes_back_as_it_was_put_in(engines: Engines) -> None:
    """Each field, and all numbers."""
    default = Business("default", name="D")
    add(engines, WHOLE, default)
    assert BusinessReader(engines).look() == [WHOLE, default]


def test_a_business_is_called_by_its_id_without_a_name(engines: Engines) -> None:
    """So that every list has something to show."""
    add(engines, Business("clinic"))
    assert BusinessReader(engines).look() == [Business("clinic", name="clinic")]


def test_a_change_is_seen_at_the_next_look(engines: Engines) -> None:
    """And a look without a change reads nothing."""
    add(engines, WHOLE)
    reader = BusinessReader(engines)
    assert reader.look() == [WHOLE]
    assert reader.look() is None
    with engines.writing() as session:
        session.get_one(Tenant, "clinic").language = "ar"
        changed(session)
    assert reader.look() == [msgspec.structs.replace(WHOLE, language="ar")]


def test_no_business_at_all_is_an_answer_too(engines: Engines) -> None:
    """Once."""
    reader = BusinessReader(engines)
    assert reader.look() == []
    assert reader.look() is None


def test_a_business_that_cannot_be_is_not_put_in(engines: Engines) -> None:
    """The rules stand before the table."""
    with pytest.raises(BadBusiness, match="max_calls"):
        add(engines, Business("clinic", max_calls=0))
    with engines.reading() as session:
        assert session.query(Tenant).all() == []
