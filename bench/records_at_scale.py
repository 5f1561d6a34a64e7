"""What the API's lists and searches take among a million utterances, and by which plans.

`make bench-records`. Fills a PostgreSQL server of its own (removed at the end) with businesses of
very different sizes, then asks through the API's own code, with Flask's test client: no network,
no gunicorn. For each question the fastest half, 95 % and the slowest, and PostgreSQL's plan of
every statement that it took. Takes about 3 minutes; UTTERANCES=50000 for a short one.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from postgres_server import PostgresServer

from api import make_app
from api_keys import make_key
from database import db
from settings import Settings

UTTERANCES = int(os.environ.get("UTTERANCES", "1000000"))
SHARES = {"clinic": 0.45, "garage": 0.2, "lawyer": 0.1, "florist": 0.1, "hotel": 0.1, "baker": 0.05}
ON_A_CALL = 25
BATCH = 20_000
ASKED = 200
END = datetime(2026, 11, 1, tzinfo=UTC)

_COMMON = "אני זה של לא כן את על שלום תודה the to and you is it"
_KNOWN = (
    "לקבוע תור מחר בבוקר רופא אפשר מתי כמה עולה פגישה טיפול רכב מוסך חשבונית תשלום הזמנה פרחים "
    "משלוח חדר לילה ארוחה appointment tomorrow morning doctor price payment invoice delivery room "
    "flowers engine brakes insurance lawyer contract meeting please number address street"
)
_STEMS = "קלמ שרת פתח דבר סמכ גנר טבע ירק נחל צפר win bar cor mel tan rop sil fen dor gal"
_ENDS = "ים ות ון ית נו תי כם הם er ing ed ion able est ly ment ous al ity ist"


def main() -> None:
    with PostgresServer() as server:
        url = server.fresh()
        began = time.monotonic()
        words = fill(url)
        print(f"{UTTERANCES:,} utterances written in {time.monotonic() - began:.0f} s")
        for line in server.execute(
            "SELECT relname || ' ' || pg_size_pretty(pg_relation_size(oid)) FROM pg_class "
            "WHERE relname LIKE '%utterances%' AND relkind IN ('r', 'i') ORDER BY 1",
            url.rsplit("/", 1)[1],
        ):
            print("  ", line[0])
        app = make_app(
            Settings(
                database_url=url,
                api_requests_per_minute=1_000_000,
            )
        )
        with app.app_context():
            keys = {tenant: make_key(tenant)[1] for tenant in ("clinic", "baker")}
            db.session.commit()
            db.session.remove()
        for tenant, key in keys.items():
            measure(app, tenant, key, words)


def fill(url: str) -> list[str]:
    """Write all records, as COPY takes them; returns the vocabulary, common words first."""
    chance = random.Random(5)
    stems, ends = _STEMS.split(), _ENDS.split()
    rare = [one + two + end for one in stems for two in stems for end in ends]
    chance.shuffle(rare)
    words = [*_COMMON.split(), *_KNOWN.split(), *rare]
    weights = [1 / (rank + 2) for rank in range(len(words))]  # as Zipf says of languages
    tenants = chance.choices(list(SHARES), list(SHARES.values()), k=UTTERANCES // ON_A_CALL)
    with psycopg.connect(url) as connection:
        for tenant in SHARES:
            connection.execute(
                "INSERT INTO tenants (id, name, hints, created_at) VALUES (%s, %s, '[]', now())",
                (tenant, tenant),
            )
        _copy_calls(connection, tenants, chance)
        for first in range(0, len(tenants), BATCH // ON_A_CALL):
            calls = range(first, min(first + BATCH // ON_A_CALL, len(tenants)))
            texts = chance.choices(words, weights, k=len(calls) * ON_A_CALL * 12)
            _copy_utterances(connection, tenants, calls, texts, chance)
        connection.execute("SELECT setval('calls_id_seq', (SELECT max(id) FROM calls))")
        connection.execute("SELECT setval('utterances_id_seq', (SELECT max(id) FROM utterances))")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # as autovacuum does, in time
    return words


def _started(number: int) -> datetime:
    """Calls come evenly, in the year before the end."""
    return END - timedelta(seconds=(UTTERANCES // ON_A_CALL - number) * 790)


def _caller(chance: random.Random) -> str:
    return f"+9725{chance.randrange(5000):08d}"


def _copy_calls(connection: Any, tenants: Sequence[str], chance: random.Random) -> None:
    names = (
        "id, call_sid, tenant_id, caller, called, direction, started_at, ended_at, outcome, "
        "seconds, google_seconds, frames, dropped, lost_seconds, streams, rotations, fallbacks, "
        "results, delay_sum_ms, delay_worst_ms"
    )
    with connection.cursor().copy(f"COPY calls ({names}) FROM STDIN") as copy:
        for number, tenant in enumerate(tenants):
            at = _started(number)
            outcome = chance.choices(("completed", "broken", "lost"), (97, 2, 1))[0]
            over = (
                (at + timedelta(minutes=3), outcome) if number < len(tenants) - 20 else (None,) * 2
            )
            row = (
                number + 1,
                f"CA{number:032x}",
                tenant,
                _caller(chance),
                "+97231234567",
                "inbound",
            )
            copy.write_row((*row, at, *over, 180.0, 180.0, 9000, 0, 0.0, 1, 0, 0, 25, 9000, 900))


def _copy_utterances(
    connection: Any,
    tenants: Sequence[str],
    calls: Sequence[int],
    texts: Sequence[str],
    chance: random.Random,
) -> None:
    names = "id, uid, call_id, tenant_id, track, start_ms, end_ms, text, fallback, said_at"
    with connection.cursor().copy(f"COPY utterances ({names}) FROM STDIN") as copy:
        place = 0
        for call in calls:
            for turn in range(ON_A_CALL):
                number = call * ON_A_CALL + turn + 1
                length = chance.randint(3, 12)
                said = " ".join(texts[place : place + length])
                place += 12
                track = "outbound" if turn % 2 else "inbound"
                at = _started(call) + timedelta(seconds=turn * 7)
                row = (number, f"{number:032x}", call + 1, tenants[call], track)
                copy.write_row((*row, turn * 7000, turn * 7000 + 5000, said, False, at))


def measure(app: Flask, tenant: str, key: str, words: list[str]) -> None:
    """Ask each question many times with different words, and print what it took."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    chance = random.Random(7)
    calls = _all_calls(client)
    common, known = _COMMON.split(), _KNOWN.split()
    middle, rare = words[100:600], words[2000:]
    pick = chance.choice
    questions: dict[str, Callable[[], str]] = {
        "calls": lambda: "/api/calls",
        "calls, a later page": lambda: f"/api/calls?cursor={pick(calls)[1]}",
        "calls of a month": lambda: f"/api/calls?from=2026-0{chance.randint(1, 9)}-01T00:00:00Z",
        "calls until a month": lambda: f"/api/calls?to=2026-0{chance.randint(1, 9)}-01T00:00:00Z",
        "calls of a caller": lambda: f"/api/calls?number=%2B{_caller(chance)[1:]}",
        "calls of the business's number": lambda: "/api/calls?number=%2B97231234567",
        "calls by outcome": lambda: f"/api/calls?outcome={pick(['lost', 'broken', 'silent'])}",
        "live calls": lambda: "/api/calls?live=true",
        "calls, common word": lambda: f"/api/calls?text={pick(common)}",
        "calls, known word": lambda: f"/api/calls?text={pick(known)}",
        "calls, rare word": lambda: f"/api/calls?text={pick(rare)}",
        "calls of a caller, known word": lambda: (
            f"/api/calls?number=%2B{_caller(chance)[1:]}&text={pick(known)}"
        ),
        "one call": lambda: f"/api/calls/{pick(calls)[0]}",
        "search, common": lambda: f"/api/search?q={pick(common)}",
        "search, known": lambda: f"/api/search?q={pick(known)}",
        "search, middling": lambda: f"/api/search?q={pick(middle)}",
        "search, rare": lambda: f"/api/search?q={pick(rare)}",
        "search, no such word": lambda: f"/api/search?q=אין{chance.randint(1, 999)}כזה",
        "search, two known": lambda: f"/api/search?q={pick(known)}+{pick(known)}",
        "search, common and rare": lambda: f"/api/search?q={pick(common)}+{pick(rare)}",
        "search, two middling": lambda: f"/api/search?q={pick(middle)}+{pick(middle)}",
        "search, prefix": lambda: f"/api/search?q={pick(rare)[:4]}*",
        "search, prefix of two": lambda: f"/api/search?q={pick(known)[:2]}*",
    }
    print(f"\n{tenant}: {SHARES[tenant]:.0%} of the utterances; {ASKED} times each, in ms")
    print(f"{'':34}{'p50':>8}{'p95':>8}{'max':>8}{'rows':>8}")
    for name, address in questions.items():
        took, rows = _ask(client, address)
        p95 = statistics.quantiles(took, n=20)[-1]
        print(f"{name:34}{statistics.median(took):8.1f}{p95:8.1f}{max(took):8.1f}{rows:8.1f}")
    if "--plans" in sys.argv:
        for name, address in questions.items():
            _print_plans(app, client, name, address())


