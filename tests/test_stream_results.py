"""What responses become on the call's clock, over a real ring and feeds that a test empties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_parts import FRAME, FRAME_MS, Scene, plain, without_time
from session_parts import final, interim, together

import speech_messages as messages
from speech_messages import SPEECH_ACTIVITY_BEGIN, SPEECH_ACTIVITY_END, event
from stream_results import Heard
from utterances import Final, Interim


def test_a_final_is_told_with_its_place_its_confidence_and_its_delay() -> None:
    """From where the one before it ended to where Google says; delayed since its last audio."""
    scene = Scene(frames=50)
    scene.clock.now = 102.0
    assert scene.hear(final(" hello ", 0.4), final("you", 1.0)) == [
        Heard(covered=3200, boundary=True),
        Heard(covered=8000, boundary=True),
    ]
    assert [final for final, _ in scene.finals] == [
        Final("hello", 0, 400, 0.75, 1600),
        Final("you", 400, 1000, 0.75, 1000),
    ]
    assert scene.guarded == 2


def test_an_interim_is_told_with_its_place_its_stability_and_its_delay() -> None:
    """It covers nothing, and is no place to change the stream."""
    scene = Scene(frames=50)
    scene.clock.now = 101.5
    assert scene.hear(interim(" hel", 0.4)) == [Heard(noticed=3200)]
    assert scene.interims == [Interim("hel", 400, 0.5, 1100)]
    assert scene.switch.seen == [400]
    assert scene.guarded == 1


def test_a_delay_is_never_negative() -> None:
    """Clocks of two threads may disagree by a little."""
    scene = Scene(frames=10)
    scene.clock.now = 90.0
    scene.hear(interim("a", 0.2), final("a", 0.2))
    assert (scene.interims[0].delay_ms, scene.finals[0][0].delay_ms) == (0, 0)


def test_times_step_over_what_was_dropped() -> None:
    """Google never had these frames: what comes behind them is later in the call than it says."""
    scene = Scene(frames=5)
    scene.drop(2)
    scene.push(5)
    scene.send()
    scene.hear(interim("a", 0.1), interim("ab", 0.12), final("a", 0.1), final("b", 0.2))
    assert [interim.end_ms for interim in scene.interims] == [100, 160]
    assert scene.spans() == [("a", 0, 100), ("b", 140, 240)]


def test_speech_begins_behind_a_hole_and_ends_before_it() -> None:
    """The same time of Google's is two points of the call; an event says which is meant."""
    scene = Scene(frames=5)
    scene.drop(2)
    scene.push(5)
    scene.send()
    assert scene.hear(
        event(SPEECH_ACTIVITY_BEGIN, 0.0),
        event(SPEECH_ACTIVITY_END, 0.1),
        event(SPEECH_ACTIVITY_BEGIN, 0.1),
    ) == [Heard(), Heard(boundary=True), Heard()]
    assert scene.switch.current is not None
    assert scene.switch.current.start_ms == 140
    scene.hear(final("a", 0.1), final("b", 0.2))
    assert scene.spans() == [("a", 0, 100), ("b", 140, 240)]
    assert [(u.start_ms, u.end_ms) for _, u in scene.finals] == [(0, 100), (140, None)]


def test_times_step_over_what_was_evicted_before_it_was_sent() -> None:
    """A stream that was too slow: its audio has a hole that the ring's had not."""
    scene = Scene(frames=5)
    scene.hear(final("a", 0.1))
    scene.push(10)
    scene.ring.evict(5 * FRAME)
    scene.send()
    scene.hear(event(SPEECH_ACTIVITY_END, 0.1), event(SPEECH_ACTIVITY_BEGIN, 0.1))
    assert scene.hear(final("b", 0.2)) == [Heard(covered=15 * FRAME, boundary=True)]
    assert scene.spans() == [("a", 0, 100), ("b", 200, 300)]


