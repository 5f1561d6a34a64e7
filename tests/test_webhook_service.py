"""Events of real calls, out of a running service: gevent workers, a real receiver, signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from databases import fresh_sqlite
from running_service import RunningService
from webhook_parts import add_webhook, engines_at
from webhook_receiver import Answer, WebhookReceiver

from frame_echo import EchoAnswers, FrameEcho, frames_said, numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, play_calls

CALLS, FRAMES = 4, 200


@pytest.fixture
def chatty() -> Iterator[SpeechServerThread]:
    """A stand-in for Google with a final for each second."""
    with SpeechServerThread(FrameEcho(EchoAnswers(final_every=50))) as server:
        yield server


def planned(n: int) -> PlannedCall:
    return PlannedCall(
        [numbered_frame(n, seq) for seq in range(FRAMES)],
        tenant="clinic",
        call_sid=f"CA{n:032x}",
        custom_parameters={"from": f"+97250111111{n}", "to": "+97231234567"},
    )


def test_the_events_of_a_call_come_once_and_in_order(chatty: SpeechServerThread) -> None:
    """Start, lead, everything that was said, end; though the receiver refuses at first.

    Another business without a webhook is called meanwhile, and nothing of it is sent.
    """
    database = fresh_sqlite()
    refused: list[str] = []

    def refuse_one_of_each_call(event: dict[str, object]) -> Answer:
        call = str(event["data"]["call_sid"])  # type: ignore[index]  # as the outbox makes them
        if call in refused:
            return Answer()
        refused.append(call)
        return Answer(503)

    with WebhookReceiver() as receiver, engines_at(database) as engines:
        receiver.decide = refuse_one_of_each_call
        add_webhook(engines, "clinic", receiver.url)
        other = PlannedCall([numbered_frame(9, n) for n in range(50)], "garage", f"CA{9:032x}")
        with RunningService(
            SPEECH_EMULATOR_HOST=chatty.address,
            WEB_CONCURRENCY=2,
            DATABASE_URL=database,
            WEBHOOK_ALLOW_PRIVATE=1,
        ) as service:
            calls = [*(planned(n) for n in range(CALLS)), other]
            asyncio.run(play_calls(service.url, calls, ramp=0.5))
            receiver.wait_for(
                lambda: sum(e["type"] == "call.ended" for e in receiver.arrived) == CALLS, 60
            )
            assert service.stop() == 0
            assert "Traceback" not in service.log, service.log[-6000:]
    assert len({event["id"] for event in receiver.arrived}) == len(receiver.arrived)
    assert {event["business"] for event in receiver.arrived} == {"clinic"}
    for n in range(CALLS):
        told = [e for e in receiver.arrived if e["data"]["call_sid"] == f"CA{n:032x}"]
        kinds = [event["type"] for event in told]
        assert kinds[0] == "call.started"
        assert kinds[1] == "lead.created"
        assert kinds[-1] == "call.ended"
        assert set(kinds[2:-1]) == {"utterance.final"}
        assert told[1]["data"]["number"] == f"+97250111111{n}"
        said = [seq for event in told[2:-1] for seq in frames_said(event["data"]["text"])]
        assert said == [(n, seq) for seq in range(FRAMES)]
        assert told[-1]["data"]["outcome"] == "completed"
