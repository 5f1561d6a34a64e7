"""Streams that fail in every way that is known, at the worst moments: the law holds all the same.

Over real gRPC, at the pace of real calls, with the limits shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import session_parts
from law_parts import Calls, check_law, play
from session_parts import ENGLISH, Call, Door, Lines, Serve

from gcp_stt_stream import SessionLimits
from recognition import Recognition
from recovery import Recovery
from relay_limits import RelayLimits
from shared_speech import SharedSpeech
from speech_connections import SpeechConnections
from speech_messages import Message
from speech_server_faults import Fault, parse_fault
from speech_server_rules import Limits

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines, serve = session_parts.lines, session_parts.serve

# One row for each line of the table of Google's errors; the text matters as much as the code.
TRANSIENT = (
    'OUT_OF_RANGE text="Exceeded maximum allowed stream duration of 305 seconds."',
    'ABORTED text="Max duration of 5 minutes reached for stream."',
    'OUT_OF_RANGE text="Audio Timeout Error: Long duration elapsed without audio."',
    'ABORTED text="Stream timed out after receiving no more client requests."',
    'OUT_OF_RANGE text="Audio data is being streamed too fast."',
    'UNAVAILABLE text="The service is currently unavailable."',
    'INTERNAL text="Internal error encountered."',
    'UNKNOWN text="Exception iterating requests!"',
    'DEADLINE_EXCEEDED text="Deadline expired."',
    'ABORTED text="The operation was aborted."',
    'CANCELLED text="The operation was cancelled."',
    'RESOURCE_EXHAUSTED text="Quota exceeded."',
    "OK",
)
PERMANENT = (
    'PERMISSION_DENIED text="The caller does not have permission"',
    'UNAUTHENTICATED text="Request had invalid authentication credentials."',
    'INVALID_ARGUMENT text="Invalid recognition config: bad encoding."',
    'NOT_FOUND text="Requested entity was not found."',
    'FAILED_PRECONDITION text="Billing is disabled."',
    'UNIMPLEMENTED text="Method not found!"',
    'UNAVAILABLE text="Getting metadata from plugin failed with error: invalid_grant"',
)


def limits(close_seconds: float = 3.0, **relay: float) -> SessionLimits:
    return SessionLimits(close_seconds=close_seconds, relay=RelayLimits(**relay))


def once(text: str, ordinal: int = 0) -> Callable[[int], Fault | None]:
    """A fault of the call's stream with this number, and of no other."""
    fault = parse_fault(text)
    return lambda number: fault if number == ordinal else None


MOMENTS = {
    "before the first response": ("at=open", 0),
    "in the middle of an utterance": ("audio=0.7", 0),
    "in a rotation, the next stream": ("at=open", 1),
    "in a rotation, the old stream": ("at=half-close", 0),
    "soon after a rotation": ("audio=0.3", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_transient_fault_costs_no_frame(serve: Serve, moment: str) -> None:
    """Each row of the table at once, each in a call of its own: every frame has its one final."""
    when, ordinal = MOMENTS[moment]
    google = serve(final_every=45)
    # not before the last call has begun: what rotates without audio is not struck by how much came
    rotate, hard = (2.5, 3.0) if "rotation" in moment else (240.0, 285.0)
    calls = Calls(google, [once(f"die status={row} {when}", ordinal) for row in TRANSIENT])
    calls.start(limits(rotate=rotate, rotate_hard=hard))

    def all_struck() -> bool:
        return sum(bool(stream.fault) for stream in google.streams) == len(TRANSIENT)

    play(calls.calls, 10.0, until=all_struck)
    play(calls.calls, 1.0)
    calls.close()
    for row, call in zip(TRANSIENT, calls.calls, strict=True):
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0), row
        assert call.session.transcribed
    assert all_struck(), "a fault did not strike"


def test_every_transient_fault_in_the_drain_costs_no_frame(serve: Serve) -> None:
    """The call is over and its stream fails instead of its last finals: a plain call has them.

    An OK without finals is no fault unless interims say so: Google found no words.
    """
    google = serve(final_every=45, interim_every=5)
    calls = Calls(google, [once(f"die status={row} at=half-close") for row in TRANSIENT])
    calls.start(limits())
    play(calls.calls, 1.3)
    calls.close()
    for row, call in zip(TRANSIENT, calls.calls, strict=True):
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0), row
        assert [final.fallback for final in call.finals] == [False, True], row


