"""What the pulse takes down: sums of sessions, calls, records, events; no name of a caller's."""

from __future__ import annotations

from typing import Any

import pytest
from metrics_parts import pulse_of
from prometheus_client import generate_latest

import metrics as instruments
import tallies
from businesses import Business
from metrics import Metrics
from metrics_pulse import BusinessLabels, MetricsPulse
from native_threads import NativeThreads
from record_link import RecordLink
from record_messages import EventCounts
from record_service import RecordService
from registry import CallRegistry
from session_sample import SessionSample
from settings import Settings


class HandSession:
    """A session that stands as the test says."""

    def __init__(self) -> None:
        self.ended = False
        self.now = SessionSample()

    def sample(self) -> SessionSample:
        return self.now

    def go_on(self, **changes: Any) -> None:
        self.now = self.now._replace(**changes)


class Worker:
    """A pulse with all that it looks at."""

    def __init__(self, *, guarded: bool = True, max_calls: int = 5_000) -> None:
        self.registry = CallRegistry(max_calls)
        self.link = RecordLink(NativeThreads())
        self.records = RecordService(Settings(), self.link, self.registry)
        self.records.businesses.tell(
            [
                Business("default"),
                Business("clinic", numbers=("+97231234567",), max_calls=3),
                Business("believed"),  # made by a call, where everybody is believed
            ]
        )
        self.metrics = Metrics()
        self.now = 0.0
        self.pulse: MetricsPulse = pulse_of(
            self.registry, self.records, self.metrics, guarded=guarded, clock=lambda: self.now
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"tamlil_{name}", labels)

    def series(self) -> set[str]:
        """All names with their labels."""
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_sums_of_sessions_are_taken_down_once() -> None:
    """Over turns, several sessions, and what came between the last turn and a session's end."""
    worker = Worker()
    one, other = HandSession(), HandSession()
    worker.pulse.watch(one)
    worker.pulse.watch(other)
    one.go_on(frames=50, sent_bytes=8_000, streams=1)
    other.go_on(frames=40, dropped=2, streams=2)
    worker.pulse.turn()
    assert worker.value("frames_received_total") == 90
    assert worker.value("google_streams") == 3
    one.go_on(
        frames=70, lost=5, gaps=1, filled_bytes=4_000, sent_bytes=12_000, rotations=1, streams=0
    )
    one.ended = True
    for _ in range(3):
        worker.pulse.turn()
    expected = {
        "frames_received_total": 110,
        "frames_dropped_total": 2,
        "frames_lost_total": 5,
        "gaps_total": 1,
        "gap_silence_seconds_total": 0.5,
        "google_audio_seconds_total": 1.5,
        "google_rotations_total": 1,
        "google_streams": 2,
    }
    assert {name: worker.value(name) for name in expected} == expected


def test_delays_and_depths_are_sampled_of_live_streams() -> None:
    """A message that was measured already is not again, nor one of a replay."""
    worker = Worker()
    session = HandSession()
    worker.pulse.watch(session)
    session.go_on(sent_bytes=800, waiting=3, delay_seconds=0.004)
    worker.pulse.turn()
    worker.pulse.turn()  # nothing was sent since
    session.go_on(sent_bytes=1_600, waiting=0, delay_seconds=None)
    worker.pulse.turn()
    assert worker.value("frame_delay_seconds_count") == 1
    assert worker.value("frame_delay_seconds_bucket", le="0.005") == 1
    assert worker.value("frame_delay_seconds_bucket", le="0.0025") == 0
    assert worker.value("queue_depth_frames_count") == 2
    assert worker.value("queue_depth_frames_bucket", le="0.0") == 0
    assert worker.value("queue_depth_frames_sum") == 6
    session.go_on(waiting=16)  # at a live stream that has not taken anything yet
    worker.pulse.turn()
    assert worker.value("queue_depth_frames_count") == 3


def test_a_track_has_audio_until_none_has_come_for_a_while() -> None:
    """So that a silent caller, whose stream Google ends, is told from one without a stream."""
    worker = Worker()
    silent, speaking = HandSession(), HandSession()
    for session in (silent, speaking):
        worker.pulse.watch(session)
    worker.pulse.turn()
    assert worker.value("tracks_with_audio") == 0  # none has come yet
    silent.go_on(frames=50)
    counts = []
    for second in range(8):
        worker.now = float(second)
        speaking.go_on(frames=50 * (second + 1))
        worker.pulse.turn()
        counts.append(worker.value("tracks_with_audio"))
    assert counts == [2, 2, 2, 2, 2, 1, 1, 1]
    speaking.ended = True
    worker.pulse.turn()
    assert worker.value("tracks_with_audio") == 0


