"""The sums by time are those of the rows, whatever was done to these."""

import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from ccr_asgi.pricing import Valuation
from ccr_asgi.usage import rollup
from ccr_asgi.usage.importer import import_lines
from ccr_asgi.usage.migrate import upgrade
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.rollup import GRAINS
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import AMOUNTS, MONEY_COLUMNS, TOKEN_COLUMNS, TTFT_BIN_EDGES_MS, TTFT_BINS, iso_utc
from tests.usage.records import record, unstorable
from tests.usage.valuations import valuation

START = datetime(2026, 1, 30, 22, tzinfo=UTC)
NAMES = {"all": None, "agent": "agent_id", "session": "session_id", "project": "project"}
KEYS = ("cube", "minutes", "start", "name", "provider", "model", "main")

Cells = dict[tuple[Any, ...], dict[str, int]]


def cells(path: Path) -> Cells:
    """What is stored, by its key."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM rollup")]
    return {tuple(row.pop(key) for key in KEYS): row for row in found}


def sums(path: Path) -> Cells:
    """What should be stored: the rows, added up one by one and by other means."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM requests_priced").fetchall()
    made: Cells = defaultdict(lambda: defaultdict(int))
    for row in rows:
        for cube, grains in GRAINS.items():
            for minutes in grains:
                add(made[_key(row, cube, minutes)], row)
    return {key: dict(cell) for key, cell in made.items()}


def _key(row: Mapping[str, Any], cube: str, minutes: int) -> tuple[Any, ...]:
    began_s = int(datetime.fromisoformat(row["started_at"]).timestamp())
    start = datetime.fromtimestamp(began_s - began_s % (60 * minutes), UTC)
    name = row[column] if (column := NAMES[cube]) else None
    return (
        cube,
        minutes,
        iso_utc(start),
        name or "",
        row["provider"] or "",
        row["model"] or "",
        row["agent_id"] is None,
    )


def add(cell: dict[str, int], row: Mapping[str, Any]) -> None:
    used = row["input_tokens"] is not None or row["output_tokens"] is not None
    ttft_ms = row["ttft_ms"]
    cell["requests"] += 1
    cell["errors"] += row["outcome"] == "error"
    cell["cancelled"] += row["outcome"] == "cancelled"
    cell["truncated"] += row["outcome"] == "truncated"
    cell["subscription"] += row["subscription"]
    cell["timed"] += ttft_ms is not None
    for name in (*TOKEN_COLUMNS, *MONEY_COLUMNS):
        cell[name] += row[name] or 0
        cell[f"{name}_told"] += row[name] is not None
    for amount in AMOUNTS:
        cell[f"{amount}_unpriced"] += used and row[f"{amount}_micro_usd"] is None
    place = sum(edge <= ttft_ms for edge in TTFT_BIN_EDGES_MS) if ttft_ms is not None else None
    for number, name in enumerate(TTFT_BINS):
        cell[name] += number == place


def value(row: UsageRecord) -> Valuation:
    """Some have a price, some only a list value, some none."""
    output = row.tokens.output
    if output is None or row.model == "unpriced":
        return valuation(None)
    return valuation(0 if row.subscription else output, 2 * output, None if output % 3 else output - 40)


def same_each_time(seed: int) -> Random:
    return Random(seed)  # noqa: S311 -- no secret


def some(chance: Random, number: int) -> UsageRecord:
    """A row of a few days, agents, models and fates."""

    def token() -> int | None:
        return chance.choice([None, 0, chance.randrange(1, 100_000)])

    return record(
        f"r{number}",
        started_at=START + timedelta(milliseconds=chance.randrange(2 * 24 * 3600 * 1000)),
        provider=chance.choice(["cerebras", "codex", None, ""]),
        model=chance.choice(["m1", "unpriced", None]),
        agent_id=chance.choice(["a1", "a2", None, ""]),
        session_id=chance.choice(["s1", "s2", None]),
        project=chance.choice(["p1", None]),
        outcome=chance.choice(["ok", "ok", "error", "cancelled", "truncated"]),
        subscription=chance.choice([True, False]),
        tokens=Tokens(token(), token(), token(), token(), token(), token()),
        ttft_ms=chance.choice([None, 0.0, 99.9995, 100.0, 126.0, 1e9, chance.uniform(0, 200_000)]),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path, value=value)
    await store.start()
    yield store
    await store.stop()


async def test_one_row_is_in_a_cell_of_each_length_of_each_cube(store: UsageStore, path: Path) -> None:
    await store.insert([record("a", started_at=datetime(2026, 1, 31, 9, 44, 59, 999_000, tzinfo=UTC))])
    found = cells(path)
    assert sorted(key[:4] for key in found) == [
        ("agent", 15, "2026-01-31T09:30:00.000Z", "agent-1"),
        ("agent", 1440, "2026-01-31T00:00:00.000Z", "agent-1"),
        ("all", 15, "2026-01-31T09:30:00.000Z", ""),
        ("all", 60, "2026-01-31T09:00:00.000Z", ""),
        ("all", 1440, "2026-01-31T00:00:00.000Z", ""),
        ("project", 15, "2026-01-31T09:30:00.000Z", "ledger"),
        ("project", 1440, "2026-01-31T00:00:00.000Z", "ledger"),
        ("session", 15, "2026-01-31T09:30:00.000Z", "session-1"),
        ("session", 1440, "2026-01-31T00:00:00.000Z", "session-1"),
    ]
    assert {(cell["requests"], cell["input_tokens"], cell["output_tokens_told"]) for cell in found.values()} == {
        (1, 10, 1)
    }


