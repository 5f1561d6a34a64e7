"""What callers hear: in their language, by a voice that speaks it."""

from __future__ import annotations

import pytest

import spoken_texts
from spoken_texts import Spoken, voice_for

LETTERS = {"iw": ("\u0590", "\u05ff"), "ar": ("\u0600", "\u06ff"), "en": ("A", "z")}


@pytest.mark.parametrize(
    ("language", "spoken"),
    [
        ("iw-IL", "he-IL"),
        ("he", "he-IL"),
        ("IW", "he-IL"),
        ("ar-EG", "ar-XA"),
        ("en-GB", "en-US"),
        ("fr-FR", "en-US"),
        ("", "en-US"),
    ],
)
def test_the_voice_for_a_language(language: str, spoken: str) -> None:
    """Google's code for Hebrew or everybody else's; English where there is no text."""
    voice = voice_for(language)
    assert voice.language == spoken
    assert voice.voice.startswith(f"Google.{spoken}-")


@pytest.mark.parametrize("language", LETTERS)
def test_every_sentence_is_in_its_language(language: str) -> None:
    """Each is written in the letters of the language whose voice says it."""
    first, last = LETTERS[language]
    for spoken in (spoken_texts.when_full(language), spoken_texts.unknown_number(language)):
        assert spoken.voice == voice_for(language)
        assert all(first <= letter <= last for letter in spoken.text if letter.isalpha())
    assert spoken_texts.when_full(language) != spoken_texts.unknown_number(language)


def test_a_business_may_have_a_sentence_of_its_own() -> None:
    """Said by the same voice; an empty one is none."""
    assert spoken_texts.when_full("iw-IL", "נסו מחר") == Spoken("נסו מחר", voice_for("iw-IL"))
    assert spoken_texts.when_full("iw-IL", "") == spoken_texts.when_full("iw-IL")
