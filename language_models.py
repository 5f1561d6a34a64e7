"""Which of Google's models there are for which language (Speech-to-Text v1). Pure.

Source: Google's documentation, "Speech-to-Text supported languages" (v1), and what its answers say.
"""

from __future__ import annotations

from errors import BadBusiness

HEBREW = frozenset(("iw-IL", "he-IL", "iw", "he"))
# There for every language
EVERYWHERE = ("default", "command_and_search")
# There for some; Google is asked, and says no, for the others
KNOWN = (
    *EVERYWHERE,
    "latest_long",
    "latest_short",
    "medical_conversation",
    "medical_dictation",
    "phone_call",
    "telephony",
    "telephony_short",
    "video",
)


def models_for(language: str) -> tuple[str, ...]:
    """The models that may be tried for `language`."""
    return EVERYWHERE if language in HEBREW else KNOWN


def check_model(language: str, model: str) -> None:
    """Raise `BadBusiness`, naming what would work, if Google has no such model for the language."""
    allowed = models_for(language)
    if model not in allowed:
        raise BadBusiness(
            f"Google has no model {model[:40]!r} for {language}; it takes {', '.join(allowed)}"
        )
