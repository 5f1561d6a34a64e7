"""What happens now and then in this process, counted as plain numbers for `/metrics`.

Refusals and faults of streams are counted where they happen, in whichever thread that is; the
metrics read the sums about once a second (`metrics_pulse.py`). Nothing here waits, and no count is
kept by anything that a peer can make up.
"""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum

from stream_faults import StreamFault, classify


class Refusal(StrEnum):
    """Why somebody was not let in, or a call not taken."""

    SIGNATURE = "signature"  # 403: not signed by Twilio
    HALF_OPEN = "half_open"  # 503: too many sockets have not said their start
    PROTOCOL = "protocol"  # 1002, 1003: not Twilio's protocol
    NOT_ADMITTED = "not_admitted"  # 1008: its token, its business, or no start in time
    DRAINING = "draining"  # 1012: the worker is shutting down
    FULL = "full"  # 1013: the worker or the business is full
    TURNED_AWAY_FULL = "turned_away_full"  # by the webhook, as above
    NO_BUSINESS = "no_business"  # a number that nobody has
    NO_DATABASE = "no_database"  # no business is known yet
    STREAMS_ENDED = "streams_ended"  # too many streams in a row ended
    OTHER = "other"


_BY_CLOSE_CODE = {
    1002: Refusal.PROTOCOL,
    1003: Refusal.PROTOCOL,
    1008: Refusal.NOT_ADMITTED,
    1012: Refusal.DRAINING,
    1013: Refusal.FULL,
}

_lock = threading.Lock()
_refusals: Counter[Refusal] = Counter()
_faults: Counter[tuple[str, str]] = Counter()


def refused(reason: Refusal) -> None:
    """Somebody was refused."""
    with _lock:
        _refusals[reason] += 1


def refused_stream(close_code: int) -> None:
    """A media stream was refused with this close code."""
    refused(_BY_CLOSE_CODE.get(close_code, Refusal.OTHER))


def stream_failed(fault: StreamFault) -> None:
    """A stream to Google ended with this fault."""
    with _lock:
        _faults[fault_class(fault)] += 1


def fault_class(fault: StreamFault) -> tuple[str, str]:
    """The names of its code and of its remedy."""
    return fault.code.name, classify(fault).name.lower()


def refusals() -> Counter[Refusal]:
    """How many refusals there were, by reason."""
    with _lock:
        return Counter(_refusals)


def stream_faults() -> Counter[tuple[str, str]]:
    """How many streams failed, by code and remedy."""
    with _lock:
        return Counter(_faults)
