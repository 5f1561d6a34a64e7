"""Whatever a command does to one business, it does nothing to another, and shows nothing of it.

An owner and a teammate are of the clinic, the stranger is of the garage and names what is the
clinic's. A command that is not in the table fails the suite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import click
import pytest
from databases import fresh_sqlite
from record_cli import OLD, Run, command_runner, fill, records_of
from test_webhook_commands import OWNERS

import tenant_commands
from api_keys import make_key
from business_records import keys_of
from database import db, now
from tenant_changes import add_number, begin_change

FIRST, SECOND, GARAGE = "+97231234567", "+97231234568", "+97237654321"


@dataclass
class Person:
    """Who runs a command: what stands in its words, and the business that is to stay as it is."""

    business: str
    number: str  # to be removed
    wanted: str  # to be added
    key: str
    other: str


class Case(NamedTuple):
    """A command's words, and its exit code for the stranger: 0 where it names nobody else's."""

    words: str
    stranger: int


CASES = {
    "add": Case("add shop --number {wanted}", 2),
    "list": Case("list --json", 0),
    "show": Case("show {business} --json", 0),
    "set": Case("set {business} --name Another --language en-US --keep-days 1", 0),
    "remove": Case("remove {business} --yes", 0),
    "purge": Case("purge {business}", 0),
    "number add": Case("number add {business} {wanted}", 2),
    "number remove": Case("number remove {business} {number}", 2),
    "key new": Case("key new {business}", 0),
    "key list": Case("key list {business}", 0),
    "key revoke": Case("key revoke {business} {key}", 2),
}
# For whoever runs the service, not of one business
OF_ALL = {"list"}


def commands_of(group: click.Group, before: str = "") -> Iterator[str]:
    """The paths of all commands in a group."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{before}{name} ")
        else:
            yield before + name


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs `flask tenant …` on a database with both businesses, whose calls are old."""
    app, run = command_runner(monkeypatch, fresh_sqlite())
    with app.app_context():
        fill("clinic", FIRST, at=now() - OLD)
        fill("garage", GARAGE, at=now() - OLD)
        begin_change()
        add_number("clinic", SECOND)
        make_key("clinic", "key of clinic's teammate")
        db.session.commit()
        db.session.remove()
        yield run


def person(who: str) -> Person:
    first, second = (key.id for key in db.session.scalars(keys_of("clinic")).all())
    db.session.remove()
    return {
        "owner": Person("clinic", FIRST, "+97239999991", first, "garage"),
        "teammate": Person("clinic", SECOND, "+97239999992", second, "garage"),
        "stranger": Person("garage", FIRST, SECOND, first, "clinic"),
    }[who]


def test_every_command_is_in_the_table() -> None:
    """A new one needs its case here before it is released."""
    of_webhooks = {f"webhook {path}" for path in OWNERS}  # in a table of their own
    assert set(commands_of(tenant_commands.group)) == set(CASES) | of_webhooks


@pytest.mark.parametrize("path", CASES)
@pytest.mark.parametrize("who", ["owner", "teammate", "stranger"])
def test_nothing_happens_to_the_other_business(run: Run, who: str, path: str) -> None:
    """Its rows in all tables are as they were; what is shown has nothing of it."""
    somebody, case = person(who), CASES[path]
    before = records_of(somebody.other)
    result = run(*case.words.format(**vars(somebody)).split())
    assert result.exit_code == (case.stranger if who == "stranger" else 0), result.output
    assert records_of(somebody.other) == before
    assert all(before.values()), "a table without a row proves nothing"
    if path not in OF_ALL and result.exit_code == 0:
        assert somebody.other not in result.output
        assert not any(number in result.output for number in _numbers(somebody.other))


@pytest.mark.parametrize("path", [path for path, case in CASES.items() if case.stranger == 2])
def test_a_refused_stranger_changes_nothing_of_its_own(run: Run, path: str) -> None:
    """One line on stderr, and all is as it was on both sides."""
    somebody = person("stranger")
    before = records_of("garage")
    result = run(*CASES[path].words.format(**vars(somebody)).split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert records_of("garage") == before
    assert records_of("shop")["tenants"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("key revoke {business} {key}", "garage has no key"),
        ("number remove {business} {number}", "garage has no number"),
    ],
)
def test_what_is_anothers_is_as_if_it_were_not_there(run: Run, words: str, told: str) -> None:
    """The words are those for what does not exist at all."""
    somebody = person("stranger")
    refused = run(*words.format(**vars(somebody)).split())
    missing = run(*words.format(business="garage", key="0" * 16, number="+97230000000").split())
    assert told in refused.stderr
    assert refused.stderr.replace(somebody.key, "?").replace(
        somebody.number, "?"
    ) == missing.stderr.replace("0" * 16, "?").replace("+97230000000", "?")


def test_a_purge_of_all_keeps_what_each_keeps(run: Run) -> None:
    """Each business's own limit holds for its own records."""
    assert run("set", "garage", "--keep-days", "500").exit_code == 0
    before = records_of("garage")
    assert run("purge").exit_code == 0
    assert records_of("garage") == before
    assert records_of("clinic")["calls"] == []


def _numbers(tenant_id: str) -> list[str]:
    return [FIRST, SECOND] if tenant_id == "clinic" else [GARAGE]