async def test_sums_are_those_of_the_rows_after_inserts_of_every_kind(store: UsageStore, path: Path) -> None:
    chance = same_each_time(1)
    rows = [some(chance, number) for number in range(350)]
    await store.insert(rows[:250])
    await store.insert(rows[200:300])  # some are there already
    await store.insert([rows[300], rows[301], rows[300]])  # one is given twice
    store.insert_sync(rows[290:])
    with pytest.raises(IntegrityError):
        await store.insert([some(chance, 900), unstorable("bad")])
    found = cells(path)
    assert found == sums(path)
    for cube, grains in GRAINS.items():
        for minutes in grains:
            assert sum(cell["requests"] for key, cell in found.items() if key[:2] == (cube, minutes)) == 350


async def test_sums_are_those_of_the_newest_prices(store: UsageStore, path: Path) -> None:
    chance = same_each_time(2)
    await store.insert([some(chance, number) for number in range(250)])
    again = {
        f"r{number}": valuation(None) if number % 2 else valuation(number, number, -number) for number in range(150)
    }
    await store.reprice({**again, "no such": valuation(1, 1, 1)}, START)
    assert cells(path) == sums(path)
    await store.reprice({f"r{number}": valuation(7, 8, 9) for number in range(0, 250, 3)}, START + timedelta(days=1))
    assert cells(path) == sums(path)


async def test_deleted_rows_are_taken_out_and_empty_cells_go(store: UsageStore, path: Path) -> None:
    chance = same_each_time(3)
    await store.insert([some(chance, number) for number in range(300)])
    await store.reprice({f"r{number}": valuation(7, 8, 9) for number in range(0, 300, 3)}, START)
    end = START + timedelta(hours=7, minutes=40)
    deleted = 0
    for hours in range(8):
        deleted += await store.delete_between(
            START + timedelta(hours=hours), min(START + timedelta(hours=hours + 1), end)
        )
        assert cells(path) == sums(path)
    assert deleted > 10
    assert await store.delete_between(START, START + timedelta(days=9)) == 300 - deleted
    assert cells(path) == {}


async def test_sums_are_those_of_imported_rows(store: UsageStore, path: Path) -> None:
    lines = b"".join(
        b'{"timestamp":"2026-01-31T%02d:15:00Z","provider":"cerebras","model":"m","inputTokens":%d,"outputTokens":5,'
        b'"cacheReadTokens":0,"cacheCreationTokens":0,"totalTokens":%d}\n' % (number % 24, number, number + 5)
        for number in range(120)
    )
    for content, rows in ((lines, 120), (lines * 2, 240)):
        await import_lines(BytesIO(content), store)
        assert cells(path) == sums(path)
        assert sum(cell["requests"] for key, cell in cells(path).items() if key[:2] == ("all", 15)) == rows


async def test_a_rebuild_mends_what_others_did_to_the_rows(store: UsageStore, path: Path) -> None:
    chance = same_each_time(4)
    await store.insert([some(chance, number) for number in range(150)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM requests WHERE outcome = 'error'")
        connection.execute("UPDATE requests SET model = 'renamed', output_tokens = 3 WHERE model IS NULL")
    assert cells(path) != sums(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection_of_ours:
        rollup.rebuild(connection_of_ours)
    engine.dispose()
    assert cells(path) == sums(path)


async def test_the_migration_fills_it_from_the_rows_that_are_there(tmp_path: Path, path: Path) -> None:
    other = UsageStore(tmp_path / "other.db", value=value)
    await other.start()
    chance = same_each_time(5)
    await other.insert([some(chance, number) for number in range(200)])
    await other.reprice({f"r{number}": valuation(7, 8, 9) for number in range(0, 200, 3)}, START)
    await other.stop()
    migrate(path, "0003")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ATTACH ? AS other", [str(tmp_path / "other.db")])
        names = ", ".join(row[1] for row in connection.execute("PRAGMA main.table_info(requests)"))
        connection.execute(f"INSERT INTO requests ({names}) SELECT {names} FROM other.requests")  # noqa: S608 -- columns
        connection.execute("INSERT INTO repricings SELECT * FROM other.repricings")
        connection.execute("UPDATE requests SET model = '' WHERE model IS NULL AND id > 'r5'")
    migrate(path)
    assert cells(path) == cells(tmp_path / "other.db") == sums(path)


def migrate(path: Path, revision: str = "head") -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, revision)
    engine.dispose()


def test_bins_are_of_one_growth_and_leave_no_gap() -> None:
    assert TTFT_BIN_EDGES_MS[0] == 100
    assert len(TTFT_BINS) == len(TTFT_BIN_EDGES_MS) + 1
    growths = {round(b / a, 3) for a, b in pairwise(TTFT_BIN_EDGES_MS)}
    assert growths == {1.26}
