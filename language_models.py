"""Which of Google's models there are for which language (Speech-to-Text v1). Pure.

Source of the table: Google's documentation, "Cloud Speech-to-Text V1 supported languages", read in
a stored copy without a date; its list of languages was compared with another one that was made from
the same page (seven languages of South Africa and Rwanda are only in the first). The page says that
no codes but its own are to be used, that every language has `default` and `command_and_search`, and
that there are no other models than those it lists. It was not tried against Google. Known from use:
Hebrew, which the page calls iw-IL, is taken as he-IL too, and `phone_call` and `latest_short` are
refused for it. A language without its region (`ar`) is not on the page; it is taken with what any
of its regions has, and Google has the last word: see `recognition.RefusedModels`.
"""

from __future__ import annotations

import difflib

from errors import BadBusiness

# There for every language
EVERYWHERE = ("default", "command_and_search")
_LATEST = ("latest_long", "latest_short")
_TELEPHONY = ("telephony", "telephony_short")
_CALLS = (*_LATEST, "phone_call", *_TELEPHONY)

# What there is besides, and for which languages
_BESIDES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (),
        """af-ZA am-ET ar-SY az-AZ bn-IN bs-BA ca-ES cmn-Hans-CN cmn-Hans-HK cmn-Hant-TW el-GR en-GH
        en-KE en-NG en-PH en-TZ en-ZA es-PY et-EE eu-ES fa-IR fil-PH gl-ES gu-IN hr-HR hy-AM is-IS
        iw-IL jv-ID ka-GE kk-KZ lo-LA lt-LT lv-LV mn-MN ms-MY my-MM ne-NP pa-Guru-IN si-LK sk-SK
        sl-SI sq-AL sr-RS su-ID sw-KE sw-TZ ta-LK ta-MY ta-SG ur-IN ur-PK uz-UZ yue-Hant-HK
        zu-ZA""",
    ),
    (
        _LATEST,
        """ar-AE ar-BH ar-DZ ar-EG ar-IL ar-IQ ar-JO ar-KW ar-LB ar-MA ar-MR ar-OM ar-PS ar-QA ar-SA
        ar-TN ar-YE bg-BG bn-BD cs-CZ da-DK fi-FI hu-HU id-ID km-KH kn-IN mk-MK ml-IN mr-IN no-NO
        pl-PL ro-RO rw-RW ss-Latn-ZA st-ZA sv-SE ta-IN te-IN th-TH tn-Latn-ZA tr-TR ts-ZA uk-UA
        ve-ZA vi-VN xh-ZA""",
    ),
    (
        _TELEPHONY,
        "de-AT de-CH en-CA en-HK en-IE en-NZ en-PK en-SG fr-BE fr-CH it-CH nl-BE",
    ),
    (
        ("telephony_short",),
        """es-AR es-BO es-CL es-CO es-CR es-DO es-EC es-GT es-HN es-MX es-NI es-PA es-PE es-PR es-SV
        es-UY es-VE""",
    ),
    ((*_LATEST, *_TELEPHONY), "en-IN hi-IN ko-KR nl-NL pt-PT"),
    ((*_LATEST, "phone_call"), "ru-RU"),
    (_CALLS, "de-DE en-AU en-GB es-ES es-US fr-CA fr-FR it-IT ja-JP pt-BR"),
    ((*_CALLS, "medical_conversation", "medical_dictation", "video"), "en-US"),
)
# Usual names of languages that Google calls otherwise
_OTHERWISE = {
    "en-UK": "en-GB",
    "heb": "iw-IL",
    "nb-NO": "no-NO",
    "zh": "cmn-Hans-CN",
    "zh-CN": "cmn-Hans-CN",
    "zh-HK": "yue-Hant-HK",
    "zh-TW": "cmn-Hant-TW",
}


def _table() -> dict[str, tuple[str, ...]]:
    table = {code: models for models, codes in _BESIDES for code in codes.split()}
    table["he-IL"] = table["iw-IL"]
    regions: dict[str, list[str]] = {}
    for code, models in table.items():
        regions.setdefault(code.partition("-")[0], []).extend(models)
    table.update({language: tuple(dict.fromkeys(found)) for language, found in regions.items()})
    return {code: (*EVERYWHERE, *models) for code, models in table.items()}


_MODELS = _table()
_CODES = {code.lower(): code for code in _MODELS}  # letters count the same, by BCP 47
_KNOWN = tuple(sorted({model for models in _MODELS.values() for model in models}))


def models_for(language: str) -> tuple[str, ...]:
    """The models that Google has for `language`, a code that `check_language` takes."""
    return _MODELS[_CODES[language.lower()]]


def check_language(language: str) -> None:
    """Raise `BadBusiness`, naming what is near, if `language` is none of Google's codes."""
    if language.lower() in _CODES:
        return
    near = _near(language)
    perhaps = f"; perhaps {' or '.join(near)}" if near else ""
    raise BadBusiness(f"{language[:40]!r} is no language such as iw-IL or en-US{perhaps}")


def check_model(language: str | None, model: str) -> None:
    """Raise `BadBusiness`, naming what would work, if Google has no such model for the language.

    None is a language that is not known here: then the model must be there for any.
    """
    allowed = _KNOWN if language is None else models_for(language)
    if model not in allowed:
        where = "at all" if language is None else f"for {language}"
        raise BadBusiness(
            f"Google has no model {model[:40]!r} {where}; it takes {', '.join(allowed)}"
        )


def _near(language: str) -> list[str]:
    text = language[:40].replace("_", "-").lower()
    usual = {name.lower(): code for name, code in _OTHERWISE.items()}
    if text in _CODES:
        return [_CODES[text]]
    if text in usual:
        return [usual[text]]
    same = [code for code in _CODES if code.partition("-")[0] == text.partition("-")[0]]
    found = difflib.get_close_matches(text, same or _CODES, n=3, cutoff=0.5)
    return [_CODES[code] for code in found]
