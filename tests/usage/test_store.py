"""The usage database on disk: opened, migrated, written, read, damaged, locked and full."""
# ruff: noqa: ASYNC240 -- a test may wait for its disk

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Connection, create_engine, event, exc, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from ccr_asgi.usage import database
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.record import Tokens
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import SCHEMA_REVISION, requests
from tests.usage.records import record, unstorable

V_REQUESTS_COLUMNS = (
    "id, started_at, provider, requested_model, model, agent_id, parent_agent_id, session_id, project, streamed, "
    "status, outcome, stop_reason, error_type, input_tokens, cache_read_tokens, cache_write_5m_tokens, "
    "cache_write_1h_tokens, output_tokens, reasoning_tokens, ttft_ms, duration_ms, attempts, resends, estimated, "
    "billed_usd, list_usd, saved_usd, "
    "route_reason, subscription, price_id, baseline_price_id, original_billed_usd, original_list_usd, "
    "original_saved_usd, repriced_at, proxy_key, upstream_request_id"
)
"""The first 28 are promised in this order; others may come after them."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router" / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy timeout that a test can wait for."""
    impatient = {
        key: (tuple(pragma.replace("busy_timeout = 5000", "busy_timeout = 30") for pragma in pragmas), begin)
        for key, (pragmas, begin) in database._BEGINNINGS.items()
    }
    monkeypatch.setattr(database, "_BEGINNINGS", impatient)
    monkeypatch.setattr(database, "EXIT_TIMEOUT_S", 0.03)


