"""The ledger: exact for what this process did, whatever the database has of it yet, and true to what others did."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ccr_asgi.config import BudgetEntry
from ccr_asgi.pricing import Valuation
from ccr_asgi.usage import spending
from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.spending import Ledger, Spent, read_spent
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)  # a Saturday
TODAY = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked each time and waited for, and the day is that of UTC."""
    monkeypatch.setattr(spending, "FRESH_S", 0.0)
    monkeypatch.setattr(spending, "REST", 0.0)
    monkeypatch.setattr(spending, "PATIENCE_S", 30.0)  # a busy machine is waited for
    monkeypatch.setattr(spending, "period", lambda budget, now: (TODAY, TODAY + timedelta(days=1)))


def worth(row: UsageRecord) -> Valuation:
    """A micro-dollar for each token out, and twice that of list value; nothing is known of what `codex` costs."""
    if row.provider == "codex":
        return Valuation()
    return Valuation(row.tokens.output, 2 * (row.tokens.output or 0))


def budget(**said: Any) -> BudgetEntry:
    return BudgetEntry(**{"per": "day", "then": "block", **({} if "tokens" in said else {"usd": 5.0}), **said})


def row(row_id: str, output: int = 10, **changes: Any) -> UsageRecord:
    return record(row_id, **{"started_at": NOW, "tokens": Tokens(input=1, cache_read=2, output=output), **changes})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(tmp_path / "usage.db", value=worth)
    await store.start()
    yield store
    await store.stop()


def ledger(store: UsageStore) -> Ledger:
    async def opened() -> UsageStore:
        return store

    return Ledger(opened, worth)


async def spent(of: Ledger, *budgets: BudgetEntry) -> list[tuple[int, int]]:
    return [(standing.spent, standing.unpriced) for standing in await of.standings(budgets, NOW)]


ROWS = [
    row("main", agent_id=None),
    row("agent", output=20),
    row("other", output=40, agent_id="b1", proxy_key="alice"),
    row("elsewhere", output=80, provider="anthropic"),
    row("unpriced", output=160, provider="codex"),
    row("yesterday", output=320, started_at=TODAY - timedelta(milliseconds=1)),
    row("first", output=640, started_at=TODAY),
    row("nobody", provider=None),
    row("untold", tokens=Tokens()),
]
BUDGETS: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({}, (790, 1)),
    ({"counts": "list"}, (1580, 1)),
    ({"tokens": 5}, (790 + 160 + 6 * 3, 0)),
    ({"provider": "cerebras"}, (710, 0)),
    ({"provider": "codex"}, (0, 1)),
    ({"agent_id": "*"}, (780, 1)),
    ({"agent_id": "agent-*"}, (740, 1)),
    ({"agent_id": "*", "tokens": 5, "provider": "cerebras"}, (700 + 3 * 3, 0)),
    ({"key": "alice"}, (40, 0)),
    ({"key": "al*", "agent_id": "b1"}, (40, 0)),
    ({"key": "bob"}, (0, 0)),
    ({"then": "fallback", "route": "anthropic"}, (710, 1)),
    ({"then": "fallback", "route": "anthropic", "key": "*"}, (40, 0)),
]


async def test_each_budget_counts_what_it_covers_from_the_database(store: UsageStore) -> None:
    await store.insert(ROWS)
    priced = [(said, (spent_, unpriced)) for said, (spent_, unpriced) in BUDGETS]
    assert await spent(ledger(store), *(budget(**said) for said, _ in priced)) == [expected for _, expected in priced]


async def test_each_budget_counts_the_same_before_the_database_has_it(store: UsageStore) -> None:
    counted = ledger(store)
    for one in ROWS:
        counted.record(one)
    assert await spent(counted, *(budget(**said) for said, _ in BUDGETS)) == [expected for _, expected in BUDGETS]


async def test_a_row_counts_once_while_it_goes_into_the_database(store: UsageStore) -> None:
    counted = ledger(store)
    for one in ROWS:
        counted.record(one)
    for part in (ROWS[:3], ROWS[3:], []):
        assert await spent(counted, budget()) == [(790, 1)]
        await store.insert(part)
    assert await spent(counted, budget()) == [(790, 1)]
    assert not counted._own, "what is stored is not kept in memory"


