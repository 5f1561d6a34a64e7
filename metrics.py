"""The instruments behind `/metrics`, with their names, units and texts.

Importing this imports `prometheus_client`, which looks at once whether the figures of several
processes are to be added up (`metrics_files.py`): so the application does it when it is made.

No label has a value that a caller can make up: reasons, codes and remedies are fixed sets, and a
business is named only if the records know it (`metrics_pulse.py`).

Source of the conventions: Prometheus's documentation, "Metric and label naming".
"""

from __future__ import annotations

import grpc
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge

import tallies
from noted_histogram import NotedHistogram
from stream_faults import StreamFault

# What a media socket is closed with (the README has the table); any other code is "other"
CLOSE_CODES = (1000, 1001, 1002, 1003, 1006, 1008, 1009, 1011, 1012, 1013)
OTHER = "other"

_LOOP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_FRAME_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_RESULT_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_QUEUE_BUCKETS = (0, 1, 2, 4, 8, 12, 16, 32, 100)  # frames; 16 are the default limit


class Metrics:
    """One process's instruments, in a registry of their own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # of the library
        self.registry = CollectorRegistry()
        self._calls()
        self._audio()
        self._google()
        self._records()
        self._worker()

    def flush(self) -> None:
        """Write what was noted into the histograms since the last time."""
        for histogram in (
            self.interim_delay,
            self.final_delay,
            self.frame_delay,
            self.queue_depth,
            self.loop_delay,
        ):
            histogram.flush()

    def _calls(self) -> None:
        self.live_calls = self._gauge("live_calls", "Calls that are live.", ("business",))
        self.business_slots = self._gauge(
            "business_call_slots",
            "Calls of a business that may be live at once, for businesses that have had a call.",
            ("business",),
        )
        self.slots = self._gauge("call_slots", "Calls that may be live at once, of all businesses.")
        self.calls_started = self._counter(
            "calls_started",
            "Media streams of calls that took a slot; a call that is taken again counts again.",
            ("business",),
        )
        ended = self._counter(
            "calls_ended",
            "Media streams that had a slot and ended, by close code.",
            "code",
        )
        self.calls_ended = {str(code): ended.labels(code) for code in (*CLOSE_CODES, OTHER)}
        refusals = self._counter(
            "refusals", "Requests, streams and calls that were not taken, by reason.", "reason"
        )
        self.refusals = {reason: refusals.labels(reason) for reason in tallies.Refusal}

    def _audio(self) -> None:
        self.frames = self._counter("frames_received", "Frames (20 ms of audio) that came.")
        self.dropped = self._counter("frames_dropped", "Frames that found their queue full.")
        self.lost = self._counter(
            "frames_lost", "Frames that were kept and got no text: neither stream nor plain call."
        )
        self.gaps = self._counter("gaps", "Times that Twilio left audio out.")
        self.filled = self._counter(
            "gap_silence_seconds", "Silence that was put in for audio that Twilio left out."
        )
        self.queue_depth = self._histogram(
            "queue_depth_frames",
            "Frames in the queue of a live stream, sampled once a second for each call.",
            _QUEUE_BUCKETS,
        )
        self.frame_delay = self._histogram(
            "frame_delay_seconds",
            "From a message's last frame being read to its hand-over to Google's stream, "
            "sampled once a second for each call.",
            _FRAME_BUCKETS,
        )
        self.waiting_bytes = self._gauge(
            "audio_waiting_bytes", "Audio without a final that is kept."
        )

    def _google(self) -> None:
        self.streams = self._gauge("google_streams", "Streams that are open to Google.")
        self.rotations = self._counter("google_rotations", "Streams that were replaced in time.")
        self._stream_errors = self._counter(
            "google_stream_errors",
            "Streams that failed, by gRPC's code and by what is done about it.",
            ("code", "remedy"),
        )
        for code in grpc.StatusCode:
            self._stream_errors.labels(*tallies.fault_class(StreamFault(code, "")))
        self.sent = self._counter(
            "google_audio_seconds", "Audio sent to Google, replays and plain calls included."
        )
        delay = self._histogram(
            "recognition_delay_seconds",
            "From the arrival of the last audio that a result of a stream covers to the result.",
            _RESULT_BUCKETS,
            ("result",),
        )
        self.interim_delay = delay.labels("interim")
        self.final_delay = delay.labels("final")
        self.fallback_finals = self._counter(
            "fallback_finals", "Finals by a plain call, after the fact."
        )

    def _records(self) -> None:
        self.records_waiting = self._gauge("records_waiting", "Records that are not written yet.")
        self.records_failing = self._gauge(
            "records_failing_workers", "Workers whose records cannot be written now."
        )
        self.records_written = self._counter("records_written", "Records that were written.")
        self.records_lost = self._counter(
            "records_lost", "Records that found no room to wait, or came after the end."
        )
        self.records_refused = self._counter(
            "records_refused", "Records whose call or business is not there any more."
        )
        self.webhooks_waiting = self._gauge(
            "webhooks_waiting",
            "Events in the database that are still to be sent (counted up to 100,000).",
            mode="livemostrecent",
        )
        self.webhooks_oldest = self._gauge(
            "webhooks_oldest_seconds",
            "Age of the oldest of them.",
            mode="livemostrecent",
        )
        self.webhooks_delivered = self._counter("webhooks_delivered", "Events that arrived.")
        self.webhooks_failed = self._counter("webhooks_failed", "Posts of events that failed.")
        self.webhooks_given_up = self._counter("webhooks_given_up", "Events that were given up.")

    def _worker(self) -> None:
        self.workers = self._gauge("workers", "Workers that take calls or end the last ones.")
        self.loop_delay = self._histogram(
            "loop_delay_seconds",
            "How late a worker's loop was for what was due, looked at every 250 ms.",
            _LOOP_BUCKETS,
        )
        self.cpu = self._counter(
            "worker_cpu_seconds", "Processor time of the workers, without their records' processes."
        )

    def stream_errors(self, code: str, remedy: str) -> Counter:
        """Of a gRPC code and a remedy, both by name."""
        return self._stream_errors.labels(code, remedy)

    def _counter(self, name: str, text: str, labels: str | tuple[str, ...] = ()) -> Counter:
        return Counter(f"tamlil_{name}", text, _names(labels), registry=self.registry)

    def _gauge(
        self, name: str, text: str, labels: tuple[str, ...] = (), *, mode: str = "livesum"
    ) -> Gauge:
        return Gauge(
            f"tamlil_{name}",
            text,
            labels,
            registry=self.registry,
            multiprocess_mode=mode,  # type: ignore[arg-type]  # one of the library's literals
        )

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> NotedHistogram:
        return NotedHistogram(
            f"tamlil_{name}", text, labels, registry=self.registry, buckets=buckets
        )


def _names(labels: str | tuple[str, ...]) -> tuple[str, ...]:
    return (labels,) if isinstance(labels, str) else labels
