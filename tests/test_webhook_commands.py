"""`flask tenant webhook …` on a real database, by people of two businesses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import Result
from databases import fresh_sqlite
from record_cli import Run, command_runner
from webhook_parts import AT, add_events, add_webhook, engines_at, events
from webhook_receiver import SECRET, Answer, WebhookReceiver

import webhook_commands
from database import Engines
from local_stack import free_port
from models import Webhook, WebhookSecret
from webhook_queue import WebhookQueue
from webhook_seats import Room
from webhook_signing import new_secret


@pytest.fixture
def database() -> str:
    return fresh_sqlite()


@pytest.fixture
def engines(database: str) -> Iterator[Engines]:
    """Two businesses: `clinic` has events in every state, `garage` a webhook of its own."""
    with engines_at(database) as engines:
        add_webhook(engines, "clinic", "https://127.0.0.1:9999/clinic")
        add_webhook(engines, "garage", "https://127.0.0.1:9999/garage", new_secret())
        settle(engines)
        yield engines


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: str, engines: Engines) -> Run:
    """Runs `flask tenant webhook …`."""
    monkeypatch.delenv("WEBHOOK_ALLOW_PRIVATE", raising=False)
    _, tenant = command_runner(monkeypatch, database)
    return lambda *words: tenant("webhook", *words)


@pytest.fixture
def private(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", "1")


def settle(engines: Engines) -> None:
    """Of `clinic`: `CA0` delivered, `CA1` given up, `CA2` waiting."""
    for n, uid in enumerate(UIDS):
        add_events(engines, "clinic", f"CA{n}", range(1))
        with engines.writing() as session:
            event = events(engines)[n]
            session.add(event)
            event.uid = uid
    queue = WebhookQueue(engines, "w1")
    taken = {delivery.uid: delivery for delivery in queue.take(Room(2)) or ()}
    queue.delivered(taken[DELIVERED])
    queue.failed(taken[GIVEN_UP], "answered 500", None)


UIDS = DELIVERED, GIVEN_UP, WAITING = "d" * 32, "e" * 32, "f" * 32


def states(engines: Engines) -> list[str]:
    """What has become of the events of `clinic`."""
    names = {(False, False): "waiting", (True, False): "delivered", (False, True): "given up"}
    return [
        names[bool(event.delivered_at), bool(event.given_up_at)]
        for event in events(engines, "clinic")
    ]


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(result: Result, code: int, *parts: str) -> None:
    """One line on stderr that has all `parts` in it, and this exit code."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("tamlil: ")
    for part in parts:
        assert part in line


def test_the_first_webhook_comes_with_a_secret_that_is_shown_once(
    run: Run, engines: Engines, private: None
) -> None:
    """Set again, the URL changes and the secret stays, unseen."""
    run("remove", "clinic")
    first = told(run("set", "clinic", "http://127.0.0.1:9/a", "--json"))
    assert first["secret"].startswith("whsec_")
    second = run("set", "clinic", "http://127.0.0.1:9/b")
    assert second.exit_code == 0
    assert "whsec_" not in second.output
    shown = told(run("show", "clinic", "--json"))
    assert (shown["url"], shown["secrets"]) == ("http://127.0.0.1:9/b", 1)
    for words in (("show", "clinic"), ("secret", "list", "clinic")):
        assert first["secret"] not in run(*words).output


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://crm.example/", ("must begin with https://",)),
        ("https://127.0.0.1/", ("127.0.0.1", "not a public address", "WEBHOOK_ALLOW_PRIVATE=1")),
        ("https://169.254.169.254/latest", ("not a public address",)),
        ("https://u:p@crm.example/", ("a password",)),
    ],
)
def test_a_url_that_is_not_allowed_is_not_set(
    run: Run, engines: Engines, url: str, parts: tuple[str, ...]
) -> None:
    """One line says why, and what was set before holds."""
    refused(run("set", "clinic", url), 2, *parts)
    assert told(run("show", "clinic", "--json"))["url"] == "https://127.0.0.1:9999/clinic"


def test_what_waits_goes_to_the_new_url(run: Run, engines: Engines) -> None:
    """As the command's help says: not only what happens on later calls."""
    assert "events that still wait for another URL" in " ".join(run("set", "--help").output.split())
    assert run("set", "clinic", "https://93.184.216.34/new").exit_code == 0
    waiting = WebhookQueue(engines, "w1").take(Room(1, {"garage": 2})) or []
    assert [(one.uid, one.url) for one in waiting] == [(WAITING, "https://93.184.216.34/new")]


def test_a_name_that_cannot_be_resolved_now_is_only_warned_of(run: Run) -> None:
    """It may be on its way into the name service."""
    done = run("set", "clinic", "https://no-such-host.invalid/hook")
    assert done.exit_code == 0
    assert "warning: no-such-host.invalid cannot be resolved" in done.stderr
    assert told(run("show", "clinic", "--json"))["url"] == "https://no-such-host.invalid/hook"


