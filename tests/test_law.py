"""Random faults at random times over many short calls: always the same law.

`make test` plays 60 calls, `make soak` (or LAW_CALLS) thousands. The seed is printed;
LAW_SEED plays the same plans again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import session_parts
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from law_parts import Calls, check_law, play
from session_parts import Call, Serve

from gcp_stt_stream import SessionLimits
from relay_limits import RelayLimits
from speech_server_faults import Fault, parse_fault

pytestmark = pytest.mark.usefixtures("transport")

# the fixtures of this module
lines, serve = session_parts.lines, session_parts.serve

SEED = int(os.environ.get("LAW_SEED") or random.randrange(2**32))
CALLS_AT_ONCE = 20
SOAK_CALLS = int(os.environ.get("LAW_CALLS") or 1_200)

LIMITS = SessionLimits(
    close_seconds=3.0,
    waiting_seconds=4.0,
    relay=RelayLimits(
        rotate=0.6,
        rotate_hard=1.2,
        drain=0.6,
        open=1.5,
        stall=0.8,
        mute=1.2,
        give_up=0.8,
        replay=1.5,
        piece=0.6,
        tail=0.2,
    ),
)

statuses = st.sampled_from(
    (
        'OUT_OF_RANGE text="Exceeded maximum allowed stream duration of 305 seconds."',
        'ABORTED text="Max duration of 5 minutes reached for stream."',
        'OUT_OF_RANGE text="Audio Timeout Error: Long duration elapsed without audio."',
        'ABORTED text="Stream timed out after receiving no more client requests."',
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "INTERNAL",
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "ABORTED",
        "CANCELLED",
        "RESOURCE_EXHAUSTED",
        "PERMISSION_DENIED",
    )
)
seconds = st.floats(0.02, 1.5).map(lambda number: round(number, 2))
moments = st.one_of(
    st.sampled_from(("at=open", "at=half-close")),
    seconds.map("at={}".format),
    seconds.map("audio={}".format),
)
faults = st.one_of(
    st.none(),
    st.none(),
    st.builds("die status={} {}".format, statuses, moments),
    st.builds("die status={} {}".format, statuses, moments),
    st.builds("in-band status={} {}".format, statuses, moments),
    st.builds("slow rate=0.05 audio={}".format, seconds),
    st.builds("reset {}".format, moments),
    st.builds("mute {}".format, moments),
)
outages = st.one_of(
    st.none(),
    st.builds("unavailable for={}".format, st.sampled_from((0.3, 1.0, 2.0))),
    st.builds("exhausted for={}".format, st.sampled_from((0.3, 1.0))),
    st.builds("recognize status={} for=1".format, st.sampled_from(("UNAVAILABLE", "INTERNAL"))),
)


@dataclass(frozen=True)
class Plan:
    """What happens to some calls that are played at once."""

    faults: list[list[str | None]]  # of each call's streams, in their order
    gaps: list[int]  # each call's frames between two gaps of 60 ms; 0: none
    outage: str | None
    outage_after: float
    answers: dict[str, Any]
    seconds: float


plans = st.builds(
    Plan,
    faults=st.lists(st.lists(faults, max_size=6), min_size=CALLS_AT_ONCE, max_size=CALLS_AT_ONCE),
    gaps=st.lists(st.sampled_from((0, 0, 7, 40)), min_size=CALLS_AT_ONCE, max_size=CALLS_AT_ONCE),
    outage=outages,
    outage_after=st.floats(0.1, 1.5),
    answers=st.fixed_dictionaries(
        {
            "final_every": st.sampled_from((0, 7, 20, 45)),
            "interim_every": st.sampled_from((0, 5)),
            "final_delay_seconds": st.sampled_from((0.0, 0.0, 0.3)),
            "events": st.booleans(),
        }
    ),
    seconds=st.sampled_from((0.4, 1.0, 2.5, 3.5)),
)


class GappyCall:
    """A call of which some frames never come: their places are told as a gap."""

    def __init__(self, call: Call, every: int) -> None:
        self.call, self._every = call, every

    def push(self, count: int) -> None:
        call = self.call
        if self._every and call.pushed and call.pushed % self._every == 0:
            call.session.fill_gap(3 * 160)
            call.pushed += 3
            call.missing += 3
        call.push(count)


def carry_out(serve: Serve, plan: Plan, counts: Counter[str]) -> None:
    """Play the calls of a plan and hold each of them to the law."""
    google = serve(**plan.answers)
    parsed = [[parse_fault(text) if text else None for text in texts] for texts in plan.faults]

    def fault_of(call: int, ordinal: int) -> Fault | None:
        return parsed[call][ordinal] if ordinal < len(parsed[call]) else None

    calls = Calls(google, [partial(fault_of, number) for number in range(len(parsed))])
    calls.start(LIMITS)
    gappy = [GappyCall(call, every) for call, every in zip(calls.calls, plan.gaps, strict=True)]
    before = min(plan.outage_after, plan.seconds)
    play(gappy, before)
    if plan.outage:
        google.server.order(plan.outage)
    play(gappy, plan.seconds - before)
    calls.close()
    for call in calls.calls:
        check_law(call, events=plan.answers["events"])
        session = call.session
        counts["calls"] += 1
        counts["frames in"] += session.frames
        counts["covered"] += len(call.spoken())
        counts["dropped"] += session.dropped
        counts["lost"] += session.lost
        counts["finals by plain calls"] += sum(final.fallback for final in call.finals)
        counts["calls not transcribed"] += not session.transcribed
    counts["streams"] += len(google.streams)
    counts["streams with a fault"] += sum(bool(stream.fault) for stream in google.streams)
    google.close()


def run(serve: Serve, rounds: int, number: int) -> Counter[str]:
    counts: Counter[str] = Counter()

    @seed(number)
    @settings(
        max_examples=rounds,
        phases=(Phase.generate,),  # to shrink would take hours, and play other calls
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(plans)
    def play_plans(plan: Plan) -> None:
        carry_out(serve, plan, counts)

    print(f"LAW_SEED={number}")
    play_plans()
    return counts


@pytest.mark.timeout(200)
def test_every_frame_is_covered_once_or_counted(serve: Serve) -> None:
    """Frames in = frames covered + dropped + lost, in order and in their places, in each call."""
    counts = run(serve, 3, SEED)
    assert counts["frames in"] == counts["covered"] + counts["dropped"] + counts["lost"]
    assert counts["streams with a fault"] > 5


@pytest.mark.soak
@pytest.mark.timeout(3_000)
def test_the_law_over_a_thousand_calls(serve: Serve) -> None:
    """The same, for an hour's worth of calls; the counts are printed."""
    total: Counter[str] = Counter()
    number = SEED
    while total["calls"] < SOAK_CALLS:
        total += run(serve, 10, number)
        number += 1
        print(dict(total), flush=True)
    assert total["frames in"] == total["covered"] + total["dropped"] + total["lost"]
