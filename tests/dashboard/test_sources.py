"""What is read from cells is what the rows say, for every window, filter, time zone and grouping."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, get_args
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccr_asgi.dashboard.filters import NOT_TOLD, Window, parse_window
from ccr_asgi.dashboard.sources import STEP, Key, Question, cube_of, largest, summed
from ccr_asgi.dashboard.steps import Steps, divide
from ccr_asgi.dashboard.totals import TOTALS
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import MONEY_COLUMNS, TOKEN_COLUMNS, TTFT_BINS, iso_utc
from tests.usage.test_rollup import add, some, value

NOW = datetime(2026, 2, 2, 12, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns")
KEYS: tuple[Key, ...] = get_args(Key)
COLUMNS = {"agent": "agent_id", "session": "session_id"}
VALUES = {
    "provider": ("cerebras", NOT_TOLD),
    "model": ("m1", NOT_TOLD, "no such"),
    "agent": ("a1", NOT_TOLD),
    "session": ("s1", NOT_TOLD),
    "project": ("p1", NOT_TOLD),
    "status": ("200", "error", "2xx", "429"),
    "outcome": ("ok", "cancelled"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 rows of two days, some of them at the very edges of days, hours and quarters."""
    chance = Random(7)  # noqa: S311 -- the same rows each time
    rows = [some(chance, number) for number in range(380)]
    edges = [datetime(2026, 1, 31, tzinfo=UTC) + timedelta(minutes=15 * n) for n in range(20)]
    rows += [replace(some(chance, 900 + number), started_at=edge) for number, edge in enumerate(edges)]
    path = tmp_path_factory.mktemp("sources") / "usage.db"

    async def fill() -> None:
        store = UsageStore(path, value=value)
        await store.start()
        await store.insert(rows)
        await store.stop()

    asyncio.run(fill())
    return path


def asked(path: Path, question: Question) -> list[dict[str, Any]]:
    sql = summed(question)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql.words, sql.parameters)]


def counted(path: Path, question: Question) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The same by other means: row by row."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM requests_priced").fetchall()
    cells: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        if _fits(row, question.window):
            key = [row[COLUMNS.get(name, name)] for name in question.keys]
            if question.names is None or key[0] in question.names:
                add(cells[(*_step(row, question.steps), *key)], row)
    return {key: _shown(cell, question.measures) for key, cell in cells.items()}


def _fits(row: Mapping[str, Any], window: Window) -> bool:
    began = row["started_at"]
    if (window.start and began < iso_utc(window.start)) or (window.end and began >= iso_utc(window.end)):
        return False
    for name, wanted in window.filters.items():
        found = row[COLUMNS.get(name, name)]
        if name == "status":
            if not {"200": found == 200, "2xx": found == 200, "429": found == 429, "error": row["outcome"] == "error"}[
                wanted
            ]:
                return False
        elif found != (None if wanted == NOT_TOLD else wanted):
            return False
    return True


def _step(row: Mapping[str, Any], steps: Steps | None) -> tuple[int, ...]:
    return () if steps is None else (sum(row["started_at"] >= iso_utc(edge) for edge in steps.edges) - 1,)


def _shown(cell: Mapping[str, int], measures: Sequence[str]) -> dict[str, Any]:
    summed = {*TOKEN_COLUMNS, *MONEY_COLUMNS}
    return {name: None if name in summed and not cell[f"{name}_told"] else cell[name] for name in measures}


moments = st.datetimes(datetime(2026, 1, 29), datetime(2026, 2, 3), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
round_moments = moments.map(lambda moment: moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0))
bounds = st.tuples(st.none() | moments | round_moments, st.none() | moments | round_moments)
filters = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 3), max_size=2).map(
    lambda chosen: {name: VALUES[name][number % len(VALUES[name])] for name, number in chosen.items()}
)
keys = st.lists(st.sampled_from(KEYS), max_size=2, unique=True)


def window(between: tuple[datetime | None, datetime | None], chosen: Mapping[str, str], zone: str) -> Window:
    start, end = between
    if start is not None and end is not None and start > end:
        start, end = end, start
    given = {"tz": zone, **chosen}
    if start is not None:
        given["from"] = iso_utc(start)
    if end is not None and end != start:
        given["to"] = iso_utc(end)
    return parse_window(given.items(), NOW, default_range="all")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bounds, filters, keys, st.sampled_from(ZONES), st.booleans())
