"""Rows that are stored with their prices, priced anew, and deleted; and the views that sum them up."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, exc

from ccr_asgi.pricing import Valuation
from ccr_asgi.usage.errors import StoreUnavailable
from ccr_asgi.usage.record import Attempt, Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import RECORD, record, unstorable
from tests.usage.valuations import price, valuation

AT = datetime(2026, 2, 1, tzinfo=UTC)
CHAIN = (
    Attempt("cerebras", "gpt-oss-120b", 429, "rate_limit_error", 0.0, 120.0),
    Attempt("codex", "gpt-x", 200, None, 121.0, 900.0),
)

Query = Callable[[str], list[tuple[Any, ...]]]


def value(row: UsageRecord) -> Valuation:
    """A micro-dollar for each output token; by subscription only the list value; "unpriced" has no price."""
    if row.model == "unpriced" or row.tokens.output is None:
        return valuation(None)
    listed = row.tokens.output
    billed = 0 if row.subscription else listed
    return valuation(billed, listed, 10 * listed - billed, price("p0", input="5"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path, value=value)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def query(path: Path) -> Query:
    def ask(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(sql).fetchall()

    return ask


async def test_rows_are_stored_with_their_price(store: UsageStore, query: Query) -> None:
    await store.insert([record("a"), record("b", subscription=True), record("c", model="unpriced")])
    assert query(
        "SELECT id, billed_usd, list_usd, saved_usd, price_id, baseline_price_id FROM v_requests ORDER BY 1"
    ) == [
        ("a", 0.00005, 0.00005, 0.00045, "p1", "p0"),
        ("b", 0.0, 0.00005, 0.0005, "p1", "p0"),
        ("c", None, None, None, None, None),
    ]


async def test_at_exit_rows_are_valued_too(store: UsageStore, query: Query) -> None:
    store.insert_sync([record("a")])
    assert query("SELECT list_micro_usd FROM requests") == [(50,)]


async def test_values_are_told_in_a_thread(path: Path) -> None:
    import threading

    threads = []

    def slow(row: UsageRecord) -> Valuation:
        threads.append(threading.current_thread())
        return value(row)

    store = UsageStore(path, value=slow)
    await store.start()
    await store.insert([record("a")])
    await store.stop()
    assert threads[0] is not threading.main_thread()


async def test_a_price_is_kept_once_with_its_first_use(store: UsageStore, query: Query) -> None:
    later = RECORD.started_at + timedelta(days=1)
    await store.insert([record("a", started_at=later)])
    await store.insert([record("b")])
    await store.insert([record("c", started_at=later)])
    assert query(
        "SELECT id, source, price_list, model, output_usd_per_mtok, first_used_at FROM prices ORDER BY id"
    ) == [
        ("p0", "genai-prices 0.0.1", "cerebras", "gpt-oss-120b", None, "2026-01-31T09:30:00.123Z"),
        ("p1", "genai-prices 0.0.1", "cerebras", "gpt-oss-120b", 0.75, "2026-01-31T09:30:00.123Z"),
    ]


async def test_the_attempts_of_a_chain_are_kept(store: UsageStore, query: Query) -> None:
    await store.insert(
        [record("a", attempt_log=CHAIN), record("b", attempt_log=CHAIN[1:]), record("a", attempt_log=CHAIN)]
    )
    await store.insert([record("a", attempt_log=CHAIN)])
    assert query("SELECT request_id, position, provider, status FROM attempts") == [
        ("a", 1, "cerebras", 429),
        ("a", 2, "codex", 200),
    ]


async def test_of_one_id_given_twice_the_first_is_stored(store: UsageStore, query: Query) -> None:
    await store.insert([record("a", model="first"), record("b"), record("a", model="second")])
    assert query("SELECT id, model FROM requests ORDER BY rowid") == [("a", "first"), ("b", "gpt-oss-120b")]


async def test_many_rows_are_looked_for_in_parts(store: UsageStore, query: Query) -> None:
    rows = [record(f"r{number:04}") for number in range(450)]
    await store.insert(rows[100:350])
    await store.insert(rows)
    assert query("SELECT count(*), count(DISTINCT id) FROM requests") == [(450, 450)]


# New prices


async def test_a_new_price_stands_beside_the_original_one(store: UsageStore, query: Query) -> None:
    await store.insert([record("a"), record("b")])
    assert await store.reprice({"a": valuation(7, 8, 9), "no such": valuation(1, 1, 1)}, AT) == 1
    assert query("SELECT billed_micro_usd, list_micro_usd, saved_micro_usd FROM requests WHERE id = 'a'") == [
        (50, 50, 450)
    ]
    columns = "billed_usd, list_usd, saved_usd, original_billed_usd, original_list_usd, original_saved_usd, repriced_at"
    assert query(f"SELECT {columns}, price_id, baseline_price_id FROM v_requests ORDER BY id") == [  # noqa: S608 -- ours
        (0.000007, 0.000008, 0.000009, 0.00005, 0.00005, 0.00045, "2026-02-01T00:00:00.000Z", "p1", None),
        (0.00005, 0.00005, 0.00045, 0.00005, 0.00005, 0.00045, None, "p1", "p0"),
    ]


async def test_the_newest_price_counts_and_may_be_none(store: UsageStore, query: Query) -> None:
    await store.insert([record("a")])
    await store.reprice({"a": valuation(7, 8, 9)}, AT)
    await store.reprice({"a": valuation(None)}, AT + timedelta(days=1))
    assert query("SELECT billed_usd, original_billed_usd, repriced_at FROM v_requests") == [
        (None, 0.00005, "2026-02-02T00:00:00.000Z")
    ]
    assert query("SELECT count(*) FROM repricings") == [(1,)]


# Deletion


async def test_rows_go_with_all_that_belongs_to_them(store: UsageStore, query: Query) -> None:
    rows = [
        record(f"r{day}", started_at=RECORD.started_at + timedelta(days=day), attempt_log=CHAIN) for day in range(4)
    ]
    await store.insert(rows)
    await store.reprice({"r0": valuation(1, 1, 1), "r3": valuation(1, 1, 1)}, AT)
    await store.reprice({"r1": valuation(1, 1, 1)}, AT)
    first, end = RECORD.started_at, RECORD.started_at + timedelta(days=3)
    assert [await store.delete_between(first, end) for _ in range(2)] == [3, 0]
    assert query("SELECT id FROM requests") == [("r3",)]
    assert query("SELECT DISTINCT request_id FROM attempts") == [("r3",)]
    assert query("SELECT request_id FROM repricings") == [("r3",)]


async def test_a_closed_store_changes_nothing(path: Path) -> None:
    store = UsageStore(path)
    for change in (store.reprice({}, AT), store.delete_between(AT, AT)):
        with pytest.raises(StoreUnavailable, match="not open"):
            await change


async def test_a_change_that_fails_leaves_nothing(store: UsageStore, query: Query) -> None:
    with pytest.raises(exc.IntegrityError):
        await store.insert([record("a", attempt_log=CHAIN), unstorable("b")])
    assert [query(f"SELECT count(*) FROM {table}") for table in ("requests", "attempts", "prices")] == [[(0,)]] * 3  # noqa: S608 -- ours


async def test_traffic_goes_on_between_the_statements_of_a_transaction(store: UsageStore) -> None:
    assert store._threads is not None
    sizes: list[int] = []

    def count(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        sizes.append(len(parameters) if many else 1)

    event.listen(store._threads._writer, "before_cursor_execute", count)
    await store.insert([record(f"r{number}") for number in range(250)])
    assert max(sizes) == 100


# The views of sums

SUMS = "requests, errors, cancelled, truncated, by_subscription, input_tokens, output_tokens, billed_usd, list_usd"


async def test_views_sum_by_day_model_agent_and_session(store: UsageStore, query: Query) -> None:
    next_day = RECORD.started_at + timedelta(days=1)
    await store.insert(
        [
            record("a"),
            record("b", subscription=True, agent_id="agent-2"),
            record("c", outcome="error", tokens=Tokens(), started_at=next_day),
            record("d", outcome="cancelled", agent_id=None, parent_agent_id=None, model="unpriced",
                   tokens=Tokens(input=3)),
            record("e", outcome="truncated", session_id="session-2", project=None, provider="other"),
        ]
    )  # fmt: skip
    await store.reprice({"e": valuation(7, 8, 9)}, AT)
    assert query(f"SELECT day, provider, model, {SUMS} FROM v_daily ORDER BY 1, 2, 3") == [  # noqa: S608 -- ours
        ("2026-01-31", "cerebras", "gpt-oss-120b", 2, 0, 0, 0, 1, 20, 100, 0.00005, 0.0001),
        ("2026-01-31", "cerebras", "unpriced", 1, 0, 1, 0, 0, 3, None, None, None),
        ("2026-01-31", "other", "gpt-oss-120b", 1, 0, 0, 1, 0, 10, 50, 0.000007, 0.000008),
        ("2026-02-01", "cerebras", "gpt-oss-120b", 1, 1, 0, 0, 0, None, None, None, None),
    ]
    assert query(f"SELECT provider, model, first_day, last_day, {SUMS} FROM v_models ORDER BY 1, 2") == [  # noqa: S608 -- ours
        ("cerebras", "gpt-oss-120b", "2026-01-31", "2026-02-01", 3, 1, 0, 0, 1, 20, 100, 0.00005, 0.0001),
        ("cerebras", "unpriced", "2026-01-31", "2026-01-31", 1, 0, 1, 0, 0, 3, None, None, None),
        ("other", "gpt-oss-120b", "2026-01-31", "2026-01-31", 1, 0, 0, 1, 0, 10, 50, 0.000007, 0.000008),
    ]
    agents = query("SELECT session_id, agent_id, parent_agent_id, project, first_at, last_at, duration_ms, requests "
                   "FROM v_agents ORDER BY 1, 2 IS NOT NULL, 2")  # fmt: skip
    first, last = "2026-01-31T09:30:00.123Z", "2026-02-01T09:30:00.123Z"
    assert agents == [
        ("session-1", None, None, "ledger", first, first, 2000.0, 1),
        ("session-1", "agent-1", "agent-0", "ledger", first, last, 4000.0, 2),
        ("session-1", "agent-2", "agent-0", "ledger", first, first, 2000.0, 1),
        ("session-2", "agent-1", "agent-0", None, first, first, 2000.0, 1),
    ]
    sessions = query("SELECT session_id, project, first_at, last_at, agents, duration_ms, requests, billed_unpriced, "
                     "list_unpriced, saved_unpriced FROM v_sessions ORDER BY 1")  # fmt: skip
    assert sessions == [
        ("session-1", "ledger", first, last, 2, 8000.0, 4, 1, 1, 1),
        ("session-2", None, first, first, 1, 2000.0, 1, 0, 0, 0),
    ]


@pytest.mark.parametrize("view", ["v_agents", "v_sessions"])
async def test_a_view_of_one_session_reads_only_its_rows(store: UsageStore, query: Query, view: str) -> None:
    plan = query(f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE session_id = 's'")  # noqa: S608 -- ours
    assert "ix_requests_session_id_started_at" in str(plan)
