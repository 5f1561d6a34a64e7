"""Faults of streams: what each of Google's errors, by code and text, calls for."""

from __future__ import annotations

import grpc
import pytest
from google.cloud.speech_v1.types import StreamingRecognizeResponse

from stream_faults import Code, Remedy, StreamFault, advice, classify, is_about_model

SAID = [
    # a stream's own limits: v1, v2
    (
        Code.OUT_OF_RANGE,
        "Exceeded maximum allowed stream duration of 305 seconds.",
        Remedy.ROTATE,
    ),
    (Code.ABORTED, "Max duration of 5 minutes reached for stream.", Remedy.ROTATE),
    # no audio for a while: v1, v2
    (
        Code.OUT_OF_RANGE,
        "Audio Timeout Error: Long duration elapsed without audio. Audio should be sent close "
        "to real time.",
        Remedy.REOPEN_ON_AUDIO,
    ),
    (
        Code.ABORTED,
        "Stream timed out after receiving no more client requests.",
        Remedy.REOPEN_ON_AUDIO,
    ),
    # too fast, too slow, too much at a time
    (Code.OUT_OF_RANGE, "Audio data is being streamed too fast.", Remedy.BACK_OFF),
    (Code.OUT_OF_RANGE, "Audio data is being streamed too slow.", Remedy.BACK_OFF),
    (Code.RESOURCE_EXHAUSTED, "Audio data is being streamed too fast.", Remedy.LONG_BACK_OFF),
    (Code.INVALID_ARGUMENT, "Request exceeds the maximum of 25600 bytes.", Remedy.PERMANENT),
    # trouble that passes
    (Code.UNAVAILABLE, "The service is currently unavailable.", Remedy.BACK_OFF),
    (Code.UNAVAILABLE, "failed to connect to all addresses", Remedy.BACK_OFF),
    (Code.INTERNAL, "Internal error encountered.", Remedy.BACK_OFF),
    (Code.UNKNOWN, "", Remedy.BACK_OFF),
    (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Remedy.BACK_OFF),
    (Code.ABORTED, "The operation was aborted.", Remedy.BACK_OFF),
    (Code.CANCELLED, "The operation was cancelled.", Remedy.BACK_OFF),
    # the business's quota
    (Code.RESOURCE_EXHAUSTED, "Quota exceeded for quota metric", Remedy.LONG_BACK_OFF),
    # what no other try mends
    (Code.PERMISSION_DENIED, "Cloud Speech-to-Text API has not been used", Remedy.PERMANENT),
    (Code.UNAUTHENTICATED, "Request had invalid authentication credentials", Remedy.PERMANENT),
    (Code.INVALID_ARGUMENT, "Invalid recognition 'config'", Remedy.PERMANENT),
    (Code.NOT_FOUND, "Requested entity was not found.", Remedy.PERMANENT),
    (Code.FAILED_PRECONDITION, "Billing is disabled", Remedy.PERMANENT),
    (Code.UNIMPLEMENTED, "Method not found!", Remedy.PERMANENT),
    # google.auth's RefreshError, as gRPC hands it on
    (
        Code.UNAVAILABLE,
        "Getting metadata from plugin failed with error: ('invalid_grant: Invalid JWT Signature.'"
        ", {'error': 'invalid_grant'})",
        Remedy.PERMANENT,
    ),
    (Code.UNAVAILABLE, "Getting metadata from plugin failed: invalid_client", Remedy.PERMANENT),
    (
        Code.UNAVAILABLE,
        "Getting metadata failed: unauthorized_client",
        Remedy.PERMANENT,
    ),
    (
        Code.UNAVAILABLE,
        "Getting metadata failed with error: timed out",
        Remedy.BACK_OFF,
    ),
]


@pytest.mark.parametrize(("code", "text", "remedy"), SAID)
def test_what_google_says_has_its_remedy(code: Code, text: str, remedy: Remedy) -> None:
    """Every error that is known, of both versions, by its code and its text, in any case."""
    assert classify(StreamFault(code, text)) is remedy
    assert classify(StreamFault(code, text.upper())) is remedy


@pytest.mark.parametrize(
    "text",
    [text for _, text, remedy in SAID if remedy in (Remedy.ROTATE, Remedy.REOPEN_ON_AUDIO)],
)
def test_a_text_without_its_code_means_nothing(text: str) -> None:
    """The same words with another code are another error, which is not to be taken lightly."""
    assert classify(StreamFault(Code.INTERNAL, text)) is Remedy.BACK_OFF
    assert classify(StreamFault(Code.INVALID_ARGUMENT, text)) is Remedy.PERMANENT


