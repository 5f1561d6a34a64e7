"""The sessions of a call's tracks: each hears its own side, and all are closed together."""

from __future__ import annotations

import contextlib
import threading

import media_parts
import pytest
from front_door_parts import live_calls, stream_token, upgrade_headers
from guarded_calls import NUMBERS, whole
from media_parts import FRAMES, MediaService, about
from running_service import RunningService
from websockets.sync.client import connect

from call_records import StreamCounts
from call_tracks import CallTracks, track_of
from frame_echo import frames_said, numbered_frame
from service_log import parse_line
from twilio_calls import new_sid
from twilio_messages import MediaBody
from twilio_stream import StreamMessages, Track

# the fixture of this module
service = media_parts.service

BOTH = ["inbound", "outbound"]
SECOND = bytes(8000)


class Session:
    """Keeps what it is given; `close` waits at `gate`, if there is one, and raises `fault`."""

    def __init__(self, track: str) -> None:
        self.track = track
        self.taken: list[bytes | int] = []
        self.closes = 0
        self.room = True
        self.gate: threading.Barrier | None = None
        self.fault: Exception | None = None

    def push_together(self, frames: list[bytes]) -> None:
        self.taken += frames

    def fill_gap(self, size: int) -> None:
        self.taken.append(size)

    def has_room(self, frames: int) -> bool:
        return self.room

    def wait_for_room(self, frames: int) -> bool:
        return self.room

    def counts(self) -> StreamCounts:
        return StreamCounts(frames=len(self.taken), seconds=len(self.track))

    def close(self) -> None:
        if self.gate is not None:
            self.gate.wait(10)
        self.closes += 1
        if self.fault is not None:
            raise self.fault


def tracks_of(names: list[str]) -> tuple[CallTracks, dict[str, Session]]:
    sessions: dict[str, Session] = {}

    def open_session(track: str) -> Session:
        return sessions.setdefault(track, Session(track))

    return CallTracks(names, open_session), sessions


@pytest.mark.parametrize(
    ("name", "track"),
    [
        ("", "inbound"),
        ("inbound", "inbound"),
        ("inbound_track", "inbound"),
        ("outbound", "outbound"),
        ("outbound_track", "outbound"),
        ("both_tracks", None),
        ("Inbound", None),
    ],
)
def test_twilios_names_for_tracks(name: str, track: str | None) -> None:
    """Messages and TwiML spell them differently."""
    assert track_of(name) == track


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ([], [""]),
        (["inbound"], [""]),
        (["inbound_track"], [""]),
        (["outbound"], [""]),
        (["inbound", "inbound_track"], [""]),
        (["sideways"], [""]),
        (["outbound", "inbound"], BOTH),
        (["inbound_track", "outbound_track", "x"], BOTH),
    ],
)
def test_a_session_for_each_track(names: list[str], labels: list[str]) -> None:
    """With a label only where there are two."""
    assert sorted(tracks_of(names)[1]) == labels


def test_each_frame_goes_to_its_own_track() -> None:
    """Frames of a track that the call does not have are nobody's."""
    tracks, sessions = tracks_of(BOTH)
    names = ["inbound", "outbound", "", "outbound_track", "inbound_track", "sideways"]
    media = [MediaBody(frame, name) for name, frame in zip(names, FRAMES, strict=False)]
    assert tracks.push(media) == 1
    assert sessions["inbound"].taken == [FRAMES[0], FRAMES[2], FRAMES[4]]
    assert sessions["outbound"].taken == [FRAMES[1], FRAMES[3]]
    only_out, sessions = tracks_of(["outbound"])
    assert only_out.push(media[:2]) == 1
    assert sessions[""].taken == [FRAMES[1]]


def test_each_track_has_its_own_clock() -> None:
    """A gap on one side is filled there, and the other side's time runs on by itself."""
    tracks, sessions = tracks_of(BOTH)
    for name, timestamp in [("inbound", 0), ("inbound", 1000), ("outbound", 0)]:
        tracks.push([MediaBody(SECOND, name, timestamp)])
    tracks.push([MediaBody(SECOND, "outbound", 3000), MediaBody(SECOND, "inbound", 2000)])
    assert sessions["inbound"].taken == [SECOND] * 3
    assert sessions["outbound"].taken == [SECOND, 16_000, SECOND]


