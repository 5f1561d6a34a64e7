"""A pulse and what it looks at, for tests of the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from businesses import FindsBusinesses
from metrics import Metrics
from metrics_pulse import BusinessLabels, MetricsPulse
from record_service import RecordService
from registry import CallRegistry
from shared_speech import SharedSpeech


def pulse_of(
    registry: CallRegistry,
    records: RecordService,
    metrics: Metrics | None = None,
    businesses: FindsBusinesses | None = None,
    *,
    guarded: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> MetricsPulse:
    """A pulse that is not started: a test takes its turns."""
    businesses = businesses or records.businesses
    return MetricsPulse(
        metrics or Metrics(),
        registry,
        businesses,
        BusinessLabels(businesses, guarded=guarded),
        records,
        SharedSpeech(),
        clock=clock,
    )
