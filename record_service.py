"""The records of a running worker: what writes them and what looks after them, started together."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from call_log import logger, one_line
from call_records import CallOver, CallParties, CallRecord
from database import Engines, now
from record_store import RecordStore
from record_watch import RecordWatch
from record_writer import RecordWriter
from registry import CallRegistry, LiveCall
from settings import Settings
from tenant_directory import TenantDirectory
from webhook_client import WebhookClient
from webhook_queue import WebhookQueue
from webhook_sender import WebhookSender

# A drain is given so long to write what its calls have left
_LAST_SECONDS = 3.0


class RecordService:
    """What belongs to the records of one process; `directory` has the businesses."""

    def __init__(self, settings: Settings, engines: Engines, registry: CallRegistry) -> None:
        self._engines = engines
        self.worker_id = uuid.uuid4().hex
        self.directory = TenantDirectory()
        self.writer = RecordWriter(
            RecordStore(engines, self.worker_id, adds_tenants=settings.allow_unsigned),
            limit=settings.records_waiting,
        )
        self._watch = RecordWatch(
            engines,
            self.directory,
            self.worker_id,
            registry.end_call,
            lease_seconds=settings.worker_lease_seconds,
        )
        self._sender = WebhookSender(
            WebhookQueue(engines, self.worker_id),
            WebhookClient(allow_private=settings.webhook_allow_private),
        )

    def read_businesses(self) -> None:
        """Read the businesses, before the first call can come."""
        try:
            self.directory.look(self._engines)
        except SQLAlchemyError as fault:  # the watch goes on trying; until then no call is taken
            logger.error("[DB] no businesses yet: %s", one_line(str(fault))[:200])

    def start(self) -> None:
        """Begin to write and to look after them; once in each process, after any fork."""
        self.writer.start()
        self._watch.start()
        self._sender.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self.writer.close(_LAST_SECONDS)
        self._sender.stop()
        self._watch.stop()

    def begin(self, slot: LiveCall, parties: CallParties) -> CallRecord:
        """The record of a stream that has just taken its slot: its business is the slot's."""
        return CallRecord(self.writer.put, slot.call_sid, slot.tenant_id, parties, now)

    def tell_over(self, call_sid: str, at: datetime | None = None) -> None:
        """Twilio says that this call is over: whichever worker has it shall know."""
        self.writer.put(CallOver(call_sid, at or now()))
