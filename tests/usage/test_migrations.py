"""One linear chain of migrations, from any revision to the tables of today."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.migrate import alembic_config, upgrade
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import SCHEMA_REVISION, metadata
from ccr_asgi.usage.views import VIEWS

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPTS = ScriptDirectory.from_config(alembic_config())
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path}/usage.db")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_the_chain_is_linear_and_its_end_is_known() -> None:
    assert SCRIPTS.get_heads() == [SCHEMA_REVISION]
    assert all(len(script.nextrev) <= 1 for script in SCRIPTS.walk_revisions())


def test_the_migrations_make_the_tables_of_today(connection: Connection) -> None:
    upgrade(connection)
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    assert compare_metadata(context, metadata) == []


def test_the_migrations_make_the_checks_of_today(connection: Connection) -> None:
    upgrade(connection)
    for table in metadata.sorted_tables:
        found = {check["name"] for check in inspect(connection).get_check_constraints(table.name)}
        wanted = {c.name for c in table.constraints if c.__visit_name__ == "table_or_column_check_constraint"}
        assert found == wanted


def test_the_migrations_make_the_views_of_today(connection: Connection) -> None:
    upgrade(connection)
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view'")
    assert {row[0]: row[1] for row in rows} == VIEWS


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_row_of_any_revision_survives_the_upgrade(revision: str, connection: Connection) -> None:
    upgrade(connection, revision)
    columns = inspect(connection).get_columns("requests")
    row: dict[str, object] = {column["name"]: 1 for column in columns if not column["nullable"]}
    row |= {"id": "req_1", "started_at": "2026-01-31T09:30:00.123Z", "outcome": "ok", "model": "m"}
    names = ", ".join(row)
    connection.exec_driver_sql(
        f"INSERT INTO requests ({names}) VALUES ({', '.join(f':{name}' for name in row)})",  # noqa: S608 -- our names
        row,
    )
    before = dict(connection.exec_driver_sql("SELECT * FROM requests").mappings().one())
    upgrade(connection)
    after = dict(connection.exec_driver_sql("SELECT * FROM requests").mappings().one())
    assert {name: after.pop(name) for name in before} == before
    assert set(after.values()) <= {None}
    found = connection.exec_driver_sql("SELECT id, started_at, model, outcome FROM v_requests").fetchall()
    assert [tuple(row) for row in found] == [("req_1", "2026-01-31T09:30:00.123Z", "m", "ok")]


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_migration_can_be_undone(revision: str, connection: Connection) -> None:
    upgrade(connection, revision)
    command.downgrade(alembic_config(connection), "base")
    assert inspect(connection).get_table_names() == ["alembic_version"]
    assert inspect(connection).get_view_names() == []
    upgrade(connection)


def test_an_unknown_revision_is_refused(connection: Connection) -> None:
    upgrade(connection)
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="9999"):
        upgrade(connection)


async def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_connection: Connection) -> None:
        upgrade(_connection)
        raise OSError("no power")

    monkeypatch.setattr("ccr_asgi.usage.migrate.upgrade", fail)
    with pytest.raises(StoreError, match="no power"):
        await UsageStore(tmp_path / "usage.db").start()
    with closing(sqlite3.connect(tmp_path / "usage.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == []


# The `alembic` command in a checkout

Alembic = Callable[..., str]


@pytest.fixture
def alembic(tmp_path: Path) -> Alembic:
    def run(*arguments: str, url: str | None = None, folder: Path = CHECKOUT) -> str:
        environment = {**os.environ, "HOME": str(tmp_path), "CCR_ASGI_DATABASE_URL": url or ""}
        line = [sys.executable, "-m", "alembic", "-c", str(CHECKOUT / "alembic.ini"), *arguments]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_alembic_upgrades_the_default_database(alembic: Alembic, tmp_path: Path) -> None:
    alembic("upgrade", "head")
    assert f"{SCHEMA_REVISION} (head)" in alembic("current", folder=tmp_path)
    assert (tmp_path / ".claude-code-router" / "usage.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", ["{path}", "sqlite:///{path}", "sqlite+aiosqlite:///{path}"])
def test_alembic_takes_the_database_of_the_environment(form: str, alembic: Alembic, tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    alembic("upgrade", "head", url=form.format(path=path))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA_REVISION,)]
        assert other.execute("SELECT * FROM v_requests").fetchall() == []


def test_alembic_prints_portable_statements(alembic: Alembic) -> None:
    printed = alembic("upgrade", "head", "--sql", url="postgresql://db.example/usage")
    assert re.search(r'started_at TEXT COLLATE "C" NOT NULL', printed)
    assert "duration_ms DOUBLE PRECISION NOT NULL" in printed
    assert all(view in printed for view in VIEWS.values())


def test_what_an_import_did_not_tell_becomes_null(connection: Connection) -> None:
    upgrade(connection, "0004")
    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    for row_id, streamed, duration_ms in (("import_1", 0, 0.0), ("req_1", 1, 12.5), ("req_2", 0, 7.0)):
        connection.exec_driver_sql(
            "INSERT INTO requests (id, started_at, streamed, outcome, duration_ms, attempts, resends, estimated, "
            "subscription) VALUES (?, '2026-01-31T09:30:00.123Z', ?, 'ok', ?, 2, 0, 0, 0)",
            (row_id, streamed, duration_ms),
        )
        connection.exec_driver_sql("INSERT INTO attempts VALUES (?, 1, 'p', 'm', 429, 'e', 0, 1)", (row_id,))
    upgrade(connection)
    found = connection.exec_driver_sql("SELECT id, streamed, duration_ms, proxy_key FROM v_requests ORDER BY id")
    assert [tuple(row) for row in found] == [
        ("import_1", None, None, None),
        ("req_1", 1, 12.5, None),
        ("req_2", 0, 7.0, None),
    ]
    assert connection.exec_driver_sql("SELECT COUNT(*) FROM attempts").scalar() == 3
