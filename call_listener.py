"""Hears the results of one track: they are logged, noted in the call's record, and measured.

Called by the track's streaming thread; nothing here waits.
"""

from __future__ import annotations

from call_log import CallLog
from metrics import Metrics
from registry import Record
from utterances import Final, Interim, Utterance


class CallListener:
    """For a track of a call; `record` is that of the call, if it has one."""

    def __init__(self, log: CallLog, record: Record | None, track: str, metrics: Metrics) -> None:
        self._log = log
        self._record = record
        self._track = track
        self._metrics = metrics

    def partial(self, interim: Interim) -> None:
        """A guess at what is being said."""
        self._log.partial(interim.text, interim.delay_ms)
        self._metrics.interim_delay.note(interim.delay_ms / 1000)
        if self._record is not None:
            self._record.heard(interim.delay_ms)

    def final(self, final: Final, _utterance: Utterance) -> None:
        """What was said. A plain call's is late by its nature, and counted apart."""
        self._log.final(final.text, fallback=final.fallback)
        if final.fallback:
            self._metrics.fallback_finals.inc()
        else:
            self._metrics.final_delay.note(final.delay_ms / 1000)
        if self._record is not None:
            self._record.said(self._track, final)
