"""The numbers of the pages, from rows in a migrated database."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from ccr_asgi.dashboard import queries
from ccr_asgi.dashboard.filters import parse_window
from ccr_asgi.dashboard.queries import NAMED_GROUPS, Overview, entries, overview
from ccr_asgi.dashboard.sources import Sql, row_conditions
from ccr_asgi.dashboard.totals import NOTHING
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.rollup import rebuild
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEYS = ("provider", "model", "agent", "session", "project")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path)
    await store.start()
    yield store
    await store.stop()


def price(path: Path, where: str, **micro_usd: int | None) -> None:
    """Write amounts into the rows that fit `where`."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        columns = ", ".join(f"{name}_micro_usd = :{name}" for name in micro_usd)
        connection.execute(text(f"UPDATE requests SET {columns} WHERE {where}"), micro_usd)  # noqa: S608 -- our words
        rebuild(connection)
    engine.dispose()


async def look(store: UsageStore, **parameters: str) -> Overview:
    window = parse_window([(name.rstrip("_"), value) for name, value in parameters.items()], NOW)
    return await store.read(lambda connection: overview(connection, window))


def at(**ago: float) -> datetime:
    return NOW - timedelta(**ago)


async def test_no_row_gives_no_number_and_no_zero_in_its_place(store: UsageStore) -> None:
    found = await look(store)
    assert not found.stored
    assert found.summary.totals == NOTHING
    assert (found.summary.ttft_p50_ms, found.summary.ttft_p95_ms) == (None, None)
    assert NOTHING.requests == 0
    assert (NOTHING.tokens, NOTHING.billed_micro_usd, NOTHING.cache_hit_ratio, NOTHING.error_ratio) == (None,) * 4
    assert {key: list(breakdown.groups) for key, breakdown in found.breakdowns.items()} == {key: [] for key in KEYS}
    assert list(found.recent) == []


async def test_tokens_are_summed_by_part(store: UsageStore) -> None:
    await store.insert([record("a", started_at=at(hours=1)), record("b", started_at=at(hours=2))])
    totals = (await look(store)).summary.totals
    assert totals.requests == 2
    assert (totals.input_tokens, totals.cache_read_tokens) == (20, 40)
    assert (totals.cache_write_5m_tokens, totals.cache_write_1h_tokens, totals.cache_write_tokens) == (60, 80, 140)
    assert (totals.output_tokens, totals.reasoning_tokens) == (100, 10)
    assert totals.tokens == 20 + 40 + 140 + 100
    assert totals.cache_hit_ratio == 40 / (40 + 140 + 20)


async def test_what_nobody_told_stays_untold(store: UsageStore) -> None:
    await store.insert(
        [
            record("a", started_at=at(hours=1), tokens=Tokens(input=7)),
            record("b", started_at=at(hours=1), tokens=Tokens(input=0), ttft_ms=None),
        ]
    )
    totals = (await look(store)).summary.totals
    assert (totals.input_tokens, totals.output_tokens, totals.cache_read_tokens) == (7, None, None)
    assert totals.cache_hit_ratio is None
    assert totals.timed == 1


async def test_no_price_is_not_a_price_of_0(store: UsageStore, path: Path) -> None:
    await store.insert(
        [
            record("priced", started_at=at(hours=1), model="a"),
            record("unpriced", started_at=at(hours=1), model="b"),
            record("unused", started_at=at(hours=1), model="c", tokens=Tokens(), outcome="error"),
            record("subscribed", started_at=at(hours=1), model="d", subscription=True),
        ]
    )
    price(path, "id = 'priced'", billed=1_500_000, list=2_000_000, saved=-5)
    found = await look(store)
    by_model = {group.name: group.totals for group in found.breakdowns["model"].groups}
    a, b, c, d = (by_model[name] for name in "abcd")
    assert (a.billed_micro_usd, a.billed_unpriced, a.list_micro_usd, a.saved_micro_usd) == (1_500_000, 0, 2_000_000, -5)
    assert (b.billed_micro_usd, b.billed_unpriced) == (None, 1)
    assert (c.billed_micro_usd, c.billed_unpriced) == (None, 0)
    assert (d.billed_micro_usd, d.billed_unpriced, d.subscription, d.list_unpriced) == (0, 0, 1, 1)
    whole = found.summary.totals
    assert (whole.billed_micro_usd, whole.billed_unpriced, whole.list_unpriced, whole.saved_unpriced) == (
        1_500_000,
        1,
        2,
        2,
    )


