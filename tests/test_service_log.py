"""The service's log lines, read back into what happened in each call."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import call_log
from call_log import CallLog
from service_log import LogLine, ServiceLog, parse_line

SID = "CA" + "0123456789abcdef" * 2
ABOUT = f"call={SID} tenant=T1"

# Whatever a recogniser may write, but for the line feed, which ends a line.
texts = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
sids = st.from_regex(r"CA[0-9a-f]{32}", fullmatch=True)
tenants = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (f"[WS] connected {ABOUT}", LogLine("connected", SID, "T1")),
        (f"[WS] closed: 1000 - {ABOUT}", LogLine("disconnected", SID, "T1", "1000 -")),
        (f"[WS] refused: 1013 full {ABOUT}", LogLine("refused", SID, "T1", "1013 full")),
        (f"[STT] session started {ABOUT}", LogLine("started", SID, "T1")),
        (
            f"🟡 Partial(183ms): I would like to book {ABOUT}",
            LogLine("partial", SID, "T1", "I would like to book", 183),
        ),
        (
            f"🟢 Final: I would like to book an appointment. {ABOUT}",
            LogLine("final", SID, "T1", "I would like to book an appointment."),
        ),
        (
            f"[STT] session closed {ABOUT} frames=1318 dropped=0 seconds=26.4",
            LogLine("closed", SID, "T1", numbers={"frames": 1318, "dropped": 0, "seconds": 26.4}),
        ),
        (
            f"[STT] queue full: dropped frame {ABOUT} dropped=1",
            LogLine("dropped", SID, "T1", numbers={"dropped": 1}),
        ),
        (
            f"[STT] overload: queue over 12 of 16 in 3 of 12 samples {ABOUT}",
            LogLine("overload", SID, "T1", "queue over 12 of 16 in 3 of 12 samples"),
        ),
        (
            f"[STT] streaming failed: 503 gone → fallback single {ABOUT}",
            LogLine("failed", SID, "T1", "503 gone → fallback single"),
        ),
        (
            f"[REAPER] closed {ABOUT} idle=121s",
            LogLine("reaped", SID, "T1", numbers={"idle": 121}),
        ),
        (
            f"🟢 Final: hello {ABOUT} fallback=1",
            LogLine("final", SID, "T1", "hello", numbers={"fallback": 1}),
        ),
        (
            f"[STT] rotated: stream replaced after 240.3 s, speech paused {ABOUT} rotations=2",
            LogLine(
                "rotated",
                SID,
                "T1",
                "stream replaced after 240.3 s, speech paused",
                numbers={"rotations": 2},
            ),
        ),
        (
            f"[STT] lost: 1.5 s without text {ABOUT} frames=75",
            LogLine("lost", SID, "T1", "1.5 s without text", numbers={"frames": 75}),
        ),
        (
            f"[STT] gap: 0.50 s of silence put in {ABOUT} gaps=1",
            LogLine("other", SID, "T1", "gap: 0.50 s of silence put in", numbers={"gaps": 1}),
        ),
        (
            f"[STT] model refused: x for y, default is used: set another STT_MODEL (400) {ABOUT}",
            LogLine(
                "other",
                SID,
                "T1",
                "model refused: x for y, default is used: set another STT_MODEL (400)",
            ),
        ),
        (f"[STT] something new {ABOUT}", LogLine("other", SID, "T1", "something new")),
    ],
)
def test_each_form_is_read(line: str, event: LogLine) -> None:
    """Every form in which the service writes about a call is known, with or without line end."""
    assert parse_line(line) == event
    assert parse_line(line + "\n") == event
    assert parse_line(line + "\r\n") == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[2026-01-01 10:00:00 +0000] [7] [INFO] Booting worker with pid: 7",
        "Traceback (most recent call last):",
        f"🟢 Final: no business call={SID}",
        f"call={SID} tenant=T1",
        f"somebody wrote {ABOUT}",
        f"🟢 Finally: {ABOUT} and more words",
    ],
)
def test_other_lines_are_none(line: str) -> None:
    """What gunicorn and others write in between is not taken for a call's event."""
    assert parse_line(line) is None


def test_a_process_runners_prefix_is_stepped_over() -> None:
    """Lines may come through a runner that puts the time and a name before them."""
    event = parse_line(f"10:01:07 web.1  | 🟢 Final: hello {ABOUT}")
    assert event == LogLine("final", SID, "T1", "hello")


