"""`flask tenant …`: what each command does, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from databases import fresh_sqlite
from google_keys import service_account_key
from record_cli import OLD, Run, add_call, command_runner, fill, records_of
from test_tenant_isolation import CASES, commands_of
from test_webhook_commands import OWNERS

import tenant_commands
import tenant_removal
from api_keys import find_business
from database import db, now
from models import ServiceState

CLINIC, GARAGE = "+97231234567", "+97237654321"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database_at: str) -> Iterator[Run]:
    """Runs `flask tenant …` in this process, on a fresh database of each kind."""
    app, run = command_runner(monkeypatch, database_at)
    with app.app_context():
        yield run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The same on SQLite alone, for what does not depend on the database."""
    app, run = command_runner(monkeypatch, fresh_sqlite())
    with app.app_context():
        yield run


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def assert_one_line(result: Result, *parts: str, code: int = 2) -> None:
    """It failed with `code` and one line on stderr that has all `parts` in it."""
    assert (result.exit_code, result.stdout) == (code, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("tamlil: ")
    assert len(line) < 400
    for part in parts:
        assert part in line


def version() -> int:
    db.session.remove()
    seen: int = db.session.scalars(db.select(ServiceState.version)).one()
    return seen


ALL = {
    "name": "Dr. Levi",
    "language": "en-US",
    "model": "telephony",
    "region": "eu",
    "google-key-env": "CLINIC_GOOGLE_KEY",
    "max-calls": "40",
    "forward": "+972541234567",
    "when-full": "forward",
    "sentence": "התקשרו מאוחר יותר",
    "time-zone": "Europe/Berlin",
    "keep-days": "30",
}


def test_a_business_lives(run: Run) -> None:
    """Added with everything, shown, changed, unset, removed; each step is told to the workers."""
    words = [word for name, value in ALL.items() for word in (f"--{name}", value)]
    words += ["--hint", "root canal", "--hint", "לוי", "--no-punctuation", "--profanity-filter"]
    seen = version()
    made = told(run("add", "clinic", "--number", CLINIC, *words, "--unchecked", "--json"))
    assert made == {
        "id": "clinic",
        "numbers": [CLINIC],
        "hints": ["root canal", "לוי"],
        "punctuation": False,
        "profanity_filter": True,
        **{name.replace("-", "_"): value for name, value in ALL.items()},
        "max_calls": 40,
        "keep_days": 30,
    }
    assert version() > seen
    seen = version()
    shown = told(run("show", "clinic", "--json"))
    assert shown.pop("records") == dict.fromkeys(shown_records(), 0) | {"numbers": 1}
    assert shown == made
    unset = ["language", "model", "google-key-env", "max-calls", "sentence"]
    empty = [word for name in unset for word in (f"--{name}", "")]
    changed = told(run("set", "clinic", *empty, "--hint", "", "--punctuation", "--json"))
    nothing = {name.replace("-", "_"): None for name in unset}
    assert changed == made | nothing | {"hints": [], "punctuation": True}
    assert version() > seen
    assert told(run("list", "--json")) == [changed, *told(run("list", "--json"))[1:]]
    assert told(run("remove", "clinic", "--yes", "--json"))["removed"]
    assert_one_line(run("show", "clinic"), "there is no business 'clinic'")


def shown_records() -> list[str]:
    return ["numbers", "keys", "calls", "utterances", "leads", "events", "usage_months"]


def test_people_read_what_was_changed(quick: Run) -> None:
    """The old and the new value, and that it holds; nothing if it was so."""
    quick("add", "clinic", "--number", CLINIC)
    result = quick("set", "clinic", "--language", "en-US", "--name", "Levi")
    assert result.stdout.splitlines() == [
        "  language          not set (STT_LANGUAGE) → en-US",
        "  name              clinic → Levi",
        "Changed. It holds from the next call on; no restart is needed.",
    ]
    again = quick("set", "clinic", "--language", "en-US").stdout
    assert again == "Nothing is to be changed: it is set so.\n"
    assert quick("list").stdout.splitlines()[0].split() == ["clinic", "en-US", CLINIC, "Levi"]
    assert f"  numbers           {CLINIC}" in quick("show", "clinic").stdout.splitlines()


def test_numbers_come_and_go(run: Run) -> None:
    """A number has one owner at a time, who is named to whoever wants it too."""
    run("add", "clinic", "--number", CLINIC)
    run("add", "garage")
    seen = version()
    assert told(run("number", "add", "garage", GARAGE, "--json"))["numbers"] == [GARAGE]
    assert version() > seen
    assert_one_line(run("number", "add", "garage", CLINIC), f"{CLINIC} belongs to clinic; flask")
    assert_one_line(run("add", "shop", "--number", CLINIC), f"{CLINIC} belongs to clinic; flask")
    assert_one_line(run("number", "add", "clinic", CLINIC), "belongs to clinic already")
    assert told(run("number", "remove", "clinic", CLINIC, "--json"))["numbers"] == []
    assert told(run("number", "add", "garage", CLINIC, "--json"))["numbers"] == [CLINIC, GARAGE]


def test_a_key_is_shown_once_and_opens_its_business(run: Run) -> None:
    """Its text is all of stdout, for scripts; lists have its id, and a revoked one is dead."""
    run("add", "clinic")
    made = run("key", "new", "clinic", "--name", "the website")
    text = made.stdout.strip()
    assert find_business(text) == "clinic"
    assert "never shown again" in made.stderr
    [key] = told(run("key", "list", "clinic", "--json"))
    assert (key["name"], key["revoked_at"]) == ("the website", None)
    assert text.split("_")[2] not in run("key", "list", "clinic").stdout
    assert key["id"] in run("key", "list", "clinic").stdout
    assert told(run("key", "revoke", "clinic", key["id"], "--json"))["revoked_at"]
    db.session.remove()
    assert find_business(text) is None
    assert "revoked" in run("key", "list", "clinic").stdout


def test_a_business_is_removed_with_all_it_has(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """First it is said what that is; more than a batch of records goes too."""
    monkeypatch.setattr(tenant_removal, "_BATCH", 2)
    fill("clinic", CLINIC)
    for _ in range(4):
        add_call("clinic", now(), ended=True)
    db.session.commit()
    fill("garage", GARAGE)
    before, others = records_of("clinic"), records_of("garage")
    asked = run("remove", "clinic")
    assert asked.stdout.splitlines() == [
        "Would be deleted: the business clinic, 1 number, 1 key, 5 calls, 5 utterances, 1 lead, "
        "1 event, 1 usage month.",
        "Nothing was changed; with --yes it is.",
    ]
    assert records_of("clinic") == before
    assert run("remove", "clinic", "--yes").exit_code == 0
    assert not any(records_of("clinic").values())
    assert records_of("garage") == others


def test_live_calls_hold_a_removal_up(quick: Run) -> None:
    """Whoever means it says so."""
    fill("clinic", CLINIC)
    add_call("clinic", now(), ended=False)
    db.session.commit()
    assert "Mind: it has 1 live call: --force" in quick("remove", "clinic").stdout
    assert_one_line(quick("remove", "clinic", "--yes"), "clinic has 1 live call", "--force")
    assert records_of("clinic")["tenants"]
    assert quick("remove", "clinic", "--yes", "--force").exit_code == 0
    assert not any(records_of("clinic").values())


def test_the_last_business_stays_removed(quick: Run) -> None:
    """BUSINESSES is what a database begins with, not what it comes back to."""
    assert [one["id"] for one in told(quick("list", "--json"))] == ["default"]
    assert quick("remove", "default", "--yes").exit_code == 0
    assert told(quick("list", "--json")) == []
    assert "There are no businesses" in quick("list").stdout


def test_a_purge_deletes_what_is_old(run: Run) -> None:
    """As a dry run it says so and deletes nothing."""
    fill("clinic", CLINIC, at=now() - OLD)
    add_call("clinic", now(), ended=True)
    db.session.commit()
    before = records_of("clinic")
    old = {"calls": 1, "leads": 1, "events": 0}
    dry = told(run("purge", "clinic", "--dry-run", "--json"))
    assert dry == {"deleted": False, "businesses": {"clinic": old}}
    assert records_of("clinic") == before
    assert "clinic: deleted: 1 call, 1 lead" in run("purge").stdout
    left = records_of("clinic")
    assert (len(left["calls"]), len(left["utterances"]), left["leads"]) == (1, 1, [])
    assert_one_line(run("purge", "nobody"), "there is no business 'nobody'")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["add", "clinic"], ["there is a business clinic already", "flask tenant set clinic"]),
        (["add", "a b"], ["an id is 1 to 64 letters"]),
        (["add", "x", "--number", "031234567"], ["'031234567' is no number such as"]),
        (["set", "clinic"], ["say what to set"]),
        (["set", "nobody", "--name", "x"], ["there is no business 'nobody'"]),
        (["set", "clinic", "--language", "iw_IL"], ["is no language", "perhaps iw-IL"]),
        (["set", "clinic", "--model", "phone_call"], ["for iw-IL; it takes default, command_and"]),
        (["set", "clinic", "--forward", CLINIC], ["forward its calls to itself"]),
        (["set", "clinic", "--when-full", "forward"], ["there is no number in forward"]),
        (["set", "clinic", "--when-full", "sing"], ["say, busy or forward"]),
        (["set", "clinic", "--region", "asia"], ["global, eu, us"]),
        (["set", "clinic", "--time-zone", "Tel Aviv"], ["is no time zone"]),
        (["set", "clinic", "--time-zone", ""], ["is no time zone"]),
        (["set", "clinic", "--max-calls", "many"], ["max_calls is a whole number, not 'many'"]),
        (["set", "clinic", "--max-calls", "0"], ["must be 1 or more"]),
        (["set", "clinic", "--max-calls", "9" * 30], ["max_calls is at most"]),
        (["set", "clinic", "--keep-days", ""], ["keep_days is a whole number"]),
        (["set", "clinic", "--keep-days", "0"], ["keep_days must be from 1"]),
        (["set", "clinic", "--sentence", "a\x07b"], ["--sentence: has characters that are no"]),
        (["set", "clinic", "--hint", "x" * 101], ["a hint has 1 to 100 characters"]),
        (["set", "clinic", "--hints-file", "/nowhere"], ["--hints-file: /nowhere cannot be read"]),
        (["number", "add", "nobody", GARAGE], ["there is no business 'nobody'"]),
        (["number", "remove", "clinic", GARAGE], [f"clinic has no number '{GARAGE}'"]),
        (["key", "new", "nobody"], ["there is no business 'nobody'"]),
        (["key", "new", "clinic", "--name", "x" * 101], ["at most 100 printable characters"]),
        (["key", "list", "nobody"], ["there is no business 'nobody'"]),
        (["key", "revoke", "clinic", "0" * 16], ["clinic has no key"]),
        (["remove", "nobody", "--yes"], ["there is no business 'nobody'"]),
        (["show"], ["Missing argument 'ID'", "flask tenant show --help"]),
        (["show", "clinic", "--colour"], ["No such option '--colour'"]),
        (["sing"], ["No such command 'sing'", "flask tenant --help"]),
        (["key", "sing"], ["No such command 'sing'", "flask tenant key --help"]),
    ],
)
def test_what_cannot_be_is_one_line(quick: Run, words: list[str], parts: list[str]) -> None:
    """It says what is wrong and what would do; the exit code is 2, and nothing is changed."""
    quick("add", "clinic", "--number", CLINIC, "--language", "iw-IL")
    before = records_of("clinic")
    result = quick(*words)
    assert_one_line(result, *(part.replace("flask tenant", "tenant") for part in parts[1:]))
    assert parts[0].replace("flask tenant", "tenant") in result.stderr
    assert records_of("clinic") == before