async def test_sums_of_money_are_whole_numbers_however_large(store: UsageStore, path: Path) -> None:
    await store.insert([record(f"r{index}", started_at=at(hours=1)) for index in range(3)])
    price(path, "true", billed=2**60 + 1)
    assert (await look(store)).summary.totals.billed_micro_usd == 3 * (2**60 + 1)


async def test_outcomes_are_counted_apart(store: UsageStore) -> None:
    outcomes = ["ok", "ok", "error", "cancelled", "cancelled", "cancelled", "truncated"]
    await store.insert([record(str(i), started_at=at(hours=1), outcome=kind) for i, kind in enumerate(outcomes)])
    totals = (await look(store)).summary.totals
    assert (totals.errors, totals.cancelled, totals.truncated) == (1, 3, 1)
    assert totals.error_ratio == 1 / 7


@pytest.mark.parametrize(
    ("values", "p50_ms", "p95_ms"),
    [
        ([5.0], 5.0, 5.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0),
        ([float(n) for n in range(100, 0, -1)], 50.0, 95.0),
        ([7.0] * 9, 7.0, 7.0),
    ],
)
async def test_percentiles_are_of_the_nearest_rank(
    store: UsageStore, values: list[float], p50_ms: float, p95_ms: float
) -> None:
    rows = [record(f"r{index}", started_at=at(hours=1), ttft_ms=value) for index, value in enumerate(values)]
    await store.insert([*rows, record("untimed", started_at=at(hours=1), ttft_ms=None)])
    summary = (await look(store)).summary
    assert (summary.ttft_p50_ms, summary.ttft_p95_ms) == (p50_ms, p95_ms)


async def test_breakdowns_are_folds_of_the_same_rows(store: UsageStore) -> None:
    rows: list[UsageRecord] = []
    for provider, model, agent, number in [
        ("cerebras", "gpt-oss-120b", "a1", 3),
        ("other", "gpt-oss-120b", None, 2),
        ("cerebras", "zai-glm-4.7", "a2", 1),
        (None, None, None, 1),
    ]:
        rows += [
            record(f"r{len(rows) + n}", started_at=at(hours=1), provider=provider, model=model, agent_id=agent)
            for n in range(number)
        ]
    await store.insert(rows)
    found = await look(store)
    counts = [
        [(group.name, group.totals.requests) for group in breakdown.groups] for breakdown in found.breakdowns.values()
    ]
    assert counts[0] == [("cerebras", 4), ("other", 2), (None, 1)]
    assert counts[1] == [("gpt-oss-120b", 5), (None, 1), ("zai-glm-4.7", 1)]
    assert sorted(counts[2], key=str) == sorted([("a1", 3), (None, 3), ("a2", 1)], key=str)
    for breakdown in found.breakdowns.values():
        assert sum((group.totals for group in breakdown.groups), start=NOTHING) == found.summary.totals


@pytest.mark.parametrize("filters", [{}, {"outcome": "ok"}, {"session": "session-1"}])
async def test_of_many_agents_the_busiest_are_named(store: UsageStore, filters: dict[str, str]) -> None:
    rows = [record(f"r{n}", started_at=at(hours=1), agent_id=f"a{n:03}") for n in range(NAMED_GROUPS)]
    await store.insert([*rows, record("twice", started_at=at(hours=1), agent_id="a077")])
    agents = (await look(store, **filters)).breakdowns["agent"]
    assert [group.name for group in agents.groups[:3]] == ["a077", "a000", "a001"]
    assert (len(agents.groups), agents.count) == (NAMED_GROUPS, NAMED_GROUPS)
    await store.insert([record("one more", started_at=at(hours=1), agent_id="a999")])
    agents = (await look(store, **filters)).breakdowns["agent"]
    assert (len(agents.groups), agents.count, agents.groups[-1].name) == (NAMED_GROUPS, None, "a099")


async def test_what_one_agent_did_is_told_by_session_and_project(store: UsageStore) -> None:
    await store.insert(
        [
            record("a", started_at=at(hours=1), session_id="s1", project="p1"),
            record("b", started_at=at(hours=2), session_id="s1", project=None),
            record("c", started_at=at(hours=3), session_id="s2", project="p1"),
            record("d", started_at=at(hours=3), session_id="s2", project="p1", agent_id="other"),
        ]
    )
    found = (await look(store, agent="agent-1")).breakdowns
    shown = {key: [(g.name, g.totals.requests) for g in found[key].groups] for key in ("agent", "session", "project")}
    assert shown == {
        "agent": [("agent-1", 3)],
        "session": [("s1", 2), ("s2", 1)],
        "project": [("p1", 2), (None, 1)],
    }


