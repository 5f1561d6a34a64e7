"""A Google that is gone for a while: what was said meanwhile is transcribed when it is back.

Over real gRPC, at the pace of real calls. The outages here are short, with the limits shortened
to fit; those of full length are in `make soak`.
"""

from __future__ import annotations

import time

import pytest
import session_parts
from law_parts import check_law, play
from session_parts import Call, Google, Lines, Serve

from gcp_stt_stream import SessionLimits
from recovery import Recovery
from relay_limits import RelayLimits
from shared_speech import SharedSpeech

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines, serve = session_parts.lines, session_parts.serve


def heard_until(call: Call, frame: int) -> bool:
    return frame in call.spoken()


def outage(google: Google, call: Call, seconds: float) -> tuple[int, float]:
    """Play through an outage; the last frame that was said in it, and when Google was back."""
    google.server.order(f"unavailable for={seconds}")
    play([call], seconds)
    return call.pushed - 1, time.monotonic()


def test_a_short_outage_is_replayed(serve: Serve, lines: Lines) -> None:
    """Nothing is lost, and no plain call is needed; a failure in a row is said at times only."""
    google = serve(final_every=25)
    call = google.start(limits=SessionLimits())
    play([call], 0.5)
    last, _ = outage(google, call, 1.5)
    play([call], 10.0, until=lambda: heard_until(call, last))
    assert heard_until(call, last)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert not google.server.recordings
    assert 1 <= len(lines.with_("503 UNAVAILABLE")) <= 2


def test_a_long_outage_is_covered_by_plain_calls(serve: Serve, lines: Lines) -> None:
    """Streaming gives up; pieces wait, and their finals come in order, each in its place."""
    google = serve(final_every=25)
    limits = SessionLimits(relay=RelayLimits(give_up=0.5, piece=0.5))
    call = google.start(limits=limits)
    play([call], 2.0, until=lambda: bool(call.finals))
    last, _ = outage(google, call, 2.5)
    play([call], 10.0, until=lambda: heard_until(call, last))
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert {final.fallback for final in call.finals} == {True, False}
    by_fallback = [final.start_ms for final in call.finals if final.fallback]
    assert by_fallback == sorted(by_fallback)
    assert len(by_fallback) >= 2
    assert any(
        "503 UNAVAILABLE: The service is currently unavailable. → fallback single" in line
        for line in lines.lines
    )


def test_the_text_of_a_plain_call_goes_to_the_utterance_of_its_time(serve: Serve) -> None:
    """It comes late, but it is not what is being said now."""
    google = serve(final_every=25)
    call = google.start(limits=SessionLimits(relay=RelayLimits(give_up=0.2, piece=0.5)))
    play([call], 0.5)
    last, _ = outage(google, call, 2.0)
    play([call], 10.0, until=lambda: heard_until(call, last))
    call.session.close()
    for final, utterance in zip(call.finals, call.utterances, strict=True):
        end_ms = utterance.end_ms
        assert utterance.start_ms - 200 <= final.end_ms
        assert end_ms is None or final.start_ms <= end_ms + 200


def test_streams_that_cannot_be_had_at_all_leave_it_to_plain_calls(serve: Serve) -> None:
    """Every stream dies before its first answer, plain calls work: the call has all its text."""
    google = serve(final_every=25)
    google.server.order("die status=UNAVAILABLE at=0")
    call = Call(google.connections, limits=SessionLimits(relay=RelayLimits(give_up=0.5, piece=0.5)))
    play([call], 3.0)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert all(final.fallback for final in call.finals)
    assert len(google.server.recordings) >= 3


def test_streams_that_die_before_any_final_leave_it_to_plain_calls(serve: Serve) -> None:
    """Each of them answers, and dies: they are not healthy, however often they come back."""
    google = serve(final_every=100, interim_every=5)
    google.server.order("die status=INTERNAL audio=0.4")
    call = google.start(limits=SessionLimits(relay=RelayLimits(give_up=1.0, piece=0.5)))
    play([call], 4.0)
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert sum(final.fallback for final in call.finals) >= 1


def test_a_plain_call_that_is_refused_for_good_is_counted(serve: Serve, lines: Lines) -> None:
    """Its audio is lost, which is said; the streams that follow are not touched by it."""
    google = serve(final_every=25)
    call = google.start(limits=SessionLimits(relay=RelayLimits(give_up=0.3, piece=0.5)))
    google.server.order('recognize status=INVALID_ARGUMENT text="bad audio"', "unavailable for=1")
    play([call], 3.0)
    call.session.close()
    check_law(call)
    assert call.session.lost > 0
    assert lines.with_("400 INVALID_ARGUMENT: bad audio → its audio is lost")
    assert call.spoken()[-1] == call.pushed - 1


def test_more_than_may_wait_goes_the_oldest_first(serve: Serve, lines: Lines) -> None:
    """Past the limit of a call the oldest audio is lost, counted and logged."""
    google = serve(final_every=25)
    call = google.start(limits=SessionLimits(waiting_seconds=1.0))
    play([call], 0.5)
    last, _ = outage(google, call, 3.0)
    play([call], 10.0, until=lambda: heard_until(call, last))
    call.session.close()
    check_law(call)
    assert call.session.dropped == 0
    assert 75 <= call.session.lost <= 225  # of 3 s and a pause, 1 s was kept
    spoken = call.spoken()
    missing = sorted(set(range(call.pushed)) - set(spoken))
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert len(lines.with_("[STT] lost: ")) == 1