def test_a_language_is_checked_with_the_model_that_holds(quick: Run) -> None:
    """Either alone is refused if the two do not go together, and both at once are taken."""
    quick("add", "clinic", "--language", "en-US", "--model", "phone_call")
    refused = quick("set", "clinic", "--language", "iw-IL")
    assert_one_line(
        refused, "no model 'phone_call' for iw-IL; it takes default, command_and_search"
    )
    assert quick("set", "clinic", "--language", "iw-IL", "--model", "default").exit_code == 0
    assert quick("set", "clinic", "--language", "en-US", "--model", "").exit_code == 0
    assert quick("set", "clinic", "--language", "iw-IL").exit_code == 0


def test_hints_come_from_files_too(quick: Run, tmp_path: Path) -> None:
    """One a line, after those of the command, each once; bytes that are no text are refused."""
    quick("add", "clinic")
    names = tmp_path / "names.txt"
    names.write_text("\ufefflevi\n\n  כהן  \nlevi\n", "utf-8")
    words = ("set", "clinic", "--hint", "root canal", "--json", "--hints-file")
    assert told(quick(*words, str(names)))["hints"] == ["root canal", "levi", "כהן"]
    assert told(quick(*words, "-", input="a\nb\n"))["hints"] == ["root canal", "a", "b"]
    names.write_bytes(b"\xff\xfe\x00")
    assert_one_line(quick(*words, str(names)), "is no text file in UTF-8")