def test_show_counts_what_became_of_the_events(run: Run) -> None:
    """And says the last error of one that has not arrived."""
    shown = told(run("show", "clinic", "--json"))
    assert shown == {
        "business": "clinic",
        "url": "https://127.0.0.1:9999/clinic",
        "secrets": 1,
        "waiting": 1,
        "delivered": 1,
        "given_up": 1,
        "last_error": "answered 500",
    }
    assert "given up: 1" in run("show", "clinic").output.splitlines()


def test_remove_gives_up_what_waits(run: Run, engines: Engines) -> None:
    """And deletes the secrets: a webhook set later begins with a new one."""
    assert told(run("remove", "clinic", "--json")) == {"business": "clinic", "given_up": 1}
    assert states(engines) == ["delivered", "given up", "given up"]
    assert events(engines, "clinic")[2].last_error == "the webhook was removed"
    refused(run("show", "clinic"), 2, "clinic has no webhook")
    with engines.reading() as session:
        assert [one.tenant_id for one in session.query(WebhookSecret)] == ["garage"]


def test_events_are_listed_newest_first(run: Run) -> None:
    """All of them, those given up only, or so many."""
    listed = told(run("events", "clinic", "--json"))
    assert [(one["id"], one["state"]) for one in listed] == [
        (WAITING, "waiting"),
        (GIVEN_UP, "given up"),
        (DELIVERED, "delivered"),
    ]
    (line,) = run("events", "clinic", "--given-up").output.splitlines()
    assert line.startswith(f"{GIVEN_UP} ")
    assert line.endswith("utterance.final: given up, tries=1, answered 500")
    assert len(told(run("events", "clinic", "--limit", "2", "--json"))) == 2


@pytest.mark.parametrize(
    ("which", "after"),
    [
        (("--event", DELIVERED), ["waiting", "given up", "waiting"]),
        (("--event", GIVEN_UP), ["delivered", "waiting", "waiting"]),
        (("--given-up",), ["delivered", "waiting", "waiting"]),
        (("--since", AT.isoformat()), ["waiting", "waiting", "waiting"]),
        # noon in UTC is two in the afternoon in Jerusalem, where the business is
        (("--since", "2026-11-27T14:00"), ["waiting", "waiting", "waiting"]),
        (("--since", "2026-11-27T14:01"), ["delivered", "given up", "waiting"]),
    ],
)
def test_resend(run: Run, engines: Engines, which: tuple[str, ...], after: list[str]) -> None:
    """What is meant waits again, from its first try on; nothing else is touched."""
    before = states(engines)
    count = told(run("resend", "clinic", *which, "--json"))["events"]
    assert states(engines) == after
    for event, was in zip(events(engines, "clinic"), before, strict=True):
        if was != "waiting" and event.next_try_at is not None:
            assert (event.tries, event.claimed_by) == (0, None)
            assert event.resent_at is not None
    assert count == sum(event.resent_at is not None for event in events(engines, "clinic"))


def test_what_is_on_its_way_is_not_sent_beside_itself(run: Run, engines: Engines) -> None:
    """A resend leaves the event that a sender holds just now."""
    taken = WebhookQueue(engines, "w1").take(Room(1))
    assert [held.uid for held in taken or ()] == [WAITING]
    assert told(run("resend", "clinic", "--event", WAITING, "--json"))["events"] == 0
    assert events(engines, "clinic")[2].claimed_by == "w1"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("resend", "clinic"), 2, "one of --event UID"),
        (("resend", "clinic", "--given-up", "--event", DELIVERED), 2, "one of --event UID"),
        (("resend", "clinic", "--since", "yesterday"), 2, "write a time as"),
        (("resend", "clinic", "--event", "nope"), 2, "no event 'nope'"),
        (("set", "nobody", "https://8.8.8.8/"), 2, "no business 'nobody'"),
        (("events", "nobody"), 2, "no business 'nobody'"),
        (("show", "nobody"), 2, "no webhook"),
        (("secret", "new", "nobody"), 2, "no webhook"),
        (("secret", "remove", "clinic", "99"), 2, "no secret 99"),
        (("secret", "remove", "clinic", "1"), 2, "make a new one first"),
    ],
)
def test_what_a_person_can_mend(run: Run, words: tuple[str, ...], code: int, part: str) -> None:
    """Is one line and an exit code."""
    refused(run(*words), code, part)


