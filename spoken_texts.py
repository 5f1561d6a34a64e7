"""What callers hear from Tamlil itself, in the language of the business. Pure.

Voices: Twilio's documentation, "Text-to-Speech: available voices".
"""

from __future__ import annotations

from typing import NamedTuple


class Voice(NamedTuple):
    """A voice and the language that it speaks, as `<Say>` has them."""

    voice: str
    language: str


class Spoken(NamedTuple):
    """A sentence and the voice that says it."""

    text: str
    voice: Voice


_ENGLISH = Voice("Google.en-US-Standard-C", "en-US")
_HEBREW = Voice("Google.he-IL-Standard-A", "he-IL")
_ARABIC = Voice("Google.ar-XA-Standard-A", "ar-XA")

_VOICES = {"iw": _HEBREW, "he": _HEBREW, "ar": _ARABIC, "en": _ENGLISH}

_FULL = {
    _HEBREW: "כל הקווים תפוסים כרגע. אנא נסו שוב בעוד מספר דקות. תודה.",
    _ENGLISH: "All our lines are busy right now. Please try again in a few minutes. Thank you.",
    _ARABIC: "جميع الخطوط مشغولة الآن. يرجى المحاولة مرة أخرى بعد بضع دقائق. شكرا.",
}
_UNKNOWN = {
    _HEBREW: "המספר שחייגתם אינו בשימוש. תודה.",
    _ENGLISH: "The number that you have dialled is not in use. Thank you.",
    _ARABIC: "الرقم الذي طلبته غير مستخدم. شكرا.",
}


def voice_for(language: str) -> Voice:
    """The voice for a language such as iw-IL; English where there is none."""
    return _VOICES.get(language.split("-")[0].lower(), _ENGLISH)


def when_full(language: str, sentence: str | None = None) -> Spoken:
    """What is said when there is no room; `sentence` in place of the text that comes with it."""
    voice = voice_for(language)
    return Spoken(sentence or _FULL[voice], voice)


def unknown_number(language: str) -> Spoken:
    """What is said when the dialled number belongs to nobody."""
    voice = voice_for(language)
    return Spoken(_UNKNOWN[voice], voice)
