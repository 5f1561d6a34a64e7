"""What a live call leaves for its records, as plain values. Pure.

They are made on the call's side, where nothing may wait, handed over by the record writer's thread
(`record_writer.py`) and written by the process beside the worker (`record_store.py`). The business
of each is that of the call's slot in the registry, and never anything that came with the audio.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from utterances import Final

_NUMBER_LENGTH = 40
_REASON_LENGTH = 200

# Ends after which no further stream of the call is to be expected (RFC 6455's codes)
_FINAL_CODES = frozenset((1000, 1001))
_SILENT = 1001


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    SILENT = "silent"  # no audio came any more
    BROKEN = "broken"  # its stream broke, and no other one came
    LOST = "lost"  # its worker died


class CallParties(NamedTuple):
    """Who calls whom, as Twilio's webhook says: `From`, `To` and `Direction`."""

    caller: str = ""
    called: str = ""
    direction: str = "inbound"


class StreamCounts(NamedTuple):
    """What was counted in a stream, over all of its tracks."""

    frames: int = 0
    dropped: int = 0
    lost_seconds: float = 0.0
    rotations: int = 0
    seconds: float = 0.0  # of audio, on the call's clock
    google_seconds: float = 0.0  # sent to Google, replays and plain calls included

    def joined(self, other: StreamCounts) -> StreamCounts:
        """Both tracks of a call, which lasts as long as the longer one."""
        return StreamCounts(
            self.frames + other.frames,
            self.dropped + other.dropped,
            self.lost_seconds + other.lost_seconds,
            self.rotations + other.rotations,
            max(self.seconds, other.seconds),
            self.google_seconds + other.google_seconds,
        )


class StreamStarted(msgspec.Struct, frozen=True, tag=True):
    """A media stream of a call began; the first one is the call's own beginning."""

    stream_id: str
    call_sid: str
    tenant_id: str
    parties: CallParties
    at: datetime


class Said(msgspec.Struct, frozen=True, tag=True):
    """A final result. Its times are those of its stream."""

    uid: str
    stream_id: str
    tenant_id: str
    track: str
    start_ms: int
    end_ms: int
    text: str
    confidence: float | None
    fallback: bool
    at: datetime


class StreamEnded(msgspec.Struct, frozen=True, tag=True):
    """A media stream's end, with what was counted in it."""

    stream_id: str
    tenant_id: str
    at: datetime
    code: int
    reason: str
    counts: StreamCounts
    fallbacks: int
    results: int
    delay_sum_ms: int
    delay_worst_ms: int

    @property
    def outcome(self) -> Outcome | None:
        """What this end makes of the call; None if another stream of it may follow."""
        if self.code not in _FINAL_CODES:
            return None
        return Outcome.SILENT if self.code == _SILENT else Outcome.COMPLETED


class CallOver(msgspec.Struct, frozen=True, tag=True):
    """Twilio says that a call is over: for the worker that has it."""

    call_sid: str
    at: datetime


Record = StreamStarted | Said | StreamEnded | CallOver
# Returns whether it is kept; never waits
PutRecord = Callable[[Record], bool]


class Counted(Protocol):
    """A session that has counted its audio."""

    def counts(self) -> StreamCounts: ...


class CallRecord:
    """Notes one stream of a call from its slot to its end.

    `heard()` and `said()` are called by the streaming threads of its tracks, `ended()` once by
    whoever closes the call.
    """

    def __init__(
        self,
        put: PutRecord,
        call_sid: str,
        tenant_id: str,
        parties: CallParties,
        clock: Callable[[], datetime],
    ) -> None:
        self._put = put
        self._tenant_id = tenant_id
        self._clock = clock
        self.stream_id = uuid.uuid4().hex
        self._fallbacks = 0
        self._results = 0
        self._delay_sum_ms = 0
        self._delay_worst_ms = 0
        put(StreamStarted(self.stream_id, call_sid, tenant_id, _short(parties), clock()))

    def heard(self, delay_ms: int) -> None:
        """A result came so long after the last audio that it covers."""
        self._results += 1
        self._delay_sum_ms += delay_ms
        self._delay_worst_ms = max(self._delay_worst_ms, delay_ms)

    def said(self, track: str, final: Final) -> None:
        """A final result of a track came."""
        self.heard(final.delay_ms)
        self._fallbacks += final.fallback
        self._put(
            Said(
                uuid.uuid4().hex,
                self.stream_id,
                self._tenant_id,
                track,
                final.start_ms,
                final.end_ms,
                storable(final.text.strip()),
                final.confidence,
                final.fallback,
                self._clock(),
            )
        )

    def ended(self, code: int, reason: str, session: Counted | None) -> None:
        """The stream is over; `session` is what it was recognised by, if it came so far."""
        self._put(
            StreamEnded(
                self.stream_id,
                self._tenant_id,
                self._clock(),
                code,
                storable(reason)[:_REASON_LENGTH],
                session.counts() if session is not None else StreamCounts(),
                self._fallbacks,
                self._results,
                self._delay_sum_ms,
                self._delay_worst_ms,
            )
        )


def storable(text: str) -> str:
    """`text` without what a database refuses: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _short(parties: CallParties) -> CallParties:
    return CallParties(*(storable(part)[:_NUMBER_LENGTH] for part in parties))
