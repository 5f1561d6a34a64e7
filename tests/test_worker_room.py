"""Each worker of a gunicorn knows whether there is room beside it."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator

from front_door_parts import (
    Twilio,
    call_form,
    guarded_service,
    parameters,
    twilio_at_another,
    upgrade_headers,
    verbs,
    worker_of,
)
from running_service import RunningService

from frame_echo import numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import PlannedCall, new_sid, play_calls
from worker_room import RoomBoard, WorkerRoom


def test_a_worker_knows_of_the_room_beside_it() -> None:
    """Its own room does not count."""
    board = RoomBoard(4)
    one, other = (WorkerRoom(board, board.claim()) for _ in range(2))
    assert not one.beside
    one.note(3)
    assert other.beside
    assert not one.beside
    other.note(1)
    assert one.beside
    one.note(0)
    assert not other.beside


def test_a_worker_that_is_gone_has_no_room() -> None:
    """Its place is given to another one, as an empty one."""
    board = RoomBoard(2)
    first, second = board.claim(), board.claim()
    board.note(second, 9)
    assert board.has_room_beside(first)
    board.give_back(second)
    assert not board.has_room_beside(first)
    assert board.claim() == second
    assert not board.has_room_beside(first)


def test_it_is_known_across_a_fork() -> None:
    """What a child notes is seen by its parent."""
    board = RoomBoard(2)
    child = os.fork()
    if not child:
        board.note(1, 5)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert board.has_room_beside(0)
    assert not board.has_room_beside(1)


def test_without_a_board_there_is_nobody_beside() -> None:
    """As under `flask run`."""
    alone = WorkerRoom()
    alone.note(3)
    assert not alone.beside


def both_are_there(service: RunningService) -> None:
    """Return once each of the two workers answers."""
    twilio = Twilio(service.port)
    twilio.request("GET", "/healthz", None, {})
    holder = worker_of(service, twilio.local_port)
    twilio.close()
    twilio_at_another(service, holder).close()


def told(port: int) -> set[str]:
    """What callers are told, over many connections: each worker takes some of them."""
    found = set()
    for _ in range(24):
        twilio = Twilio(port)
        found.add(verbs(twilio.post("/voice", call_form())[1])[0])
        twilio.close()
    return found


async def call(port: int, number: int, may_end: threading.Event) -> None:
    """A call that Twilio tries until a worker takes it, as it does with `/voice/next`."""

    def frames() -> Iterator[bytes]:
        for seq in itertools.count():
            if may_end.is_set():
                return
            yield numbered_frame(number, seq)

    sid = new_sid("CA")
    while not may_end.is_set():
        twilio = Twilio(port)
        _, twiml = await asyncio.to_thread(twilio.post, "/voice", call_form(sid))
        twilio.close()
        planned = PlannedCall(frames(), call_sid=sid, custom_parameters=parameters(twiml))
        url = f"ws://127.0.0.1:{port}/media"
        await play_calls(url, [planned], headers=upgrade_headers(), close_wait=15.0)


async def fill(service: RunningService, may_end: threading.Event) -> None:
    """Four calls, one after the other; callers are turned away after the last of them."""
    playing: list[asyncio.Task[None]] = []

    def are_live(lines: list[str]) -> bool:
        return sum("[WS] connected" in line for line in lines) == len(playing)

    for number in range(4):
        assert await asyncio.to_thread(told, service.port) == {"Connect"}
        playing.append(asyncio.create_task(call(service.port, number, may_end)))
        await asyncio.to_thread(service.wait_for, are_live)
    assert await asyncio.to_thread(told, service.port) == {"Say"}
    may_end.set()
    await asyncio.gather(*playing)


def test_a_caller_is_turned_away_only_if_no_worker_has_room(google: SpeechServerThread) -> None:
    """Two workers for two calls each: whichever is asked, there is room until four are live."""
    may_end = threading.Event()
    with guarded_service(google.address, WEB_CONCURRENCY=2, MAX_CONCURRENT_CALLS=2) as service:
        both_are_there(service)
        try:
            asyncio.run(fill(service, may_end))
        finally:
            may_end.set()
