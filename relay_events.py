"""What can happen to a call's streams, other than what they tell of themselves. Pure.

It goes into the same queue as `StreamEvent` and `Recorded` do, for the call's streaming thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google_stream import StreamEvent, What


@dataclass(frozen=True, slots=True)
class Closed:
    """The call is over; `seconds` are left for its end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Google is back: try again after `seconds`."""

    seconds: float


class AudioCame:
    """Audio came that was waited for."""


def is_answer(event: Any) -> bool:
    """Whether it is a response that does not end its stream, as most of what happens is."""
    if not isinstance(event, StreamEvent) or event.what is not What.RESPONSE:
        return False
    return not event.response.error.code
