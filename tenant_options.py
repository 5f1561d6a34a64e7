"""The options of `flask tenant add` and `set`: every setting of a business, and what they mean."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from business_rules import is_variable
from errors import BadBusiness, SettingsError
from google_credentials import key_credentials

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--name", help="What it is called; without one, its id."),
    click.option("--language", help="Google's code, as iw-IL; else STT_LANGUAGE."),
    click.option("--model", help="Google's model, as default; else STT_MODEL."),
    click.option("--hint", "hint", multiple=True, help="A phrase to expect; may be repeated."),
    click.option("--hints-file", metavar="FILE", help="Such phrases, one a line; - is stdin."),
    click.option("--punctuation/--no-punctuation", default=None, help="Whether Google puts it in."),
    click.option(
        "--profanity-filter/--no-profanity-filter", default=None, help="Whether Google hides it."
    ),
    click.option("--region", help="Where Google recognises: global, eu or us."),
    click.option(
        "--google-key-env",
        metavar="VARIABLE",
        help="The NAME of the environment variable with a Google key of its own.",
    ),
    click.option("--unchecked", is_flag=True, help="Believe that VARIABLE holds a key elsewhere."),
    click.option("--max-calls", metavar="N", help="The most of its calls that a worker takes."),
    click.option("--forward", metavar="NUMBER", help="Its own phone: calls are put through to it."),
    click.option("--when-full", help="What a caller meets then: say, busy or forward."),
    click.option("--sentence", help="What is said then, in place of the usual text."),
    click.option("--time-zone", help="As Asia/Jerusalem: where its months begin."),
    click.option("--keep-days", metavar="N", help="How long its records are kept."),
)
# What `""` unsets
_OPTIONAL = frozenset(("language", "model", "google_key_env", "forward", "sentence", "max_calls"))
_WHOLE = frozenset(("max_calls", "keep_days"))
_MOST = 2**31 - 1


def settings_options(function: Function) -> Function:
    """Give a command the options; `changes_of` has what was given."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def changes_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a business that `options` set. Raises `BadBusiness`."""
    given = {name: value for name, value in options.items() if value is not None}
    hints, hints_file = given.pop("hint", ()), given.pop("hints_file", None)
    is_unchecked = given.pop("unchecked", False)
    changes = {name: _value(name, value) for name, value in given.items()}
    if hints or hints_file is not None:
        lines = _lines(hints_file) if hints_file is not None else []
        phrases = (_text("--hint", hint) for hint in (*hints, *lines))
        changes["hints"] = tuple(dict.fromkeys(phrase for phrase in phrases if phrase))
    variable = changes.get("google_key_env")
    # One that cannot be a name is refused with the others, and is not looked up
    if variable is not None and is_variable(variable) and not is_unchecked:
        _check_key(variable, os.environ)
    return changes


def _value(name: str, value: str | bool) -> Any:
    if isinstance(value, bool):
        return value
    text = _text(f"--{name.replace('_', '-')}", value)
    if not text and name in _OPTIONAL:
        return None
    if name not in _WHOLE:
        return text
    try:
        number = int(text)
    except ValueError:
        raise BadBusiness(f"{name} is a whole number, not {text[:20]!r}") from None
    if abs(number) > _MOST:
        raise BadBusiness(f"{name} is at most {_MOST:,}")
    return number


def _text(option: str, value: str) -> str:
    """What was typed, without blanks around it. Control characters are no text, nor are bytes."""
    text = value.strip()
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise BadBusiness(f"{option}: has characters that are no text")
    return text


def _lines(path: str) -> Iterable[str]:
    try:
        return (sys.stdin.read() if path == "-" else Path(path).read_text("utf-8-sig")).splitlines()
    except OSError as fault:
        raise BadBusiness(f"--hints-file: {path} cannot be read: {fault.strerror}") from None
    except (UnicodeDecodeError, ValueError):
        raise BadBusiness(f"--hints-file: {path!r} is no text file in UTF-8") from None


def _check_key(variable: str, environ: Mapping[str, str]) -> None:
    text = environ.get(variable, "")
    otherwise = "; with --unchecked it is believed to hold a key where the service runs"
    if not text.strip():
        raise BadBusiness(f"{variable} is not set in this environment{otherwise}")
    try:
        key_credentials(text, variable)
    except SettingsError as fault:
        raise BadBusiness(f"{fault}{otherwise}") from None
