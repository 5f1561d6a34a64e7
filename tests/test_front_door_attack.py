"""Requests and upgrades that are not Twilio's, beside one call that is.

Forged, replayed, stolen, expired, malformed: none gets a session or holds a slot, and the good
call loses no frame. A thousand of them in `make test`, ten thousand in `make soak`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket as sockets
import threading
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import pytest
from front_door_parts import (
    MEDIA_URL,
    PUBLIC_URL,
    call_form,
    guarded_service,
    live_calls,
    parameters,
    signature,
    stream_token,
    upgrade_headers,
)
from front_door_parts import Twilio as Webhooks
from running_service import ROOMY_QUEUE, RunningService
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from frame_echo import numbered_frame
from speech_server_thread import SpeechServerThread
from stream_tokens import StreamGrant, StreamTokens
from twilio_calls import PlannedCall, new_sid, play_calls
from twilio_stream import CallReport, StreamMessages

BUSINESSES = {"clinic": {"numbers": ["+97231234567"]}, "garage": {"numbers": ["+97237654321"]}}
CALL = new_sid("CA")
PIPELINED = 50  # requests that are sent before an answer is read
AT_ONCE = 20  # upgrades


class Attack(NamedTuple):
    """How much of each comes; `upgrades` in tens, one for each way."""

    requests: int
    upgrades: int

    def __str__(self) -> str:
        return str(self.requests + self.upgrades)


# Requests


def request(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    known = {"Host": "tamlil.example", "Content-Length": str(len(body))}
    known["Content-Type"] = "application/x-www-form-urlencoded"
    lines = "".join(f"{name}: {value}\r\n" for name, value in (known | headers).items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def forged_requests(seed: int) -> Iterator[bytes]:
    """Requests without end, each of which must be refused."""
    chance = random.Random(seed)
    form = f"CallSid={CALL}&CallStatus=completed&To=%2B97231234567".encode()
    right = dict(call_form(CALL, CallStatus="completed"))
    replayed = signature(PUBLIC_URL + "/status", right.items())
    signatures = ["", "x", "=" * 28, replayed, signature(MEDIA_URL), "\xff" * 28, "a" * 2000]
    targets = ["/voice", "/status", "/voice/next?tenant=clinic&retries=0&since=0"]
    targets += ["/status?x=%ff", "/status?\xff\xfe", "/voice?bodySHA256=x", "//status", "/status/"]
    while True:
        headers = {"X-Twilio-Signature": chance.choice(signatures)}
        headers["Host"] = chance.choice(["tamlil.example", "evil.example", "h:999999", "[", ""])
        headers["X-Forwarded-Proto"] = chance.choice(["https", "http", "wss"])
        body = chance.choice([form, b"", b"\x00\xff&&==;" * 9, b"a=" + b"x" * 2000])
        yield request("POST", chance.choice(targets), headers, body)


def statuses(port: int, requests: Iterator[bytes], count: int) -> Counter[int]:
    """The answers to the first `count` of `requests`, over connections that are kept open."""
    found: Counter[int] = Counter()
    while found.total() < count:
        with (
            # what the service cannot read, it answers with 400 and the connection's end
            contextlib.suppress(ConnectionResetError, BrokenPipeError, EOFError),
            sockets.create_connection(("127.0.0.1", port), timeout=20) as connection,
            connection.makefile("rb") as answers,
        ):
            while found.total() < count:
                sent = min(PIPELINED, count - found.total())
                connection.sendall(b"".join(itertools.islice(requests, sent)))
                for _ in range(sent):
                    found[read_answer(answers)] += 1
    return found


def read_answer(answers: BinaryIO) -> int:
    """Read one answer; its status. Raises EOFError at the connection's end."""
    first = answers.readline()
    if not first:
        raise EOFError
    length = 0
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)
    return int(first.split()[1])


# Upgrades


async def refused(service: RunningService, number: int, token: str) -> str:
    """Try to get in, in one of several ways; how it ended."""
    stranger, good = new_sid("CA"), upgrade_headers()
    granted = StreamGrant(stranger, "clinic")
    ways: tuple[tuple[str, dict[str, str], str, str], ...] = (
        ("/media", {}, stranger, token),
        ("/media", {"X-Twilio-Signature": signature(MEDIA_URL, token="0" * 32)}, CALL, token),
        ("/media/garage", good, stranger, token),
        ("/media", upgrade_headers("/media/clinic"), stranger, ""),
        ("/media", good, stranger, token),  # stolen, for another call
        ("/media", good, stranger, stream_token(stranger, "clinic", age=301)),
        ("/media", good, stranger, StreamTokens("guessed").make(granted)),
        ("/media/garage", upgrade_headers("/media/garage"), CALL, token),
        ("/media", good, stranger, ""),
        ("/media", good, stranger, "no start"),
    )
    path, headers, call, shown = ways[number % len(ways)]
    messages = StreamMessages(call, new_sid("MZ"), "AC1", custom_parameters={"token": shown})
    try:
        async with connect(
            f"ws://127.0.0.1:{service.port}{path}",
            additional_headers=headers,
            compression=None,
            proxy=None,
            ping_interval=None,
        ) as socket:
            await socket.send(messages.connected())
            if shown != "no start":
                await socket.send(messages.start())
            await socket.send(messages.media(numbered_frame(99, number)))
            async with asyncio.timeout(15):
                await socket.recv()
            return "an answer"
    except InvalidStatus as refusal:
        return str(refusal.response.status_code)
    except ConnectionClosed:
        return str(socket.close_code)


