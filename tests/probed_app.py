"""The application with two more addresses, for tests and benchmarks.

`/probe` counts what a leak would leave behind; `/delays` says how late the loop was since it was
last asked: a greenlet sleeps for 5 ms over and over and notes how much longer it took; `/pulse`
what the turns of the metrics' pulse have cost; `/memory` what is allocated, by line, where
tracemalloc is on. After `/records/off` nothing is handed over to be written, until `/records/on`.
"""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections import deque

from flask import Response, jsonify, request
from greenlet import greenlet

from service import create_app

TICK_SECONDS = 0.005

app = create_app()
# Of the last two minutes: nobody may ever ask
_late: deque[float] = deque(maxlen=24_000)

_service = app.extensions["tamlil"]
_turns: list[float] = []
_take_turn = _service.pulse.turn


def _measured_turn() -> None:
    began = time.thread_time()
    _take_turn()  # nothing else has its turn in it: it does not wait
    _turns.append(time.thread_time() - began)


_service.pulse.turn = _measured_turn
_service.start()
_put_record = _service.records.writer.put
_records_on = threading.Event()
_records_on.set()
_service.records.writer.put = lambda record: not _records_on.is_set() or _put_record(record)


def _tick() -> None:
    while True:
        began = time.monotonic()
        time.sleep(TICK_SECONDS)
        _late.append(time.monotonic() - began - TICK_SECONDS)


threading.Thread(target=_tick, name="probe", daemon=True).start()


@app.get("/probe")
def probe() -> Response:
    gc.collect()
    return jsonify(
        threads=threading.active_count(),
        greenlets=sum(1 for o in gc.get_objects() if isinstance(o, greenlet) and not o.dead),
        live=app.extensions["tamlil"].registry.live,
    )


@app.get("/memory")
def memory() -> Response:
    gc.collect()
    found = tracemalloc.take_snapshot().statistics("lineno")
    return jsonify(
        {
            f"{one.traceback[0].filename}:{one.traceback[0].lineno}": (one.size, one.count)
            for one in found
        }
    )


@app.get("/pulse")
def pulse() -> Response:
    turns = sorted(_turns)
    _turns.clear()
    return jsonify(
        count=len(turns),
        cpu_ms=sum(turns) * 1000,
        worst_ms=max(turns, default=0) * 1000,
        process_ms=time.process_time() * 1000,
    )


@app.get("/records/<state>")
def records(state: str) -> Response:
    (_records_on.set if state == "on" else _records_on.clear)()
    return jsonify(records=state)


@app.get("/delays")
def delays() -> Response:
    late = sorted(_late)
    _late.clear()
    if "all" in request.args:
        return jsonify(all_ms=[round(one * 1000, 2) for one in late])

    def at(share: float) -> float:
        return round(late[min(len(late) - 1, int(len(late) * share))] * 1000, 2) if late else 0.0

    return jsonify(
        count=len(late), p50_ms=at(0.5), p95_ms=at(0.95), p99_ms=at(0.99), worst_ms=at(1.0)
    )
