"""docs/usage-schema.md: every column is in it, and every recipe works."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import create_engine

from ccr_asgi.usage.migrate import upgrade
from ccr_asgi.usage.record import Tokens
from ccr_asgi.usage.tables import INSERT_REQUEST, requests, row_values
from tests.usage.records import record

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "usage-schema.md").read_text()
RECIPES: list[str] = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

ROWS = [
    record("req_1", subscription=True, model="claude-opus-4-5", provider="anthropic"),
    record("req_2"),
    record("req_3", outcome="error", status=529, error_type="overloaded_error", tokens=Tokens(), ttft_ms=None),
    record("req_4", started_at=datetime(2026, 2, 1, tzinfo=UTC), agent_id=None, parent_agent_id=None),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    engine = create_engine(f"sqlite:///{tmp_path}/usage.db")
    with engine.begin() as connection:
        upgrade(connection)
        raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        raw.row_factory = sqlite3.Row
        raw.executemany(INSERT_REQUEST, [row_values(row) for row in ROWS])
        yield raw
    engine.dispose()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def documented(title: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section(title), re.MULTILINE)


def test_the_view_is_documented_column_by_column(database: sqlite3.Connection) -> None:
    found = [row[0] for row in database.execute("SELECT name FROM pragma_table_info('v_requests')")]
    assert documented("v_requests") == found


def test_the_table_is_documented_column_by_column() -> None:
    assert set(documented("requests")) == set(requests.columns.keys()) - set(documented("v_requests"))


def test_every_column_has_a_meaning() -> None:
    cells = [line.split("|")[3].strip() for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(cells) == len(documented("v_requests")) + len(documented("requests"))
    assert all(cells)


def recipe(words: str) -> str:
    (found,) = [sql for sql in RECIPES if words in sql]
    return found


@pytest.mark.parametrize("sql", RECIPES)
def test_every_recipe_finds_something(sql: str, database: sqlite3.Connection) -> None:
    assert database.execute(sql).fetchall()


def test_the_recipe_of_costs_counts_what_has_no_price(database: sqlite3.Connection) -> None:
    rows = [tuple(row) for row in database.execute(recipe("unpriced"))]
    assert rows == [("2026-02-01", 1, None, None, 1), ("2026-01-31", 3, 0.0, None, 2)]


def test_the_recipe_of_the_cache_is_a_percentage_of_the_input(database: sqlite3.Connection) -> None:
    rows = [tuple(row) for row in database.execute(recipe("cache_hit_percent"))]
    assert rows == [("claude-opus-4-5", 20.0), ("gpt-oss-120b", 20.0)]


def test_the_recipe_of_failures_names_the_cause(database: sqlite3.Connection) -> None:
    (row,) = database.execute(recipe("error_type, COUNT"))
    assert (row["status"], row["error_type"], row["requests"]) == (529, "overloaded_error", 1)
