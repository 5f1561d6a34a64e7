"""The utterance switch: every result reaches the utterance that it belongs to, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utterances import REMEMBERED, Final, Interim, Utterance, UtteranceSwitch


class Call:
    """A switch on a call whose clock the test sets; what the call's own listeners heard."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.now_ms = 0
        self.interims: list[Interim] = []
        self.finals: list[tuple[Final, Utterance]] = []
        self.switch = UtteranceSwitch(
            lambda: self.now_ms,
            on_interim=self.interims.append,
            on_final=lambda final, utterance: self.finals.append((final, utterance)),
            clock=clock or (lambda: 0.0),
        )


def final(text: str, start_ms: int, end_ms: int) -> Final:
    return Final(text, start_ms, end_ms, None, 0)


def interim(text: str, end_ms: int) -> Interim:
    return Interim(text, end_ms, 0.9, 0)


def jumping_clock(*times: float) -> Callable[[], float]:
    """A clock that says these times, one a look, and the last one for ever."""
    left = list(times)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def call() -> Call:
    return Call()


def test_googles_events_open_and_close_an_utterance(call: Call) -> None:
    """Without any caller's doing, an utterance is what lies between BEGIN and END."""
    call.switch.speech_began(1000)
    assert call.switch.current is not None
    call.now_ms = 3100
    utterance = call.switch.final(final("hello", 1000, 3000))
    assert utterance is call.switch.current
    call.switch.speech_ended(3000)
    assert call.switch.current is None
    assert (utterance.start_ms, utterance.end_ms, utterance.text) == (1000, 3000, "hello")


def test_a_final_after_the_end_still_reaches_its_utterance(call: Call) -> None:
    """END often comes before the final; the next utterance may even have begun."""
    call.switch.speech_began(1000)
    first = call.switch.current
    call.switch.speech_ended(3000)
    call.switch.speech_began(3500)
    second = call.switch.current
    assert call.switch.final(final("one", 1000, 2900)) is first
    assert call.switch.final(final("two", 3500, 5000)) is second
    assert first is not None
    assert second is not None
    assert (first.text, second.text) == ("one", "two")


def test_a_final_without_a_target_opens_its_own(call: Call) -> None:
    """END may be missing, BEGIN may be: what was said is kept, with its times."""
    own = call.switch.final(final("hello", 500, 900))
    assert (own.start_ms, own.end_ms, own.text) == (500, 900, "hello")
    assert call.switch.current is None
    call.switch.speech_began(5000)
    far = call.switch.final(final("long ago", 2000, 2500))
    assert far is not own
    assert far is not call.switch.current


def test_an_utterance_of_its_own_takes_what_belongs_to_it(call: Call) -> None:
    """Two finals of one stretch of speech do not become two utterances."""
    own = call.switch.final(final("one", 500, 900))
    assert call.switch.final(final("two", 900, 1050)) is own
    assert own.text == "one two"


def test_googles_rounding_does_not_make_a_new_utterance(call: Call) -> None:
    """A final that lies a little outside its utterance is still that one's."""
    call.switch.speech_began(1000)
    utterance = call.switch.current
    call.switch.speech_ended(2000)
    assert call.switch.final(final("late", 2000, 2100)) is utterance


def test_a_final_goes_where_most_of_it_lies(call: Call) -> None:
    """One that reaches across two utterances is not given to whichever comes first."""
    call.switch.speech_began(0)
    call.switch.speech_ended(1000)
    call.switch.speech_began(1000)
    second = call.switch.current
    call.switch.speech_ended(4000)
    assert call.switch.final(final("long", 800, 4000)) is second


def test_two_finals_that_end_at_one_time_stay_together(call: Call) -> None:
    """The second has no length by the finals' own account; it must not get lost for end()."""
    call.switch.begin()
    call.now_ms = 3000
    call.switch.final(final("book a table", 0, 3000))
    call.switch.final(final("please", 3000, 3000))
    assert call.switch.end(0) == "book a table please"


def test_begin_and_end_return_what_was_said_between_them(call: Call) -> None:
    """The caller's own utterance: Google's events inside it neither close nor replace it."""
    call.now_ms = 2000
    opened = call.switch.begin()
    call.switch.speech_began(2100)
    call.switch.final(final("yes", 2100, 2500))
    call.switch.speech_ended(2500)
    assert call.switch.current is opened
    call.switch.speech_began(3000)
    call.switch.final(final("please", 3000, 3900))
    call.now_ms = 4000
    assert call.switch.end(0) == "yes please"
    assert (opened.start_ms, opened.end_ms) == (2000, 4000)
    assert call.switch.current is None