async def test_a_range_takes_its_first_moment_and_leaves_its_last(store: UsageStore) -> None:
    day = datetime(2026, 1, 30, tzinfo=UTC)
    moments = [day - timedelta(milliseconds=1), day, day + timedelta(hours=23, minutes=59), day + timedelta(days=1)]
    await store.insert([record(f"r{index}", started_at=moment) for index, moment in enumerate(moments)])
    found = await look(store, from_="2026-01-30", to="2026-01-30")
    assert [row.id for row in found.recent] == ["r2", "r1"]
    assert found.summary.totals.requests == 2


async def test_a_database_with_rows_elsewhere_is_not_an_empty_one(store: UsageStore) -> None:
    await store.insert([record("old", started_at=at(days=400))])
    found = await look(store, range="1h")
    assert (found.summary.totals.requests, found.stored) == (0, True)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"provider": "cerebras"}, "ab"),
        ({"provider": "-"}, "d"),
        ({"model": "m'; DROP TABLE requests; --"}, "b"),
        ({"agent": "-"}, "cd"),
        ({"agent": "a1"}, "ab"),
        ({"session": "s2"}, "b"),
        ({"project": "ledger"}, "acd"),
        ({"status": "429"}, "c"),
        ({"status": "4xx"}, "bc"),
        ({"status": "-"}, "d"),
        ({"status": "error"}, "bc"),
        ({"outcome": "cancelled"}, "d"),
        ({"provider": "cerebras", "status": "4xx"}, "b"),
        ({"provider": "%"}, ""),
        ({"provider": "Cerebras"}, ""),
        ({"provider": "\0\ud800"}, ""),
    ],
)
async def test_filters_hold_for_all_numbers(store: UsageStore, filters: dict[str, str], ids: str) -> None:
    hour = at(hours=1)
    await store.insert(
        [
            record("a", started_at=hour, agent_id="a1"),
            record("b", started_at=hour, agent_id="a1", model="m'; DROP TABLE requests; --", session_id="s2",
                   project="x", status=400, outcome="error"),
            record("c", started_at=hour, agent_id=None, provider="other", status=429, outcome="error"),
            record("d", started_at=hour, agent_id=None, provider=None, status=None, outcome="cancelled"),
        ]
    )  # fmt: skip
    found = await look(store, **filters)
    assert sorted(row.id for row in found.recent) == list(ids)
    assert found.summary.totals.requests == len(ids)
    for breakdown in found.breakdowns.values():
        assert sum(group.totals.requests for group in breakdown.groups) == len(ids)


async def test_a_name_longer_than_what_is_stored_still_finds_its_rows(store: UsageStore) -> None:
    await store.insert([record("a", started_at=at(hours=1), model="m" * 5_000)])
    assert (await look(store, model="m" * 5_000)).summary.totals.requests == 1


async def test_requests_come_in_pages_the_newest_first(store: UsageStore) -> None:
    # The last three begin in the same millisecond: their order must still be the same on every page.
    moments = [at(minutes=9), at(minutes=8), at(minutes=7), at(minutes=7), at(minutes=7)]
    await store.insert([record(f"r{index}", started_at=moment) for index, moment in enumerate(moments)])
    pages = [[row.id for row in (await look(store, page=str(page), page_size="2")).recent] for page in (1, 2, 3, 4)]
    assert pages == [["r4", "r3"], ["r2", "r1"], ["r0"], []]


async def test_a_request_has_what_the_view_has(store: UsageStore, path: Path) -> None:
    await store.insert([record("a", started_at=at(hours=1), estimated=True)])
    price(path, "true", billed=12)
    (row,) = (await look(store)).recent
    assert (row.started_at, row.streamed, row.estimated) == ("2026-01-31T11:00:00.000Z", True, True)
    assert (row.billed_micro_usd, row.list_micro_usd, row.cache_write_tokens, row.unpriced) == (12, None, 70, False)