@pytest.mark.parametrize("when", ["at=open", "audio=0.7", "at=half-close"])
def test_a_permanent_fault_is_said_once_and_the_call_goes_on(
    serve: Serve, lines: Lines, when: str
) -> None:
    """No retry, one line that says what to mend, and every frame is counted."""
    google = serve(final_every=20)
    calls = Calls(google, [once(f"die status={row} {when}") for row in PERMANENT])
    calls.start(limits())
    play(calls.calls, 1.3)
    calls.close()
    assert len(google.streams) == len(PERMANENT)
    for number, call in enumerate(calls.calls):
        check_law(call)
        assert not call.session.transcribed
        [said] = [line for line in lines.with_("streaming failed") if f"tenant=T{number}" in line]
        assert " → this call is not transcribed: " in said


def test_a_reset_connection_costs_no_frame(serve: Serve) -> None:
    """All calls of the connection lose their streams at once, in mid-word."""
    google = serve(final_every=45)
    calls = [google.start(number=number, limits=limits()) for number in range(5)]
    play(calls, 0.7)
    google.server.order("reset at=0.2 next=1")
    calls.append(google.start(number=5, limits=limits()))
    play(calls, 2.0)
    for call in calls:
        call.session.close()
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(google.streams) > 6


def test_an_error_within_the_stream_costs_no_frame(serve: Serve) -> None:
    """Google says it in a response and leaves the stream open: it is given up here."""
    google = serve(final_every=45)
    google.server.order('in-band status=INTERNAL text="broken" audio=0.7 next=1')
    call = google.start(limits=limits())
    play([call], 2.0)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert [stream.ended for stream in google.streams] == ["cancelled", "half-closed"]


def test_a_stream_that_answers_nothing_is_noticed(serve: Serve, lines: Lines) -> None:
    """It takes speech and says nothing, nor does it end: the next one gets all of its audio."""
    google = serve(final_every=45)
    google.server.order("mute next=1")
    call = google.start(limits=limits(mute=0.6, drain=0.3))
    play([call], 2.5)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(lines.with_("it answered nothing in 0.6 s of speech")) == 1
    assert [stream.ended for stream in google.streams] == ["cancelled", "half-closed"]


def test_music_is_heard_twice_and_then_believed_to_be_none(serve: Serve, lines: Lines) -> None:
    """Loud audio to which Google has nothing to say: streams end in order, and are not repeated."""
    google = serve(session_parts.Script())
    call = google.start(limits=limits(mute=0.4, tail=0.1))
    play([call], 3.2)
    call.session.close()
    assert call.session.lost == 0
    sizes = [stream.audio_bytes for stream in google.streams]
    # after 0.4 s the stream is replaced and what it had is said again, after 0.8 s it is believed
    assert 2 <= len(lines.with_("it answered nothing")) <= 4
    assert call.pushed * 160 < sum(sizes) < 2.5 * call.pushed * 160, sizes


def test_a_stream_that_takes_no_audio_is_replaced(serve: Serve, lines: Lines) -> None:
    """Google stops reading: some frames are dropped, then another stream has what is kept."""
    google = serve(final_every=45)
    google.server.order("slow rate=0.01 audio=0.5 next=1")
    call = google.start(limits=SessionLimits(relay=RelayLimits(stall=0.5)))
    play([call], 4.0)
    call.session.close()
    check_law(call)
    assert call.session.lost == 0
    assert 0 < call.session.dropped < 100
    assert lines.with_("Google took no audio for 0.5 s")
    assert len({stream.peer for stream in google.streams}) == 2  # the connection is not trusted


def test_a_stream_that_never_opens_is_tried_over_another_connection(
    serve: Serve, lines: Lines
) -> None:
    """As when it is queued behind a connection's other streams: nothing hangs or is lost."""
    google = serve(final_every=45)
    door = Door(google.server.address)
    connections = SpeechConnections(None, emulator_host=door.address)
    call = Call(connections, limits=limits(open=0.4))
    play([call], 1.0)
    assert lines.with_("the stream was not opened within 0.4 s")
    door.keep_open()
    play([call], 1.0)
    call.session.close()
    connections.close()
    door.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)


def test_a_break_in_a_business_is_kept_by_all_of_its_calls_and_by_no_other(
    serve: Serve, lines: Lines
) -> None:
    """RESOURCE_EXHAUSTED: one call tries again after the break, for all; others do not notice."""
    google = serve(final_every=20)
    shared = SharedSpeech(new_recovery=partial(Recovery, first_break_seconds=1.0))
    busy = [google.start(number=n, limits=limits(), shared=shared) for n in range(3)]
    other = google.start(number=3, tenant_id="T2", limits=limits(), shared=shared)
    google.server.order("die status=RESOURCE_EXHAUSTED audio=0.3 next=1")
    busy.append(google.start(number=4, limits=limits(), shared=shared))
    play([*busy, other], 0.6)
    opened = len(google.streams)
    busy.append(Call(google.connections, number=5, limits=limits(), shared=shared))
    other_too = google.start(number=6, tenant_id="T2", limits=limits(), shared=shared)
    assert len(google.streams) == opened + 1 == 6  # the other business's
    play([*busy, other, other_too], 2.0)
    for call in (*busy, other, other_too):
        call.session.close()
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0)


