"""Calls that Twilio says are over: every worker of the machine hears of them."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
from front_door_parts import (
    call_form,
    guarded_service,
    stream_token,
    twilio_at_another,
    upgrade_headers,
    worker_of,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import call_log
from ended_calls import EndedCalls, default_directory
from frame_echo import numbered_frame
from speech_server_thread import SpeechServerThread
from twilio_calls import new_sid
from twilio_stream import StreamMessages


def workers_of(directory: Path, count: int) -> tuple[list[EndedCalls], list[list[str]]]:
    """Some processes' parts in it, and what each has closed."""
    closed: list[list[str]] = [[] for _ in range(count)]
    return [EndedCalls(calls.append, directory) for calls in closed], closed


def test_every_worker_closes_a_call_once(tmp_path: Path) -> None:
    """However often it is told, and looks."""
    (one, other), closed = workers_of(tmp_path / "a" / "b", 2)
    one.look()
    for _ in range(3):
        one.tell("CA1")
        one.look()
        other.look()
    other.tell("CA2")
    one.look()
    other.look()
    assert closed == [["CA1", "CA2"], ["CA1", "CA2"]]


def test_what_all_have_seen_is_tidied_up(tmp_path: Path) -> None:
    """After a minute; and a worker that was first does not trouble the next."""
    (one, other), closed = workers_of(tmp_path, 2)
    one.tell("CA1")
    one.look()
    other.look()
    one.look(now=time.time() + 50)
    assert [path.name for path in tmp_path.iterdir()] == ["CA1"]
    one.look(now=time.time() + 70)
    other.look(now=time.time() + 70)
    assert list(tmp_path.iterdir()) == []
    assert closed == [["CA1"], ["CA1"]]


def test_a_directory_that_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call then ends by its socket; the webhook is answered all the same."""
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    monkeypatch.setattr(call_log.logger, "handlers", [handler])
    (tmp_path / "file").write_text("")
    ended = EndedCalls(lambda call_sid: None, tmp_path / "file" / "ended")
    ended.tell("CA1")
    ended.look()
    [line] = lines
    assert line.startswith("[STATUS] other workers are not told: ")


def test_the_directory_is_this_users_and_for_workers_of_one_parent() -> None:
    """Two services on one machine do not hear of each other."""
    assert str(os.getuid()) in str(default_directory())
    assert str(os.getppid()) in str(default_directory())


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_looks_by_itself(tmp_path: Path, fails: bool) -> None:
    """Once a process, and again after a look that failed."""
    seen = threading.Event()
    calls: list[str] = []
    started: list[str] = []

    class Thread(threading.Thread):
        def start(self) -> None:
            started.append(self.name)
            super().start()

    def close(call_sid: str) -> None:
        calls.append(call_sid)
        if fails and len(calls) == 1:
            raise RuntimeError("this call does not close")
        seen.set()

    ended = EndedCalls(close, tmp_path, look_seconds=0.01, thread_class=Thread)
    try:
        for _ in range(3):
            ended.watch()
        ended.tell("CA1")
        assert seen.wait(10)
    finally:
        ended.stop()
    assert started == ["ended-calls"]
    assert calls == ["CA1"] * (2 if fails else 1)


def test_a_status_at_the_other_worker_closes_the_call(
    google: SpeechServerThread, tmp_path: Path
) -> None:
    """Two real workers: within 5 s the socket is closed with 1000, and all its audio is text."""
    call = new_sid("CA")
    messages = StreamMessages(
        call, new_sid("MZ"), "AC1", custom_parameters={"token": stream_token(call)}
    )
    with (
        guarded_service(google.address, WEB_CONCURRENCY=2, TMPDIR=tmp_path) as service,
        connect(
            service.url,
            additional_headers=upgrade_headers(),
            compression=None,
            proxy=None,
            ping_interval=None,
        ) as socket,
    ):
        socket.send(messages.connected())
        socket.send(messages.start())
        for seq in range(20):
            socket.send(messages.media(numbered_frame(1, seq)))
        google.wait_for(lambda: len(google.streams[0].frames) == 20)
        twilio = twilio_at_another(service, worker_of(service, socket.local_address[1]))
        assert twilio.post("/status", call_form(new_sid("CA"), CallStatus="completed"))[0] == 200
        began = time.monotonic()
        assert twilio.post("/status", call_form(call, CallStatus="completed"))[0] == 200
        twilio.close()
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert time.monotonic() - began < 5
        assert socket.close_code == 1000
        assert socket.close_reason == "Twilio says that the call is over"
        service.wait_for_line("session closed", call, "frames=20 dropped=0")
        assert service.count("[WS] closed: ", call) <= 1