async def test_entries_come_in_batches_each_row_once(store: UsageStore) -> None:
    # Batches end in the middle of rows of one moment.
    rows = [record(f"r{index:02}", started_at=at(minutes=60 - index // 4)) for index in range(23)]
    await store.insert(rows)
    window = parse_window([], NOW, default_range="all", paged=False)
    found: list[str] = []
    after: tuple[str, str] | None = None
    while True:
        batch = await store.read(partial(entries, window=window, after=after, limit=5))
        if not batch:
            break
        found += [row.id for row in batch]
        after = (batch[-1].started_at, batch[-1].id)
    assert found == [row.id for row in rows]


async def test_entries_of_a_page(store: UsageStore) -> None:
    await store.insert([record(f"r{index}", started_at=at(minutes=60 - index)) for index in range(5)])
    window = parse_window([("page", "2"), ("page_size", "2")], NOW)
    found = await store.read(lambda connection: entries(connection, window, after=None, limit=2))
    assert [row.id for row in found] == ["r2", "r3"]


@pytest.mark.parametrize("window", [{"range": "24h"}, {"range": "7d", "model": "m"}])
async def test_a_range_is_found_by_an_index(store: UsageStore, path: Path, window: dict[str, str]) -> None:
    sql = Sql()
    query = f"SELECT * FROM requests_priced WHERE {row_conditions(sql, parse_window(window.items(), NOW))}"  # noqa: S608 -- ours
    with closing(sqlite3.connect(path)) as connection:
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {query}", sql.parameters).fetchall())
    assert "USING INDEX" in plan
    assert "started_at>" in plan


# Over time


async def test_the_equal_time_before_is_summed_too(store: UsageStore) -> None:
    await store.insert([record(f"r{hours}", started_at=at(hours=hours)) for hours in (1, 25, 26, 49)])
    found = (await look(store, range="24h")).summary
    assert found.previous is not None
    assert (found.totals.requests, found.previous.requests, found.previous.output_tokens) == (1, 2, 100)
    assert (await look(store, range="all")).summary.previous is None


async def test_a_series_has_every_step_and_every_provider(store: UsageStore) -> None:
    await store.insert(
        [
            record("a", started_at=at(hours=1)),
            record("b", started_at=at(hours=1), provider="other", outcome="error", tokens=Tokens(), ttft_ms=None),
            record("c", started_at=at(hours=3), ttft_ms=1_000.0),
            record("d", started_at=at(hours=3), provider=None, ttft_ms=1_000.0),
        ]
    )
    series = (await look(store, from_="2026-01-31T08:00", to="2026-01-31T20:00")).series
    assert series is not None
    assert (series.steps.name, len(series.steps.edges), series.steps.edges[0]) == ("1h", 12, at(hours=4))
    assert list(series.providers) == [None, "cerebras", "other"]
    cerebras = series.providers["cerebras"]
    assert cerebras["requests"] == [0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert cerebras["output_tokens"][:4] == [None, 50, None, 50]
    assert series.providers["other"]["errors"][3] == 1
    assert series.providers["other"]["output_tokens"][3] is None
    assert [p50 is not None for p50 in series.ttft_p50_ms[:5]] == [False, True, False, True, False]
    assert series.ttft_p95_ms[1] == pytest.approx(1_000, rel=0.26)


@pytest.mark.parametrize(("zone", "steps"), [("UTC", [2, 1]), ("Asia/Kolkata", [1, 2]), ("America/New_York", [3])])
async def test_days_of_a_series_are_those_of_the_zone(store: UsageStore, zone: str, steps: list[int]) -> None:
    moments = [datetime(2026, 1, 20, 6, tzinfo=UTC), datetime(2026, 1, 20, 18, 45, tzinfo=UTC)]
    moments.append(datetime(2026, 1, 21, 3, 30, tzinfo=UTC))
    await store.insert([record(f"r{number}", started_at=moment) for number, moment in enumerate(moments)])
    series = (await look(store, from_="2026-01-10", tz=zone)).series
    assert series is not None
    assert [count for count in series.providers["cerebras"]["requests"] if count] == steps


async def test_all_time_begins_with_the_first_request(store: UsageStore) -> None:
    assert (await look(store, range="all")).series is None
    await store.insert([record("a", started_at=at(days=400)), record("b", started_at=at(days=1))])
    series = (await look(store, range="all")).series
    assert series is not None
    assert (series.steps.name, series.steps.edges[0]) == ("7d", at(days=400))
    requests = series.providers["cerebras"]["requests"]
    assert (requests[0], requests[-1], sum(count or 0 for count in requests)) == (1, 1, 2)


async def test_time_to_come_has_no_series(store: UsageStore) -> None:
    assert (await look(store, from_="2027-01-01")).series is None


async def test_percentiles_of_many_requests_are_estimated_and_said_to_be(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "EXACT_TTFTS", 99)
    await store.insert([record(f"r{n}", started_at=at(hours=1), ttft_ms=100.0 + 10 * n) for n in range(100)])
    found = (await look(store)).summary
    assert found.ttft_estimated
    assert found.ttft_p50_ms == pytest.approx(590, rel=0.13)
    assert found.ttft_p95_ms == pytest.approx(1040, rel=0.13)
    exact = (await look(store, outcome="ok")).summary  # no cell knows of it
    assert (exact.ttft_estimated, exact.ttft_p50_ms, exact.ttft_p95_ms) == (False, 590.0, 1040.0)
