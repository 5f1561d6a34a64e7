"""Plain calls for what no stream could have: in order, until Google takes it, or the call ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from session_parts import PATIENCE, HeldThread, held, lines

import fallback as fallback_module
from audio_ring import AudioRing
from fallback import PIECE_BYTES, Fallback, Piece, Recorded
from frame_echo import EchoAnswers, FrameEcho, numbered_frame
from recognition import Recognition
from recovery import Recovery
from speech_connections import SpeechConnection, SpeechConnections
from speech_messages import Message
from speech_server_thread import SpeechServerThread
from stream_faults import Code, StreamFault

__all__ = ["held", "lines"]  # the fixtures; `lines` sees to it that no thread is left

FRAME = 160
ENGLISH = Recognition("en-US")


class Scene:
    """A ring with numbered frames, and the worker that has pieces of it recognised."""

    def __init__(
        self,
        server: SpeechServerThread,
        *,
        frames: int = 0,
        recognition: Callable[[], Recognition] = lambda: ENGLISH,
        refused: Callable[[StreamFault, Recognition], bool] = lambda fault, used: False,
        uniform: Callable[[float, float], float] = lambda low, high: 0.0,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self.ring = AudioRing(5 * FRAME, 10**6)
        for seq in range(frames):
            self.ring.append(numbered_frame(1, seq), 0.0)
        self.ring.flush()
        self.connections = SpeechConnections(None, emulator_host=server.address)
        self.connection = self.connections.lease()
        self.events: SimpleQueue[Recorded] = SimpleQueue()
        self.fallback = Fallback(
            self.ring,
            self.connections,
            Recovery(uniform=uniform),  # by default without pauses
            self.events,
            recognition=recognition,
            refused=refused,
            thread_class=thread_class,
        )

    def add(self, first: int, end: int) -> Piece:
        """Have these frames recognised; they are one piece."""
        piece = Piece(first * FRAME, end * FRAME)
        self.fallback.add(*piece)
        return piece

    def next(self) -> Recorded:
        return self.events.get(timeout=PATIENCE)

    def close(self) -> None:
        self.fallback.stop()
        assert self.connection.leases == 1, "a lease was not given back"
        self.connections.close()


New = Callable[..., Scene]


@pytest.fixture
def new(google: SpeechServerThread, held: type[HeldThread]) -> Iterator[New]:
    """Makes scenes; at the end each has given back its leases, and has no thread left."""
    with ExitStack() as cleanup:

        def new(server: SpeechServerThread = google, **options: Any) -> Scene:
            scene = Scene(server, **options)
            cleanup.callback(scene.close)
            cleanup.callback(HeldThread.released.set)
            return scene

        yield new


def said(recorded: Recorded) -> list[str]:
    assert recorded.results is not None
    return [result.alternatives[0].transcript for result in recorded.results]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stt-fallback"]


def test_a_piece_is_recognised_with_the_calls_recognition(
    google: SpeechServerThread, new: New
) -> None:
    """The audio from here to there, all of it and nothing else; its results come as an event."""
    scene = new(frames=50, recognition=lambda: Recognition("he-IL", "phone_call", False))
    piece = scene.add(10, 40)
    recorded = scene.next()
    assert recorded[:2] == (piece, piece.start)
    assert recorded.fault is None
    assert said(recorded) == ["call 1 frames 10-39"]
    [recording] = google.recordings
    assert recording.audio_bytes == 30 * FRAME
    assert recording.config.language_code == "he-IL"
    assert recording.config.model == "phone_call"
    assert not recording.config.enable_automatic_punctuation
    assert scene.ring.kept == 50 * FRAME  # whoever hears of it lets go of the audio


def test_silence_has_no_results(new: New) -> None:
    """An empty list, which is not the same as none at all."""
    scene = new()
    scene.ring.fill(1600, 0.0)
    scene.add(0, 10)
    assert scene.next().results == []


class OneAtATime(FrameEcho):
    """Takes a moment for each recording, and notes how many are with it at once."""

    busy = most = 0

    async def recognise(self, config: Message, audio: bytes) -> list[Message]:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0.01)
        self.busy -= 1
        return await super().recognise(config, audio)


def test_pieces_go_one_after_the_other_in_order(new: New) -> None:
    """However many are added at whatever moment; one call of ours is enough for a Google in need.

    How many are not answered for yet is known.
    """
    echo = OneAtATime()
    with SpeechServerThread(echo) as server:
        scene = new(server, frames=100)
        pieces = [scene.add(first, first + 10) for first in range(0, 90, 10)]
        assert scene.fallback.unfinished == 9
        recorded = [scene.next() for _ in pieces]
        pieces.append(scene.add(90, 100))  # also when it had nothing left to do
        recorded.append(scene.next())
        frames = [seq for recording in server.recordings for _, seq in recording.frames]
    assert [one.piece for one in recorded] == pieces
    assert frames == list(range(100))
    assert echo.most == 1


def test_long_audio_goes_in_pieces_of_55_s(google: SpeechServerThread, new: New) -> None:
    """Google takes a minute in a call; no piece is longer than 440,000 bytes, and none is lost."""
    scene = new(frames=6000)
    scene.fallback.add(0, scene.ring.end)
    assert scene.fallback.unfinished == 3
    recorded = [scene.next() for _ in range(3)]
    assert [one.piece.start for one in recorded] == [0, *(one.piece.end for one in recorded[:2])]
    assert recorded[-1].piece.end == 6000 * FRAME
    sizes = [recording.audio_bytes for recording in google.recordings]
    assert sizes == [one.piece.end - one.piece.start for one in recorded]
    assert max(sizes) <= PIECE_BYTES == 440_000
    frames = [seq for recording in google.recordings for _, seq in recording.frames]
    assert frames == list(range(6000))


def test_a_piece_is_tried_until_google_takes_it(google: SpeechServerThread, new: New) -> None:
    """With the same audio, and before the next one; the pauses are those of the business."""
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return 0.0

    google.order("recognize next=2", "recognize status=INTERNAL next=1")
    scene = new(frames=20, uniform=uniform)
    first, second = scene.add(0, 10), scene.add(10, 20)
    recorded = scene.next()
    assert (recorded.piece, recorded.fault) == (first, None)
    assert said(recorded) == ["call 1 frames 0-9"]
    assert scene.next().piece == second
    assert [recording.frames[0][1] for recording in google.recordings] == [0, 0, 0, 0, 10]
    assert len(bounds) == 3


def test_the_pauses_grow_with_each_try(google: SpeechServerThread, new: New) -> None:
    """And begin anew with the next piece."""
    attempts: list[int] = []

    def pause(_: Recovery, attempt: int) -> float:
        attempts.append(attempt)
        return 0.0

    google.order("recognize next=3")
    scene = new(frames=20)
    with patch.object(Recovery, "pause", pause):
        scene.add(0, 10)
        assert scene.next().fault is None
        google.order("recognize next=1")
        scene.add(10, 20)
        assert scene.next().fault is None
    assert attempts == [0, 1, 2, 0]


def test_a_used_up_quota_is_given_its_time(
    google: SpeechServerThread, new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for much longer than for any other fault, and then tried again."""
    monkeypatch.setattr(fallback_module, "_EXHAUSTED_SECONDS", 0.1)
    google.order("recognize status=RESOURCE_EXHAUSTED next=2")
    scene = new(frames=10)
    scene.add(0, 10)
    assert said(scene.next()) == ["call 1 frames 0-9"]
    first, second, third = (recording.at for recording in google.recordings)
    assert second - first >= 0.07  # three quarters of the pause, which are its jitter
    assert third - second >= 0.1


