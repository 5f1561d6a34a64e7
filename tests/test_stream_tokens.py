"""The tokens of media streams: what was granted is read back, and nothing else."""

from __future__ import annotations

import re

import pytest
from front_door_parts import SECRET_KEY, stream_token
from itsdangerous import URLSafeTimedSerializer

from errors import BadToken
from stream_tokens import TOKEN_SECONDS, StreamGrant, StreamTokens

GRANT = StreamGrant("CA" + "1" * 32, "clinic")
TOKENS = StreamTokens(SECRET_KEY)


def test_a_token_says_what_it_was_made_for() -> None:
    """By this process or any other with the same secret."""
    assert StreamTokens(SECRET_KEY).read(TOKENS.make(GRANT)) == GRANT


def test_a_token_fits_into_a_parameter_of_twilios() -> None:
    """Name and value together may have 500 characters; the longest ids leave room."""
    token = TOKENS.make(StreamGrant("C" * 64, "t" * 64))
    assert re.fullmatch(r"[A-Za-z0-9._-]+", token)
    assert len("token") + len(token) < 300


def test_a_token_ends_after_its_time() -> None:
    """It is for a stream that is opened now, so a stolen one is soon worth nothing."""
    assert TOKENS.read(stream_token(*GRANT[:2], age=TOKEN_SECONDS - 5)) == GRANT
    with pytest.raises(BadToken, match="older than 300 s"):
        TOKENS.read(stream_token(*GRANT[:2], age=TOKEN_SECONDS + 5))
    with pytest.raises(BadToken, match="older than 7 s"):
        StreamTokens(SECRET_KEY, seconds=7).read(stream_token(*GRANT[:2], age=10))


def test_every_changed_character_is_noticed() -> None:
    """In what it says, in its time and in its signature."""
    token = TOKENS.make(GRANT)
    for at, letter in enumerate(token[:-1]):  # of the last one some bits do not count
        with pytest.raises(BadToken):
            TOKENS.read(token[:at] + ("A" if letter != "A" else "B") + token[at + 1 :])


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "..",
        "a.b.c",
        "é.é.é",
        "\ud800",
        "x" * 100_000,
        StreamTokens("another secret").make(GRANT),
        URLSafeTimedSerializer(SECRET_KEY).dumps(list(GRANT)),
        URLSafeTimedSerializer(SECRET_KEY, salt="tamlil.stream").dumps(["CA1"]),
        URLSafeTimedSerializer(SECRET_KEY, salt="tamlil.stream").dumps(5),
    ],
    ids=range(11),  # not the tokens: they are made anew in each process
)
def test_what_is_not_of_our_making_is_refused(token: str) -> None:
    """Nonsense, another secret's, another purpose's, or of another shape: one error of ours."""
    # made as the tests were collected, which may be a while ago
    tokens = StreamTokens(SECRET_KEY, seconds=86_400)
    with pytest.raises(BadToken, match="not of our making"):
        tokens.read(token)
