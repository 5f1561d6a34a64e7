"""The text of a call's recognition session: results, their times, utterances and listeners.

Over the real client channel and real gRPC; the stand-in says what a test has scripted, or names
the frames that arrived.
"""

from __future__ import annotations

import pytest
import session_parts
from session_parts import (
    ABOUT,
    PATIENCE,
    Clock,
    Lines,
    Script,
    Serve,
    final,
    interim,
    together,
)

import speech_messages as messages
from gcp_stt_stream import SessionLimits
from utterances import Final, Interim

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines, serve = session_parts.lines, session_parts.serve


# The way of the text


def test_partials_are_debounced_and_the_newest_is_not_held_back_for_long(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in 200 ms; finals are never held back; and what was suppressed is known to be spoken."""
    clock = Clock()
    google = serve(
        Script(
            [interim("one", 0.1)],
            [interim("one two", 0.2), final("first", 0.2)],
            [interim("three", 0.3)],
        )
    )
    call = google.start(clock=clock, limits=SessionLimits(partial_debounce_ms=200))
    noticed: list[int] = []
    monkeypatch.setattr(call.session.utterances, "noticed", noticed.append)
    call.push(5)
    call.wait_for_partials(1)
    clock.now += 0.199
    call.push(5)
    call.wait_for_finals(1)
    clock.now += 0.002
    call.push(5)
    call.wait_for_partials(2)
    assert [partial.text for partial in call.partials] == ["one", "three"]
    assert noticed == [100, 200, 300]
    assert call.texts() == ["first"]


def test_the_interims_of_one_response_are_one_text(serve: Serve) -> None:
    """Google splits what it hears into a stable and an unstable part, each with its space."""
    google = serve(Script([together(interim(" I would", 0.05), interim(" like to ", 0.1))]))
    call = google.start().push(5)
    call.wait_for_partials(1)
    (partial,) = call.partials
    assert (partial.text, partial.end_ms, partial.stability) == ("I would like to", 100, 0.5)


def test_every_final_of_a_response_is_heard_and_stripped(serve: Serve) -> None:
    """Not only the first result; an interim beside them is still an interim."""
    response = together(final(" one ", 0.04), final(" two", 0.08), interim(" thr", 0.1))
    google = serve(Script([response], at_end=[final("  ", 0.1), final(" three", 0.1)]))
    call = google.start().push(5)
    call.wait_for_partials(1)
    call.session.close()
    assert call.finals == [
        Final("one", 0, 40, 0.75, call.finals[0].delay_ms),
        Final("two", 40, 80, 0.75, call.finals[1].delay_ms),
        Final("three", 100, 100, 0.75, call.finals[2].delay_ms),
    ]
    assert [partial.text for partial in call.partials] == ["thr"]


def test_the_recognition_delay_counts_from_the_audios_arrival(serve: Serve) -> None:
    """From the arrival of the last audio that the result covers, not of the last that was sent."""
    clock = Clock()
    google = serve(Script([interim("a", 0.1)], [], [interim("b", 0.16), final("c", 0.2)]))
    call = google.start(clock=clock, limits=SessionLimits(queue_frames=session_parts.ROOM)).push(5)
    call.wait_for_partials(1)
    clock.now += 1.0
    call.push(5)
    google.wait_for(lambda: google.streams[0].messages == 2)
    clock.now += 0.5
    call.push(5)
    call.wait_for_finals(1)
    assert [partial.delay_ms for partial in call.partials] == [0, 540]
    assert call.finals[0].delay_ms == 500


def test_a_result_without_a_time_covers_all_that_was_sent(serve: Serve) -> None:
    """Google leaves the time out at times; the start of the call is no sensible place for it."""
    untimed = final("here", 0.0)
    untimed.results[0].ClearField("result_end_time")
    google = serve(Script([], [untimed]))
    call = google.start().push(10)
    call.wait_for_finals(1)
    assert call.finals[0].end_ms == 200


def test_a_final_starts_where_its_speech_began(serve: Serve) -> None:
    """The silence since the final before it is no part of it."""
    began = messages.event(messages.SPEECH_ACTIVITY_BEGIN, 0.15)
    call = serve(Script([final("one", 0.04)], [began, final("two", 0.2)])).start().push(10)
    call.wait_for_finals(2)
    assert [(one.start_ms, one.end_ms) for one in call.finals] == [(0, 40), (150, 200)]


def test_an_event_without_a_time_is_now(serve: Serve) -> None:
    """And one at 0 is at 0: the two are not the same, as the utterances by events show."""
    untimed = messages.event(messages.SPEECH_ACTIVITY_BEGIN, 0.0)
    untimed.ClearField("speech_event_time")
    call = serve(Script([], [untimed, final("here", 0.2)])).start().push(10)
    call.wait_for_finals(1)
    assert call.utterances[0].start_ms == 200


def test_a_listener_that_raises_does_not_end_the_recognition(serve: Serve, lines: Lines) -> None:
    """Its fault is in the log, with the call's name; the next results come all the same."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    google = serve(interim_every=2, final_every=5)
    call = google.start(on_partial=fail, on_final=fail).push(20)
    call.wait_for_finals(4)
    call.session.close()
    assert call.spoken() == list(range(20))
    assert len(call.partials) == 8
    assert lines.with_("internal error") == [f"[STT] internal error {ABOUT}"] * 12
    assert [utterance.text for utterance in call.utterances] == call.texts()


# Utterances


def test_googles_events_open_and_close_utterances(serve: Serve) -> None:
    """Each final lands in the utterance in whose time it was spoken, with its start and end."""
    google = serve(final_every=10, final_delay_seconds=0.02)
    call = google.start()
    for count in (1, 2, 3):
        call.push(10)
        call.wait_for_finals(count)
    call.session.close()
    times = [(utterance.start_ms, utterance.end_ms) for utterance in call.utterances]
    assert times == [(0, 200), (200, 400), (400, 600)]
    assert [utterance.text for utterance in call.utterances] == [
        "call 1 frames 0-9",
        "call 1 frames 10-19",
        "call 1 frames 20-29",
    ]


def test_an_utterance_by_hand_has_what_was_said_in_it(serve: Serve) -> None:
    """begin() and end() from another thread, with a final that is still on its way at the end."""
    google = serve(interim_every=5, final_every=20, final_delay_seconds=0.2)
    call = google.start().push(20)
    call.wait_for_finals(1)
    heard: list[Interim] = []
    utterance = call.session.utterances.begin(heard.append)
    call.push(20)
    google.wait_for(lambda: len(google.arrived()) == 40)
    call.wait_for_partials(6)
    assert call.session.utterances.end(PATIENCE) == "call 1 frames 20-39"
    assert (utterance.start_ms, utterance.end_ms) == (400, 800)
    assert [one.text for one in heard] == [f"call 1 frames 20-{n}" for n in (24, 29, 34)]


def test_the_utterance_that_the_hang_up_cuts_has_its_text(serve: Serve) -> None:
    """The last final comes by the half-close; who asks after the close still gets the text."""
    call = serve(final_every=0).start()
    call.session.utterances.begin()
    call.push(12).session.close()
    assert call.session.utterances.current is None
    assert call.session.utterances.end() == "call 1 frames 0-11"
