"""One case of the bench: so many calls on one peer, measured from outside.

The parts are processes: the stand-in Google, the load, the peer. This one only waits, except that
after the window it asks the peer for `/healthz` 20 times a second, to see how late its loop is: not
within the window, because answering that costs as much as a call.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from bench_frames import Spread, spread, spread_of
from bench_load import Plan
from bench_peers import AUTH_TOKEN, BENCH, MEDIA_URL, SECRET_KEY, Peer, RunningPeer, cpu_seconds

PROBES_PER_SECOND = 20
PROBE_TIMEOUT = 5.0
ANSWER_SECONDS = 60.0
STREAMS_END_SECONDS = 10.0
RAMPED_PER_SECOND = 60  # calls that begin
LATE_MS = 20.0  # the p99 of the load or of the stand-in above that: it was the bottleneck
BUSY_SHARE = 0.3  # of a core, taken by what is no part of the bench


class CaseFailed(Exception):
    """A case could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each part of a case."""

    warm: float = 2.0
    window: float = 10.0
    probe: float = 4.0


@dataclass(frozen=True, slots=True)
class Case:
    """What was measured. Times of frames in ms; `None` where nothing came at all."""

    peer: str
    calls: int
    cpu_ms: float  # for each second of one call
    cpu_share: float  # of one core
    frames: int  # that were sent within the window
    missing: int  # of them, that Google never got
    doubled: int
    disordered: int
    messages: int  # to Google
    delay_ms: Spread | None  # of a frame, from the socket to Google
    loop_ms: Spread | None  # of an answer of /healthz
    kilobytes: float  # resident, for each call
    streams: int
    most_together: int  # on one connection, of which Google carries 100
    refused: int  # above them
    load_late_ms: Spread | None
    google_late_ms: Spread | None
    load_share: float  # of one core
    google_share: float
    others_share: float  # what else went on on this machine

    @property
    def carried(self) -> bool:
        """Whether the peer kept up: nothing missing, nothing later than a second at the 99th."""
        return not self.missing and self.delay_ms is not None and self.delay_ms.p99 < 1_000

    @property
    def doubts(self) -> str | None:
        """Why the figures say more of the bench than of the peer; None if they do not."""
        parts = (("the load", self.load_late_ms), ("the stand-in Google", self.google_late_ms))
        found = [
            f"{name} itself was late: p99 {late.p99:.0f} ms"
            for name, late in parts
            if late is not None and late.p99 > LATE_MS
        ]
        if self.others_share > BUSY_SHARE:
            found.append(f"other programs took {self.others_share:.0%} of a core")
        return "; ".join(found) or None

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Case:
        """A case as `asdict` and JSON have it."""
        spreads = {
            name: spread_of(value) for name, value in saved.items() if isinstance(value, dict)
        }
        return cls(**{**saved, **spreads})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            name: value._asdict() if isinstance(value, Spread) else value
            for name, value in asdict(self).items()
        }


class Part:
    """A process of the bench's own that is spoken to in lines of JSON."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(BENCH / script)],
            cwd=BENCH.parent,
            env={"PYTHONPATH": str(BENCH.parent), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()  # it holds nothing that must be ended in order
        self.process.communicate()

    def tell(self, order: Mapping[str, Any]) -> None:
        """Send one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next line. Raises `CaseFailed`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise CaseFailed(f"{self.process.args!r} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CaseFailed(answer["error"])
        return answer

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one line."""
        self.tell(order)
        return self.hear()


class Google(Part):
    """The stand-in, at `address`."""

    def __init__(self) -> None:
        super().__init__("bench_google.py")
        self.address = f"127.0.0.1:{self.hear()['port']}"

    def reset(self) -> None:
        """Forget what came, once all streams have ended (or will not, as it seems)."""
        give_up_at = time.monotonic() + STREAMS_END_SECONDS
        while self.ask({"do": "reset"})["live"] and time.monotonic() < give_up_at:
            time.sleep(0.1)  # it tells only when it is asked


def measure(
    peer: Peer,
    calls: int,
    google: Google,
    log: Path,
    timing: Timing,
    settings: Mapping[str, object] | None = None,
) -> Case:
    """Start `peer`, play `calls` calls to it, and say what that took.

    Raises `CaseFailed` or `PeerFailed`.
    """
    with log.open("ab") as output, RunningPeer(peer, google.address, output, settings) as running:
        _play_first(running, google)
        idle = running.memory()
        with Part("bench_load.py") as load:
            load.tell(asdict(plan(running.port, calls, timing)))
            begin, end, probed = load.hear()["window"]
            sleep_until(begin)
            before = _clocks(running, load, google)
            sleep_until(end)
            spent = {
                name: now - before[name] for name, now in _clocks(running, load, google).items()
            }
            memory = running.memory()
            loop = probe_loop(running.port, probed)
            played = load.hear()
        counted = google.ask({"do": "report", "begin": begin, "end": end})
    seconds = spent["time"]
    ours = sum(spent[part] for part in ("peer", "load", "google", "bench"))
    return Case(
        peer=peer.name,
        calls=calls,
        cpu_ms=spent["peer"] * 1000 / seconds / calls,
        cpu_share=spent["peer"] / seconds,
        frames=played["sent"],
        missing=played["sent"] - counted["received"],
        doubled=counted["doubled"],
        disordered=counted["disordered"],
        messages=counted["messages"],
        delay_ms=spread_of(counted["delay_ms"]),
        loop_ms=loop,
        kilobytes=(memory - idle) / 1024 / calls,
        streams=counted["streams"],
        most_together=counted["most_together"],
        refused=counted["refused"],
        load_late_ms=spread_of(played["late_ms"]),
        google_late_ms=spread_of(counted["late_ms"]),
        load_share=spent["load"] / seconds,
        google_share=spent["google"] / seconds,
        others_share=max(0.0, spent["all"] - ours) / seconds,
    )


def _clocks(running: RunningPeer, load: Part, google: Google) -> dict[str, float]:
    """The time, and the CPU seconds of each part and of the whole machine."""
    times = psutil.cpu_times()
    return {
        "time": time.monotonic(),
        "peer": running.cpu_seconds(),
        "load": cpu_seconds(load.process.pid),
        "google": cpu_seconds(google.process.pid),
        "bench": time.process_time(),
        "all": sum(times) - times.idle - times.iowait,
    }


def plan(port: int, calls: int, timing: Timing) -> Plan:
    """What the load is to play."""
    return Plan(
        port=port,
        calls=calls,
        ramp_seconds=calls / RAMPED_PER_SECOND,
        warm_seconds=timing.warm,
        seconds=timing.window,
        probe_seconds=timing.probe,
        public_url=MEDIA_URL,
        auth_token=AUTH_TOKEN,
        secret_key=SECRET_KEY,
    )


def probe_loop(port: int, until: int) -> Spread | None:
    """How long `/healthz` takes (ms), asked 20 times a second until then (ns, monotonic).

    Counted from when each was due, so that one long wait is not hidden by the next ones.
    """
    took: list[int] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT)
    due = time.monotonic_ns()
    while due < until:
        sleep_until(due)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            took.append(time.monotonic_ns() - due)
        except (OSError, http.client.HTTPException):  # no answer counts as the latest one
            connection.close()
            took.append(int(PROBE_TIMEOUT * 1e9))
        due += 1_000_000_000 // PROBES_PER_SECOND
    connection.close()
    took.sort()
    return spread(took, 1e6)


def _play_first(running: RunningPeer, google: Google) -> None:
    """Two short calls, so that what is only made once is there, and is no call's memory."""
    with Part("bench_load.py") as load:
        load.tell(asdict(plan(running.port, 2, Timing(0.0, 1.0, 0.0))))
        load.hear()
        load.hear()
    google.reset()


def sleep_until(moment: int) -> None:
    """Wait for a moment in nanoseconds of CLOCK_MONOTONIC."""
    if (left := moment - time.monotonic_ns()) > 0:
        time.sleep(left / 1e9)
