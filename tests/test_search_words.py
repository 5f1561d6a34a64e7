"""The words that a search compares: Hebrew with and without its marks, quotes, prefixes, places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_words import WORD_LETTERS, AskedWord, asked_words, places_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("שלום, אני רוצה תור!", ["שלומ", "אני", "רוצה", "תור"]),
        ("שָׁלוֹם", ["שלומ"]),
        ('צה"ל צה״ל צהל', ["צהל"] * 3),
        ("בית־ספר", ["בית", "ספר"]),
        ("Don't stop: CAFÉ crème", ["dont", "stop", "cafe", "creme"]),
        ("03-123 4567", ["03", "123", "4567"]),
        ("مَرْحَبًا", ["مرحبا"]),
        (" \x00\n…—", []),
        ("א" * 100, ["א" * WORD_LETTERS]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    """Without niqqud, accents, case, quotes and final letters."""
    assert words_of(text) == words


def test_what_is_asked() -> None:
    """Each word once; a star at its end finds what begins so, and alone finds nothing."""
    assert asked_words("תור  Doc* תור * ,") == [AskedWord("תור"), AskedWord("doc", True)]
    assert asked_words("a-b*") == [AskedWord("a"), AskedWord("b", True)]
    assert asked_words('"*" & | ( ) !') == []


def test_hebrew_is_found_behind_its_prefixes() -> None:
    """A word of another script, and a single letter, only as it is."""
    assert {"תור", "לתור", "התור", "שהתור"} <= set(AskedWord("תור").forms())
    assert AskedWord("tor").forms() == ("tor",)
    assert AskedWord("ת").forms() == ("ת",)


def test_places_in_the_text() -> None:
    """In characters of the text as it is, with its marks."""
    text = "קבעתי תּוֹר, לתור אחר: Doctor's"
    places = places_of(text, asked_words("תור docto*"))
    assert [text[start:end] for start, end in places] == ["תּוֹר", "לתור", "Doctor's"]
    assert places_of("", asked_words("תור")) == []


@given(st.text())
def test_a_words_own_words_are_itself(text: str) -> None:
    """What is compared is in its last form: doing it again changes nothing."""
    for word in words_of(text):
        assert words_of(word) == [word]
        assert not set(word) & set(" '\"\\*()&|!:\x00")


@given(st.text(max_size=60))
def test_every_word_of_a_text_is_found_in_it(text: str) -> None:
    """And within the text."""
    for word in words_of(text):
        places = places_of(text, [AskedWord(word)])
        assert places
        assert all(0 <= start < end <= len(text) for start, end in places)