@given(texts, sids, tenants)
@example("meet me call=CA1 tenant=T9 frames=3", SID, "T1")
@example("🟢 Final: he said [WS] connected", SID, "T1")
@example("שלום, אני רוצה לקבוע תור", SID, "T1")
@example("one\u2028two\x85three\rfour", SID, "T1")
@example("", SID, "")
def test_whatever_was_said_comes_back(text: str, sid: str, tenant: str) -> None:
    """A final's and a partial's text, call and business come back exactly as written."""
    final = parse_line(f"🟢 Final: {text} call={sid} tenant={tenant}\n")
    assert final == LogLine("final", sid, tenant, text)
    partial = parse_line(f"🟡 Partial(7ms): {text} call={sid} tenant={tenant}")
    assert partial == LogLine("partial", sid, tenant, text, 7)


class _Kept(logging.Handler):
    """Keeps the lines that the service writes."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def kept() -> Iterator[list[str]]:
    """The lines of the service's own logger."""
    handler, level = _Kept(), call_log.logger.level
    call_log.logger.addHandler(handler)
    call_log.logger.setLevel(logging.INFO)
    yield handler.lines
    call_log.logger.removeHandler(handler)
    call_log.logger.setLevel(level)


def test_what_the_service_writes_is_read(kept: list[str]) -> None:
    """The lines as they are made now, not as they once were."""
    log = CallLog(SID, "T1")
    log.final("yes", fallback=True)
    log.final("no")
    log.rotated(3, 240.26, "speech paused")
    log.lost(75)
    read = [parse_line(line) for line in kept]
    assert read == [
        LogLine("final", SID, "T1", "yes", numbers={"fallback": 1}),
        LogLine("final", SID, "T1", "no"),
        LogLine(
            "rotated",
            SID,
            "T1",
            "stream replaced after 240.3 s, speech paused",
            numbers={"rotations": 3},
        ),
        LogLine("lost", SID, "T1", "1.5 s without text", numbers={"frames": 75}),
    ]


def test_a_plain_calls_final_counts_as_any_other() -> None:
    """In the order in which the finals came, whichever way."""
    log = ServiceLog()
    log.feed(f"🟢 Final: a {ABOUT}\n🟢 Final: b {ABOUT} fallback=1\n".encode())
    assert log.final_texts(SID) == ["a", "b"]
    assert [line.numbers.get("fallback") for line in log.lines[SID]] == [None, 1]


@given(st.text())
def test_no_line_raises(line: str) -> None:
    """Any line at all is read or left."""
    parse_line(line)


@given(st.lists(texts, max_size=5), st.lists(st.integers(1, 40), max_size=20))
def test_a_growing_log_is_gathered_by_call(said: list[str], cuts: list[int]) -> None:
    """Pieces that end in mid-line or mid-character lose nothing; calls are kept apart."""
    other = "CA" + "f" * 32
    lines = [f"🟢 Final: {text} {ABOUT}\n🟢 Final: x call={other} tenant=T2\n" for text in said]
    content = ("".join(lines) + f"[STT] session closed {ABOUT} frames=1").encode()
    log = ServiceLog()
    for size in cuts:
        log.feed(content[:size])
        content = content[size:]
    log.feed(content)
    assert not log.is_closed(SID)
    log.finish()
    assert log.final_texts(SID) == said
    assert log.final_texts(other) == ["x"] * len(said)
    assert log.is_closed(SID)
    assert not log.is_closed(other)


def test_an_unknown_call_has_no_text() -> None:
    """A call that the log does not know is neither closed nor an error."""
    log = ServiceLog()
    assert log.final_texts(SID) == []
    assert not log.is_closed(SID)


def test_a_call_of_several_streams_is_closed_with_the_last_of_them() -> None:
    """One that goes on after a deploy, or has two tracks, is not over with its first session."""
    log = ServiceLog()
    for text, closed in (
        ("started", False),
        ("closed", True),  # as far as the log tells
        ("started", False),
        ("started", False),
        ("closed", False),
        ("closed", True),
    ):
        log.feed(f"[STT] session {text} {ABOUT}\n".encode())
        assert log.is_closed(SID) is closed