def test_silence_in_a_gap_counts_as_audio() -> None:
    """Google had it: its times need no more than to be taken as they are."""
    scene = Scene(frames=5)
    scene.fill(10)
    scene.push(5)
    scene.send()
    scene.hear(event(SPEECH_ACTIVITY_BEGIN, 0.3), interim("b", 0.35), final("b", 0.4))
    assert scene.interims[0].end_ms == 350
    assert scene.spans() == [("b", 300, 400)]


def test_what_was_missing_at_the_calls_start_moves_the_clock() -> None:
    """The first frame is not at 0, and neither is the first word."""
    scene = Scene()
    scene.drop(10)
    scene.push(10)
    scene.send()
    scene.hear(event(SPEECH_ACTIVITY_BEGIN, 0.0), final("a", 0.2))
    assert scene.spans() == [("a", 200, 400)]


def test_a_final_starts_where_speech_began() -> None:
    """Silence before it is not part of it."""
    scene = Scene(frames=50)
    scene.hear(event(SPEECH_ACTIVITY_BEGIN, 0.3), final("a", 0.5))
    assert scene.spans() == [("a", 300, 500)]


def test_a_final_that_straddles_the_one_before_starts_where_that_ended() -> None:
    """Speech went on: two finals of it share no audio."""
    scene = Scene(frames=50)
    scene.hear(event(SPEECH_ACTIVITY_BEGIN, 0.1), final("a", 0.5), final("b", 0.9))
    assert scene.spans() == [("a", 100, 500), ("b", 500, 900)]


def test_a_beginning_that_is_behind_a_final_is_not_its_own() -> None:
    """The event of the next utterance may come before the final of the one before."""
    scene = Scene(frames=50)
    scene.hear(event(SPEECH_ACTIVITY_BEGIN, 0.6), final("a", 0.5), final("b", 0.9))
    assert scene.spans() == [("a", 0, 500), ("b", 600, 900)]


def test_a_final_that_ends_before_the_one_before_has_no_length() -> None:
    """Google's times need not be in order; but nothing starts behind its own end."""
    scene = Scene(frames=50)
    scene.hear(final("a", 0.5), final("b", 0.3), final("c", 0.9))
    assert scene.spans() == [("a", 0, 500), ("b", 300, 300), ("c", 500, 900)]


def test_an_event_without_a_time_is_at_the_end_of_what_was_sent() -> None:
    """And one whose time is 0 is at 0: a call may begin with speech."""
    scene = Scene(frames=10)
    untimed = event(SPEECH_ACTIVITY_BEGIN, 0.0)
    untimed.ClearField("speech_event_time")
    scene.push(10)  # not sent
    scene.hear(untimed)
    assert scene.switch.current is not None
    assert scene.switch.current.start_ms == 200
    other = Scene(frames=10)
    other.hear(event(SPEECH_ACTIVITY_BEGIN, 0.0))
    assert other.switch.current is not None
    assert other.switch.current.start_ms == 0


def test_other_events_say_nothing() -> None:
    """The end of a single utterance, which nobody has asked for."""
    scene = Scene(frames=10)
    assert scene.hear(event(messages.END_OF_SINGLE_UTTERANCE, 0.1)) == [Heard()]
    assert scene.switch.current is None


def test_the_next_stream_goes_on_where_nothing_is_covered() -> None:
    """Its own time begins at 0 with the audio that is replayed to it, hole and all."""
    scene = Scene(frames=10)
    scene.drop(5)
    scene.push(20)
    scene.send()
    scene.hear(event(SPEECH_ACTIVITY_BEGIN, 0.05), final("a", 0.1))
    scene.new_stream(5 * FRAME)
    scene.send()
    assert scene.hear(interim("b", 0.1), final("b", 0.2)) == [
        Heard(noticed=10 * FRAME),
        Heard(covered=15 * FRAME, boundary=True),
    ]
    assert [interim.end_ms for interim in scene.interims] == [200]
    assert scene.spans() == [("a", 50, 100), ("b", 100, 400)]