def test_a_refused_model_falls_back_once_for_the_business(serve: Serve, lines: Lines) -> None:
    """`phone_call` for Hebrew: one warning, and the next calls do not ask for it any more."""

    def refuse(config: Message) -> str | None:
        return "The requested model is not supported." if config.model == "phone_call" else None

    google = serve(refuse=refuse, final_every=5)
    shared = SharedSpeech()
    recognition = Recognition("iw-IL", "phone_call")
    for number in range(3):
        call = google.start(number=number, recognition=recognition, shared=shared).push(5)
        call.wait_for_finals(1)
        call.session.close()
        check_law(call)
    models = [stream.config.config.model for stream in google.streams]
    assert models == ["phone_call", "default", "default", "default"]
    assert len(lines.with_("[STT] model refused: phone_call for iw-IL")) == 1
    other = google.start(tenant_id="T2", recognition=recognition, shared=shared).push(5)
    other.wait_for_finals(1)
    other.session.close()
    assert len(lines.with_("[STT] model refused")) == 2


def test_a_wrong_language_is_one_clear_line(serve: Serve, lines: Lines) -> None:
    """With the default model there is nothing to fall back to."""
    google = serve(refuse=lambda config: "bad language code.")
    call = google.start(recognition=ENGLISH).push(5)
    lines.wait_for("this call is not transcribed: check STT_LANGUAGE and STT_MODEL")
    call.session.close()
    assert len(google.streams) == 1


def test_a_stream_that_is_refused_in_a_rotation_leaves_the_healthy_one_alone(serve: Serve) -> None:
    """Google has no quota for the next stream: the call goes on in the one that it has."""
    google = serve(final_every=20)
    call = google.start(limits=limits(rotate=0.5, rotate_hard=4.0))
    google.server.order('die status=RESOURCE_EXHAUSTED text="Quota exceeded." at=open')
    play([call], 2.5)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(google.streams) >= 2
    assert google.streams[0].ended == "half-closed"
    assert len(google.streams[0].frames) == call.pushed
    assert not any(final.fallback for final in call.finals)


def test_a_new_call_in_a_break_is_left_to_plain_calls(serve: Serve) -> None:
    """Its business may open no stream for long: what is said is recognised all the same."""
    google = serve(final_every=20)
    shared = SharedSpeech(new_recovery=partial(Recovery, first_break_seconds=60.0))
    shared.tenant("T1").recovery.exhausted()
    call = Call(google.connections, shared=shared, limits=limits(give_up=0.5, piece=0.5))
    play([call], 2.5)
    assert call.finals
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert not google.streams


def test_a_stream_that_cannot_be_begun_is_tried_again(
    serve: Serve, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread, no connection, just then: the next try has them, and the call its text."""
    google = serve(final_every=20)
    call = google.start(limits=limits(rotate=0.4, rotate_hard=3.0))
    lease, failures = google.connections.lease, iter(range(2))

    def fail_twice() -> object:
        if next(failures, None) is not None:
            raise RuntimeError("can't start new thread")
        return lease()

    monkeypatch.setattr(google.connections, "lease", fail_twice)
    play([call], 2.5)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(google.streams) >= 2
    assert lines.with_("internal error")


def test_a_limit_that_comes_much_too_soon_is_a_fault_like_others(serve: Serve) -> None:
    """Google ends every stream after 0.4 s with the words of its limit: no storm of streams."""
    google = serve(final_every=200)
    google.server.order("cut v1 at=0.4")
    call = google.start(limits=limits(give_up=1.0, piece=0.5))
    play([call], 4.0)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(google.streams) <= 7
    assert any(final.fallback for final in call.finals)


def test_what_was_said_before_a_silent_line_is_not_kept_waiting(serve: Serve) -> None:
    """No audio comes any more, Google ends the stream without the final: a plain call has it."""
    google = serve(limits=Limits(audio_timeout_seconds=1.0), final_every=60)
    call = google.start().push(30)
    call.wait_for_finals(1)
    assert call.finals[0].fallback
    call.push(30)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)


def test_a_burst_does_not_wait_for_more_room_than_there_is(serve: Serve) -> None:
    """A queue of two frames and a read of five: the handler waits for an empty queue, no longer."""
    google = serve()
    call = google.start(limits=SessionLimits(queue_frames=2)).push(2)
    google.wait_for(lambda: len(google.arrived()) == 2)
    assert call.session.wait_for_room(5) is True
    google.server.stall()
    call.push(2)
    call.session.wait_for_room(5)  # returns, whatever it says
    google.server.resume()
