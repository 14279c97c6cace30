"""docs/usage-schema.md: every column and parameter is in it, and every recipe works."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import create_engine

from ccr_asgi.dashboard.filters import PARAMETERS
from ccr_asgi.usage.batch import prepare
from ccr_asgi.usage.changes import insert
from ccr_asgi.usage.migrate import upgrade
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.record import Attempt, Tokens
from ccr_asgi.usage.tables import MONEY_COLUMNS, TOKEN_COLUMNS, TTFT_BINS, metadata, quota, requests, rollup
from ccr_asgi.usage.views import VIEWS
from tests.usage.records import record
from tests.usage.valuations import valuation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "usage-schema.md").read_text()
RECIPES: list[str] = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

CHAIN = (
    Attempt("cerebras", "gpt-oss-120b", 429, "rate_limit_error", 0.0, 120.0),
    Attempt("codex", "gpt-x", 200, None, 121.0, 900.0),
)
ROWS = [
    record("req_1", subscription=True, model="claude-opus-4-5", provider="anthropic"),
    record("req_2", quota=(QuotaWindow("anthropic", "5h", datetime(2026, 1, 31, tzinfo=UTC), 25.0),)),
    record("req_3", outcome="error", status=529, error_type="overloaded_error", tokens=Tokens(), ttft_ms=None),
    record(
        "req_4", attempt_log=CHAIN, started_at=datetime(2026, 2, 1, tzinfo=UTC), agent_id=None, parent_agent_id=None
    ),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    engine = create_engine(f"sqlite:///{tmp_path}/usage.db")
    with engine.begin() as connection:
        upgrade(connection)
        raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        raw.row_factory = sqlite3.Row
        insert(connection, prepare(ROWS, lambda row: valuation(0, 5, 5) if row.subscription else valuation(None)))
        yield raw
    engine.dispose()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


INTERNAL = {"requests_priced"}
"""Views that stand under the documented ones."""
SHOWN = [view for view in VIEWS if view not in INTERNAL]
TABLES = [table.name for table in metadata.sorted_tables if table.name not in ("requests", "quota", "rollup")]


def documented(title: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section(title), re.MULTILINE)


@pytest.mark.parametrize("view", [*SHOWN, *TABLES])
def test_each_view_is_documented_column_by_column(view: str, database: sqlite3.Connection) -> None:
    found = [row[0] for row in database.execute("SELECT name FROM pragma_table_info(?)", [view])]
    assert documented(view) == found


def test_the_table_of_requests_is_documented_column_by_column() -> None:
    assert set(documented("requests")) == set(requests.columns.keys()) - set(documented("v_requests"))


def test_the_table_of_limits_has_the_columns_of_its_view() -> None:
    assert set(documented("v_quota")) == set(quota.columns.keys())


def test_the_table_of_sums_is_documented() -> None:
    rows = re.findall(r"^\| (.*?) \|", section("rollup"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    told = {f"{name}_told" for name in (*TOKEN_COLUMNS, *MONEY_COLUMNS)}
    assert (named - {"_told"}) | told | set(TTFT_BINS) == set(rollup.columns.keys())
    assert {TTFT_BINS[0], TTFT_BINS[-1]} <= named


def test_every_parameter_of_the_json_is_documented() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("By HTTP"), re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == [*_in_order(PARAMETERS)]


def _in_order(names: Sequence[str]) -> list[str]:
    return ["range", "from", "to", "tz", *(name for name in names if name not in ("range", "from", "to", "tz"))]


def test_every_column_has_a_meaning() -> None:
    lines = [line for title in [*SHOWN, *TABLES, "requests", "rollup"] for line in section(title).splitlines()]
    cells = [line.split("|")[3].strip() for line in lines if line.startswith("| `")]
    assert len(cells) > 100
    assert all(cells)


def recipe(words: str) -> str:
    (found,) = [sql for sql in RECIPES if words in sql]
    return found


@pytest.mark.parametrize("sql", RECIPES)
def test_every_recipe_finds_something(sql: str, database: sqlite3.Connection) -> None:
    assert database.execute(sql).fetchall()


def test_the_recipe_of_costs_counts_what_has_no_price(database: sqlite3.Connection) -> None:
    rows = [tuple(row) for row in database.execute(recipe("AS unpriced"))]
    assert rows == [("2026-02-01", 1, None, None, 1), ("2026-01-31", 3, 0.0, 0.000005, 1)]


def test_the_recipe_of_the_cache_is_a_percentage_of_the_input(database: sqlite3.Connection) -> None:
    rows = [tuple(row) for row in database.execute(recipe("cache_hit_percent"))]
    assert rows == [("claude-opus-4-5", 20.0), ("gpt-oss-120b", 20.0)]


def test_the_recipe_of_failures_names_the_cause(database: sqlite3.Connection) -> None:
    (row,) = database.execute(recipe("error_type, COUNT"))
    assert (row["status"], row["error_type"], row["requests"]) == (529, "overloaded_error", 1)