def test_sums_are_those_of_the_rows(
    path: Path,
    between: tuple[datetime | None, datetime | None],
    chosen: Mapping[str, str],
    grouped: list[Key],
    zone: str,
    divided: bool,
) -> None:
    shown = window(between, chosen, zone)
    steps = divide(shown.start, shown.end or NOW, shown.zone) if divided and shown.start and shown.start < NOW else None
    question = Question(shown, grouped, (*TOTALS, *TTFT_BINS), steps)
    columns = [*([STEP] if steps is not None else []), *grouped]
    found = {tuple(row.pop(name) for name in columns): row for row in asked(path, question)}
    if not columns and found[()]["requests"] == 0:
        found = {}  # one row of nothing, where rows are not grouped
    assert found == counted(path, question)


@pytest.mark.parametrize("key", ["agent", "session", "project"])
@pytest.mark.parametrize("names", [["a1", "s1", "p1"], [None], ["a2", None], ["nobody"]])
@pytest.mark.parametrize("query", ["range=all", "range=all&status=200", "from=2026-01-31T01:07"])
def test_only_the_groups_that_are_named(path: Path, key: Key, names: list[str | None], query: str) -> None:
    shown = parse_window(parse_qsl(query), NOW)
    question = Question(shown, (key,), TOTALS, names=names)
    assert {(row.pop(key),): row for row in asked(path, question)} == counted(path, question)


@pytest.mark.parametrize("query", ["range=all", "range=all&outcome=ok"])
def test_the_largest_groups_come_first(path: Path, query: str) -> None:
    question = Question(parse_window(parse_qsl(query), NOW), ("agent",), ("requests",))
    sizes = {key[0]: cell["requests"] for key, cell in counted(path, question).items()}
    sql = largest(question, 2)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(sql.words, sql.parameters).fetchall()
    assert found == sorted(sizes.items(), key=lambda size: -size[1])[:2]


@pytest.mark.parametrize(
    ("query", "keys", "cube"),
    [
        ("", (), "all"),
        ("provider=a&model=b", ("provider", "model"), "all"),
        ("", ("agent",), "agent"),
        ("session=s", ("provider",), "session"),
        ("session=s", ("session",), "session"),
        ("session=s", ("agent",), None),
        ("agent=-", ("session",), "session"),
        ("agent=-", ("agent",), "agent"),
        ("agent=-", (), "all"),
        ("agent=a", (), "agent"),
        ("status=200", (), None),
        ("outcome=ok", ("agent",), None),
    ],
)
def test_the_cube_knows_all_that_is_asked(query: str, keys: tuple[Key, ...], cube: str | None) -> None:
    shown = parse_window(parse_qsl(query), NOW)
    assert cube_of(shown, keys) == cube


@pytest.mark.parametrize("query", ["agent=a1", "provider=cerebras", "model=m1", "", "agent=-"])
@pytest.mark.parametrize("divided", [True, False])
def test_a_long_time_is_read_from_cells_by_their_key(path: Path, query: str, divided: bool) -> None:
    shown = parse_window(parse_qsl(f"from=2026-01-01&{query}"), NOW)
    steps = divide(shown.start, NOW, UTC) if divided and shown.start else None
    sql = summed(Question(shown, ("provider",), TOTALS, steps))
    with closing(sqlite3.connect(path)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.words}", sql.parameters))
    assert "SEARCH rollup USING PRIMARY KEY (cube=? AND minutes=? AND name=? AND start>?" in plan
    assert "SCAN requests" not in plan


def test_failures_are_found_by_their_index(path: Path) -> None:
    sql = summed(Question(parse_window([("status", "error")], NOW), (), TOTALS))
    with closing(sqlite3.connect(path)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.words}", sql.parameters))
    assert "ix_requests_failed" in plan


@pytest.mark.parametrize(
    ("query", "key"),
    [("status=429", "agent"), ("status=429", "session"), ("status=429", "model"), ("project=p1", "agent")],
)
def test_a_short_time_is_read_from_its_own_rows(path: Path, query: str, key: Key) -> None:
    sql = summed(Question(parse_window(parse_qsl(f"range=1h&{query}"), NOW), (key,), TOTALS))
    with closing(sqlite3.connect(path)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.words}", sql.parameters))
    assert "SEARCH requests USING INDEX ix_requests_started_at (started_at>?)" in plan
    assert "SCAN requests" not in plan
