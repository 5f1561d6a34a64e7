"""What to do about the end of a stream that nobody here asked for. Pure.

One code has several meanings, so the text is looked at as well, and v1 and v2 of Google's API say
the same in different codes.

Sources: Google's error messages as collected in "Speech-to-Text: error messages", and
`google.rpc.Code`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, NamedTuple

import grpc
from google.api_core.exceptions import from_grpc_status

Code = grpc.StatusCode


class Remedy(Enum):
    """What a stream's fault calls for."""

    ROTATE = "a new stream at once, without a penalty"
    REOPEN_ON_AUDIO = "a new stream when audio comes"
    BACK_OFF = "a new stream after a short pause, doubled each time"
    LONG_BACK_OFF = "no new stream of this business for a while"
    PERMANENT = "no new stream: trying again cannot help"


class StreamFault(NamedTuple):
    """How a stream failed: a status of gRPC's, or one that was found here."""

    code: grpc.StatusCode
    text: str

    def __str__(self) -> str:
        """In a line, with the HTTP code that Google's documentation lists it by."""
        if self.code is Code.OK:
            return self.text
        error = from_grpc_status(self.code, self.text)  # type: ignore[no-untyped-call]  # google-api-core
        # api_core knows no HTTP code of UNKNOWN and DATA_LOSS: `google.rpc.Code` has 500 for both
        return f"{int(error.code or 500)} {self.code.name}: {self.text or 'no details'}"

    @classmethod
    def of(cls, error: Any) -> StreamFault:
        """Of a `grpc.RpcError` that a call ended with."""
        return cls(error.code(), error.details() or "")

    @classmethod
    def in_band(cls, status: Any) -> StreamFault:
        """Of a `google.rpc.Status` within a response."""
        return cls(_BY_NUMBER.get(status.code, Code.UNKNOWN), status.message)


_BY_NUMBER = {code.value[0]: code for code in Code}

# Matched in this order, before the code alone is looked at.
_BY_TEXT = (
    (Code.OUT_OF_RANGE, r"maximum allowed stream duration", Remedy.ROTATE),
    (Code.ABORTED, r"max duration", Remedy.ROTATE),
    (Code.OUT_OF_RANGE, r"audio timeout", Remedy.REOPEN_ON_AUDIO),
    (Code.ABORTED, r"no more client requests", Remedy.REOPEN_ON_AUDIO),
    # gRPC calls a key that Google refuses UNAVAILABLE: its plugin for credentials had failed
    (Code.UNAVAILABLE, r"invalid_grant|invalid_client|unauthorized_client", Remedy.PERMANENT),
)

_BY_CODE = {
    Code.RESOURCE_EXHAUSTED: Remedy.LONG_BACK_OFF,
    Code.INVALID_ARGUMENT: Remedy.PERMANENT,
    Code.PERMISSION_DENIED: Remedy.PERMANENT,
    Code.UNAUTHENTICATED: Remedy.PERMANENT,
    Code.NOT_FOUND: Remedy.PERMANENT,
    Code.FAILED_PRECONDITION: Remedy.PERMANENT,
    Code.UNIMPLEMENTED: Remedy.PERMANENT,
}

_ADVICE = {
    Code.INVALID_ARGUMENT: "check STT_LANGUAGE and STT_MODEL",
    Code.PERMISSION_DENIED: "enable the Speech-to-Text API and give the key's account its role",
    Code.UNAUTHENTICATED: "check the key in GOOGLE_CREDENTIALS_JSON",
    Code.UNAVAILABLE: "check the key in GOOGLE_CREDENTIALS_JSON",
    Code.FAILED_PRECONDITION: "check the project's billing and its Speech-to-Text API",
}


def classify(fault: StreamFault) -> Remedy:
    """What to do about `fault`. What is not known is tried again, after a pause."""
    for code, text, remedy in _BY_TEXT:
        if fault.code is code and re.search(text, fault.text, re.IGNORECASE):
            return remedy
    return _BY_CODE.get(fault.code, Remedy.BACK_OFF)


def advice(fault: StreamFault) -> str:
    """What mends a permanent fault."""
    return _ADVICE.get(fault.code, "see Google's text")


def is_about_model(fault: StreamFault) -> bool:
    """Whether Google refuses the model, or the model for this language."""
    return fault.code is Code.INVALID_ARGUMENT and "model" in fault.text.lower()
