"""The pulse of a worker: about once a second it takes down how the worker is, for `/metrics`.

One thread (in a gevent worker: a greenlet) sleeps for 250 ms over and over; how late it wakes is
the loop's delay (each waking costs as much as a look at several calls, so there are few). Every 4th
time it looks at all live sessions and at what the process has counted, and writes what has changed.
So nothing is written for a metric on the way of the audio. It never waits for anything but its own
sleep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

import tallies
from audio_ring import BYTES_PER_SECOND
from businesses import DEFAULT_TENANT, FindsBusinesses
from call_log import logger
from metrics import CLOSE_CODES, OTHER, Metrics
from record_messages import EventCounts
from record_service import RecordService
from registry import CallRegistry
from session_sample import Sampled, SessionSample
from shared_speech import SharedSpeech

TICK_SECONDS = 0.25
TICKS_A_TURN = 4
# How long a track without audio counts as one that has some. Google gives up a stream after 10 s.
_AUDIO_SECONDS = 5.0

_NOTHING = SessionSample()
_NO_EVENTS = EventCounts()


class BusinessLabels:
    """Which businesses are named: those that the records know, so that no caller adds one.

    Where everybody is believed (not `guarded`), whoever calls can also make a business, which has
    no number: it counts among the others.
    """

    def __init__(self, businesses: FindsBusinesses, *, guarded: bool) -> None:
        self._businesses = businesses
        self._guarded = guarded

    def of(self, tenant_id: str) -> str:
        """The value of the label `business`."""
        business = self._businesses.of_id(tenant_id)
        if business is None:
            return OTHER
        named = self._guarded or business.numbers or tenant_id == DEFAULT_TENANT
        return tenant_id if named else OTHER


class _Meter:
    """What was last seen of a session."""

    __slots__ = ("heard_at", "seen", "session")

    def __init__(self, session: Sampled) -> None:
        self.session = session
        self.seen = _NOTHING
        self.heard_at = float("-inf")  # when audio was last seen to have come


class MetricsPulse:
    """Takes down the figures of one process. `clock` and `cpu_clock` are in seconds."""

    def __init__(
        self,
        metrics: Metrics,
        registry: CallRegistry,
        businesses: FindsBusinesses,
        labels: BusinessLabels,
        records: RecordService,
        shared: SharedSpeech,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._metrics = metrics
        self._registry = registry
        self._businesses = businesses
        self._labels = labels
        self._records = records
        self._shared = shared
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._meters: list[_Meter] = []
        self._lock = threading.Lock()  # held for a turn, and to add a session
        self._stopping = False
        self._sums: dict[Hashable, float] = {}
        self._events = _NO_EVENTS
        self._named: set[str] = set()

    def start(self) -> None:
        """Begin; once, after any fork."""
        threading.Thread(target=self._run, name="metrics-pulse", daemon=True).start()

    def stop(self) -> None:
        """Take down the last figures, of a process that has no more calls."""
        self._stopping = True
        self.turn()
        self._metrics.workers.set(0)

    def watch(self, session: Sampled) -> None:
        """Take down this session's figures until it has ended."""
        meter = _Meter(session)
        with self._lock:
            self._meters.append(meter)

    def call_started(self, tenant_id: str) -> None:
        """A call of this business has taken a slot."""
        self._metrics.calls_started.labels(self._labels.of(tenant_id)).inc()

    def _run(self) -> None:
        tick = 0
        while not self._stopping:
            due = self._clock() + TICK_SECONDS
            time.sleep(TICK_SECONDS)
            self._metrics.loop_delay.note(max(0.0, self._clock() - due))
            tick += 1
            if tick % TICKS_A_TURN == 0 and not self._stopping:
                try:
                    self.turn()
                except Exception:  # what is measured goes on, and so must the measuring
                    logger.exception("[METRICS] a turn failed; the next one comes")

    def turn(self) -> None:
        """Write what has changed since the last turn."""
        with self._lock:
            self._take_sessions()
            self._take_calls()
            self._take_records()
            self._take_process()
            self._metrics.flush()

    def _take_sessions(self) -> None:
        sums = [0] * 7
        streams = with_audio = 0
        at = self._clock()
        live: list[_Meter] = []
        for meter in self._meters:
            ended = meter.session.ended  # before the look: then it is the last one
            seen, now = meter.seen, meter.session.sample()
            more = zip(sums, now[:7], seen[:7], strict=True)  # the sums come first
            sums = [total + new - old for total, new, old in more]
            if not ended:
                meter.seen = now
                live.append(meter)
                streams += now.streams
                if now.frames != seen.frames:
                    meter.heard_at = at
                with_audio += at - meter.heard_at < _AUDIO_SECONDS
                if now.delay_seconds is not None or now.waiting:  # else no stream is live
                    self._metrics.queue_depth.note(now.waiting)
                if now.delay_seconds is not None and now.sent_bytes != seen.sent_bytes:
                    self._metrics.frame_delay.note(now.delay_seconds)
        self._meters = live
        metrics = self._metrics
        frames, dropped, lost, gaps, filled_bytes, sent_bytes, rotations = sums
        metrics.frames.inc(frames)
        metrics.dropped.inc(dropped)
        metrics.lost.inc(lost)
        metrics.gaps.inc(gaps)
        metrics.filled.inc(filled_bytes / BYTES_PER_SECOND)
        metrics.sent.inc(sent_bytes / BYTES_PER_SECOND)
        metrics.rotations.inc(rotations)
        metrics.streams.set(streams)
        metrics.with_audio.set(with_audio)
        metrics.waiting_bytes.set(self._shared.waiting.kept)

    def _take_calls(self) -> None:
        most = self._registry.max_calls
        self._metrics.slots.set(0 if self._registry.draining else most)
        live: dict[str, int] = dict.fromkeys(self._named, 0)
        for tenant_id, count in self._registry.live_by_tenant().items():
            label = self._labels.of(tenant_id)
            live[label] = live.get(label, 0) + count
        self._named.update(live)
        for label, count in live.items():
            self._metrics.live_calls.labels(label).set(count)
            business = self._businesses.of_id(label)
            if business is not None:
                cap = most if business.max_calls is None else min(most, business.max_calls)
                self._metrics.business_slots.labels(label).set(cap)
        for code, count in self._registry.ended_by_code().items():
            label = str(code if code in CLOSE_CODES else OTHER)
            self._metrics.calls_ended[label].inc(self._more(("ended", code), count))
        for reason, count in tallies.refusals().items():
            self._metrics.refusals[reason].inc(self._more(reason, count))
        for fault_class, count in tallies.stream_faults().items():
            more = self._more(fault_class, count)
            if more:
                self._metrics.stream_errors(*fault_class).inc(more)

    def _take_records(self) -> None:
        writer, metrics = self._records.writer, self._metrics
        metrics.records_waiting.set(writer.waiting)
        metrics.records_failing.set(bool(writer.failures))
        metrics.records_written.inc(self._more("written", writer.written))
        metrics.records_lost.inc(self._more("lost", writer.lost))
        metrics.records_refused.inc(self._more("refused", writer.refused))
        events = self._records.events
        if events is None or events is self._events:  # the process says them now and then
            return
        self._events = events
        metrics.webhooks_waiting.set(events.waiting)
        metrics.webhooks_oldest.set(events.oldest_seconds)
        metrics.webhooks_delivered.inc(self._more("delivered", events.delivered))
        metrics.webhooks_failed.inc(self._more("failed", events.failed))
        metrics.webhooks_given_up.inc(self._more("given up", events.given_up))

    def _take_process(self) -> None:
        self._metrics.workers.set(1)
        self._metrics.cpu.inc(self._more("cpu", self._cpu_clock()))

    def _more(self, name: Hashable, total: float) -> float:
        """How much was added to a sum since the last time; one that is smaller began anew."""
        before = self._sums.get(name, 0)
        self._sums[name] = total
        return total - before if total >= before else total