def test_a_stream_that_begins_behind_a_hole_starts_behind_it() -> None:
    """What was given to a plain call in between is not the new stream's."""
    scene = Scene(frames=10)
    scene.hear(final("a", 0.1))
    scene.drop(5)
    scene.push(10)
    scene.send()
    scene.new_stream(10 * FRAME)
    scene.send()
    scene.hear(final("b", 0.2))
    assert scene.spans() == [("a", 0, 100), ("b", 300, 500)]


def test_all_results_of_one_response_count() -> None:
    """Finals one after the other; the interims behind them are one text."""
    scene = Scene(frames=50)
    both = together(final("a", 0.2), final("b", 0.5), interim(" c", 0.7), interim(" d", 0.9))
    both.results[2].stability = 0.875
    assert scene.hear(both) == [Heard(covered=4000, noticed=7200, boundary=True)]
    assert scene.spans() == [("a", 0, 200), ("b", 200, 500)]
    assert [(i.text, i.end_ms, i.stability) for i in scene.interims] == [("c d", 900, 0.875)]


def test_results_without_a_time_end_with_all_that_was_sent() -> None:
    """Not with what waits in the ring behind that, nor at 0."""
    scene = Scene(frames=10)
    scene.push(10)
    assert scene.hear(without_time(interim("a", 1)), without_time(final("a", 1))) == [
        Heard(noticed=10 * FRAME),
        Heard(covered=10 * FRAME, boundary=True),
    ]
    assert scene.interims[0].end_ms == 200
    assert scene.spans() == [("a", 0, 200)]


def test_a_time_beyond_what_was_sent_is_its_end() -> None:
    """Google rounds."""
    scene = Scene(frames=10)
    scene.push(10)
    assert scene.hear(final("a", 0.3))[0].covered == 10 * FRAME
    assert scene.spans() == [("a", 0, 200)]


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_final_covers_its_audio_without_a_word(text: str) -> None:
    """Nothing was said there, or nothing that Google knows; what follows starts behind it."""
    scene = Scene(frames=50)
    assert scene.hear(final(text, 0.5)) == [Heard(covered=4000, boundary=True)]
    scene.hear(final("a", 0.9))
    assert scene.spans() == [("a", 500, 900)]


def test_a_result_without_alternatives_covers_its_audio_as_well() -> None:
    """The format allows it, for finals and for interims."""
    scene = Scene(frames=50)
    bare, guess = final("x", 0.5), interim("x", 0.7)
    for response in (bare, guess):
        response.results[0].ClearField("alternatives")
    assert scene.hear(bare, guess) == [
        Heard(covered=4000, boundary=True),
        Heard(noticed=5600),
    ]
    assert (scene.finals, scene.interims) == ([], [])


def test_an_empty_interim_is_not_told() -> None:
    """Nor does it keep the next one back."""
    scene = Scene(debounce_ms=200, frames=50)
    scene.hear(interim(" ", 0.2), interim("a", 0.4))
    assert [interim.text for interim in scene.interims] == ["a"]


def test_a_confidence_of_0_is_none() -> None:
    """Google leaves it out where it has none."""
    scene = Scene(frames=10)
    scene.hear(messages.final("a", 0.2, "en-US", 0.0))
    assert scene.finals[0][0].confidence is None


def test_interims_are_debounced_and_finals_are_not() -> None:
    """At most one in 200 ms; one that is kept back still says that a final will come."""
    scene = Scene(debounce_ms=200, frames=50)
    for now, text in ((101.0, "a"), (101.199, "b"), (101.2, "c"), (101.25, "d")):
        scene.clock.now = now
        assert scene.hear(interim(text, now - 100.5))[0].noticed == round((now - 100.5) * 8000)
    scene.hear(final("e", 0.8), final("f", 0.9))
    assert [interim.text for interim in scene.interims] == ["a", "c"]
    assert scene.switch.seen == [500, 699, 700, 750]
    assert [text for text, *_ in scene.spans()] == ["e", "f"]