def test_end_without_an_utterance_is_empty_and_immediate(call: Call) -> None:
    """There is nothing to wait for."""
    call.now_ms = 9000
    assert call.switch.end(timeout=1e9) == ""


def test_begin_closes_what_is_open(call: Call) -> None:
    """There is one target at a time, and what was open keeps its results."""
    first = call.switch.begin()
    call.now_ms = 1000
    second = call.switch.begin()
    assert call.switch.current is second
    assert (first.end_ms, second.start_ms) == (1000, 1000)
    assert call.switch.final(final("late", 100, 900)) is first


def test_googles_events_work_again_after_end(call: Call) -> None:
    """A caller that took one utterance by hand leaves the rest to Google."""
    call.switch.begin()
    call.now_ms = 1000
    call.switch.final(final("x", 0, 1000))
    call.switch.end(0)
    call.switch.speech_began(2000)
    assert call.switch.current is not None
    call.switch.speech_ended(3000)
    assert call.switch.current is None


def test_utterances_by_events_do_not_overlap(call: Call) -> None:
    """BEGIN is often timed a little before the END that precedes it; so is a straggler's own."""
    call.switch.speech_began(4000)
    call.switch.speech_ended(5000)
    call.switch.final(final("straggler", 1000, 1500))
    call.switch.speech_began(4800)
    assert call.switch.current is not None
    assert call.switch.current.start_ms == 5000
    second = call.switch.current
    call.switch.speech_ended(4900)
    assert second.end_ms == 5000  # an utterance never ends before it begins


def test_interims_reach_the_targets_callback_and_the_calls(call: Call) -> None:
    """Only the current target's; and after it, only the call's."""
    heard: list[Interim] = []
    call.switch.interim(interim("before", 50))
    call.switch.begin(heard.append)
    call.switch.interim(interim("he", 100))
    call.switch.interim(interim("hello", 200))
    call.switch.final(final("hello", 0, 200))
    call.switch.end(0)
    call.switch.interim(interim("after", 300))
    assert [one.text for one in heard] == ["he", "hello"]
    assert [one.text for one in call.interims] == ["before", "he", "hello", "after"]


def test_end_waits_for_the_final_that_is_in_flight() -> None:
    """Speech was noticed and not covered yet: the answer holds the final that comes meanwhile."""
    waiting = threading.Event()
    looks: list[float] = []

    def clock() -> float:  # end() looks at it when it begins and before each wait
        looks.append(0.0 if not looks else 59.0)
        if len(looks) == 2:
            waiting.set()  # the switch's lock is held: what comes now comes in its wait
        return looks[-1]

    call = Call(clock)
    call.switch.begin()
    call.switch.interim(interim("hel", 900))
    call.now_ms = 1000
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(call.switch.end, 120)
        assert waiting.wait(10)
        call.switch.final(final("hello", 0, 950))
        assert text.result(10) == "hello"


def test_speech_that_was_noticed_is_waited_for() -> None:
    """An interim that nobody was told of, because it came too soon after another, counts too."""
    waiting = threading.Event()
    looks: list[float] = []

    def clock() -> float:  # as above: the second look is the one before the wait
        looks.append(0.0 if not looks else 59.0)
        if len(looks) == 2:
            waiting.set()
        return looks[-1]

    call = Call(clock)
    call.switch.begin()
    call.switch.noticed(900)
    call.now_ms = 1000
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(call.switch.end, 120)
        assert waiting.wait(10)
        call.switch.final(final("hello", 0, 950))
        assert text.result(10) == "hello"
    assert call.interims == []


def test_end_waits_for_all_that_was_said_and_not_for_the_first_final() -> None:
    """A final of the first half is not the end: the second half is still in flight."""
    waiting = threading.Semaphore(0)

    def clock() -> float:
        waiting.release()
        return 0.0

    call = Call(clock)
    call.switch.begin()
    call.switch.interim(interim("one two", 3900))
    call.now_ms = 4000
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(call.switch.end, 60)
        assert waiting.acquire(timeout=10)  # when it began
        assert waiting.acquire(timeout=10)  # before its first wait
        call.switch.final(final("one", 0, 2000))
        assert waiting.acquire(timeout=10)  # it waits again
        call.switch.final(final("two", 2000, 3950))
        assert text.result(10) == "one two"