def test_what_all_calls_together_keep_is_limited_too(serve: Serve) -> None:
    """The process has a limit: the oldest audio of them all goes first, and none of it twice."""
    google = serve(final_every=25)
    shared = SharedSpeech(waiting_bytes=40_000)  # 5 s, of all calls
    calls = [google.start(number=n, shared=shared, limits=SessionLimits()) for n in range(5)]
    play(calls, 0.5)
    google.server.order("unavailable for=3")
    kept: list[int] = []

    def note() -> bool:
        kept.append(shared.waiting.kept)
        return False

    play(calls, 3.0, until=note)
    play(calls, 10.0, until=lambda: all(heard_until(call, 170) for call in calls))
    for call in calls:
        call.session.close()
    for call in calls:
        check_law(call)
        assert 60 <= call.session.lost <= 150
    assert 30_000 < max(kept) <= 40_000 + 5 * 800
    assert shared.waiting.kept == 0


def test_too_much_for_a_replay_is_shared_with_plain_calls(serve: Serve) -> None:
    """After an outage the live text is not far behind: older audio is recognised beside it."""
    google = serve(final_every=25)
    call = google.start(limits=SessionLimits(relay=RelayLimits(replay=0.5)))
    play([call], 0.5)
    last, _ = outage(google, call, 2.0)
    play([call], 10.0, until=lambda: heard_until(call, last))
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert any(final.fallback for final in call.finals)


def test_a_call_that_ends_in_an_outage_waits_for_google_until_its_deadline(serve: Serve) -> None:
    """It is back within that time: a plain call has the rest."""
    google = serve(final_every=25)
    call = google.start(limits=SessionLimits(close_seconds=8.0))
    play([call], 0.5)
    outage(google, call, 1.0)
    google.server.order("unavailable for=1")
    call.session.close()
    check_law(call)
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert call.finals[-1].fallback


class OneTries(Recovery):
    """One call comes back by itself, 3.2 s after its stream has failed; the others must be told.

    Else those whose own pause runs out just then come too, as many as chance will have it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pauses = iter([3.2])

    def pause(self, attempt: int) -> float:
        return next(self._pauses, 9.0)


def test_many_calls_come_back_without_a_burst(serve: Serve) -> None:
    """The first that is answered tells the others, which come one after the other."""
    google = serve(final_every=25)
    shared = SharedSpeech(new_recovery=OneTries)
    calls = [
        google.start(number=n, shared=shared, limits=SessionLimits(queue_frames=session_parts.ROOM))
        for n in range(20)
    ]
    play(calls, 1.0, each=5)
    google.server.order("unavailable for=3")
    play(calls, 3.0, each=5)
    known = len(google.streams)
    play(calls, 10.0, until=lambda: all(heard_until(call, 190) for call in calls), each=5)
    back = sorted(stream.opened_at for stream in google.streams[known:] if not stream.fault)
    for call in calls:
        call.session.close()
        check_law(call)
        assert (call.session.dropped, call.session.lost) == (0, 0)
    assert len(back) == 20
    assert back[-1] - back[1] >= 0.5  # 18 steps of 50 ms; the first came by itself


def test_a_gap_is_filled_with_silence_that_google_gets(serve: Serve) -> None:
    """Missing frames are silence on the call's clock, 5 s at most, and the frames after it fit."""
    google = serve(final_every=25, events=False)
    call = google.start().push(25)
    call.wait_for_finals(1)
    call.session.fill_gap(400 * 8)
    call.pushed += 20  # as if the frames of the gap had been numbered
    call.push(25).wait_for_finals(2)
    call.session.fill_gap(7000 * 8)
    call.pushed += 350
    call.push(25).wait_for_finals(3)
    call.session.close()
    assert google.streams[0].audio_bytes == 75 * 160 + 5400 * 8
    assert [final.end_ms for final in call.finals] == [500, 1400, 8900]
    session = call.session
    assert (session.frames, session.dropped, session.gaps) == (75, 0, 2)
    assert session.filled_bytes == 5400 * 8
    assert session.now_ms() == 8900


def test_a_gap_at_the_start_only_moves_the_clock(serve: Serve) -> None:
    """A track that begins late has nothing before it."""
    google = serve(final_every=25)
    call = google.start()
    call.session.fill_gap(1000 * 8)
    call.pushed += 50
    call.push(25).wait_for_finals(1)
    call.session.close()
    assert google.streams[0].audio_bytes == 25 * 160
    assert (call.finals[0].start_ms, call.finals[0].end_ms) == (1000, 1500)


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_google_gone_for_20_seconds(serve: Serve) -> None:
    """Nothing is lost, and the text is whole within 10 s of its return."""
    google = serve(final_every=150)
    call = google.start(limits=SessionLimits())
    play([call], 15.0)
    last, back = outage(google, call, 20.0)
    play([call], 30.0, until=lambda: heard_until(call, last))
    whole = time.monotonic() - back
    call.session.close()
    check_law(call)
    print(f"\ngone for 20 s: the text was whole {whole:.1f} s after its return")
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert whole <= 10.0


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_google_gone_for_4_minutes(serve: Serve, lines: Lines) -> None:
    """Streaming gives up, plain calls cover it all, in order."""
    google = serve(final_every=150)
    call = google.start(limits=SessionLimits())
    play([call], 15.0)
    last, back = outage(google, call, 240.0)
    play([call], 60.0, until=lambda: set(call.spoken()) >= set(range(last + 1)))
    whole = time.monotonic() - back
    call.session.close()
    check_law(call)
    print(f"\ngone for 4 minutes: the text was whole {whole:.1f} s after its return")
    print(f"finals by plain calls: {sum(final.fallback for final in call.finals)}")
    assert (call.session.dropped, call.session.lost) == (0, 0)
    assert lines.with_("fallback single")