def query(path: Path, sql: str) -> list[sqlite3.Row]:
    """What somebody else's tool reads."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(sql).fetchall()


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


async def started(path: Path) -> None:
    store = UsageStore(path)
    await store.start()
    await store.stop()


async def test_rows_come_back_through_the_view(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1"), record("req_2", subscription=True)])
    priced, free = query(path, "SELECT * FROM v_requests ORDER BY id")
    assert ", ".join(priced.keys()) == V_REQUESTS_COLUMNS
    assert (priced["id"], priced["started_at"], priced["streamed"]) == ("req_1", "2026-01-31T09:30:00.123Z", 1)
    assert (priced["billed_usd"], priced["list_usd"], priced["saved_usd"]) == (None, None, None)
    assert free["billed_usd"] == 0


async def test_micro_dollars_are_dollars_in_the_view(store: UsageStore, path: Path) -> None:
    await store.insert([record()])
    execute(path, "UPDATE requests SET billed_micro_usd = 1234567, list_micro_usd = 1, saved_micro_usd = -250000")
    (row,) = query(path, "SELECT billed_usd, list_usd, saved_usd FROM v_requests")
    assert tuple(row) == (1.234567, 0.000001, -0.25)


async def test_a_range_uses_the_index_through_the_view(store: UsageStore, path: Path) -> None:
    plan = query(path, "EXPLAIN QUERY PLAN SELECT * FROM v_requests WHERE started_at >= '2026-01-01'")
    assert "ix_requests_started_at" in plan[0]["detail"]
    plan = query(path, "EXPLAIN QUERY PLAN SELECT * FROM v_requests WHERE model = 'm' AND started_at >= '2026'")
    assert "ix_requests_model_started_at" in plan[0]["detail"]


async def test_the_files_are_only_ours(store: UsageStore, path: Path) -> None:
    await store.insert([record()])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["usage.db", "usage.db-wal", "usage.db-shm", "usage.db.lock"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_that_others_may_read_becomes_ours(path: Path) -> None:
    await started(path)
    path.chmod(0o644)
    await started(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_folder_that_is_there_keeps_its_mode(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    await started(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


async def test_the_pragmas_are_in_force(store: UsageStore) -> None:
    async with store.reading() as connection:
        found = {}
        for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout"):
            found[pragma] = (await connection.execute(text(f"PRAGMA {pragma}"))).scalar()
    assert found == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 5000}


async def test_a_writer_takes_the_lock_at_once(store: UsageStore) -> None:
    assert store._threads is not None
    statements: list[str] = []
    event.listen(store._threads._writer, "before_cursor_execute", lambda *args: statements.append(args[2]))
    await store.insert([record()])
    assert statements[0] == "BEGIN IMMEDIATE"


async def test_reading_cannot_write(store: UsageStore) -> None:
    async with store.reading() as connection:
        with pytest.raises(exc.OperationalError, match="readonly"):
            await connection.execute(text("DELETE FROM requests"))


async def test_reading_takes_core_queries_and_sees_one_moment(store: UsageStore) -> None:
    await store.insert([record("req_1")])
    async with store.reading() as connection:
        before = (await connection.execute(select(requests.c.id))).scalars().all()
        await store.insert([record("req_2")])
        after = (await connection.execute(select(requests.c.id))).scalars().all()
    assert before == after == ["req_1"]


async def test_read_answers_from_one_moment(store: UsageStore) -> None:
    await store.insert([record("req_1")])
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def ask(connection: Connection) -> tuple[Sequence[str], Sequence[str]]:
        before = connection.execute(select(requests.c.id)).scalars().all()
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        return before, connection.execute(select(requests.c.id)).scalars().all()

    reading = asyncio.create_task(store.read(ask))
    try:
        await begun.wait()
        await store.insert([record("req_2")])
    finally:
        go_on.set()
    assert await reading == (["req_1"], ["req_1"])


async def test_read_cannot_write_and_tells_what_went_wrong(store: UsageStore) -> None:
    with pytest.raises(exc.OperationalError, match="readonly"):
        await store.read(lambda connection: connection.execute(text("DELETE FROM requests")))
    assert await store.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1


async def test_read_goes_by_the_asynchronous_driver_where_there_is_no_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "thread_engine", lambda *_: None)  # as for a server
    store = UsageStore(path)
    await store.start()
    await store.insert([record("req_1")])
    assert await store.read(lambda connection: connection.execute(select(requests.c.id)).scalars().all()) == ["req_1"]
    await store.stop()


async def test_read_needs_an_open_database(store: UsageStore) -> None:
    await store.stop()
    with pytest.raises(StoreUnavailable):
        await store.read(lambda connection: connection.execute(text("SELECT 1")).scalar())


async def test_more_may_ask_at_once_than_there_are_connections(store: UsageStore) -> None:
    asked = (store.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) for _ in range(20))
    assert await asyncio.gather(*asked) == [1] * 20


async def test_others_read_while_rows_are_written(store: UsageStore, path: Path) -> None:
    seen = []
    for number in range(20):
        await store.insert([record(f"req_{number}_{part}") for part in range(5)])
        seen.append(len(query(path, "SELECT * FROM v_requests")))
    assert seen == list(range(5, 105, 5))


async def test_a_commit_in_doubt_may_be_made_again(
    store: UsageStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await store.insert([record("req_1", model="first")])
    await store.insert([record("req_1", model="second"), record("req_2", model="third")])
    assert [row["model"] for row in query(path, "SELECT model FROM requests ORDER BY id")] == ["first", "third"]
    assert "1 usage rows were already stored" in caplog.text


async def test_a_row_that_cannot_be_stored_is_refused_without_quoting_it(store: UsageStore, path: Path) -> None:
    with pytest.raises(exc.IntegrityError) as caught:
        await store.insert([record("req_1"), unstorable("req_2")])
    assert "cerebras" not in str(caught.value)
    assert query(path, "SELECT * FROM requests") == []


async def test_hostile_texts_and_numbers_are_stored(store: UsageStore, path: Path) -> None:
    await store.insert([record(model="\ud83d\0" + "x" * 100_000, tokens=Tokens(input=10**30, output=-5))])
    (row,) = query(path, "SELECT length(model) AS chars, input_tokens, output_tokens FROM requests")
    assert tuple(row) == (500, None, None)


async def test_start_and_stop_may_be_repeated(store: UsageStore, path: Path) -> None:
    await store.start()
    await store.stop()
    await store.stop()
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.insert([record()])
    with pytest.raises(StoreUnavailable, match="not open"):
        await store.ping()
    await store.start()
    await store.insert([record()])
    assert len(query(path, "SELECT * FROM requests")) == 1


async def test_after_stop_one_file_holds_everything(store: UsageStore, path: Path) -> None:
    await store.insert([record()])
    await store.stop()
    assert {file.name for file in path.parent.iterdir()} == {"usage.db", "usage.db.lock"}


async def test_ping_answers_and_fails(store: UsageStore, path: Path) -> None:
    await store.ping()
    execute(path, "DROP TABLE alembic_version")
    with pytest.raises(StoreUnavailable, match="no such table"):
        await store.ping()


# The limits that answers tell


def told(used_percent: float, second: int, window: str = "5h", **more: Any) -> QuotaWindow:
    return QuotaWindow("anthropic", window, datetime(2026, 1, 31, 9, 30, second, tzinfo=UTC), used_percent, **more)


async def test_the_newest_news_of_each_window_is_kept(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1", quota=(told(10.0, 5, status="allowed", plan="max"), told(1.0, 5, "7d")))])
    await store.insert([record("req_2", quota=(told(9.0, 4),)), record("req_3")])
    assert [tuple(row)[:3] for row in query(path, "SELECT * FROM v_quota ORDER BY window_name")] == [
        ("anthropic", "5h", 10.0),
        ("anthropic", "7d", 1.0),
    ]
    await store.insert([record("req_4", quota=(told(11.0, 6),)), record("req_5", quota=(told(12.0, 7),))])
    store.insert_sync([record("req_6", quota=(told(2.0, 6, "7d"),))])
    five_hours, seven_days = query(path, "SELECT * FROM v_quota ORDER BY window_name")
    assert (five_hours["used_percent"], five_hours["status"], five_hours["plan"]) == (12.0, None, None)
    assert five_hours["observed_at"] == "2026-01-31T09:30:07.000Z"
    assert seven_days["used_percent"] == 2.0


async def test_everything_that_a_window_tells_is_kept(store: UsageStore, path: Path) -> None:
    at = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    window = QuotaWindow("codex", "primary", at, 25.5, 300, at + timedelta(hours=1), "allowed", "plus", 12.5)
    await store.insert([record(quota=(window,))])
    (row,) = query(path, "SELECT * FROM v_quota")
    assert dict(row) == {
        "provider": "codex",
        "window_name": "primary",
        "used_percent": 25.5,
        "window_minutes": 300,
        "resets_at": "2026-01-31T10:30:00.000Z",
        "status": "allowed",
        "plan": "plus",
        "credits_balance": 12.5,
        "observed_at": "2026-01-31T09:30:00.000Z",
    }


async def test_rows_and_limits_are_stored_together_or_not_at_all(store: UsageStore, path: Path) -> None:
    with pytest.raises(exc.IntegrityError):
        await store.insert([unstorable("req_1"), record("req_2", quota=(told(1.0, 1),))])
    assert query(path, "SELECT * FROM quota") == []


# Which database


@pytest.mark.parametrize("form", ["{path}", "sqlite:///{path}", "sqlite+aiosqlite:///{path}"])
async def test_a_path_and_both_urls_name_the_same_file(form: str, path: Path) -> None:
    store = UsageStore(form.format(path=path))
    assert store.path == path
    await store.start()
    await store.stop()
    assert path.exists()


@pytest.mark.parametrize("form", ["~/usage.db", "sqlite:///~/usage.db"])
def test_the_home_folder_is_expanded(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert UsageStore(form).path == tmp_path / "usage.db"


def test_a_relative_path_is_fixed_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert UsageStore("usage.db").path == tmp_path / "usage.db"


def test_a_server_is_named_by_its_url_without_the_password() -> None:
    server = Database.parse("postgresql+asyncpg://me:hidden@db.example/usage")
    assert server.path is None
    assert str(server) == "postgresql+asyncpg://me:***@db.example/usage"


@pytest.mark.parametrize("url", ["postgresql+asyncpg://me:hidden@db.example/usage", "nothing://db.example/usage"])
async def test_a_server_without_its_driver_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"db\.example/usage has no driver here") as caught:
        await UsageStore(url).start()
    assert "hidden" not in str(caught.value)


def test_a_server_whose_driver_is_here_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    made = create_async_engine("sqlite+aiosqlite://")
    monkeypatch.setattr(database, "create_async_engine", lambda url, **_options: made)
    assert Database.parse("postgresql+asyncpg://db.example/usage").write_engine() is made


@pytest.mark.parametrize(
    ("dialect", "use", "first"),
    [
        ("sqlite", "writes", "BEGIN IMMEDIATE"),
        ("sqlite", "reads", "BEGIN"),
        ("postgresql", "writes", f"SELECT pg_advisory_xact_lock({database.WRITE_LOCK})"),
        ("postgresql", "reads", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
        ("mysql", "writes", None),
    ],
)
def test_each_transaction_begins_as_its_use_demands(dialect: str, use: database.Use, first: str | None) -> None:
    statements: list[str] = []

    class Connection:
        def exec_driver_sql(self, statement: str) -> None:
            statements.append(statement)

    engine = create_engine("sqlite://")
    with mock.patch.object(engine.dialect, "name", dialect):
        database.set_up(engine, use)
    engine.dispatch.begin(Connection())
    assert statements == ([first] if first else [])


@pytest.mark.parametrize("form", ["sqlite://", "sqlite:///:memory:", ":memory:", "sqlite:///file:x?uri=true"])
def test_a_database_in_memory_is_refused(form: str) -> None:
    with pytest.raises(StoreError, match="names no file"):
        UsageStore(form)


def test_a_malformed_url_is_refused_without_showing_it() -> None:
    with pytest.raises(StoreError, match="neither a path nor a URL") as caught:
        UsageStore("://me:hidden@")
    assert "hidden" not in str(caught.value)


# Migration at start


def run(code: str, path: Path) -> str:
    return subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout


START = """
import asyncio, sys
from ccr_asgi.usage.record import Tokens
from ccr_asgi.usage.store import UsageStore