def test_without_a_debounce_every_interim_is_told() -> None:
    """0 ms, and all at one moment."""
    scene = Scene(debounce_ms=0, frames=50)
    scene.hear(*[interim(text, 0.5) for text in "abc"])
    assert [interim.text for interim in scene.interims] == ["a", "b", "c"]


def test_a_recording_has_its_place_as_well() -> None:
    """Each result from the one before it to its own end, marked as one after the fact."""
    scene = Scene(frames=5)
    scene.drop(5)
    scene.push(50)
    scene.ring.flush()
    scene.clock.now = 105.0
    results = plain(final("a", 0.2), final(" ", 0.4), final("b", 0.6))
    scene.results.hand_on_recording(results, 5 * FRAME, 55 * FRAME)
    assert [final for final, _ in scene.finals] == [
        Final("a", 200, 400, 0.75, 4600, fallback=True),
        Final("b", 600, 800, 0.75, 4200, fallback=True),
    ]
    assert scene.guarded == 2


def test_a_recording_steps_over_what_was_dropped_in_it() -> None:
    """Results lie where their audio was in the call, before a hole or behind it."""
    scene = Scene(frames=10)
    scene.drop(5)
    scene.push(10)
    scene.ring.flush()
    scene.results.hand_on_recording(plain(final("a", 0.2), final("b", 0.4)), 0, 20 * FRAME)
    assert scene.spans() == [("a", 0, 200), ("b", 300, 500)]


def test_a_recordings_result_without_a_time_ends_with_its_audio() -> None:
    """And one whose time is beyond that as well: what comes later is another piece's."""
    scene = Scene(frames=100)
    timeless = without_time(final("b", 0.0))
    scene.results.hand_on_recording(plain(final("a", 0.2), timeless), 0, 50 * FRAME)
    scene.results.hand_on_recording(plain(final("c", 0.9)), 50 * FRAME, 60 * FRAME)
    assert scene.spans() == [("a", 0, 200), ("b", 200, 1000), ("c", 1000, 1200)]


def test_a_recording_without_results_says_nothing() -> None:
    """Silence: Google answers with an empty list."""
    scene = Scene(frames=10)
    scene.results.hand_on_recording([], 0, 10 * FRAME)
    assert scene.finals == []


def test_a_recording_leaves_the_streams_results_where_they_are() -> None:
    """It may be older than what the stream has said since."""
    scene = Scene(frames=50)
    scene.new_stream(30 * FRAME)
    scene.send()
    scene.hear(final("b", 0.2))
    scene.results.hand_on_recording(plain(final("a", 0.6)), 0, 30 * FRAME)
    scene.hear(final("c", 0.4))
    assert scene.spans() == [("b", 600, 800), ("a", 0, 600), ("c", 800, 1000)]


STEPS = st.lists(
    st.tuples(st.sampled_from(["push", "push", "push", "drop", "fill"]), st.integers(1, 12)),
    min_size=1,
    max_size=15,
)


@given(STEPS, st.floats(0, 1))
def test_every_frame_is_where_it_was_in_the_call(steps: list[Any], begin: float) -> None:
    """Whatever was dropped or missing, and wherever the stream began: to the millisecond."""
    scene = Scene()
    sent: list[int] = []  # the number in the call of each frame that is in the ring
    number = 0
    for step, frames in steps:
        getattr(scene, step)(frames)
        if step != "drop":
            sent += range(number, number + frames)
        number += frames
    scene.ring.flush()
    first = round(begin * len(sent))
    scene.new_stream(first * FRAME)
    scene.send()
    for index, frame in enumerate(sent[first:]):
        at = index * FRAME_MS / 1000
        scene.hear(event(SPEECH_ACTIVITY_BEGIN, at), final(str(frame), at + FRAME_MS / 1000))
    assert scene.spans() == [
        (str(frame), frame * FRAME_MS, (frame + 1) * FRAME_MS) for frame in sent[first:]
    ]