def test_a_gap_between_frames_that_came_together_is_filled_between_them() -> None:
    """What came before the gap is handed on before it."""
    tracks, sessions = tracks_of([])
    tracks.push([MediaBody(SECOND, "inbound", at) for at in (0, 1000, 4000, 5000)])
    assert sessions[""].taken == [SECOND, SECOND, 16_000, SECOND, SECOND]


def test_there_is_room_if_both_have_room() -> None:
    """The slower side decides how much is read."""
    tracks, sessions = tracks_of(BOTH)
    assert tracks.wait_for_room(5)
    assert tracks.has_room(5)
    for session in sessions.values():
        session.room = False
        assert not tracks.wait_for_room(5)
        assert not tracks.has_room(5)
        session.room = True


def test_both_are_closed_at_once() -> None:
    """Neither waits for the other, and close() for both."""
    tracks, sessions = tracks_of(BOTH)
    gate = threading.Barrier(2)
    for session in sessions.values():
        session.gate = gate
    tracks.close()
    assert [session.closes for session in sessions.values()] == [1, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("failing", BOTH)
def test_both_are_closed_though_one_raises(failing: str) -> None:
    """A fault of the one side costs the other nothing."""
    tracks, sessions = tracks_of(BOTH)
    sessions[failing].fault = RuntimeError("this session does not close")
    with contextlib.suppress(RuntimeError):
        tracks.close()
    assert [session.closes for session in sessions.values()] == [1, 1]


def test_both_are_closed_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process, or at its limit."""
    tracks, sessions = tracks_of(BOTH)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    tracks.close()
    assert [session.closes for session in sessions.values()] == [1, 1]


def test_if_the_second_cannot_be_opened_the_first_is_closed() -> None:
    """Nobody else knows of it."""
    opened: list[Session] = []

    def open_session(track: str) -> Session:
        if opened:
            raise RuntimeError("no session to be had")
        opened.append(Session(track))
        return opened[0]

    with pytest.raises(RuntimeError, match="no session to be had"):
        CallTracks(BOTH, open_session)
    assert opened[0].closes == 1


def test_a_stream_with_both_tracks_is_one_call(service: MediaService) -> None:
    """Two sessions, one slot; both are closed with it."""
    with service.call(other_track="outbound") as caller:
        caller.start()
        for number, frame in enumerate(FRAMES):
            caller.media(frame, track=BOTH[number % 2])
        service.wait_for(lambda: sum(len(s.frames) for s in service.sessions) == len(FRAMES))
        assert service.registry.live == 1
        caller.stop()
        assert caller.ending()[0] == 1000
    service.wait_for_ends()
    assert service.tracks == BOTH
    assert [session.frames for session in service.sessions] == [FRAMES[::2], FRAMES[1::2]]
    service.wait_until_all_is_given_back()
    assert len(service.lines("[WS] closed", about(), "ignored=0")) == 1


def test_both_sides_of_a_forwarded_call_are_told_apart(guarded: RunningService) -> None:
    """The whole service: finals with the track they are of, every frame, one slot."""
    call = new_sid("CA")
    twilio = StreamMessages(
        call,
        new_sid("MZ"),
        new_sid("AC"),
        other_track="outbound",
        custom_parameters={"token": stream_token(call, "default")},
    )
    numbers: dict[Track, int] = {"inbound": next(NUMBERS), "outbound": next(NUMBERS)}
    with connect(
        guarded.url, additional_headers=upgrade_headers(), compression=None, proxy=None
    ) as socket:
        socket.send(twilio.connected())
        socket.send(twilio.start())
        for seq in range(60):
            for track, number in numbers.items():
                socket.send(twilio.media(numbered_frame(number, seq), track))
        for track in numbers:
            guarded.wait_for_line("session started", call, f"track={track}")
        assert live_calls(guarded) == 1
        socket.send(twilio.stop())
        guarded.wait_for(
            lambda lines: sum("session closed" in line and call in line for line in lines) == 2
        )
    guarded.wait_for_line("[WS] closed: 1000", call)
    for track, number in numbers.items():
        ending = f" {about(call)} track={track}"
        lines = [line for line in guarded.lines if line.endswith(ending)]
        parsed = [one for line in lines if (one := parse_line(line)) is not None]
        said = [frames_said(one.text) for one in parsed if one.kind == "final"]
        assert [frame for frames in said for frame in frames] == whole(number, 60)
        closed = ("session closed", call, f"track={track}", "frames=60 dropped=0")
        assert guarded.count(*closed) == 1
    assert guarded.count("[WS] refused", call) == 0
    assert guarded.count("[WS] connected", call) == 1
