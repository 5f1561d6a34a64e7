"""The log lines: their exact forms, and that nobody can break them by what they say or send."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import call_log
from call_log import CallLog, one_line, worth_saying
from queue_depth import Overload

ABOUT = "call=CA1 tenant=T1"


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(record.getMessage())


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What the service's logger is given, from the level of information up."""
    handler, level = Lines(), call_log.logger.level
    call_log.logger.addHandler(handler)
    call_log.logger.setLevel(logging.INFO)
    yield handler
    call_log.logger.removeHandler(handler)
    call_log.logger.setLevel(level)


@pytest.fixture
def log() -> CallLog:
    return CallLog("CA1", "T1")


def test_the_lines_of_a_call_have_exactly_the_documented_forms(log: CallLog, logged: Lines) -> None:
    """People and programs search the log for these lines, letter by letter."""
    log.connected()
    log.session_started()
    log.partial("I would like to book", 183)
    log.final("I would like to book an appointment.")
    log.session_closed(1318, 0, 26.36)
    log.frame_dropped(1)
    log.overload(Overload(limit=12, size=16, over=3, samples=12))
    log.stream_failed("503 …", "fallback single")
    log.reaped(121.9)
    assert logged.lines == [
        "[WS] connected call=CA1 tenant=T1",
        "[STT] session started call=CA1 tenant=T1",
        "🟡 Partial(183ms): I would like to book call=CA1 tenant=T1",
        "🟢 Final: I would like to book an appointment. call=CA1 tenant=T1",
        "[STT] session closed call=CA1 tenant=T1 frames=1318 dropped=0 seconds=26.4",
        "[STT] queue full: dropped frame call=CA1 tenant=T1 dropped=1",
        "[STT] overload: queue over 12 of 16 in 3 of 12 samples call=CA1 tenant=T1",
        "[STT] streaming failed: 503 … → fallback single call=CA1 tenant=T1",
        "[REAPER] closed call=CA1 tenant=T1 idle=121s",
    ]


def test_the_lines_of_a_socket_name_its_end_and_its_faults(log: CallLog, logged: Lines) -> None:
    """A refusal, a skipped message and the end each say what happened to whom."""
    log.refused(1013, "50 calls are live")
    log.fault("not JSON", 1)
    log.disconnected(1000, "", 2, 3)
    log.disconnected(1002, "a second start", 0, 0)
    assert logged.lines == [
        f"[WS] refused: 1013 50 calls are live {ABOUT}",
        f"[WS] skipped: not JSON {ABOUT} count=1",
        f"[WS] closed: 1000 - {ABOUT} skipped=2 ignored=3",
        f"[WS] closed: 1002 a second start {ABOUT} skipped=0 ignored=0",
    ]


def test_what_happens_to_a_calls_streams_is_told(log: CallLog, logged: Lines) -> None:
    """A stream that was replaced, a plain call instead of one, and audio that had neither."""
    log.rotated(1, 240.26, "speech paused")
    log.final("I was not heard live.", fallback=True)
    log.lost(75)
    log.model_refused("phone_call", "iw-IL", "400 INVALID_ARGUMENT: no\nmodel")
    log.gap_filled(0.5, 1)
    log.stream_failed("503 UNAVAILABLE: gone", "new stream in 1.0 s", count=10)
    log.recovered(21.26)
    assert logged.lines == [
        f"[STT] rotated: stream replaced after 240.3 s, speech paused {ABOUT} rotations=1",
        f"🟢 Final: I was not heard live. {ABOUT} fallback=1",
        f"[STT] lost: 1.5 s without text {ABOUT} frames=75",
        "[STT] model refused: phone_call for iw-IL, default is used: check STT_MODEL and "
        f"STT_LANGUAGE (400 INVALID_ARGUMENT: no model) {ABOUT}",
        f"[STT] gap: 0.50 s of silence put in {ABOUT} gaps=1",
        f"[STT] streaming failed: 503 UNAVAILABLE: gone → new stream in 1.0 s {ABOUT} count=10",
        f"[STT] recovered: streaming again after 21.3 s {ABOUT}",
    ]