def test_calls_are_counted_by_business_and_by_their_end() -> None:
    """A business that has no call any more is at 0; its room is its own cap, or the worker's."""
    worker = Worker(max_calls=10)
    for number, tenant in enumerate(("clinic", "clinic", "default")):
        worker.registry.take_slot(f"CA{number}", tenant)
        worker.pulse.call_started(tenant)
    worker.pulse.turn()
    assert worker.value("live_calls", business="clinic") == 2
    assert worker.value("calls_started_total", business="clinic") == 2
    assert worker.value("business_call_slots", business="clinic") == 3
    assert worker.value("business_call_slots", business="default") == 10
    assert worker.value("call_slots") == 10
    worker.registry.close_session("CA0", code=1000)
    worker.registry.close_session("CA1", code=1006)
    worker.registry.close_session("CA2", code=4711)
    worker.pulse.turn()
    assert worker.value("live_calls", business="clinic") == 0
    ends = [worker.value("calls_ended_total", code=code) for code in ("1000", "1006", "other")]
    assert ends == [1, 1, 1]
    assert worker.value("calls_started_total", business="clinic") == 2


@pytest.mark.parametrize("guarded", [True, False])
def test_a_thousand_invented_names_make_no_new_series(guarded: bool) -> None:
    """Businesses that nobody knows are one, and so are close codes and faults' texts."""
    worker = Worker(guarded=guarded)
    worker.registry.take_slot("CA", "invented")
    worker.pulse.call_started("invented")
    worker.pulse.turn()
    worker.registry.close_session("CA", code=4_999)
    worker.pulse.turn()
    before = worker.series()
    for number in range(1_000):
        worker.registry.take_slot(f"CA{number}", f"invented{number}")
        worker.pulse.call_started(f"invented{number}")
        tallies.refused_stream(3_000 + number)
    worker.pulse.turn()
    for number in range(1_000):
        worker.registry.close_session(f"CA{number}", code=3_000 + number)
    worker.pulse.turn()
    assert worker.series() == before
    assert worker.value("calls_started_total", business="other") == 1_001
    assert worker.value("calls_ended_total", code="other") == 1_001


def test_a_business_that_a_caller_made_is_not_named_where_everybody_is_believed() -> None:
    """It has no number; in a guarded service such a one is the owner's and is named."""
    businesses = Worker().records.businesses
    open_door = BusinessLabels(businesses, guarded=False)
    assert [open_door.of(name) for name in ("clinic", "default", "believed", "?")] == [
        "clinic",
        "default",
        "other",
        "other",
    ]
    assert BusinessLabels(businesses, guarded=True).of("believed") == "believed"


def test_refusals_and_faults_are_those_since_the_start() -> None:
    """Each reason and class by itself."""
    worker = Worker()
    worker.pulse.turn()
    reason = {"reason": "no_business"}
    before = worker.value("refusals_total", **reason)
    assert before is not None
    tallies.refused(tallies.Refusal.NO_BUSINESS)
    worker.pulse.turn()
    assert worker.value("refusals_total", **reason) == before + 1


def test_events_are_taken_down_as_their_process_says_them() -> None:
    """A process that was started anew counts from 0, and what was counted stays."""
    worker = Worker()
    worker.pulse.turn()
    assert worker.value("webhooks_waiting") == 0
    worker.link.events = EventCounts(7, 12.5, delivered=5, failed=2)
    worker.pulse.turn()
    worker.pulse.turn()
    worker.link.events = EventCounts(3, 1.0, delivered=2, given_up=1)
    worker.pulse.turn()
    assert worker.value("webhooks_waiting") == 3
    assert worker.value("webhooks_oldest_seconds") == 1
    assert worker.value("webhooks_delivered_total") == 7
    assert worker.value("webhooks_failed_total") == 2
    assert worker.value("webhooks_given_up_total") == 1


def test_records_are_taken_down_from_their_writer() -> None:
    """What waits is a state; what was lost is a sum."""
    worker = Worker()
    writer = worker.records.writer
    writer.written, writer.lost, writer.refused, writer.failures = 5, 2, 1, 3
    worker.records.tell_over("CA1")
    for _ in range(2):
        worker.pulse.turn()
    expected = {
        "records_waiting": 1,
        "records_failing_workers": 1,
        "records_written_total": 5,
        "records_lost_total": 2,
        "records_refused_total": 1,
    }
    assert {name: worker.value(name) for name in expected} == expected


def test_a_worker_that_drains_has_no_room_and_then_is_none() -> None:
    """Whoever looks at the room of all workers must not count its own."""
    worker = Worker(max_calls=10)
    worker.pulse.turn()
    assert (worker.value("workers"), worker.value("call_slots")) == (1, 10)
    worker.registry.drain(0.1)
    worker.pulse.stop()
    assert (worker.value("workers"), worker.value("call_slots")) == (0, 0)


def test_names_and_texts_follow_prometheus() -> None:
    """`tamlil_…`, counters end in `_total`, and each says in a sentence what it is."""
    for family in Metrics().registry.collect():
        assert family.name.startswith("tamlil_")
        assert family.documentation.endswith(".")
        samples = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert samples <= {f"{family.name}_total"}
    assert set(Metrics().calls_ended) == {str(c) for c in instruments.CLOSE_CODES} | {"other"}