def _all_calls(client: FlaskClient) -> list[tuple[str, str]]:
    """Calls from all over the list, each with the cursor of its page's end."""
    found: list[tuple[str, str]] = []
    cursor = ""
    while True:
        answer = client.get(f"/api/calls?limit=200{cursor and '&cursor='}{cursor}")
        assert answer.status_code == 200, answer.text
        body = answer.get_json()
        cursor = body["next"]
        if cursor is None:
            return found
        found += [(call["call_sid"], cursor) for call in body["calls"][::20]]


def _ask(client: FlaskClient, address: Callable[[], str]) -> tuple[list[float], float]:
    took, rows = [], 0
    for _ in range(ASKED):
        asked = address()
        began = time.perf_counter()
        answer = client.get(asked)
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (asked, answer.text)
        body = answer.get_json()
        rows += max(len(found) for found in body.values() if isinstance(found, list))
    return took, rows / ASKED


@contextmanager
def _statements(app: Flask) -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the database meanwhile."""
    sent: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _x: Any, _many: bool) -> None:
        sent.append((statement, values))

    engine = app.extensions["tamlil_engines"].here()
    sa.event.listen(engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(engine, "before_cursor_execute", note)


def _print_plans(app: Flask, client: FlaskClient, name: str, address: str) -> None:
    with _statements(app) as sent:
        client.get(address)
    print(f"\n== {name}: {address}")
    with app.extensions["tamlil_engines"].here().connect() as connection:
        for statement, values in sent:
            plan = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", values
            )
            if "api_keys" not in statement:
                print(*(f"   {line}" for (line,) in plan), sep="\n")


if __name__ == "__main__":
    main()