async def main():
    store = UsageStore(sys.argv[1])
    await store.start()
    await store.stop()

asyncio.run(main())
print("alembic" in sys.modules)
"""


def test_alembic_is_loaded_only_to_migrate(path: Path) -> None:
    assert run(START, path) == "True\n"
    assert run(START, path) == "False\n"


START_TOGETHER = """
import asyncio, os, sys
from ccr_asgi.usage.record import Tokens
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record

async def main():
    store = UsageStore(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.start()
    await store.insert([record(f"req_{os.getpid()}")])
    await store.stop()

asyncio.run(main())
print("alembic" in sys.modules, flush=True)
"""


def test_processes_that_start_together_migrate_once(path: Path) -> None:
    command = [sys.executable, "-c", START_TOGETHER, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert len(query(path, "SELECT * FROM requests")) == 4
    assert [row["version_num"] for row in query(path, "SELECT * FROM alembic_version")] == [SCHEMA_REVISION]
    # Those that waited looked again under the lock, and found nothing to do.
    assert said.count("True\n") == 1


async def test_stores_that_start_together_in_one_process_wait_for_each_other(path: Path) -> None:
    stores = [UsageStore(path) for _ in range(8)]
    await asyncio.gather(*(store.start() for store in stores))
    await asyncio.gather(*(store.insert([record(f"req_{number}")]) for number, store in enumerate(stores)))
    await asyncio.gather(*(store.stop() for store in stores))
    assert len(query(path, "SELECT * FROM requests")) == 8


async def test_a_start_may_be_cancelled(path: Path) -> None:
    path.parent.mkdir()
    store = UsageStore(path)
    async with Database.parse(path).migration_lock():
        starting = asyncio.ensure_future(store.start())
        while not path.exists():  # noqa: ASYNC110 -- `start` announces nothing before its end
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    await store.start()
    await store.stop()


# Damage


def refuse(path: Path) -> pytest.RaisesExc[StoreError]:
    return pytest.raises(StoreError, match=f"(?s){path}.*move it away")


async def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this was never a database\n" * 100)
    with refuse(path):
        await UsageStore(path).start()
    assert path.read_bytes() == b"this was never a database\n" * 100


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.9])
async def test_a_truncated_database_is_refused_and_kept(path: Path, kept: float) -> None:
    store = UsageStore(path)
    await store.start()
    await store.insert([record(f"req_{number}") for number in range(500)])
    await store.stop()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with refuse(path):
        await UsageStore(path).start()
    assert path.read_bytes() == content[: int(len(content) * kept)]


async def test_a_database_of_a_newer_version_is_refused_and_kept(path: Path) -> None:
    await started(path)
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=f"(?s){path}.*9999.*newer version"):
        await UsageStore(path).start()
    assert [row["version_num"] for row in query(path, "SELECT * FROM alembic_version")] == ["9999"]


async def test_a_database_of_another_program_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir()
    execute(path, "CREATE TABLE requests (theirs TEXT)")
    with refuse(path):
        await UsageStore(path).start()
    assert [row["name"] for row in query(path, "SELECT name FROM sqlite_master")] == ["requests"]


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/usage\.db"):
        await UsageStore(tmp_path / "file" / "usage.db").start()


async def test_a_start_may_succeed_after_the_damage_is_mended(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this was never a database\n" * 100)
    store = UsageStore(path)
    with pytest.raises(StoreError):
        await store.start()
    path.rename(f"{path}.damaged")
    await store.start()
    await store.insert([record()])
    await store.stop()
    assert len(query(path, "SELECT * FROM requests")) == 1


# Locked and full


async def test_a_locked_database_is_a_passing_state(impatient: None, path: Path) -> None:
    store = UsageStore(path)
    await store.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.insert([record()])
        with pytest.raises(StoreUnavailable, match="locked"):
            store.insert_sync([record()])
        await store.ping()
        other.execute("ROLLBACK")
    await store.insert([record()])
    await store.stop()
    assert len(query(path, "SELECT * FROM requests")) == 1


async def test_a_start_gives_up_in_time_on_a_locked_database(
    impatient: None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    store = UsageStore(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("ccr_asgi.usage.store.START_PATIENCE_S", 0.05)
        with pytest.raises(StoreError, match=r"locked\. Another program holds it"):
            await store.start()
    await store.start()
    await store.stop()


async def test_a_start_waits_for_a_locked_database(impatient: None, path: Path) -> None:
    path.parent.mkdir()
    store = UsageStore(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        starting = asyncio.ensure_future(store.start())
        await asyncio.sleep(0.1)  # longer than the busy timeout
        assert not starting.done()
        other.execute("ROLLBACK")
    await starting
    await store.stop()


async def test_a_full_disk_is_a_passing_state(store: UsageStore, path: Path) -> None:
    assert store._threads is not None
    with store._threads._writer.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreUnavailable, match="full"):
        await store.insert([record(f"req_{number}") for number in range(500)])
    assert query(path, "SELECT * FROM requests") == []


async def test_a_held_migration_lock_ends_in_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 0.05)
    path.parent.mkdir()
    async with Database.parse(path).migration_lock():
        with pytest.raises(StoreError, match=r"usage\.db\.lock"):
            await UsageStore(path).start()


# The last chance


async def test_rows_are_stored_without_a_loop(store: UsageStore, path: Path) -> None:
    store.insert_sync([record("req_1"), record("req_2")])
    store.insert_sync([record("req_2"), record("req_3")])
    assert [row["id"] for row in query(path, "SELECT id FROM requests")] == ["req_1", "req_2", "req_3"]


def test_the_last_chance_makes_no_database(path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises(StoreUnavailable, match="unable to open"):
        UsageStore(path).insert_sync([record()])
    assert not path.exists()


def test_a_damaged_database_is_no_fault_of_the_rows(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this was never a database\n" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        UsageStore(path).insert_sync([record()])


async def test_the_last_chance_refuses_what_cannot_be_stored(store: UsageStore, path: Path) -> None:
    with pytest.raises(exc.IntegrityError):
        store.insert_sync([record("req_1"), unstorable("req_2")])
    assert query(path, "SELECT * FROM requests") == []


def test_a_server_has_no_last_chance() -> None:
    with pytest.raises(StoreUnavailable, match="only a SQLite database"):
        UsageStore("postgresql+asyncpg://db.example/usage").insert_sync([record()])
