"""The records' own process, beside each worker: everything that speaks to the database.

A worker carries calls, and Python lets only one thread of a process compute at a time: what a
database's library computes would hold them up, however well it waits. So the worker only hands over
what calls leave (`record_link.py`), and this process writes it, looks after the records and tells
the worker what it must know. It has plain threads, and may wait wherever it likes.

Started by `record_link.py`; ends when its worker does, also when that is killed: then it gives
the worker's streams up as lost, at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

import api_server
import lost_calls
import record_messages
from call_log import configure_logging, logger
from call_records import Record
from database import Engines, database_url, now
from database_faults import cause_of
from record_messages import EndCall, Known, NotWritten, ToWorker, Write, Written
from record_store import RecordStore
from record_watch import RecordWatch
from settings import Settings
from webhook_client import WebhookClient
from webhook_queue import WebhookQueue
from webhook_sender import WebhookSender


class RecordProcess:
    """Serves one worker, which speaks at `from_worker` and hears at `to_worker` (descriptors)."""

    def __init__(
        self, settings: Settings, worker_id: str, from_worker: int, to_worker: int
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._from_worker = from_worker
        self._to_worker = to_worker
        self._sending = threading.Lock()
        self._engines = Engines(database_url(settings.database_url))
        self._store = RecordStore(
            self._engines,
            worker_id,
            adds_tenants=settings.allow_unsigned,
            resume_seconds=settings.worker_lease_seconds,
        )
        self._watch = RecordWatch(
            self._engines,
            worker_id,
            on_businesses=lambda businesses: self._say(Known(businesses)),
            end_call=lambda call_sid, reason: self._say(EndCall(call_sid, reason)),
            lease_seconds=settings.worker_lease_seconds,
        )
        self._sender = WebhookSender(
            WebhookQueue(self._engines, worker_id),
            WebhookClient(allow_private=settings.webhook_allow_private),
            on_counts=self._say,
        )

    def run(self) -> None:
        """Until the worker leaves, or is gone."""
        self._watch.start()
        self._sender.start()
        api_server.start(self._settings, self._worker_id)
        while True:
            message = record_messages.read_to_process(self._from_worker)
            if not isinstance(message, Write):
                break
            self._say(self._written(message.number, message.records))
        self._watch.stop()
        api_server.stop(self._worker_id)
        if message is None:
            self._end_lost_calls()
        self._sender.stop()

    def _written(self, number: int, records: Sequence[Record]) -> Written | NotWritten:
        try:
            return Written(number, self._store.write(records))
        except (DataError, IntegrityError) as fault:
            return NotWritten(number, cause_of(fault), of_record=True)
        except SQLAlchemyError as fault:
            return NotWritten(number, cause_of(fault), of_record=False)
        except Exception as fault:  # a fault of our own: said, and tried again like others
            logger.exception("[DB] internal error")
            return NotWritten(number, repr(fault), of_record=False)

    def _say(self, message: ToWorker) -> None:
        # if the worker is gone, the next read says so
        with self._sending, contextlib.suppress(OSError):
            record_messages.send(self._to_worker, message)

    def _end_lost_calls(self) -> None:
        """The worker was killed: nobody else knows it as soon. Its callers may still come back."""
        at = now()
        try:
            with self._engines.writing() as session:
                lost = lost_calls.give_up_streams_of(
                    session, self._worker_id, at, self._settings.worker_lease_seconds
                )
                lost_calls.note_end(session, self._worker_id)
        except SQLAlchemyError:
            return  # another worker does it, when this one's note is old
        if lost:
            logger.warning("[DB] a worker died: streams of calls given up: %d", lost)


def main(arguments: Sequence[str]) -> int:
    # They reach the whole group; but the worker needs this until its own end, and then says so
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging()
    worker_id, from_worker, to_worker = arguments
    settings = Settings.from_env(os.environ)
    RecordProcess(settings, worker_id, int(from_worker), int(to_worker)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