def test_what_needs_a_look_is_a_warning(log: CallLog, logged: Lines) -> None:
    """Lost audio and a refused model are; a rotation is everyday life, and so is a gap."""
    log.rotated(1, 240, "speech paused")
    log.gap_filled(0.5, 1)
    log.lost(1)
    log.model_refused("phone_call", "iw-IL", "400")
    assert [record.levelname for record in logged.records] == ["INFO", "INFO", *["WARNING"] * 2]


def test_repeated_lines_come_at_the_1st_10th_and_100th_time(log: CallLog, logged: Lines) -> None:
    """A call whose every frame is dropped or broken does not flood the log."""
    for count in range(1, 1001):
        log.frame_dropped(count)
        log.fault("not JSON", count)
        log.gap_filled(1.0, count)
    said = [1, 10, 100, 1000]
    assert logged.lines == [
        line
        for count in said
        for line in (
            f"[STT] queue full: dropped frame {ABOUT} dropped={count}",
            f"[WS] skipped: not JSON {ABOUT} count={count}",
            f"[STT] gap: 1.00 s of silence put in {ABOUT} gaps={count}",
        )
    ]


def test_only_powers_of_ten_are_worth_saying() -> None:
    """20 and 110 are not, and nothing that did not happen is."""
    assert [n for n in range(-1, 100_001) if worth_saying(n)] == [1, 10, 100, 1000, 10_000, 100_000]


def test_transcripts_can_be_kept_out_of_the_log(logged: Lines) -> None:
    """LOG_TRANSCRIPTS=0 hides what people said and nothing else."""
    log = CallLog("CA1", "T1", transcripts=False)
    log.partial("my card number is", 10)
    log.final("my card number is 1234")
    log.final("my card number is 1234", fallback=True)
    log.session_closed(1, 0, 0.02)
    assert len(logged.lines) == 1
    assert "card" not in logged.lines[0]


def test_a_crash_is_logged_with_its_traceback_and_its_call(log: CallLog, logged: Lines) -> None:
    """A fault of our own is the one thing whose trace is wanted."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.crashed("STT")
    assert logged.lines == [f"[STT] internal error {ABOUT}"]
    kind = (logged.records[0].exc_info or (None,))[0]
    assert kind is ZeroDivisionError


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_a_line(text: str) -> None:
    """Whatever is said or sent stays in one line without control characters."""
    folded = one_line(text)
    assert len(folded.splitlines()) <= 1
    assert folded.isprintable()
    assert one_line(folded) == folded
    visible = [c for c in text if c.isprintable() and not c.isspace()]
    assert visible == [c for c in folded if c != " "]  # and no letter is lost


def test_forged_lines_stay_within_the_line_that_brought_them(log: CallLog, logged: Lines) -> None:
    """A caller cannot make up a log line about another call, nor colour the terminal."""
    forged = "hello\r\n🟢 Final: lies call=CA2 tenant=T2\x1b[31m\u2028x\x85y"
    log.final(forged)
    log.partial(forged, 1)
    log.fault(forged, 1)
    log.refused(1002, forged)
    log.disconnected(1002, forged, 0, 0)
    log.stream_failed(forged, "next")
    log.final(forged, fallback=True)
    log.model_refused("phone_call", "iw-IL", forged)
    assert len(logged.lines) == 8
    for line in logged.lines:
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert ABOUT in line


def test_marks_without_width_do_not_split_a_word() -> None:
    """Hebrew text has direction marks, and other text soft hyphens, in the middle of words."""
    assert one_line("של\u200fום \u200eco\u00adop\x00erate\u00a0now") == "שלום cooperate now"


def test_lines_reach_stdout_in_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a locale must not turn a final into an encoding error."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    logger = logging.Logger("of this test")
    monkeypatch.setattr(call_log, "logger", logger)
    call_log.configure_logging()
    call_log.configure_logging()  # a second application in this process adds nothing
    logger.debug("not shown")
    logger.info("🟢 Final: שלום")
    assert raw.getvalue().decode() == "🟢 Final: שלום\n"
    assert logger.propagate is False
