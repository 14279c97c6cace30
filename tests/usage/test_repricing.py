"""Stored requests valued anew: what changes is told, and stored only beside what was there."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.pricing import Valuation
from ccr_asgi.usage import repricing
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.repricing import ModelChange, Selection, Sums, reprice
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record
from tests.usage.valuations import valuation

AT = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path, value=lambda _: valuation(1_000, 1_000, 500))
    await store.start()
    yield store
    await store.stop()


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def figures(path: Path) -> list[tuple[Any, ...]]:
    return query(path, "SELECT id, billed_usd, list_usd, saved_usd FROM v_requests ORDER BY id")


async def repriced(
    store: UsageStore,
    value: Callable[[UsageRecord], Valuation],
    selection: Selection = Selection(),  # noqa: B008 -- it is frozen
    *,
    apply: bool = True,
    advanced: Callable[[int, int], object] = lambda _done, _all: None,
) -> Sequence[ModelChange]:
    return await reprice(store, value, selection, at=AT, apply=apply, advanced=advanced)


async def test_new_figures_stand_beside_the_original_ones(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1"), record("req_2", model="other")])
    changes = await repriced(store, lambda row: valuation(2_000, 2_000, None) if row.model == "other" else ORIGINAL)
    assert changes == [
        ModelChange("cerebras", "gpt-oss-120b", 1, 0, Sums(1_000, 1_000, 500), Sums(1_000, 1_000, 500)),
        ModelChange("cerebras", "other", 1, 1, Sums(1_000, 1_000, 500), Sums(2_000, 2_000, None)),
    ]
    assert figures(path) == [("req_1", 0.001, 0.001, 0.0005), ("req_2", 0.002, 0.002, None)]
    assert query(path, "SELECT DISTINCT billed_micro_usd, list_micro_usd, saved_micro_usd FROM requests") == [
        (1_000, 1_000, 500)
    ]
    assert query(path, "SELECT request_id, repriced_at FROM repricings") == [("req_2", "2026-02-01T00:00:00.000Z")]


ORIGINAL = valuation(1_000, 1_000, 500)


async def test_without_apply_nothing_is_stored(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1")])
    (change,) = await repriced(store, lambda _: valuation(2_000, 2_000), apply=False)
    assert (change.changed, change.new.billed_micro_usd) == (1, 2_000)
    assert figures(path) == [("req_1", 0.001, 0.001, 0.0005)]
    assert query(path, "SELECT * FROM repricings") == []


async def test_the_newest_figures_are_what_a_further_repricing_changes(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1")])
    await repriced(store, lambda _: valuation(2_000, 2_000, None))
    (same,) = await repriced(store, lambda _: valuation(2_000, 2_000, None))
    assert same.changed == 0
    assert same.old == Sums(2_000, 2_000, None)
    (back,) = await repriced(store, lambda _: ORIGINAL)
    assert (back.changed, back.old) == (1, Sums(2_000, 2_000, None))
    assert figures(path) == [("req_1", 0.001, 0.001, 0.0005)]


async def test_a_request_that_has_no_price_any_more_keeps_its_own(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1")])
    (change,) = await repriced(store, lambda _: valuation(0))
    assert (change.changed, change.new) == (0, Sums(1_000, 1_000, 500))
    assert query(path, "SELECT * FROM repricings") == []


async def test_sums_are_over_those_that_have_a_price(path: Path) -> None:
    known = {"a": valuation(10, 10, 5), "b": valuation(0, 20, None), "c": valuation(None)}
    store = UsageStore(path, value=lambda row: known[row.id])
    await store.start()
    await store.insert([record(name) for name in known])
    (change,) = await repriced(store, lambda row: valuation(7, 7) if row.id == "c" else known[row.id], apply=False)
    await store.stop()
    assert change == ModelChange("cerebras", "gpt-oss-120b", 3, 1, Sums(10, 30, 5, 1), Sums(17, 37, 5, 0))


@pytest.mark.parametrize("page", [1, 2, 7, 1000])
async def test_every_request_is_looked_at_once(page: int, store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "ROWS_PER_PAGE", page)
    # Of one moment, so that only the id tells them apart; and some of another.
    rows = [record(f"req_{n}") for n in range(5)] + [record(f"req_{n}", started_at=AT) for n in (7, 6)]
    await store.insert(rows)
    seen: list[str] = []
    told: list[tuple[int, int]] = []

    def value(row: UsageRecord) -> Valuation:
        seen.append(row.id)
        return valuation(int(row.id[-1]), int(row.id[-1]))

    await repriced(store, value, advanced=lambda done, all_of_them: told.append((done, all_of_them)))
    assert seen == [f"req_{n}" for n in (0, 1, 2, 3, 4, 6, 7)]
    assert told == [(min(page * step, 7), 7) for step in range(1, len(told) + 1)]
    assert told[-1] == (7, 7)


async def test_a_record_comes_back_as_it_was_stored(store: UsageStore) -> None:
    whole = record(
        "req_1",
        started_at=datetime(2026, 1, 31, 9, 30, 0, 123_000, tzinfo=UTC),
        subscription=True,
        status=None,
        ttft_ms=123.457,
    )
    await store.insert([whole])
    seen: list[UsageRecord] = []
    threads: list[threading.Thread] = []

    def value(row: UsageRecord) -> Valuation:
        seen.append(row)
        threads.append(threading.current_thread())
        return ORIGINAL

    await repriced(store, value)
    assert seen == [whole]
    assert [type(row.streamed) for row in seen] == [bool]
    # The first call loads the prices, for which a running server could not wait.
    assert threads != [threading.main_thread()]


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (Selection(), "abcd"),
        (Selection(since=datetime(2026, 1, 2, tzinfo=UTC)), "bcd"),
        (Selection(until=datetime(2026, 1, 2, tzinfo=UTC)), "a"),
        (Selection(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)), "b"),
        (Selection(provider="p"), "ac"),
        (Selection(model="m"), "cd"),
        (Selection(provider="p", model="m"), "c"),
        (Selection(provider="nobody"), ""),
    ],
)
async def test_only_what_is_selected(selection: Selection, selected: str, store: UsageStore, path: Path) -> None:
    names = {"a": ("p", "n"), "b": ("q", "n"), "c": ("p", "m"), "d": ("q", "m")}
    await store.insert(
        [
            record(name, started_at=datetime(2026, 1, day, tzinfo=UTC), provider=provider, model=model)
            for day, (name, (provider, model)) in enumerate(names.items(), start=1)
        ]
    )
    await repriced(store, lambda _: valuation(1, 1), selection)
    assert "".join(row[0] for row in query(path, "SELECT request_id FROM repricings ORDER BY request_id")) == selected


async def test_requests_that_name_nothing_come_first(store: UsageStore) -> None:
    await store.insert([record("a"), record("b", provider=None, model=None)])
    changes = await repriced(store, lambda _: ORIGINAL)
    assert [(change.provider, change.model) for change in changes] == [(None, None), ("cerebras", "gpt-oss-120b")]


async def test_an_empty_database_has_nothing_to_price(store: UsageStore) -> None:
    assert await repriced(store, lambda _: ORIGINAL) == []