def test_a_google_key_is_named_and_looked_at(quick: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable must hold a usable key here, or be believed; a key itself is never taken."""
    quick("add", "clinic")
    words = ("set", "clinic", "--google-key-env")
    key = service_account_key()
    for given in (key, "AIzaSyD-secret", "key.json"):
        result = quick(*words, given)
        assert_one_line(result, "never the key itself")
        assert given not in result.stderr
    monkeypatch.delenv("CLINIC_GOOGLE_KEY", raising=False)
    assert_one_line(
        quick(*words, "CLINIC_GOOGLE_KEY"), "CLINIC_GOOGLE_KEY is not set", "--unchecked"
    )
    monkeypatch.setenv("CLINIC_GOOGLE_KEY", '{"type": "secret"}')
    assert_one_line(quick(*words, "CLINIC_GOOGLE_KEY"), "CLINIC_GOOGLE_KEY: is not a service")
    monkeypatch.setenv("CLINIC_GOOGLE_KEY", key)
    assert quick(*words, "CLINIC_GOOGLE_KEY").exit_code == 0
    assert quick(*words, "ANOTHER_KEY", "--unchecked").exit_code == 0
    assert told(quick("show", "clinic", "--json"))["google_key_env"] == "ANOTHER_KEY"


@pytest.mark.parametrize(
    ("url", "code", "part"),
    [
        ("postgres://me:hush@127.0.0.1:1/x", 1, "the database cannot be used: connection"),
        ("sqlite:////nowhere/x.db", 1, "the database cannot be used: unable to open"),
        ("nonsense", 2, "DATABASE_URL: is no URL"),
    ],
)
def test_a_database_that_is_away_is_one_line(
    quick: Run, monkeypatch: pytest.MonkeyPatch, url: str, code: int, part: str
) -> None:
    """It has an exit code of its own, and no password; help needs no database."""
    monkeypatch.setenv("DATABASE_URL", url)
    result = quick("list")
    assert_one_line(result, part, code=code)
    assert "hush" not in result.stderr
    assert quick("list", "--help").exit_code == 0


@pytest.mark.parametrize("path", CASES)
def test_every_command_explains_itself_and_speaks_json(quick: Run, path: str) -> None:
    """With an example that can be typed, of this very command."""
    text = quick(*path.split(), "--help").stdout
    assert "Example" in text
    assert f"flask tenant {path}" in text
    assert "--json" in text


def test_the_table_of_commands_is_whole() -> None:
    """What is tested above for every command is tested for all there are."""
    of_webhooks = {f"webhook {path}" for path in OWNERS}  # in a table of their own
    assert set(commands_of(tenant_commands.group)) == set(CASES) | of_webhooks
