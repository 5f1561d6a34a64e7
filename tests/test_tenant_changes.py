"""Changes of businesses that come at the same time: none is lost, and no number has two owners."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from businesses import Business
from database import db, writes
from errors import BadBusiness
from record_setup import database_app
from settings import Settings
from tenant_changes import (
    add_number,
    begin_change,
    change_business,
    create_business,
    load_business,
)

NUMBER = "+97231234567"
NAMES = ("clinic", "garage", "shop", "bakery")


@pytest.fixture
def app(database_at: str) -> Any:
    """The database with four businesses that have no numbers."""
    app = database_app(Settings(database_url=database_at))
    with app.app_context():
        writes()
        for name in NAMES:
            create_business(Business(name))
        db.session.commit()
    return app


def test_a_number_that_several_want_has_one_owner(app: Any) -> None:
    """The others are told whose it is."""

    def want(name: str) -> str:
        with app.app_context():
            begin_change()
            try:
                add_number(name, NUMBER)
            except BadBusiness as fault:
                db.session.rollback()
                return str(fault)
            db.session.commit()
            return ""

    with ThreadPoolExecutor(len(NAMES)) as pool:
        told = dict(zip(NAMES, pool.map(want, NAMES), strict=True))
    [owner] = [name for name, fault in told.items() if not fault]
    others = [fault for fault in told.values() if fault]
    assert len(others) == 3
    assert all(fault.startswith(f"{NUMBER} belongs to {owner}; ") for fault in others)
    with app.app_context():
        assert load_business(owner).numbers == (NUMBER,)


def test_changes_of_one_business_are_checked_one_after_the_other(app: Any) -> None:
    """A language and a model that do not go together are never both set, by whomever."""

    def change(changes: dict[str, Any]) -> bool:
        with app.app_context():
            begin_change()
            try:
                change_business("clinic", changes)
            except BadBusiness:
                db.session.rollback()
                return False
            db.session.commit()
            return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(change, [{"language": "iw-IL"}, {"model": "phone_call"}]))
    assert sorted(done) == [False, True]
    with app.app_context():
        business = load_business("clinic")
    assert None in (business.language, business.model)


def test_a_business_that_could_not_be_is_as_it_was(app: Any) -> None:
    """What is checked is all of it, as it would be after the change."""
    with app.app_context():
        begin_change()
        add_number("clinic", NUMBER)
        before = load_business("clinic")
        with pytest.raises(BadBusiness, match="forward its calls to itself"):
            change_business("clinic", {"forward": NUMBER, "name": "Another"})
        assert load_business("clinic") == before
