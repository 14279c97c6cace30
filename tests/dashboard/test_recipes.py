"""SQL to take away: for the shell of the database, of the requests that are shown, runnable as it stands."""

import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ccr_asgi.dashboard.filters import NOT_TOLD, parse_window
from ccr_asgi.dashboard.recipes import recipes, sql_command
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record

ODD = 'o\'hara "x" $(touch y) `z` \\ !!'
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("database", "command"),
    [
        ("/data/usage.db", "sqlite3 /data/usage.db 'select * from v_requests'"),
        ("sqlite:////data/my usage.db", "sqlite3 '/data/my usage.db' 'select * from v_requests'"),
        (
            "postgresql+asyncpg://ada:hidden@db/usage",
            "psql 'postgresql://ada:***@db/usage' -c 'select * from v_requests'",
        ),
        ("mysql+aiomysql://ada:hidden@db/usage", None),
        ("sqlite://", None),
    ],
)
def test_the_sql_command_names_the_database_and_no_password(database: str, command: str | None) -> None:
    assert sql_command(database) == command


async def test_every_recipe_runs_and_keeps_the_filters(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    store = UsageStore(path)
    await store.start()
    await store.insert([record("a", started_at=NOW, agent_id=ODD), record("b", started_at=NOW, agent_id=None)])
    await store.stop()
    for agent in (ODD, NOT_TOLD, "plain"):
        window = parse_window([("range", "7d"), ("agent", agent), ("outcome", "ok")], NOW)
        found = recipes(str(path), window)
        assert len({recipe.title for recipe in found}) == len(found) > 3
        for recipe in found:
            assert shlex.split(recipe.command) == ["sqlite3", str(path), recipe.sql]
            with closing(sqlite3.connect(path)) as connection:
                rows = connection.execute(recipe.sql).fetchall()
            if recipe is found[0]:
                assert rows[0][0] == (agent != "plain")
            assert ("outcome = 'ok'" in recipe.command) is (agent != ODD)  # readable where it can be


def test_there_are_none_for_a_database_of_an_unknown_kind() -> None:
    assert recipes("mysql+aiomysql://ada:hidden@db/usage", parse_window((), NOW)) == []
