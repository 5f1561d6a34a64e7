"""The records' side of a worker: what calls leave, and what is known of businesses."""

from __future__ import annotations

from datetime import UTC, datetime

from call_log import logger
from call_records import CallOver, CallParties, CallRecord
from known_businesses import KnownBusinesses
from record_link import RecordLink
from record_messages import EventCounts
from record_writer import RecordWriter
from registry import CallRegistry, LiveCall
from settings import Settings

# A worker takes no call before it knows the businesses; if the database is away, it says so
_BUSINESSES_SECONDS = 15.0
# A drain is given so long to write what its calls have left, and to end
_LAST_SECONDS, _LEAVE_SECONDS = 3.0, 2.0


class RecordService:
    """What belongs to the records of one worker. `businesses`: as they are known."""

    def __init__(self, settings: Settings, link: RecordLink, registry: CallRegistry) -> None:
        self._link = link
        self.businesses = KnownBusinesses()
        self.writer = RecordWriter(link, limit=settings.records_waiting)
        link.on_businesses = self.businesses.tell
        link.end_call = registry.end_call

    @property
    def worker_id(self) -> str:
        """What records know this worker by."""
        return self._link.worker_id

    @property
    def events(self) -> EventCounts | None:
        """How the events to businesses stand, as was said last; None before it was."""
        return self._link.events

    def start(self) -> None:
        """Begin to hand over, and wait until the businesses are known; after any fork."""
        self._link.start()
        self.writer.start()
        if self._link.wait_for_businesses(_BUSINESSES_SECONDS):
            self.businesses.tell(self._link.businesses or ())
        else:
            logger.error("[DB] no businesses yet: the database does not answer; no call is taken")

    def stop(self) -> None:
        """Write what waits, and end."""
        self.writer.close(_LAST_SECONDS)
        self._link.stop(_LEAVE_SECONDS)

    def begin(self, slot: LiveCall, parties: CallParties) -> CallRecord:
        """The record of a stream that has just taken its slot: its business is the slot's."""
        return CallRecord(self.writer.put, slot.call_sid, slot.tenant_id, parties, _now)

    def tell_over(self, call_sid: str) -> None:
        """Twilio says that this call is over: whichever worker has it shall know."""
        self.writer.put(CallOver(call_sid, _now()))


def _now() -> datetime:
    return datetime.now(UTC)
