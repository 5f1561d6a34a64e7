"""The words of a text, as they are searched: pure, the same for what was said and what is asked.

Upper and lower case, accents, niqqud, quotes within a word (`צה"ל`, `don't`) and the final forms of
Hebrew letters make no difference. `migrations/versions/0002_search.py` has the same rules in SQL:
change both, with a new migration that indexes again.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

# Stripped: combining marks, niqqud, cantillation, harakat, marks of direction, quotes within words
MARKS = (
    r"\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670"
    r"\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufe00-\ufe0f\ufeff"
    r"\u0022\u0027\u0060\u05f3\u05f4\u2018-\u201f"
)
# Between words: all of ASCII and Latin-1 that is no letter or digit, and other scripts' marks
SEPARATORS = (
    r"\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u05be\u05c0\u05c3\u05c6"
    r"\u060c\u061b\u061f\u0640\u066a-\u066d\u06d4\u2000-\u2bff\u3000-\u303f"
)
FINAL_LETTERS = ("ךםןףץς", "כמנפצσ")
# Longer ones are cut: an index has a limit
WORD_LETTERS = 64

# What Hebrew writes in one with the word: and, the, in, as, to, from, that; and two of them
_HEBREW_PREFIXES = ("ו", "ה", "ב", "כ", "ל", "מ", "ש", "וה", "וב", "ול", "שה", "כש")
_HEBREW = re.compile(r"[\u05d0-\u05ea]{2,}")
_MARKS = re.compile(f"[{MARKS}]")
_SEPARATORS = re.compile(f"[\\x00{SEPARATORS}]+")
_SPOKEN = re.compile(r"\S+")
_FINALS = str.maketrans(*FINAL_LETTERS)

# What surely ends a word in a text that is as it was: the others may be parts of one, as ½ is
_IN_TEXT = re.compile(
    r"[^\s\x00-\x21\x23-\x26\x28-\x2f\x3a-\x40\x5b-\x5f\x7b-\x7f"
    r"\u05be\u05c0\u05c3\u060c\u061b\u061f\u2010-\u2015\u2026]+"
)

# A question of more words finds nothing more
_ASKED_WORDS = 12


@dataclass(frozen=True, slots=True)
class AskedWord:
    """A word to be found as it is, or (`begins`) in what begins so.

    A Hebrew word is found behind the letters that are written in one with it, too.
    """

    word: str
    begins: bool = False

    def forms(self) -> tuple[str, ...]:
        """The words that it stands for."""
        if not _HEBREW.fullmatch(self.word):
            return (self.word,)
        return (self.word, *(prefix + self.word for prefix in _HEBREW_PREFIXES))


def words_of(text: str) -> list[str]:
    """The words of `text`, in order, as they are compared."""
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", text)).lower().translate(_FINALS)
    return [word[:WORD_LETTERS] for word in _SEPARATORS.split(plain) if word]


def asked_words(text: str) -> list[AskedWord]:
    """The words of a question; each must be found. `wor*` finds what begins so. [] has none."""
    asked: dict[AskedWord, None] = {}
    for part in _SPOKEN.findall(text):
        *whole, last = words_of(part) or [""]
        asked |= dict.fromkeys(map(AskedWord, whole))
        if last:
            asked[AskedWord(last, part.endswith("*"))] = None
    return list(asked)[:_ASKED_WORDS]


def places_of(text: str, asked: list[AskedWord]) -> list[tuple[int, int]]:
    """Where in `text` the words are: (start, end) of each, in characters."""
    whole = {form for one in asked if not one.begins for form in one.forms()}
    beginnings = tuple(form for one in asked if one.begins for form in one.forms())
    return [
        found.span()
        for found in _IN_TEXT.finditer(text)
        if any(
            word in whole or word.startswith(beginnings) for word in _words_of_part(found.group())
        )
    ]


@functools.lru_cache(maxsize=10_000)
def _words_of_part(part: str) -> tuple[str, ...]:
    return tuple(words_of(part))
