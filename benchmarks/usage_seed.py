"""A usage database as a busy team fills it: sessions of some hours, a main conversation in each, and its subagents.

Also `python -m benchmarks.usage_seed FILE [--rows N] [--days D]`, for a look at the dashboard with something in it.
"""

import argparse
import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import create_engine

from ccr_asgi.usage import rollup
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import iso_utc, requests

MAIN = (("anthropic", "claude-opus-4-5"), ("anthropic", "claude-sonnet-4-5"))
OTHERS = (
    ("cerebras", "zai-glm-4.7"),
    ("cerebras", "gpt-oss-120b"),
    ("codex", "gpt-5.1-codex"),
    ("codex", "gpt-5.1-codex-mini"),
    ("anthropic", "claude-haiku-4-5"),
)
PROJECTS = [f"project-{number}" for number in range(25)]
BUSY_AGENT = "agent-busy"
"""An agent id that is used in all sessions: real ones are a run's, but nothing says that they must be."""

MAIN_REQUESTS, AGENTS, AGENT_REQUESTS = 80, 10, 20
BATCH_ROWS = 50_000

Values = tuple[object, ...]


def seed(path: Path, rows: int, days: int, *, now: datetime) -> None:
    """Make a database at `path` that holds `rows` requests of the last `days` days."""
    asyncio.run(_make(path))
    names = requests.columns.keys()
    statement = f"INSERT INTO requests ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 -- ours
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        made = _in_time(rows, days, now)
        for _ in range(0, rows, BATCH_ROWS):
            connection.execute("BEGIN")
            connection.executemany(statement, islice(made, BATCH_ROWS))
            connection.execute("COMMIT")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as sync:
        rollup.rebuild(sync)
    engine.dispose()


async def _make(path: Path) -> None:
    store = UsageStore(path)
    await store.start()
    await store.stop()


def _in_time(rows: int, days: int, now: datetime) -> Iterator[Values]:
    """Rows in the order in which a server would store them."""
    made: list[tuple[datetime, int, Values]] = []
    chance = random.Random(1)  # noqa: S311 -- the same rows each time
    session = 0
    while len(made) < rows:
        session += 1
        begin = now - timedelta(days=days) * chance.random()
        for moment, rest in _session(chance, f"session-{session:06}", begin):
            if moment < now:
                made.append((moment, len(made), rest))
    made = sorted(made[:rows])
    return ((f"req_ccr_{number:024x}", iso_utc(moment), *rest) for number, (moment, _, rest) in enumerate(made))


def _session(chance: random.Random, session: str, begin: datetime) -> Iterator[tuple[datetime, Values]]:
    project, (provider, model) = chance.choice(PROJECTS), chance.choice(MAIN)
    moment = begin
    for _ in range(MAIN_REQUESTS):
        moment += timedelta(seconds=chance.uniform(5, 120))
        yield moment, _row(chance, provider, model, None, session, project)
    for number in range(AGENTS):
        provider, model = chance.choice(OTHERS)
        agent = BUSY_AGENT if number == 0 and chance.random() < 0.3 else f"{session}-{number}"
        moment = begin + timedelta(seconds=chance.uniform(0, 4000))
        for _ in range(AGENT_REQUESTS):
            moment += timedelta(seconds=chance.uniform(1, 60))
            yield moment, _row(chance, provider, model, agent, session, project)


def _row(chance: random.Random, provider: str, model: str, agent: str | None, session: str, project: str) -> Values:
    failed, own = chance.random() < 0.02, provider == "anthropic"
    told = None if failed else chance.randrange(100, 20_000)
    output = None if failed else chance.randrange(10, 4_000)
    listed = None if failed else chance.randrange(100, 100_000)
    return (
        provider, "claude-opus-4-5", model, "default" if agent is None else "tag",
        agent, None, session, project, True,
        529 if failed else 200, "error" if failed else "ok", None if failed else "end_turn",
        "overloaded_error" if failed else None,
        told, told, 0 if told else None, told if own else None, output, None,
        None if failed else chance.lognormvariate(7, 0.8), chance.lognormvariate(9, 0.8), 1, 0, False, own,
        0 if own else listed, listed, listed, None, None, None, None,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=90)
    given = parser.parse_args()
    began_s = time.perf_counter()
    seed(given.file, given.rows, given.days, now=datetime.now(UTC))
    print(f"{given.rows:,} requests over {given.days} days in {given.file}, in {time.perf_counter() - began_s:.0f} s")


if __name__ == "__main__":
    main()