def test_a_setting_that_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the variable."""
    monkeypatch.setenv("WEBHOOK_ALLOW_PRIVATE", "yes")
    refused(run("set", "clinic", "https://8.8.8.8/"), 2, "WEBHOOK_ALLOW_PRIVATE=yes")


def test_secrets_are_rotated_without_a_gap(run: Run, private: None) -> None:
    """While there are two, an event verifies by each; the removed one signs no more."""
    new = told(run("secret", "new", "clinic", "--json"))["secret"]
    with WebhookReceiver(secret=SECRET) as old_one, WebhookReceiver(secret=new) as new_one:
        for receiver in (old_one, new_one):
            run("set", "clinic", receiver.url)
            assert run("test", "clinic").exit_code == 0
            assert receiver.arrived[0]["type"] == "webhook.test"
        listed = told(run("secret", "list", "clinic", "--json"))
        assert len(listed) == 2
        removed = run("secret", "remove", "clinic", str(listed[0]["secret_id"]))
        assert removed.exit_code == 0
        assert run("test", "clinic").exit_code == 0
        assert len(new_one.headers[-1]["webhook-signature"].split()) == 1


def test_no_more_secrets_than_an_event_can_carry(run: Run) -> None:
    """Five signatures are enough for any rotation."""
    for _ in range(4):
        assert run("secret", "new", "clinic").exit_code == 0
    refused(run("secret", "new", "clinic"), 2, "has 5 secrets")


def test_test_says_what_came_back(run: Run, private: None) -> None:
    """The status, or why there was none."""
    with WebhookReceiver() as receiver:
        run("set", "clinic", receiver.url)
        assert run("test", "clinic").output.startswith("delivered in ")
        assert told(run("test", "clinic", "--json"))["error"] is None
        receiver.decide = lambda event: Answer(503)
        refused(run("test", "clinic"), 1, "not delivered: answered 503")
        failed = run("test", "clinic", "--json")
        assert failed.exit_code == 1
        assert json.loads(failed.stdout)["error"] == "answered 503"
    run("set", "clinic", f"http://127.0.0.1:{free_port()}/")
    refused(run("test", "clinic"), 1, "not delivered: Connection refused")


# By command: its arguments after the business, and what the owner sees in its output. A teammate
# sees the same; a stranger, who names a business of his own or none, nothing of it.
OWNERS: dict[str, tuple[tuple[str, ...], str]] = {
    "set": (("https://8.8.8.8/",), "clinic"),
    "show": ((), "https://127.0.0.1:9999/clinic"),
    "remove": ((), "clinic"),
    "test": ((), "not a public address"),  # it was tried: the address is the clinic's
    "events": ((), GIVEN_UP),
    "resend": (("--event", DELIVERED), "1 events"),
    "secret new": ((), "whsec_"),
    "secret list": ((), "1 made"),
    "secret remove": (("1",), "secret 1 of clinic"),
}


def commands_of(group: click.Group, path: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{path}{name} ")
        else:
            yield f"{path}{name}"


def test_every_command_is_tested_with_three_people() -> None:
    """A new command without a line in the table fails here."""
    assert set(commands_of(webhook_commands.group)) == set(OWNERS)


def snapshot(engines: Engines) -> list[tuple[Any, ...]]:
    """All that the clinic has here."""
    with engines.reading() as session:
        return [
            tuple(getattr(row, column.name) for column in table.__table__.columns)
            for table in (Webhook, WebhookSecret)
            for row in session.query(table).filter_by(tenant_id="clinic")
        ] + [(e.id, e.tries, e.next_try_at, e.resent_at) for e in events(engines, "clinic")]


@pytest.mark.parametrize("path", OWNERS)
@pytest.mark.parametrize("person", ["owner", "teammate"])
def test_owner_and_teammate_reach_what_is_theirs(run: Run, path: str, person: str) -> None:
    """Each with the business's name; the teammate after the owner has looked at everything."""
    arguments, seen = OWNERS[path]
    run("secret", "new", "clinic")  # so that one can be removed
    if person == "teammate":
        for words in (("show", "clinic"), ("events", "clinic"), ("secret", "list", "clinic")):
            assert run(*words).exit_code == 0
    result = run(*path.split(), "clinic", *arguments)
    assert result.exit_code == (1 if path == "test" else 0), result.output
    assert seen in result.output


@pytest.mark.parametrize("path", OWNERS)
@pytest.mark.parametrize("stranger", ["garage", "nobody", "CLINIC", "clini%", ""])
def test_a_stranger_reaches_nothing(run: Run, engines: Engines, path: str, stranger: str) -> None:
    """He sees nothing of the clinic's, and changes nothing of it."""
    arguments, _ = OWNERS[path]
    before = snapshot(engines)
    result = run(*path.split(), stranger, *arguments)
    if stranger != "garage":
        assert result.exit_code == 2, result.output
    for known in (*UIDS, "/clinic", SECRET):
        assert known not in result.output.replace(" ".join(arguments), "").replace(DELIVERED, "")
    assert snapshot(engines) == before


def test_every_command_has_help_with_an_example(run: Run) -> None:
    """Of itself."""
    for path in OWNERS:
        shown = run(*path.split(), "--help")
        assert shown.exit_code == 0
        assert f"flask tenant webhook {path} clinic" in shown.output
