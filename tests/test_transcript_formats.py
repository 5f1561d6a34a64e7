"""Transcripts: text, SRT and WebVTT of both tracks, with Hebrew as it was said."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from transcript_formats import Line, as_srt, as_text, as_vtt

LINES = [
    Line("inbound", 0, 1500, "שלום, אני רוצה תור"),
    Line("outbound", 3_725_042, 3_726_000, "Tom & Jerry <b>4 --> 5</b>"),
]
ANY_LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(["inbound", "outbound"]),
        st.integers(-5, 10**9),
        st.integers(-5, 10**9),
        st.text(max_size=30),
    ),
    max_size=5,
)


def test_text() -> None:
    """A line each, with the time and who said it."""
    assert as_text(LINES) == (
        "[0:00:00] Caller: שלום, אני רוצה תור\n[1:02:05] Business: Tom & Jerry <b>4 --> 5</b>\n"
    )


def test_srt() -> None:
    """Numbered cues, commas, the speaker on a line of its own, and no arrow in a text."""
    assert as_srt(LINES) == (
        "1\n00:00:00,000 --> 00:00:01,500\nCaller:\nשלום, אני רוצה תור\n\n"
        "2\n01:02:05,042 --> 01:02:06,000\nBusiness:\nTom & Jerry <b>4 → 5</b>\n\n"
    )


def test_vtt() -> None:
    """The header, points, voices, and what would be a tag escaped."""
    assert as_vtt(LINES) == (
        "WEBVTT\n"
        "\n00:00:00.000 --> 00:00:01.500\n<v Caller>שלום, אני רוצה תור</v>\n"
        "\n01:02:05.042 --> 01:02:06.000\n"
        "<v Business>Tom &amp; Jerry &lt;b&gt;4 --&gt; 5&lt;/b&gt;</v>\n"
    )


def test_nothing_was_said() -> None:
    """What is empty is still a file of its kind."""
    assert (as_text([]), as_srt([]), as_vtt([])) == ("", "", "WEBVTT\n")


@given(ANY_LINES)
def test_a_cue_is_as_many_lines_whatever_was_said(lines: list[Line]) -> None:
    """No text can begin a cue of its own, and each cue ends after it begins."""
    assert as_text(lines).count("\n") == len(lines)
    for text, of_a_cue in ((as_srt(lines), 4), (as_vtt(lines), 2)):
        cues = re.findall(
            r"^(\d\d+:\d\d:\d\d[.,]\d{3}) --> (\d\d+:\d\d:\d\d[.,]\d{3})$", text, re.M
        )
        assert len(cues) == text.count("-->") == len(lines)
        assert all(_ms(start) < _ms(end) for start, end in cues)
        assert text.count("\n") >= of_a_cue * len(lines)


def _ms(time: str) -> int:
    hours, minutes, seconds, ms = map(int, re.split("[:.,]", time))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