BY_CODE = {
    Code.OK: Remedy.BACK_OFF,
    Code.CANCELLED: Remedy.BACK_OFF,
    Code.UNKNOWN: Remedy.BACK_OFF,
    Code.INVALID_ARGUMENT: Remedy.PERMANENT,
    Code.DEADLINE_EXCEEDED: Remedy.BACK_OFF,
    Code.NOT_FOUND: Remedy.PERMANENT,
    Code.ALREADY_EXISTS: Remedy.BACK_OFF,
    Code.PERMISSION_DENIED: Remedy.PERMANENT,
    Code.RESOURCE_EXHAUSTED: Remedy.LONG_BACK_OFF,
    Code.FAILED_PRECONDITION: Remedy.PERMANENT,
    Code.ABORTED: Remedy.BACK_OFF,
    Code.OUT_OF_RANGE: Remedy.BACK_OFF,
    Code.UNIMPLEMENTED: Remedy.PERMANENT,
    Code.INTERNAL: Remedy.BACK_OFF,
    Code.UNAVAILABLE: Remedy.BACK_OFF,
    Code.DATA_LOSS: Remedy.BACK_OFF,
    Code.UNAUTHENTICATED: Remedy.PERMANENT,
}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_has_a_remedy_without_a_text(code: Code) -> None:
    """None is forgotten, also if gRPC should get a new one; what is not known is tried again."""
    assert classify(StreamFault(code, "")) is BY_CODE[code]
    assert classify(StreamFault(code, "words that nobody has seen before")) is BY_CODE[code]


HTTP = {  # google/rpc/code.proto
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_a_fault_in_a_line(code: Code) -> None:
    """HTTP's code, gRPC's name and Google's text: every code can be put into the log."""
    if code is Code.OK:
        assert str(StreamFault(code, "Google ended the stream")) == "Google ended the stream"
        return
    assert str(StreamFault(code, "It broke.")) == f"{HTTP[code]} {code.name}: It broke."
    assert str(StreamFault(code, "")) == f"{HTTP[code]} {code.name}: no details"


class Broken(grpc.RpcError):
    """An error as a call ends with."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def code(self) -> Code:
        return Code.ABORTED

    def details(self) -> str | None:
        return self._text


def test_the_fault_of_a_call_that_broke() -> None:
    """gRPC's code and details; it may have no details."""
    assert StreamFault.of(Broken("gone")) == StreamFault(Code.ABORTED, "gone")
    assert StreamFault.of(Broken(None)) == StreamFault(Code.ABORTED, "")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not Code.OK])
def test_a_fault_within_a_response(code: Code) -> None:
    """The number that Google puts into a response is the code of gRPC's that it means."""
    response = StreamingRecognizeResponse.pb(StreamingRecognizeResponse())
    response.error.code = code.value[0]
    response.error.message = "Audio Timeout Error"
    assert StreamFault.in_band(response.error) == StreamFault(code, "Audio Timeout Error")


def test_a_number_within_a_response_that_nobody_knows() -> None:
    """A code of a later version is tried again, with its text in the log."""
    response = StreamingRecognizeResponse.pb(StreamingRecognizeResponse())
    response.error.code = 77
    response.error.message = "new"
    fault = StreamFault.in_band(response.error)
    assert fault == StreamFault(Code.UNKNOWN, "new")
    assert classify(fault) is Remedy.BACK_OFF


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.INVALID_ARGUMENT, "STT_LANGUAGE and STT_MODEL"),
        (Code.PERMISSION_DENIED, "Speech-to-Text API"),
        (Code.UNAUTHENTICATED, "GOOGLE_CREDENTIALS_JSON"),
        (Code.UNAVAILABLE, "GOOGLE_CREDENTIALS_JSON"),
        (Code.FAILED_PRECONDITION, "billing"),
        (Code.NOT_FOUND, "see Google's text"),
        (Code.UNIMPLEMENTED, "see Google's text"),
    ],
)
def test_a_permanent_fault_says_what_mends_it(code: Code, words: str) -> None:
    """Nobody should have to look up what to do."""
    assert words in advice(StreamFault(code, "invalid_grant"))


@pytest.mark.parametrize(
    ("code", "text", "about"),
    [
        (
            Code.INVALID_ARGUMENT,
            "The phone_call model is currently not supported for language : iw-IL.",
            True,
        ),
        (Code.INVALID_ARGUMENT, "Incorrect Model specified.", True),
        (Code.INVALID_ARGUMENT, "Invalid language code.", False),
        (Code.NOT_FOUND, "model not found", False),
        (Code.INTERNAL, "the model crashed", False),
    ],
)
def test_a_refused_model_is_told_from_other_refusals(code: Code, text: str, about: bool) -> None:
    """Only there is another model worth a try."""
    assert is_about_model(StreamFault(code, text)) is about
