"""What the dashboard and `/api/usage` take on a large usage database, and how SQLite finds what they ask.

    python -m benchmarks.usage_queries [FILE] [--rows 1000000] [--runs 7] [--tz Asia/Kolkata] [--cpu] [--plans]

FILE is made by `benchmarks.usage_seed` if it is not there; without one, a database is made for this run alone. For each
range and filter: the median of all queries of an overview, of the whole answer of `/api/usage` and of the page, after a
first run that is not counted; `first` is that one, where statements are compiled and files read. `--cpu` measures the
time of the processor instead, which is the same on a machine that is busy with other things.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, event
from starlette.applications import Starlette

from benchmarks.usage_seed import BUSY_AGENT, seed
from ccr_asgi.dashboard.filters import parse_window
from ccr_asgi.dashboard.queries import overview
from ccr_asgi.dashboard.routes import routes
from ccr_asgi.usage.store import UsageStore

RANGES = ("24h", "7d", "30d", "all")
TARGET_MS = 100.0

Clock = Callable[[], float]
"""Seconds since some moment."""
Statements = list[tuple[str, Any]]


def filters(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """What is asked for: everything, one provider, one model, and agents of several kinds."""
    with closing(sqlite3.connect(path)) as connection:
        last = "SELECT agent_id FROM requests WHERE agent_id LIKE 'session-%' ORDER BY started_at DESC LIMIT 1"
        ((run,),) = connection.execute(last)
    yield "everything", {}
    yield "one provider", {"provider": "cerebras"}
    yield "one model", {"model": "gpt-oss-120b"}
    yield "one agent (a run)", {"agent": run}
    yield "one agent (all over)", {"agent": BUSY_AGENT}
    yield "main conversation", {"agent": "-"}


async def measure(path: Path, runs: int, zone: str, clock: Clock, plans: bool) -> bool:
    """Print a table; return whether every median is within the target."""
    store = UsageStore(path)
    await store.start()
    app = Starlette(routes=routes(_opened(store), database=str(path), costs={}, providers={}))
    print(f"{'range':6}{'filter':24}{'queries ms':>12}{'JSON ms':>10}{'page ms':>10}{'first ms':>10}")
    slowest_ms = 0.0
    for name in RANGES:
        for words, chosen in filters(path):
            asked = {"range": name, "tz": zone, **chosen}
            query = urlencode(asked).encode()
            first_ms, queries_ms = await _median(clock, runs, partial(_queries, store, asked))
            _, json_ms = await _median(clock, runs, partial(_get, app, "/api/usage", query))
            _, page_ms = await _median(clock, runs, partial(_get, app, "/dashboard", query))
            slowest_ms = max(slowest_ms, queries_ms, json_ms, page_ms)
            print(f"{name:6}{words:24}{queries_ms:12.1f}{json_ms:10.1f}{page_ms:10.1f}{first_ms:10.1f}", flush=True)
    if plans:
        for words, chosen in filters(path):
            await _explain(store, path, words, {"range": "all", "tz": zone, **chosen})
    await store.stop()
    print(f"slowest median {slowest_ms:.1f} ms; target {TARGET_MS:.0f} ms")
    return slowest_ms <= TARGET_MS


async def _median(clock: Clock, runs: int, call: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    times_ms = []
    for _ in range(runs + 1):
        began_s = clock()
        await call()
        times_ms.append((clock() - began_s) * 1000)
    return times_ms[0], statistics.median(times_ms[1:])


async def _queries(store: UsageStore, asked: dict[str, str]) -> None:
    window = parse_window(asked.items(), datetime.now(UTC))
    await store.read(lambda connection: overview(connection, window))


async def _get(app: Starlette, path: str, query: bytes) -> None:
    status = 0
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query,
        "root_path": "", "scheme": "http", "server": ("127.0.0.1", 80), "headers": [(b"host", b"localhost")],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    assert status == 200, f"{path}?{query.decode()} answered {status}"


async def _explain(store: UsageStore, path: Path, words: str, asked: dict[str, str]) -> None:
    """Print how SQLite finds what each query of an overview asks, and what each takes."""
    print(f"\n{words}, all time")
    for sql, parameters in await _statements(store, asked):
        with closing(sqlite3.connect(path)) as connection:
            began_s = time.perf_counter()
            rows = len(connection.execute(sql, parameters).fetchall())
            took_ms = (time.perf_counter() - began_s) * 1000
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        print(f"  {took_ms:7.1f} ms, {rows} rows: {' '.join(sql.split())[:90]}…")
        searches = [step for step in plan if step.startswith(("SEARCH", "SCAN", "MULTI", "USE"))]
        for step in dict.fromkeys(step for step in searches if "CONSTANT" not in step):
            print(f"            {searches.count(step)} x {step}")


async def _statements(store: UsageStore, asked: dict[str, str]) -> Statements:
    statements: Statements = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        if sql != "BEGIN":
            statements.append((sql, parameters))

    def ask(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", note)
        overview(connection, parse_window(asked.items(), datetime.now(UTC)))

    await store.read(ask)
    return statements


def _opened(store: UsageStore) -> Callable[[], Awaitable[UsageStore]]:
    async def opened() -> UsageStore:
        return store

    return opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--tz", default="UTC")
    parser.add_argument("--plans", action="store_true", help="also how SQLite finds what each query asks")
    parser.add_argument("--cpu", action="store_true", help="the processor's time, not the clock's")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "usage.db"
        if not path.exists():
            print(f"making {given.rows:,} requests over {given.days} days in {path}", flush=True)
            seed(path, given.rows, given.days, now=datetime.now(UTC))
        within = asyncio.run(measure(path, given.runs, given.tz, clock, given.plans))
    raise SystemExit(0 if within else 1)


if __name__ == "__main__":
    main()
