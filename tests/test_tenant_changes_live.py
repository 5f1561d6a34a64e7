"""What `flask tenant` changes holds for the next call of a service that goes on running."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from front_door_parts import Twilio, call_form, guarded_service, verbs
from guarded_calls import heard, place, spoken, whole
from record_cli import Run, command_runner
from running_service import PROJECT, RunningService, service_environment

from speech_server_thread import SpeechServerThread

CLINIC, NEW, GARAGE = "+97231234567", "+97231234599", "+97237654321"
FRAMES = 10
CALLERS = itertools.count(7_000)


@pytest.fixture(scope="module")
def service(speech: SpeechServerThread) -> Iterator[RunningService]:
    """Two workers, both of which must know, with a business that BUSINESSES began with."""
    businesses = json.dumps({"clinic": {"numbers": [CLINIC]}})
    with guarded_service(speech.address, BUSINESSES=businesses, WEB_CONCURRENCY=2) as service:
        yield service


@pytest.fixture
def tenant(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `flask tenant …` on the service's database, from this process."""
    _, run = command_runner(monkeypatch, service.database_url)
    return run


def tenant_from_the_shell(service: RunningService, *words: str) -> None:
    """`flask tenant …` as its users type it, beside the service."""
    ran = subprocess.run(
        [sys.executable, "-m", "flask", "tenant", *words],
        cwd=PROJECT,
        env=service_environment({"DATABASE_URL": service.database_url}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def answer(service: RunningService, number: str) -> list[str]:
    """What a caller of `number` is told by a worker."""
    twilio = Twilio(service.port)
    try:
        code, twiml = twilio.post("/voice", call_form(To=number))
    finally:
        twilio.close()
    assert code == 200
    return verbs(twiml)


def wait_until_told(service: RunningService, number: str, wanted: list[str]) -> None:
    """Until both workers tell callers of `number` this: each looks twice a second."""
    deadline, in_a_row = time.monotonic() + 10, 0
    while in_a_row < 6:
        in_a_row = in_a_row + 1 if answer(service, number) == wanted else 0
        assert time.monotonic() < deadline, "the change does not hold"
        time.sleep(0.05)  # a worker says nowhere that it has looked


def test_a_change_holds_for_the_next_call(
    service: RunningService, speech: SpeechServerThread, tenant: Run
) -> None:
    """A new number is taken, and what is set is what Google gets, without a restart."""
    workers = {worker.pid for worker in service.workers()}
    assert answer(service, NEW) == ["Say", "Hangup"]
    words = ("--language", "en-US", "--model", "telephony", "--hint", "root canal")
    tenant_from_the_shell(
        service, "set", "clinic", *words, "--no-punctuation", "--profanity-filter"
    )
    assert tenant("number", "add", "clinic", NEW).exit_code == 0
    wait_until_told(service, NEW, ["Connect"])
    caller = next(CALLERS)
    assert place(service, NEW, spoken(caller, FRAMES)).ok
    assert heard(speech, caller) == [whole(caller, FRAMES)]
    [stream] = [one for one in speech.streams if {c for c, _ in one.frames} == {caller}]
    config = stream.config.config
    assert (config.language_code, config.model) == ("en-US", "telephony")
    assert list(config.speech_contexts[0].phrases) == ["root canal"]
    assert (config.enable_automatic_punctuation, config.profanity_filter) == (False, True)
    assert tenant("number", "remove", "clinic", NEW).exit_code == 0
    wait_until_told(service, NEW, ["Say", "Hangup"])
    assert answer(service, CLINIC) == ["Connect"]
    assert {worker.pid for worker in service.workers()} == workers


def test_businesses_come_and_go(service: RunningService, tenant: Run) -> None:
    """One that is added takes its calls, in its way; one that is removed takes none."""
    assert answer(service, GARAGE) == ["Say", "Hangup"]
    added = tenant("add", "garage", "--number", GARAGE, "--forward", "+972541234567")
    assert added.exit_code == 0
    wait_until_told(service, GARAGE, ["Start", "Dial"])
    assert tenant("remove", "garage", "--yes").exit_code == 0
    wait_until_told(service, GARAGE, ["Say", "Hangup"])