async def attack(
    service: RunningService, token: str, over: threading.Event, size: Attack
) -> Counter[str]:
    """All of it at once; then `over` is set."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> str:
        async with gate:
            return await refused(service, number, token)

    try:
        half = size.requests // 2
        floods = asyncio.gather(
            *(
                asyncio.to_thread(statuses, service.port, forged_requests(seed), half)
                for seed in (1, 2)
            )
        )
        ends = Counter(await asyncio.gather(*(one(number) for number in range(size.upgrades))))
        for found in await floods:
            ends.update({f"http {status}": count for status, count in found.items()})
    finally:
        over.set()
    return ends


async def call_under_attack(
    service: RunningService, size: Attack
) -> tuple[CallReport, Counter[str]]:
    """The good call, which plays until the attack is over; and how the attack's tries ended."""
    webhooks = Webhooks(service.port)
    status, twiml = webhooks.post("/voice", call_form(CALL))
    webhooks.close()
    assert status == 200
    token = parameters(twiml)["token"]
    over = threading.Event()
    numbers = itertools.takewhile(lambda _: not over.is_set(), itertools.count())
    good = PlannedCall(
        (numbered_frame(1, seq) for seq in numbers),
        call_sid=CALL,
        custom_parameters={"tenant": "clinic", "token": token},
    )
    playing = asyncio.create_task(
        play_calls(service.url, [good], headers=upgrade_headers(), close_wait=15.0)
    )
    await asyncio.to_thread(service.wait_for_line, "[WS] connected", CALL)
    ends = await attack(service, token, over, size)
    [report] = await playing
    return report, ends


def refusals(lines: list[str]) -> int:
    """The lines of refused upgrades."""
    upgrades = ("[WS] refused: 1008", "[TRUST] refused: 403")
    return sum(any(mark in line for mark in upgrades) and "/voice" not in line for line in lines)


@pytest.mark.parametrize(
    "size", [Attack(940, 60), pytest.param(Attack(9_400, 600), marks=pytest.mark.soak)], ids=str
)
def test_thousands_of_strangers_and_one_call(google: SpeechServerThread, size: Attack) -> None:
    """Not one gets in, each is counted, and every frame of the good call is heard."""
    with guarded_service(
        google.address,
        BUSINESSES=json.dumps(BUSINESSES),
        START_SECONDS=1,
        STT_QUEUE_FRAMES=ROOMY_QUEUE,
    ) as service:
        report, ends = asyncio.run(call_under_attack(service, size))
        service.wait_for_line("session closed", CALL, f"frames={report.frames_sent} dropped=0")
        assert live_calls(service) == 0
        # each refusal is a line, of which the last may be on their way
        service.wait_for(lambda lines: refusals(lines) >= size.upgrades)
        lines = list(service.lines)
    assert report.error is None
    assert report.close_code == 1000
    assert [stream.frames for stream in google.streams] == [
        [(1, seq) for seq in range(report.frames_sent)]
    ]
    web = {end: count for end, count in ends.items() if end.startswith("http ")}
    assert sum(web.values()) == size.requests
    assert set(web) <= {"http 400", "http 403", "http 404"}
    tenth = size.upgrades // 10
    assert {end: count for end, count in ends.items() if end not in web} == {
        "403": 4 * tenth,
        "1008": 6 * tenth,
    }
    assert sum("[WS] connected" in line for line in lines) == 1
    assert sum("session started" in line for line in lines) == 1
    assert sum("[WS] refused: 1008" in line for line in lines) == 6 * tenth
    # an answer may be lost with its connection, which ends at a request that cannot be read
    refused = sum("[TRUST] refused: 403" in line for line in lines)
    assert refused >= 4 * tenth + web["http 403"]
    assert not [line for line in lines if "Traceback" in line or "internal error" in line]


def test_replays_of_a_calls_own_webhooks_open_nothing(
    guarded: RunningService, speech: SpeechServerThread
) -> None:
    """Whoever could copy Twilio's requests gets their answers again, and no more than that."""
    form = call_form(new_sid("CA"))
    signed = {"X-Twilio-Signature": signature(PUBLIC_URL + "/voice", form)}
    body = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in form).encode()
    again = itertools.repeat(request("POST", "/voice", signed, body))
    opened, lines = len(speech.streams), len(guarded.lines)
    assert statuses(guarded.port, again, 300) == {200: 300}
    assert live_calls(guarded) == 0
    said = guarded.lines[lines:]
    assert not [line for line in said if line.startswith(("[WS]", "[TRUST]", "[STT]"))]
    assert len(speech.streams) == opened
