"""Which languages and models are taken, and what is said of those that are not."""

from __future__ import annotations

import pytest

from errors import BadBusiness
from language_models import EVERYWHERE, check_language, check_model, models_for

LATEST = ["latest_long", "latest_short"]
TELEPHONY = ["telephony", "telephony_short"]


@pytest.mark.parametrize(
    ("language", "besides"),
    [
        ("iw-IL", []),
        ("he-IL", []),
        ("iw", []),
        ("he", []),
        ("IW-il", []),
        ("cmn-Hans-CN", []),
        ("ar-IL", LATEST),
        ("en-CA", TELEPHONY),
        ("es-MX", ["telephony_short"]),
        ("hi-IN", LATEST + TELEPHONY),
        ("ru-RU", [*LATEST, "phone_call"]),
        ("en-GB", [*LATEST, "phone_call", *TELEPHONY]),
        ("ar", LATEST),
    ],
)
def test_each_language_has_its_models(language: str, besides: list[str]) -> None:
    """What Google's table lists; what is there for all; a bare language has its regions'."""
    check_language(language)
    assert sorted(models_for(language)) == sorted([*EVERYWHERE, *besides])
    for model in models_for(language):
        check_model(language, model)


def test_english_of_the_united_states_has_all() -> None:
    """The only one with the medical models and `video`."""
    only = {"medical_conversation", "medical_dictation", "video"}
    assert set(models_for("en-US")) - set(models_for("en-GB")) == only


@pytest.mark.parametrize("language", ["iw-IL", "he-IL", "he", "iw"])
@pytest.mark.parametrize("model", ["phone_call", "latest_short", "telephony", "chirp_3"])
def test_a_wrong_pair_is_refused_with_what_would_work(language: str, model: str) -> None:
    """Both are named, and the models that there are."""
    with pytest.raises(BadBusiness) as fault:
        check_model(language, model)
    assert str(fault.value) == (
        f"Google has no model '{model}' for {language}; it takes default, command_and_search"
    )


def test_a_model_without_a_language_must_be_one() -> None:
    """The service's own language is not known here; a misspelled model is."""
    check_model(None, "phone_call")
    with pytest.raises(BadBusiness, match=r"no model 'phonecall' at all; it takes .*phone_call"):
        check_model(None, "phonecall")


@pytest.mark.parametrize(
    ("language", "near"),
    [
        ("iw_IL", "; perhaps iw-IL"),
        ("heb", "; perhaps iw-IL"),
        ("he_il", "; perhaps he-IL"),
        ("en-UK", "; perhaps en-GB"),
        ("zh-CN", "; perhaps cmn-Hans-CN"),
        ("nb-NO", "; perhaps no-NO"),
        ("iw-IS", "; perhaps iw-IL"),
        ("en-USA", "; perhaps en-US"),
        ("Hebrew please", ""),
        ("", ""),
        ("x" * 5000, ""),
        ("iw-IL\n", "; perhaps iw-IL"),
    ],
)
def test_no_language_of_googles_is_refused_with_what_is_near(language: str, near: str) -> None:
    """One short line, and only suggestions that are taken."""
    with pytest.raises(BadBusiness, match="is no language such as iw-IL or en-US") as fault:
        check_language(language)
    told = str(fault.value)
    assert near in told
    assert len(told) < 200
    assert len(told.splitlines()) == 1
    _, _, suggested = told.partition("; perhaps ")
    for code in suggested.split(" or ") if suggested else []:
        check_language(code)
