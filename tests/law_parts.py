"""Calls at the pace of real ones, and the law that they are held to.

Every frame that came in is covered by exactly one final, or counted as dropped or lost; the finals
are in order on the call's clock and say where their frames are, to within a frame.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from session_parts import Call, Google

from frame_echo import frames_said
from gcp_stt_stream import SessionLimits
from recovery import Recovery
from shared_speech import SharedSpeech
from speech_connections import SpeechConnections
from speech_server_faults import Fault

FRAME_SECONDS = 0.02


class Pushing(Protocol):
    """What `play` needs of a call."""

    def push(self, count: int) -> object: ...


def play(
    calls: Iterable[Pushing],
    seconds: float,
    *,
    until: Callable[[], bool] | None = None,
    each: int = 1,
) -> None:
    """Push the frames of `calls` at the pace at which they would be spoken.

    For `seconds`, or at most that long until `until()` holds. `each`: frames at a time. When the
    machine had something else to do for a moment, the calls are later by that: what was not
    pushed then does not come as a burst, for which a queue need not have room.
    """
    calls = list(calls)
    due = time.monotonic()
    for _ in range(round(seconds / FRAME_SECONDS / each)):
        if until is not None and until():
            return
        now = time.monotonic()
        time.sleep(max(0.0, due - now))
        due = max(due, now) + each * FRAME_SECONDS
        for call in calls:
            call.push(each)


def check_law(call: Call, *, tolerance_ms: int = 20, events: bool = True) -> None:
    """Hold a call that is over to the law; `call.taken` are the frames that were not dropped.

    `events`: Google says where speech begins. If it does not, as in plain calls, a final begins
    where the one before it ended, also where the first of that was a gap.
    """
    session = call.session
    finals = sorted(call.finals, key=lambda final: (final.start_ms, final.end_ms))
    covered: list[int] = []
    for final in finals:
        frames = frames_said(final.text)
        assert {number for number, _ in frames} == {call.number}, "another call's frames"
        seqs = [seq for _, seq in frames]
        covered += seqs
        assert final.start_ms <= 20 * seqs[0] + tolerance_ms, final
        if not call.missing or (events and not final.fallback):
            assert final.start_ms >= 20 * seqs[0] - tolerance_ms, final
        assert abs(final.end_ms - 20 * (seqs[-1] + 1)) <= tolerance_ms, final
    assert covered == sorted(set(covered)), "doubled, or out of order"
    assert set(covered) <= set(call.taken), "a dropped frame was heard"
    assert session.frames == call.pushed - call.missing
    assert session.frames == len(covered) + session.dropped + session.lost


class Calls:
    """Calls over connections of their own, so that the server knows whose stream one is."""

    def __init__(self, google: Google, faults: list[Callable[[int], Fault | None]]) -> None:
        self._google = google
        self._faults = faults
        self._starting: int | None = None  # the call whose first stream is awaited
        self._owners: dict[str, int] = {}  # calls, by the address of their connection
        self._streams: Counter[int] = Counter()  # how many each call has had
        self.connections: list[SpeechConnections] = []
        self.calls: list[Call] = []
        self.shared = SharedSpeech(new_recovery=partial(Recovery, first_break_seconds=0.3))
        google.server.fault_for = self._fault_for

    def start(self, limits: SessionLimits) -> None:
        for number in range(len(self._faults)):
            connections = SpeechConnections(None, emulator_host=self._google.server.address)
            self.connections.append(connections)
            self._starting = number
            call = Call(
                connections,
                number=number,
                tenant_id=f"T{number}",
                limits=limits,
                shared=self.shared,
            )
            self.calls.append(call)
            self._google.wait_for(lambda: self._starting is None)

    def close(self) -> None:
        for call in self.calls:
            call.session.close()
        for connections in self.connections:
            connections.close()

    def _is_open(self, peer: str) -> bool:
        """Whether a call has a stream over this connection: an earlier call's, that rotates."""
        return any(stream.peer == peer and not stream.ended for stream in self._google.streams)

    def _fault_for(self, _: int, peer: str) -> Fault | None:
        """The server's loop asks: what is wrong with the stream that opens now?

        A call that had to take another connection is not known any more, and has no more faults.
        """
        if self._starting is not None and not self._is_open(peer):
            self._owners[peer], self._starting = self._starting, None
        owner = self._owners.get(peer)
        if owner is None:
            return None
        ordinal = self._streams[owner]
        self._streams[owner] += 1
        return self._faults[owner](ordinal)