def test_a_refusal_for_good_is_told_and_not_tried_again(
    google: SpeechServerThread, new: New
) -> None:
    """The piece has no results, but the fault; the next piece has its own chance."""
    asked: list[StreamFault] = []

    def refused(fault: StreamFault, used: Recognition) -> bool:
        asked.append(fault)
        return False

    google.order("recognize status=PERMISSION_DENIED text='not yours' next=1")
    scene = new(frames=20, refused=refused)
    piece, _ = scene.add(0, 10), scene.add(10, 20)
    fault = StreamFault(Code.PERMISSION_DENIED, "not yours")
    assert scene.next() == Recorded(piece, piece.end, None, fault)
    assert asked == [fault]
    assert said(scene.next()) == ["call 1 frames 10-19"]
    assert len(google.recordings) == 2


def no_phone_call(config: Message) -> str | None:
    return "no such model." if config.model == "phone_call" else None


def test_another_recognition_is_used_if_there_is_one(new: New) -> None:
    """Google refuses the model: whoever knows another one says so, and it is used at once."""
    use = [Recognition("en-US", "phone_call")]

    def refused(fault: StreamFault, used: Recognition) -> bool:
        use.append(ENGLISH)
        return fault.code is Code.INVALID_ARGUMENT

    with SpeechServerThread(FrameEcho(EchoAnswers(refuse=no_phone_call))) as server:
        scene = new(server, frames=20, recognition=lambda: use[-1], refused=refused)
        scene.add(0, 10)
        assert said(scene.next()) == ["call 1 frames 0-9"]
        scene.add(10, 20)
        assert said(scene.next()) == ["call 1 frames 10-19"]
        models = [recording.config.model for recording in server.recordings]
    assert models == ["phone_call", "default", "default"]


