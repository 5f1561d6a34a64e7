"""What a live call holds in the worker's memory, line by line, as tracemalloc sees it.

`make bench-memory`. One gevent worker, started as the Procfile does but with tracemalloc on,
carries two rounds of calls: the first makes what is made only once, the second is what is counted.
What C libraries take by themselves (protobuf's arenas, greenlets' stacks) tracemalloc does not see;
the resident memory has it. Loopback only; it ends by itself after a minute or two.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psutil
from bench_case import Google, Part, Timing, plan, sleep_until
from bench_peers import OURS, PEERS
from running_service import RunningService

ROWS = 25
START_SECONDS = 120.0
LIVE_SECONDS = 6.0  # a final each 3 s: the rings hold what they hold


@contextmanager
def service_of(google: str, settings: Mapping[str, object]) -> Iterator[RunningService]:
    """The service, which takes its time to start: each of its processes traces what it imports."""
    service = RunningService(RunningService.probed, SPEECH_EMULATOR_HOST=google, **settings).start()
    try:
        service.wait_until_it_answers(START_SECONDS)
        yield service
    finally:
        service.stop()


def ask(service: RunningService, path: str) -> Any:
    with urllib.request.urlopen(service.address + path, timeout=60) as answer:
        return json.loads(answer.read())


def resident(service: RunningService) -> int:
    [worker] = service.workers()
    found: int = psutil.Process(worker.pid).memory_info().rss
    return found


def hold(service: RunningService, google: Google, calls: int) -> tuple[Any, int]:
    """What the worker holds while so many calls are live, and its resident memory then."""
    with Part("bench_load.py") as load:
        load.tell(asdict(plan(service.port, calls, Timing(LIVE_SECONDS, LIVE_SECONDS, 0.0))))
        begin, _, _ = load.hear()["window"]
        sleep_until(begin)
        held, memory = ask(service, "/memory"), resident(service)
        load.hear()
    google.reset()
    time.sleep(1.0)  # the calls' last records are written
    return held, memory


def report(calls: int, before: Any, during: Any, idle: int, busy: int) -> None:
    """The difference of two looks, for each call, the largest first."""
    grown = {
        line: (size - before.get(line, (0, 0))[0], count - before.get(line, (0, 0))[1])
        for line, (size, count) in during.items()
    }
    total = sum(size for size, _ in grown.values())
    print(f"{calls} calls: {total / calls / 1024:.1f} KB a call by tracemalloc,")
    print(
        f"  {(busy - idle) / calls / 1024:.1f} KB of resident memory (tracemalloc's own included)"
    )
    print("  bytes  objects  a call")
    for line, (size, count) in sorted(grown.items(), key=lambda item: -item[1][0])[:ROWS]:
        print(f"{size / calls:7.0f}  {count / calls:7.1f}  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a live call holds in memory.")
    parser.add_argument("--calls", type=int, default=200, help="at once (200)")
    calls: int = parser.parse_args().calls
    settings = {**PEERS[OURS].settings, "PYTHONTRACEMALLOC": 1}
    with Google() as google, service_of(google.address, settings) as service:
        hold(service, google, calls)
        before, idle = ask(service, "/memory"), resident(service)
        during, busy = hold(service, google, calls)
        report(calls, before, during, idle, busy)
        after = ask(service, "/memory")
        left = sum(size for size, _ in after.values()) - sum(size for size, _ in before.values())
        print(f"  after them {left / calls:.0f} bytes a call are still there")


if __name__ == "__main__":
    main()
