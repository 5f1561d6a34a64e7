"""Which media streams are taken, and for whom: every proof, guarded and not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from front_door_parts import SECRET_KEY, stream_token

from businesses import Businesses, load_businesses
from errors import BadConversation
from stream_admission import Admitted, StreamAdmission
from stream_tokens import StreamTokens
from twilio_messages import Start, StartBody

CALL, OTHER_CALL = "CA" + "1" * 32, "CA" + "2" * 32
BUSINESSES = Businesses(load_businesses('{"clinic": {"max_calls": 3}, "garage": {}}'))

CLINIC, GARAGE = Admitted("clinic", 3), Admitted("garage", None)

# Made when they are used: a token is good for a while only
TOKENS: dict[str, Callable[[], object]] = {
    "good": lambda: stream_token(CALL, "clinic"),
    "other call": lambda: stream_token(OTHER_CALL, "clinic"),
    "expired": lambda: stream_token(CALL, "clinic", age=400),
    "forged": lambda: StreamTokens("guessed").make(
        StreamTokens(SECRET_KEY).read(stream_token(CALL))
    ),
    "none": lambda: None,
    "empty": lambda: "",
    "number": lambda: 5,
}

NEITHER = "neither a token nor a known business in the path"


def admit(
    guarded: bool, parameters: dict[str, object] | None, **asked: str | None
) -> Admitted | str:
    """Whose the stream is, or why it is refused."""
    admission = StreamAdmission(BUSINESSES, StreamTokens(SECRET_KEY), guarded=guarded)
    start = Start(StartBody(call_sid=CALL, custom_parameters=parameters))
    try:
        return admission.admit(start, asked)
    except BadConversation as refusal:
        return str(refusal) if refusal.code == 1008 else f"closed with {refusal.code}"


def of_token(guarded: bool, token: str, path: str | None) -> Admitted | str:
    return admit(guarded, {"token": TOKENS[token](), "tenant": "garage"}, path=path, query="garage")


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(
    ("token", "path", "result"),
    [
        ("good", None, CLINIC),
        ("good", "", CLINIC),
        ("good", "clinic", CLINIC),
        ("good", "garage", "the token is another business's"),
        ("good", "nobody", "the token is another business's"),
        ("other call", None, "the token is another call's"),
        ("other call", "clinic", "the token is another call's"),
        ("expired", None, "the token is older than 300 s"),
        ("expired", "clinic", "the token is older than 300 s"),
        ("forged", None, "the token is not of our making"),
        ("forged", "clinic", "the token is not of our making"),
        ("number", None, "the token is not of our making"),
    ],
)
def test_a_token_decides_where_there_is_one(
    guarded: bool, token: str, path: str | None, result: Admitted | str
) -> None:
    """What it grants counts, never what is said beside it; a bad one is not passed over."""
    assert of_token(guarded, token, path) == result


@pytest.mark.parametrize("token", ["none", "empty"])
@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("clinic", CLINIC),
        ("garage", GARAGE),
        ("nobody", NEITHER),
        ("../x", NEITHER),
        ("", NEITHER),
        (None, NEITHER),
    ],
)
def test_guarded_without_a_token_only_the_signed_path_counts(
    token: str, path: str | None, result: Admitted | str
) -> None:
    """Neither a parameter nor the query nor a header is a proof: they name the garage here."""
    asked = {"path": path, "query": "garage", "header": "garage"}
    assert admit(True, {"token": TOKENS[token](), "tenant": "garage"}, **asked) == result


@pytest.mark.parametrize(
    ("asked", "parameter", "result"),
    [
        ({"path": "clinic", "query": "q", "header": "h"}, "p", CLINIC),
        ({"path": None, "query": "q", "header": "h"}, "garage", GARAGE),
        ({"path": None, "query": "q", "header": "h"}, None, Admitted("q", None)),
        ({"path": None, "query": None, "header": "h"}, None, Admitted("h", None)),
        ({}, None, Admitted("default", None)),
        ({"path": "nobody"}, None, Admitted("nobody", None)),
    ],
)
def test_unguarded_the_first_place_that_names_a_business_is_believed(
    asked: dict[str, str | None], parameter: str | None, result: Admitted
) -> None:
    """For a laptop: path, parameter, query, header, and `default` where nothing does."""
    assert admit(False, {"tenant": parameter}, **asked) == result


@pytest.mark.parametrize("bad", ["a b", "../x", "x" * 65, "-x", 5])
def test_unguarded_an_id_must_be_one(bad: object) -> None:
    """It ends up in lines and keys."""
    said = admit(False, {"tenant": bad})
    assert str(said).startswith("customParameters.tenant: a business's id is")


def test_without_parameters_at_all() -> None:
    """`customParameters` may be null."""
    assert admit(True, None) == NEITHER
    assert admit(True, None, path="clinic") == CLINIC
    assert admit(False, None) == Admitted("default", None)
