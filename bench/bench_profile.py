"""Where the service's time goes, by function: py-spy looks into the worker while calls are on.

What py-spy writes (`raw`: a line a stack, frames from the outside in, and how often it was seen)
can be given to any flame graph. The tables count the same samples.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_case import CaseFailed, Google, Part, Timing, plan, sleep_until
from bench_peers import Peer, RunningPeer

SAMPLES_PER_SECOND = 200
ROWS = 30


@dataclass(frozen=True, slots=True)
class Profile:
    """How many samples there were, and in how many each function was (innermost, at all)."""

    samples: int
    own: Counter[str]
    cumulative: Counter[str]


def read_stacks(lines: Iterable[str]) -> Profile:
    """The profile in py-spy's `raw` lines: `outer;…;inner 12`."""
    samples, own, cumulative = 0, Counter[str](), Counter[str]()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        if not stack:
            continue
        # A function's lines are one function
        functions = [_function(frame) for frame in stack.split(";")]
        samples += int(count)
        own[functions[-1]] += int(count)
        for function in set(functions):
            cumulative[function] += int(count)
    return Profile(samples, own, cumulative)


def tables(profile: Profile) -> str:
    """The functions with the most samples, by own and by cumulative share."""
    parts = []
    for title, counter in (("own time", profile.own), ("with what it calls", profile.cumulative)):
        rows = (
            f"{count / profile.samples:7.1%}  {function}"
            for function, count in counter.most_common(ROWS)
        )
        parts.append("\n".join([f"share    {title} ({profile.samples} samples)", *rows]))
    return "\n\n".join(parts)


def record(
    peer: Peer,
    calls: int,
    google: Google,
    log: Path,
    timing: Timing,
    file: Path,
    settings: Mapping[str, object],
    *,
    native: bool = False,
) -> Profile:
    """Play `calls` calls to `peer` and look into its worker for the window; stacks go to `file`.

    `native` shows C functions too, but waiting as well. Raises `CaseFailed` or `PeerFailed`.
    """
    with (
        log.open("ab") as output,
        RunningPeer(peer, google.address, output, settings) as running,
        Part("bench_load.py") as load,
    ):
        load.tell(asdict(plan(running.port, calls, timing)))
        begin, end, _ = load.hear()["window"]
        sleep_until(begin)
        _spy(running.workers[0].pid, (end - begin) // 1_000_000_000, file, native)
        load.hear()
    with file.open() as lines:
        return read_stacks(lines)


def _spy(pid: int, seconds: int, file: Path, native: bool) -> None:
    command = (
        *(str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid)),
        *("--format", "raw", "--output", str(file)),
        *("--duration", str(seconds), "--rate", str(SAMPLES_PER_SECOND)),
        # by whoever holds the interpreter: native threads that wait are nobody's cost
        "--native" if native else "--gil",
    )
    spy = subprocess.run(command, capture_output=True, text=True, check=False)
    if spy.returncode:
        raise CaseFailed(f"py-spy: {spy.stderr.strip() or spy.stdout.strip()}")


def _function(frame: str) -> str:
    """`name (file.py:12)` without the line."""
    name, _, place = frame.rpartition(" (")
    return f"{name} ({place.partition(':')[0].rstrip(')')})" if name else frame