def test_end_gives_up_at_its_deadline_and_the_late_final_is_kept() -> None:
    """A final that never comes does not hold the caller; one that is late is not lost."""
    call = Call(jumping_clock(0.0, 0.0, 1.0))
    utterance = call.switch.begin()
    call.switch.interim(interim("hel", 900))
    call.now_ms = 1000
    assert call.switch.end(timeout=0.001) == ""
    assert call.switch.final(final("hello", 0, 950)) is utterance
    assert utterance.text == "hello"
    assert call.finals == [(utterance.finals[0], utterance)]


def test_end_gives_silence_a_moment_only() -> None:
    """Of silence Google says nothing, so nothing noticed is not waited for until the deadline."""
    call = Call(jumping_clock(0.0, 0.3))
    call.switch.begin()
    call.now_ms = 5000
    assert call.switch.end(timeout=1e6) == ""


def test_end_does_not_wait_for_what_is_covered() -> None:
    """Speech that finals cover is settled, whatever interims were noticed before."""
    call = Call(jumping_clock(0.0))  # a clock that stands still: a wait would never end
    call.switch.begin()
    call.switch.speech_began(100)
    call.switch.interim(interim("hello", 2000))
    call.switch.final(final("hello", 100, 2000))
    call.now_ms = 2150
    assert call.switch.end(timeout=1e6) == "hello"


def test_the_end_of_the_stream_ends_all_waiting() -> None:
    """When the session is over no final will come: end() returns what there is."""
    waiting = threading.Event()

    def clock() -> float:
        waiting.set()
        return 0.0

    call = Call(clock)
    call.switch.begin()
    call.switch.interim(interim("hel", 900))
    call.now_ms = 5000
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(call.switch.end, 60)
        assert waiting.wait(10)
        call.switch.closed()
        assert text.result(10) == ""


def test_the_end_of_the_stream_closes_the_open_utterance(call: Call) -> None:
    """END is missing if the stream closes first."""
    call.switch.speech_began(100)
    utterance = call.switch.current
    call.now_ms = 700
    call.switch.closed()
    assert utterance is not None
    assert utterance.end_ms == 700
    assert call.switch.current is None


def test_an_utterance_by_hand_that_the_end_of_the_call_cuts_keeps_its_text(call: Call) -> None:
    """end() may come after the hang-up: it is given the text, once, and at once."""
    call.switch.begin()
    call.now_ms = 1000
    call.switch.final(final("hello", 0, 900))
    call.switch.closed()
    call.now_ms = 5000
    assert call.switch.current is None
    assert call.switch.end(timeout=1e9) == "hello"
    assert call.switch.end(timeout=1e9) == ""


def test_an_utterance_by_events_that_the_end_of_the_call_cuts_is_nobodys(call: Call) -> None:
    """Who began nothing is given nothing."""
    call.switch.speech_began(0)
    call.now_ms = 1000
    call.switch.final(final("hello", 0, 900))
    call.switch.closed()
    assert call.switch.end(timeout=1e9) == ""


def test_a_target_that_fails_costs_the_call_no_interim() -> None:
    """The call's own listener hears every interim; the fault is still told."""
    heard: list[Interim] = []
    switch = UtteranceSwitch(lambda: 1000, on_interim=heard.append)

    def fail(result: Interim) -> None:
        raise ZeroDivisionError

    switch.begin(fail)
    with pytest.raises(ZeroDivisionError):
        switch.interim(interim("hel", 900))
    assert [one.text for one in heard] == ["hel"]


def test_a_listener_that_fails_costs_no_final() -> None:
    """The final is in its utterance before anybody hears of it."""

    def fail(result: Final, utterance: Utterance) -> None:
        raise ZeroDivisionError

    switch = UtteranceSwitch(lambda: 1000, on_final=fail)
    switch.speech_began(0)
    utterance = switch.current
    with pytest.raises(ZeroDivisionError):
        switch.final(final("kept", 0, 900))
    assert utterance is not None
    assert utterance.text == "kept"


def test_a_listener_may_use_the_switch() -> None:
    """A callback runs without the lock: it may end or begin an utterance from another thread."""
    call = Call()
    call.now_ms = 1000
    texts: list[str] = []

    def end_elsewhere(result: Interim) -> None:
        with ThreadPoolExecutor(1) as pool:
            texts.append(pool.submit(call.switch.end, 0).result(10))

    call.switch.begin(end_elsewhere)
    call.switch.interim(interim("x", 900))
    assert texts == [""]
    assert call.switch.current is None


