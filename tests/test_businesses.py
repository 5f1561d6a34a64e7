"""The setting `BUSINESSES`: what it may say, and one clear line for what it may not."""

from __future__ import annotations

import pytest

from businesses import Business, Businesses, load_businesses
from errors import SettingsError

TWO = """
{"clinic": {"numbers": ["+97231234567", "+97231234568"], "language": "iw-IL", "max_calls": 40,
            "model": "command_and_search", "sentence": "Later, please."},
 "garage": {"numbers": ["+97237654321"], "forward": "+972541234567", "when_full": "forward"}}
"""


def businesses_of(text: str) -> Businesses:
    return Businesses(load_businesses(text))


@pytest.mark.parametrize("text", ["", "  \n"])
def test_without_the_setting_there_is_one_business(text: str) -> None:
    """`default` takes the calls of every number, without a cap."""
    businesses = businesses_of(text)
    assert (
        businesses.of_number("+97231234567") == businesses.of_id("default") == Business("default")
    )
    assert businesses.of_number("") == Business("default")
    assert businesses.of_id("clinic") is None


def test_each_business_is_found_by_its_numbers_and_its_id() -> None:
    """With all that the setting says of it."""
    businesses = businesses_of(TWO)
    clinic = Business(
        "clinic",
        ("+97231234567", "+97231234568"),
        language="iw-IL",
        model="command_and_search",
        sentence="Later, please.",
        max_calls=40,
    )
    garage = Business("garage", ("+97237654321",), forward="+972541234567", when_full="forward")
    assert businesses.of_number("+97231234567") == businesses.of_number("+97231234568") == clinic
    assert businesses.of_number("+97237654321") == garage
    assert (businesses.of_id("clinic"), businesses.of_id("garage")) == (clinic, garage)


def test_an_unknown_number_is_nobodys_unless_there_is_a_default() -> None:
    """A forwarding number is not one at which the business is called."""
    businesses = businesses_of(TWO)
    assert businesses.of_number("+972541234567") is None
    assert businesses.of_number("+1") is businesses.of_number("") is None
    assert businesses.of_id("default") is businesses.of_id("") is None
    named = businesses_of('{"default": {"language": "ar"}, "x": {"numbers": ["+97231234567"]}}')
    assert named.of_number("+1") == Business("default", language="ar")
    assert named.of_number("+97231234567") == named.of_id("x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("clinic", "is not JSON"),
        ("[]", "Expected `object`"),
        ('{"clinic": []}', "Expected `object`"),
        ('{"clinic": {"number": []}}', "unknown field `number`"),
        ('{"clinic": {"numbers": "+97231234567"}}', "Expected `array`"),
        ('{"clinic": {"numbers": [97231234567]}}', "Expected `str`"),
        ('{"clinic": {"max_calls": "40"}}', "Expected `int | null`"),
        ('{"clinic": {"max_calls": 0}}', "'clinic': max_calls must be 1 or more"),
        ('{"clinic": {"max_calls": -1}}', "'clinic': max_calls must be 1 or more"),
        ('{"clinic": {"when_full": "sing"}}', "Invalid enum value 'sing'"),
        ('{"clinic": {"when_full": "forward"}}', "there is no number in forward"),
        ('{"clinic": {"numbers": ["031234567"]}}', "'031234567' is no number such as"),
        ('{"clinic": {"numbers": ["+97231234567\\n"]}}', "is no number such as"),
        ('{"clinic": {"forward": "sip:x@y"}}', "'sip:x@y' is no number such as"),
        (
            '{"clinic": {"numbers": ["+97231234567"], "forward": "+97231234567"}}',
            "'clinic': it would forward its calls to itself",
        ),
        ('{"clinic": {"language": "Hebrew please"}}', "'Hebrew please' is no language such as"),
        ('{"a b": {}}', "'a b': an id is 1 to 64 letters"),
        ('{"": {}}', "'': an id is 1 to 64 letters"),
        ('{"../x": {}}', "'../x': an id is 1 to 64 letters"),
        (
            '{"a": {"numbers": ["+97231234567"]}, "b": {"numbers": ["+97231234567"]}}',
            "+97231234567 belongs to a and to b",
        ),
        ('{"a": {"numbers": ["+97231234567", "+97231234567"]}}', "belongs to a and to a"),
        ('{"' + "x" * 5000 + '": {}}', "an id is 1 to 64 letters"),
        ('{"a": {"' + "x" * 5000 + '": 1}}', "unknown field"),
    ],
)
def test_what_is_wrong_is_one_short_line(text: str, says: str) -> None:
    """It names the variable, and the business where it can."""
    with pytest.raises(SettingsError) as fault:
        load_businesses(text)
    line = str(fault.value)
    assert line.startswith("BUSINESSES: ")
    assert says in line
    assert len(line) < 300
    assert len(line.splitlines()) == 1