async def test_a_row_that_is_stored_while_it_is_valued_counts_once_and_leaves_nothing_behind(store: UsageStore) -> None:
    valuing, go_on = threading.Event(), threading.Event()

    def slowly(row: UsageRecord) -> Valuation:
        valuing.set()
        assert go_on.wait(30)
        return worth(row)

    async def opened() -> UsageStore:
        return store

    counted = Ledger(opened, slowly)
    counted.record(row("one"))
    first = asyncio.create_task(spent(counted, budget()))
    assert await asyncio.to_thread(valuing.wait, 30)
    await store.insert([row("one")])
    assert await spent(counted, budget()) == [(10, 0)]
    go_on.set()
    assert await first == [(10, 0)]
    assert counted._worth == {}  # else it would grow for as long as the server runs


async def test_what_other_processes_stored_counts(store: UsageStore) -> None:
    counted = ledger(store)
    counted.record(row("mine", output=1))
    await store.insert([row("theirs", output=2)])
    assert await spent(counted, budget()) == [(3, 0)]
    await store.insert([row("also theirs", output=4)])
    assert await spent(counted, budget()) == [(7, 0)]


async def test_the_sums_are_read_anew_only_when_they_are_old(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "FRESH_S", 60.0)
    counted = ledger(store)
    assert await spent(counted, budget()) == [(0, 0)]
    await store.insert([row("theirs")])
    counted.record(row("mine", output=1))
    assert await spent(counted, budget()) == [(1, 0)]
    assert await spent(counted, budget(), budget(counts="list")) == [(11, 0), (22, 0)], "another budget is not known"


async def test_one_reading_serves_all_that_wait(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = []
    began, gate = asyncio.Event(), asyncio.Event()

    async def slow(connection: AsyncConnection, budget: BudgetEntry, began_at: datetime) -> Spent:
        readings.append(budget)
        began.set()
        await gate.wait()
        return Spent(7)

    monkeypatch.setattr(spending, "read_spent", slow)
    monkeypatch.setattr(spending, "PATIENCE_S", 60.0)
    counted = ledger(store)
    asking = [asyncio.create_task(spent(counted, budget())) for _ in range(20)]
    await began.wait()
    gate.set()
    assert await asyncio.gather(*asking) == [[(7, 0)]] * 20
    assert len(readings) == 1


async def test_a_database_that_is_slow_keeps_no_request_waiting(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def never() -> AsyncIterator[AsyncConnection]:
        await asyncio.Event().wait()
        yield None  # type: ignore[misc]  # it never comes to this

    monkeypatch.setattr(store, "reading", never)
    monkeypatch.setattr(spending, "PATIENCE_S", 0.01)
    counted = ledger(store)
    counted.record(row("mine", output=5))
    assert await spent(counted, budget()) == [(5, 0)]
    monkeypatch.setattr(spending, "PATIENCE_S", -60.0)  # it was asked long ago, and hangs: nobody waits for it any more
    assert await spent(counted, budget()) == [(5, 0)]
    assert counted._reading is not None
    counted._reading.cancel()


async def test_without_a_database_it_goes_by_what_it_knows_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def refused() -> UsageStore:
        nonlocal asked
        asked += 1
        raise StoreError("usage.db is damaged")

    counted = Ledger(refused, worth)
    counted.record(row("mine", output=5))
    assert [await spent(counted, budget()) for _ in range(3)] == [[(5, 0)]] * 3
    assert asked == 1, "it is left alone for a while"
    counted._retry_at_s = 0.0
    assert await spent(counted, budget()) == [(5, 0)]
    assert asked == 2
    assert [said.levelno for said in caplog.records] == [logging.ERROR]
    assert "usage.db is damaged" in caplog.text


async def test_a_budget_that_is_used_up_is_told_in_the_log_once(
    store: UsageStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ccr_asgi.usage.spending")
    counted = ledger(store)
    counted.record(row("mine", output=6_000_000))
    for _ in range(3):
        await spent(counted, budget(), budget(usd=50.0))
    assert [said.getMessage() for said in caplog.records] == [
        "The budget of 5 USD per day is used up (120%) until 2026-02-01T00:00:00.000Z; then: block."
    ]


async def test_a_price_that_cannot_be_told_is_none(store: UsageStore) -> None:
    def broken(row: UsageRecord) -> Valuation:
        raise ZeroDivisionError

    async def opened() -> UsageStore:
        return store

    counted = Ledger(opened, broken)
    counted.record(row("mine"))
    assert await spent(counted, budget()) == [(0, 1)]


@pytest.mark.parametrize("minutes", [0, 60, 45, 7])
async def test_any_begin_of_a_day_is_met_exactly(store: UsageStore, minutes: int) -> None:
    began_at = TODAY + timedelta(minutes=minutes)
    just_before = began_at - timedelta(milliseconds=1)
    await store.insert([row("in", started_at=began_at), row("out", output=1, started_at=just_before)])
    async with store.reading() as connection:
        assert await read_spent(connection, budget(), began_at) == Spent(10)