def test_the_memory_of_ended_utterances_is_bounded(call: Call) -> None:
    """A call of four hours keeps a few; a final older than those still is not lost."""
    firsts = []
    for n in range(REMEMBERED + 1):
        call.switch.speech_began(n * 1000)
        firsts.append(call.switch.current)
        call.switch.speech_ended(n * 1000 + 900)
    assert call.switch.final(final("second", 1000, 1900)) is firsts[1]
    own = call.switch.final(final("first", 0, 600))
    assert own not in firsts
    assert own.text == "first"


times = st.integers(0, 20_000)
events = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["begin", "end", "closed"]), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["speech_began", "speech_ended", "interim"]), times, st.just(0)),
        st.tuples(st.just("audio"), st.integers(0, 3000), st.just(0)),
        st.tuples(st.just("final"), times, st.integers(0, 5000)),
        st.tuples(st.just("final"), times, st.integers(0, 5000)),
    ),
    max_size=60,
)


class Play:
    """Plays events to a switch; the utterances that were seen, and the finals that were given."""

    def __init__(self) -> None:
        self.call = Call()
        self.utterances: list[Utterance] = []
        self.finals: list[Final] = []
        self.begun: Utterance | None = None  # the last one by hand
        self.cut: Utterance | None = None

    def note(self, utterance: Utterance | None) -> None:
        if utterance is not None and all(utterance is not known for known in self.utterances):
            self.utterances.append(utterance)

    def play(self, event: str, at_ms: int, length: int) -> None:
        switch = self.call.switch
        if event == "audio":
            self.call.now_ms += at_ms
        elif event == "begin":
            self.begun = switch.begin()
            self.note(self.begun)
        elif event == "end":
            expected = switch.current or self.cut
            self.cut = None if switch.current is None else self.cut
            assert switch.end(timeout=0) == (expected.text if expected else "")
            assert switch.current is None
        elif event == "closed":
            self.cut = switch.current if switch.current is self.begun else None
            switch.closed()
        elif event == "final":
            self.finals.append(final(f"final {len(self.finals)}", at_ms, at_ms + length))
            self.note(switch.final(self.finals[-1]))
        elif event == "interim":
            switch.interim(interim("x", at_ms))
        else:
            getattr(switch, event)(at_ms)
        self.note(switch.current)


@settings(deadline=None)
@given(events)
def test_no_final_is_ever_lost(plan: list[tuple[str, int, int]]) -> None:
    """In any order of events each final is in exactly one utterance, heard once, with its times."""
    played = Play()
    for event in plan:
        played.play(*event)
    played.call.switch.closed()
    kept = [one for utterance in played.utterances for one in utterance.finals]
    assert sorted(map(id, kept)) == sorted(map(id, played.finals))
    assert [one for one, _ in played.call.finals] == played.finals
    for one, utterance in played.call.finals:
        assert sum(one is other for other in utterance.finals) == 1
    for utterance in played.utterances:
        assert utterance.end_ms is not None
        assert utterance.end_ms >= utterance.start_ms


def test_no_final_is_lost_between_two_threads() -> None:
    """The streaming thread brings finals while a caller begins and ends as fast as it can."""
    call = Call()
    start, total = threading.Barrier(2), 500

    def stream() -> None:
        start.wait(10)
        for n in range(total):
            call.switch.speech_began(n * 100)
            call.switch.final(final(str(n), n * 100, n * 100 + 90))
            call.now_ms = (n + 1) * 100
            call.switch.speech_ended(n * 100 + 95)

    def begin_and_end(streaming: threading.Thread) -> None:
        start.wait(10)
        while streaming.is_alive():
            call.switch.begin()
            call.switch.end(timeout=0)

    streaming = threading.Thread(target=stream)
    streaming.start()
    begin_and_end(streaming)
    streaming.join(10)
    assert [one.text for one, _ in call.finals] == [str(n) for n in range(total)]
    for one, utterance in call.finals:
        assert sum(one is other for other in utterance.finals) == 1
    utterances = {id(utterance): utterance for _, utterance in call.finals}
    assert sum(len(utterance.finals) for utterance in utterances.values()) == total
