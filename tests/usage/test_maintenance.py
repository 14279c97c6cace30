"""A usage database is copied and vacuumed while it is in use, and old rows leave it."""
# ruff: noqa: ASYNC240 -- a test may wait for its disk

import asyncio
import logging
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ccr_asgi.usage import maintenance
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.maintenance import Retention, backup, schema_revision, vacuum
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import SCHEMA_REVISION
from tests.usage.records import record

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router" / "usage.db"


@pytest.fixture
def database(path: Path) -> Database:
    return Database.parse(path)


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def filled(store: UsageStore, path: Path) -> Path:
    """A database in use, of many pages."""
    await store.insert([record(f"req_{number}", project="x" * 500) for number in range(500)])
    return path


def number_of_rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("SELECT COUNT(*) FROM requests").fetchone()
        return int(number)


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


# Backup


def test_a_backup_is_one_file_that_only_we_can_read(filled: Path, database: Database, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "usage backup.db"
    target.parent.mkdir()
    backup(database, target)
    assert number_of_rows(target) == 500
    assert [file.name for file in target.parent.iterdir()] == ["usage backup.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA_REVISION,)]


async def test_a_backup_can_be_used_in_its_place(filled: Path, database: Database, tmp_path: Path) -> None:
    backup(database, tmp_path / "copy.db")
    restored = UsageStore(tmp_path / "copy.db")
    await restored.start()
    await restored.insert([record("new")])
    await restored.stop()
    assert number_of_rows(tmp_path / "copy.db") == 501


async def test_a_backup_is_of_one_moment_however_much_is_written_meanwhile(
    filled: Path, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "PAGES_PER_STEP", 5)
    told: list[tuple[int, int]] = []
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:

        def write_a_row(done: int, pages: int) -> None:
            told.append((done, pages))
            other.execute("UPDATE requests SET project = 'changed' || ?", (done,))
            other.execute("DELETE FROM requests WHERE id = ?", (f"req_{done}",))

        backup(database, tmp_path / "copy.db", write_a_row)
    assert len(told) > 5
    pages = told[0][1]
    assert told == [(min(5 * step, pages), pages) for step in range(1, len(told) + 1)]
    assert told[-1] == (pages, pages)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT DISTINCT project FROM requests").fetchall() == [("x" * 500,)]
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert number_of_rows(tmp_path / "copy.db") == 500
    assert number_of_rows(filled) < 500


def test_a_backup_overwrites_nothing(filled: Path, database: Database, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_bytes(b"precious")
    with pytest.raises(StoreError, match=r"copy\.db is there already"):
        backup(database, target)
    assert target.read_bytes() == b"precious"
    with pytest.raises(StoreError, match="is there already"):
        backup(database, filled)


def test_a_backup_needs_its_folder(filled: Path, database: Database, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"copy\.db cannot be made: No such file or directory"):
        backup(database, tmp_path / "nowhere" / "copy.db")


def test_a_backup_that_fails_leaves_nothing(filled: Path, database: Database, tmp_path: Path) -> None:
    def stop(_done: int, _pages: int) -> None:
        assert len(list(target.parent.iterdir())) >= 2
        raise KeyboardInterrupt

    target = tmp_path / "copies" / "copy.db"
    target.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        backup(database, target, stop)
    assert list(target.parent.iterdir()) == []


def test_a_backup_of_a_damaged_database_is_none(database: Database, path: Path, tmp_path: Path) -> None:
    execute_many_indexed(path)
    content = bytearray(path.read_bytes())
    content[4096 * 10 : 4096 * 12] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"usage\.db is damaged: "):
        backup(database, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def execute_many_indexed(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (a PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{number:0>100}",) for number in range(2000)])


@pytest.mark.parametrize("job", [lambda database, target: backup(database, target), lambda d, _: vacuum(d)])
class TestWhatCannotBeServed:
    def test_no_database(self, job: object, database: Database, path: Path, tmp_path: Path) -> None:
        assert callable(job)
        with pytest.raises(StoreError, match=r"there is no usage database .*usage\.db"):
            job(database, tmp_path / "copy.db")
        assert list(tmp_path.iterdir()) == []

    def test_another_file(self, job: object, database: Database, path: Path, tmp_path: Path) -> None:
        assert callable(job)
        path.parent.mkdir()
        path.write_bytes(b"this was never a database\n" * 100)
        with pytest.raises(StoreError, match="is damaged: file is not a database"):
            job(database, tmp_path / "copy.db")
        assert path.read_bytes() == b"this was never a database\n" * 100

    def test_a_server(self, job: object, tmp_path: Path) -> None:
        assert callable(job)
        with pytest.raises(StoreError, match=r"postgresql://me:\*\*\*@db\.example/usage is not SQLite"):
            job(Database.parse("postgresql://me:hidden@db.example/usage"), tmp_path / "copy.db")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder(self, job: object, database: Database, path: Path, tmp_path: Path) -> None:
        assert callable(job)
        path.mkdir(parents=True)
        with pytest.raises(StoreUnavailable, match="unable to open database file"):
            job(database, tmp_path / "copy.db")


# Vacuum


async def test_a_vacuum_frees_what_was_deleted(filled: Path, database: Database, store: UsageStore) -> None:
    execute(filled, "DELETE FROM requests WHERE id > 'req_2'")
    left = number_of_rows(filled)
    done = vacuum(database)
    assert done.truncated
    assert done.after_bytes < done.before_bytes / 2
    assert done.after_bytes == filled.stat().st_size
    assert os.path.getsize(f"{filled}-wal") == 0
    await store.insert([record("new")])
    assert number_of_rows(filled) == left + 1


def test_a_vacuum_says_when_a_reader_holds_the_space(
    filled: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BUSY_TIMEOUT_MS", 30)
    execute(filled, "DELETE FROM requests WHERE id > 'req_2'")
    with closing(sqlite3.connect(filled, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        seen = reader.execute("SELECT COUNT(*) FROM requests").fetchone()
        assert not vacuum(database).truncated
        assert reader.execute("SELECT COUNT(*) FROM requests").fetchone() == seen
    assert vacuum(database).truncated


def test_a_vacuum_of_a_locked_database_says_so(
    filled: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BUSY_TIMEOUT_MS", 30)
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="is locked; another program writes to it: try again"):
            vacuum(database)


def test_a_vacuum_of_a_closed_database(path: Path, database: Database) -> None:
    execute_many_indexed(path)
    assert vacuum(database).after_bytes == path.stat().st_size


# The schema's revision


async def test_the_revision_of_what_is_there(store: UsageStore, database: Database) -> None:
    assert await schema_revision(database) == SCHEMA_REVISION


async def test_where_there_is_no_schema_there_is_no_revision(path: Path, database: Database) -> None:
    assert await schema_revision(database) is None
    assert not path.exists()
    path.parent.mkdir()
    path.touch()
    assert await schema_revision(database) is None
    assert path.stat().st_size == 0
    execute(path, "CREATE TABLE t (a)")
    assert await schema_revision(database) is None


async def test_a_damaged_database_has_no_revision(path: Path, database: Database) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this was never a database\n" * 100)
    assert await schema_revision(database) is None


# Retention


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "RETENTION_PAUSE_S", 0)


def ids(path: Path, table: str = "requests") -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(f"SELECT id FROM {table} ORDER BY id")]  # noqa: S608 -- our name


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 -- what is waited for happens in the database
        await asyncio.sleep(0.005)


async def test_old_hours_go_and_the_others_stay(store: UsageStore, path: Path) -> None:
    ages = {"a": 365.0, "b": 8.0, "c": 7.0 + 0.6 / 24, "d": 7.0 + 0.4 / 24, "e": 6.9, "f": 0.0, "g": -1.0}
    rows = [record(name, started_at=NOW - timedelta(days=age)) for name, age in ages.items()]
    await store.insert(rows)
    retention = Retention(store, 7, now=lambda: NOW)
    # "d" is older than seven days by less than what the hour has begun.
    assert await retention.delete_old() == 3
    assert ids(path) == ["d", "e", "f", "g"]
    assert ids(path, "v_requests") == ["d", "e", "f", "g"]
    assert await retention.delete_old() == 0


async def test_each_hour_is_a_transaction_of_its_own(
    store: UsageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert([record(f"req_{n:02}", started_at=NOW - timedelta(days=9, minutes=30 * n)) for n in range(6)])
    left: list[int] = []
    delete_between = store.delete_between

    async def watched(start: datetime, end: datetime) -> int:
        assert end - start == timedelta(hours=1)
        deleted = await delete_between(start, end)
        left.append(number_of_rows(path))
        return deleted

    monkeypatch.setattr(store, "delete_between", watched)
    assert await Retention(store, 1, now=lambda: NOW).delete_old() == 6
    assert left == [4, 2, 0]


async def test_half_a_day_is_kept_too(store: UsageStore, path: Path) -> None:
    await store.insert([record("a", started_at=NOW - timedelta(hours=14)), record("b", started_at=NOW)])
    assert await Retention(store, 0.5, now=lambda: NOW).delete_old() == 1
    assert ids(path) == ["b"]


async def test_an_empty_database_has_nothing_old(store: UsageStore) -> None:
    assert await Retention(store, 1).delete_old() == 0


async def test_it_runs_at_once_and_again_and_ends_when_told(
    store: UsageStore, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "RETENTION_INTERVAL_S", 0.01)
    await store.insert([record("old", started_at=NOW - timedelta(days=9)), record("new", started_at=NOW)])
    retention = Retention(store, 7, now=lambda: NOW)
    with caplog.at_level(logging.INFO, "ccr_asgi"):
        running = asyncio.create_task(retention.run())
        await until(lambda: len(caplog.messages) == 1)
        assert ids(path) == ["new"]
        await store.insert([record("late", started_at=NOW - timedelta(days=9))])
        await until(lambda: len(caplog.messages) == 2)
        retention.stop()
        await running
    assert caplog.messages == ["1 usage rows were older than 7 days and are deleted"] * 2


async def test_a_day_is_no_reason_to_wait_at_the_end(store: UsageStore) -> None:
    retention = Retention(store, 7)
    running = asyncio.create_task(retention.run())
    await asyncio.sleep(0)
    retention.stop()
    await running
    await retention.run()
    assert await retention.delete_old() == 0


async def test_a_database_that_is_not_open_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "RETENTION_RETRY_S", 0.01)
    # The row is there before: a first look at an empty database would be the last one for a day.
    earlier = UsageStore(path)
    await earlier.start()
    await earlier.insert([record("old", started_at=NOW - timedelta(days=9))])
    await earlier.stop()
    store = UsageStore(path)
    retention = Retention(store, 7, now=lambda: NOW)
    running = asyncio.create_task(retention.run())
    await until(lambda: bool(caplog.messages))
    assert caplog.messages[0] == "old usage rows are not deleted now: the usage database is not open"
    await store.start()
    await until(lambda: not ids(path))
    retention.stop()
    await running
    await store.stop()
