"""PostgreSQL says what SQLite says: the same rows by the same ways in, then every table, view and page compared.

What SQLite says is held to be right by the tests of each module; here it is the oracle.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from ccr_asgi.config import BudgetEntry
from ccr_asgi.dashboard.details import request_detail, session_tree
from ccr_asgi.dashboard.failures import failures
from ccr_asgi.dashboard.filters import parse_window
from ccr_asgi.dashboard.health import health, version
from ccr_asgi.dashboard.queries import entries, overview
from ccr_asgi.usage import spending
from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.importer import import_lines
from ccr_asgi.usage.maintenance import Retention
from ccr_asgi.usage.meters import read_meters
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.repricing import Selection
from ccr_asgi.usage.rollup import rebuild
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import SCHEMA_REVISION, metadata
from ccr_asgi.usage.views import VIEWS
from ccr_asgi.usage.whatif import By, Move, what_if
from tests.postgresql.server import PostgreSQL, needs_postgresql
from tests.usage.records import record
from tests.usage.test_importer import numbered
from tests.usage.test_rollup import START, same_each_time, some, value
from tests.usage.test_rows import ATTEMPTS
from tests.usage.valuations import valuation

NOW = START + timedelta(days=2, hours=3)
ROWS = 400
WINDOW = QuotaWindow("codex", "primary", NOW, used_percent=40.0, window_minutes=300, resets_at=NOW + timedelta(hours=2))
PAGES: Sequence[dict[str, str]] = (
    {},
    {"range": "24h"},
    {"range": "7d", "provider": "codex"},
    {"range": "all", "session": "s1"},
    {"range": "all", "agent": "a1"},
    {"range": "all", "project": "p1"},
    {"range": "all", "outcome": "error"},
)

pytestmark = needs_postgresql


@dataclass(frozen=True)
class Both:
    """A store of each kind, into which the same goes."""

    sqlite: UsageStore
    postgresql: UsageStore

    async def insert(self, rows: Sequence[UsageRecord]) -> None:
        await self.sqlite.insert(rows)
        await self.postgresql.insert(rows)

    async def say_the_same(self) -> None:
        """Every table and view, and the pages of every kind of window, are equal."""
        for name in (*metadata.tables, *VIEWS):
            assert await contents(self.sqlite, name) == await contents(self.postgresql, name), name
        for page in PAGES:
            window = parse_window(list(page.items()), NOW)

            def ask(connection: Connection, window: Any = window) -> object:
                return overview(connection, window), entries(connection, window, after=None, limit=ROWS)

            assert await self.sqlite.read(ask) == await self.postgresql.read(ask), page


async def contents(store: UsageStore, name: str) -> Sequence[tuple[Any, ...]]:
    """The rows of a table or view in an order of our own, for the two sort text and NULL differently."""
    async with store.reading() as connection:
        found = await connection.execute(text(f"SELECT * FROM {name}"))  # noqa: S608 -- names of ours
        by_name = sorted(found.keys())  # a column that was added later stands last, unless SQLite made the table anew
        return sorted((tuple(plain(row[name]) for name in by_name) for row in found.mappings()), key=repr)


def plain(told: Any) -> Any:
    """A number as a float that is exact to the micro-dollar, so that 1, 1.0, True and Decimal(1) are one."""
    return told if told is None or isinstance(told, str) else round(float(told), 6)


def plainly(told: object) -> object:
    """What was read, with numbers as `plain` has them."""
    if is_dataclass(told) and not isinstance(told, type):
        return {item.name: plainly(getattr(told, item.name)) for item in fields(told)}
    if isinstance(told, Mapping):
        return {name: plainly(value) for name, value in told.items()}
    if isinstance(told, list | tuple):
        return [plainly(value) for value in told]
    return plain(told) if isinstance(told, bool | int | float | Decimal) else told


@pytest.fixture
async def both(running_postgresql: PostgreSQL, tmp_path: Path) -> AsyncIterator[Both]:
    stores = Both(
        UsageStore(tmp_path / "usage.db", value=value), UsageStore(running_postgresql.new_database(), value=value)
    )
    await stores.sqlite.start()
    await stores.postgresql.start()
    yield stores
    await stores.sqlite.stop()
    await stores.postgresql.stop()


@pytest.fixture
async def filled(both: Both) -> Both:
    chance = same_each_time(10)
    await both.insert([some(chance, number) for number in range(ROWS)])
    return both


async def test_an_empty_database(both: Both) -> None:
    await both.say_the_same()


async def test_what_else_is_asked_of_the_rows(filled: Both) -> None:
    """Details, the tree of a session, failures, health, what has come since, quota."""
    await filled.insert([record("quota", started_at=NOW, quota=(WINDOW,), attempt_log=ATTEMPTS)])
    asked: dict[str, Callable[[Connection], object]] = {
        "request": lambda connection: [request_detail(connection, f"r{number}") for number in range(ROWS)],
        "attempts": lambda connection: request_detail(connection, "quota"),
        "session": lambda connection: [session_tree(connection, name) for name in ("s1", "s2", "none")],
        "failures": lambda connection: failures(connection, parse_window([("range", "all")], NOW)),
        "health": lambda connection: replace(health(connection, {}, None, NOW), size_bytes=None),
        "version": version,
        "meters": lambda connection: read_meters(connection, NOW),
    }
    for name, ask in asked.items():
        assert plainly(await filled.sqlite.read(ask)) == plainly(await filled.postgresql.read(ask)), name


@pytest.mark.parametrize("by", ["day", "agent", "model"])
async def test_what_if(filled: Both, by: By) -> None:
    moves = [Move.parse("m1=cerebras,unpriced"), Move.parse("unpriced=codex,m1")]
    found = [
        await what_if(store, value, moves, Selection(since=START + timedelta(hours=5)), by=by, zone=UTC)
        for store in (filled.sqlite, filled.postgresql)
    ]
    assert found[0] == found[1]
    assert any(group.moved for group in found[0])


async def test_what_is_spent_of_budgets(filled: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "PATIENCE_S", 60.0)
    limits: list[dict[str, Any]] = [{"usd": 5.0}, {"usd": 5.0, "counts": "list"}, {"tokens": 5}]
    whose: list[dict[str, Any]] = [{}, {"provider": "codex"}, {"agent_id": "*"}, {"key": "alice"}]
    budgets = [
        BudgetEntry(**{"per": per, "then": "block", **limit, **of})
        for per in ("day", "week")
        for limit in limits
        for of in whose
    ]
    await filled.insert([record(f"of alice {number}", started_at=NOW, proxy_key="alice") for number in range(3)])
    found = []
    for store in (filled.sqlite, filled.postgresql):

        async def opened(store: UsageStore = store) -> UsageStore:
            return store

        standings = await spending.Ledger(opened, value).standings(budgets, NOW)
        found.append([(standing.spent, standing.unpriced) for standing in standings])
    assert found[0] == found[1]
    assert any(spent for spent, _ in found[0])


async def test_its_schema_is_the_newest(both: Both) -> None:
    assert await contents(both.postgresql, "alembic_version") == [(SCHEMA_REVISION,)]


async def test_rows_of_every_kind(filled: Both) -> None:
    await filled.say_the_same()


async def test_ids_that_are_there_already(filled: Both) -> None:
    await filled.insert([record("r1", project="another"), record("new", tokens=record().tokens)])
    await filled.say_the_same()


async def test_new_prices(filled: Both) -> None:
    prices = {f"r{number}": valuation(number, 3 * number) for number in range(0, ROWS, 3)}
    for store in (filled.sqlite, filled.postgresql):
        assert await store.reprice(prices, NOW) == len(prices)
    await filled.say_the_same()


async def test_old_rows_that_leave(filled: Both) -> None:
    gone = [await Retention(store, 1.5, now=lambda: NOW).delete_old() for store in (filled.sqlite, filled.postgresql)]
    assert gone[0] == gone[1] > 0
    await filled.say_the_same()


async def test_imported_lines(both: Both) -> None:
    for store in (both.sqlite, both.postgresql):
        summary = await import_lines(BytesIO(numbered(50) + numbered(20)), store)
        assert (summary.imported, summary.bad) == (50 + 20, 0)
        again = await import_lines(BytesIO(numbered(50) + numbered(20)), store)
        assert (again.imported, again.known) == (0, 70)
    await both.say_the_same()


async def test_sums_made_anew_are_the_ones_that_were_kept(filled: Both) -> None:
    kept = await contents(filled.postgresql, "rollup")

    def made_anew(connection: Connection) -> int:
        rebuild(connection)
        return 0

    await filled.postgresql._change(made_anew)
    assert await contents(filled.postgresql, "rollup") == kept


async def test_a_row_that_cannot_be_stored_leaves_nothing(filled: Both) -> None:
    with pytest.raises(Exception, match="outcome"):
        await filled.postgresql.insert([record("good"), record("bad", outcome="no such outcome")])
    await filled.say_the_same()


async def test_readers_cannot_write(both: Both) -> None:
    async with both.postgresql.reading() as connection:
        with pytest.raises(Exception, match="read-only transaction"):
            await connection.execute(text("DELETE FROM requests"))


async def test_a_refusal_names_the_server_without_its_password(running_postgresql: PostgreSQL) -> None:
    with pytest.raises(StoreError, match=r"no_such_database.*does not exist") as refused:
        await UsageStore(running_postgresql.url("no_such_database")).start()
    assert "planted-password" not in str(refused.value)


async def test_views_have_their_columns_in_the_promised_order(both: Both) -> None:
    for name in VIEWS:
        assert await columns(both.sqlite, name) == await columns(both.postgresql, name), name


async def columns(store: UsageStore, name: str) -> Sequence[str]:
    async with store.reading() as connection:
        return list((await connection.execute(text(f"SELECT * FROM {name}"))).keys())  # noqa: S608 -- names of ours