def test_audio_that_was_evicted_meanwhile_is_not_sent(
    google: SpeechServerThread, new: New, held: type[HeldThread]
) -> None:
    """It says from where on the piece was sent: the rest of it is lost."""
    scene = new(frames=50, thread_class=held)
    piece = scene.add(10, 50)
    scene.ring.evict(20 * FRAME)
    held.released.set()
    recorded = scene.next()
    assert recorded[:2] == (piece, 20 * FRAME)
    assert said(recorded) == ["call 1 frames 20-49"]
    assert google.recordings[0].audio_bytes == 30 * FRAME


def test_audio_that_is_evicted_between_two_tries_is_not_sent_again(
    google: SpeechServerThread, new: New
) -> None:
    """The second try has less than the first."""
    scenes: list[Scene] = []

    def evict(low: float, high: float) -> float:
        scenes[0].ring.evict(20 * FRAME)
        return 0.0

    google.order("recognize next=1")
    scenes.append(new(frames=50, uniform=evict))
    scenes[0].add(10, 50)
    assert scenes[0].next().sent_from == 20 * FRAME
    assert [recording.audio_bytes // FRAME for recording in google.recordings] == [40, 30]


def test_a_piece_of_which_nothing_is_left_is_given_up(
    google: SpeechServerThread, new: New, held: type[HeldThread]
) -> None:
    """Without a call, and without a fault of Google's."""
    scene = new(frames=50, thread_class=held)
    piece = scene.add(0, 10)
    scene.ring.evict(20 * FRAME)
    held.released.set()
    assert scene.next() == Recorded(piece, piece.end, None)
    assert google.recordings == []


def test_nothing_to_add_makes_no_call(google: SpeechServerThread, new: New) -> None:
    """The call is over with all of its audio covered."""
    scene = new(frames=10)
    scene.fallback.add(1600, 1600)
    assert scene.fallback.unfinished == 0
    scene.fallback.stop()
    assert scene.events.empty()
    assert google.recordings == []


def test_stop_cancels_a_call_that_hangs(google: SpeechServerThread, new: New) -> None:
    """At once, also at Google; the pieces behind it are not begun, and no thread is left."""
    google.stall()
    scene = new(frames=20)
    piece, _ = scene.add(0, 10), scene.add(10, 20)
    google.wait_for(lambda: len(google.recordings) == 1)
    scene.fallback.stop()
    assert threads() == []
    assert scene.events.get_nowait() == Recorded(piece, piece.end, None)
    assert scene.events.empty()
    google.wait_for(lambda: google.recordings[0].status == "CANCELLED")


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_stop_ends_the_pause_before_the_next_try(
    google: SpeechServerThread, new: New, code: grpc.StatusCode
) -> None:
    """Whoever hangs up need not wait for it; the fault is told."""
    google.order(f"recognize status={code.name} text=away")
    scene = new(frames=10, uniform=lambda low, high: 1000.0)
    release, over = scene.connections.release, threading.Event()

    def note_release(connection: SpeechConnection) -> None:
        release(connection)
        over.set()

    with patch.object(scene.connections, "release", note_release):
        piece = scene.add(0, 10)
        assert over.wait(PATIENCE)  # the call is over: now it is the pause
    scene.fallback.stop()
    assert threads() == []
    assert scene.next() == Recorded(piece, piece.end, None, StreamFault(code, "away"))
    assert len(google.recordings) == 1


def test_nothing_is_begun_after_the_stop(google: SpeechServerThread, new: New) -> None:
    """A piece that comes too late stays without a result."""
    scene = new(frames=10)
    scene.fallback.stop()
    scene.add(0, 10)
    scene.fallback.stop()
    assert threads() == []
    assert google.recordings == []


def test_a_stop_between_the_lease_and_the_call_ends_the_call(
    google: SpeechServerThread, new: New
) -> None:
    """The stop finds nothing to cancel yet; what begins a moment later must not hang."""
    google.stall()
    scene = new(frames=10)
    recognize = scene.connection.recognize
    stopping = threading.Thread(target=scene.fallback.stop)

    def begin_late(*arguments: Any) -> Any:
        stopping.start()
        assert scene.fallback._over.wait(PATIENCE)
        return recognize(*arguments)

    with patch.object(scene.connection, "recognize", begin_late):
        scene.add(0, 10)
        assert scene.next().results is None
    stopping.join(PATIENCE)
    assert threads() == []
