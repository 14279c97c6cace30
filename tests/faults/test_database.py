"""A usage database that is locked, damaged, full, unwritable, or whose server is killed: traffic goes on."""

import asyncio
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ccr_asgi.usage.store import UsageStore
from tests.faults.conftest import SERVERS
from tests.faults.measures import processes
from tests.integration.claude import TARGET, body, headers, new_session, row_of, soon
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient, fetch
from tests.support.server import RunningServer, read_rows, running_server

each_server = pytest.mark.parametrize("name", SERVERS)
LOCK_S = 6.0
BY_SESSION = "select session_id from v_requests"


def config_of(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    return {"providers": {"anthropic": {"baseUrl": upstream.url}}, **more}


def post(server: RunningServer, session: str = "") -> float:
    """Send a request that must be served; how many seconds it took."""
    began_s = monotonic()
    with RawClient(server.url) as client:
        response = client.request("POST", TARGET, headers(session or new_session()), body())
    assert response.status == 200
    assert response.body.endswith(b'"message_stop"}\n\n')
    return monotonic() - began_s


def stored(database: Path) -> list[str]:
    """The sessions that have a row, one for each row."""
    return [row["session_id"] for row in read_rows(database, BY_SESSION)]


def assert_whole(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


# Locked


@pytest.mark.fault("lock of 6 s")
def test_somebody_else_holds_the_write_lock(
    fake_upstream: FakeUpstream, tmp_path: Path, seen: Callable[[str], None]
) -> None:
    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
        post(server)
        server.usage_rows(1)
        sessions, slowest_s = [], 0.0
        with closing(sqlite3.connect(server.database, isolation_level=None)) as foreign:
            foreign.execute("begin immediate")
            until_s = monotonic() + LOCK_S
            while monotonic() < until_s:
                sessions.append(new_session())
                slowest_s = max(slowest_s, post(server, sessions[-1]))
                assert fetch(f"{server.url}/dashboard").status == 200
            assert not set(stored(server.database)) & set(sessions), "the lock was none"
            foreign.execute("rollback")
        assert soon(lambda: set(sessions) <= set(stored(server.database)))
        assert len(stored(server.database)) == len(sessions) + 1
    assert slowest_s < LOCK_S / 2
    seen(f"{len(sessions)} requests, the slowest {slowest_s * 1000:.0f} ms, every row there")


@pytest.mark.fault("lock of 6 s")
def test_a_database_that_is_locked_at_the_start(
    fake_upstream: FakeUpstream, tmp_path: Path, seen: Callable[[str], None]
) -> None:
    """Its schema cannot be made yet; the server serves meanwhile."""
    database = tmp_path / "usage.db"
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as foreign:
        foreign.execute("create table others (x)")
        foreign.execute("begin exclusive")
        release = threading.Timer(LOCK_S, lambda: foreign.execute("rollback"))
        release.start()
        try:
            began_s = monotonic()
            with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
                up_s = monotonic() - began_s
                session = new_session()
                assert post(server, session) < LOCK_S / 2
                release.join()
                assert row_of(database, session)["outcome"] == "ok"
        finally:
            release.cancel()
            release.join()
    seen(f"locked at the start: up after {up_s:.1f} s")
    assert up_s < LOCK_S - 1


# Not usable


def a_folder(database: Path) -> None:
    database.mkdir()


def text(database: Path) -> None:
    database.write_bytes(b"this is not a database " * 1000)


def torn(database: Path) -> None:
    """The first page is SQLite's, what follows is not."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("pragma journal_mode = wal")  # as ours are
        connection.execute("create table alembic_version (version_num text)")
        connection.executemany("insert into alembic_version values (?)", [("x" * 900,)] * 50)
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\xff" * (len(content) - 8192) + content[-4096:])


def cut_short(database: Path) -> None:
    torn(database)
    os.truncate(database, 5000)


def content_of(database: Path) -> bytes | list[Path]:
    return sorted(database.iterdir()) if database.is_dir() else database.read_bytes()


@pytest.mark.fault("damaged database")
@pytest.mark.parametrize("damage", [text, torn, cut_short], ids=["text", "torn", "cut short"])
@each_server
def test_a_damaged_database_is_said_and_kept(
    fake_upstream: FakeUpstream, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    database = tmp_path / "usage.db"
    damage(database)
    before = content_of(database)
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, **SERVERS[name]) as server:
        for _ in range(3):
            assert post(server) < 2.0
        ready = fetch(f"{server.url}/readyz")
        assert ready.status == 503
        for page in ("/dashboard", "/api/usage"):
            assert fetch(server.url + page).status == 503
        told = [line for line in server.log().splitlines() if "ERROR" in line and str(database) in line]
        assert told
        assert f"mv {database} {database}.damaged" in told[0]
        assert "Traceback" not in server.log()
        server.kill()  # an orderly end waits 5 s for the database to mend
    assert content_of(database) == before


@pytest.mark.fault("damaged database")
def test_a_database_that_is_replaced_takes_the_rows_that_waited(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    """The advice of the message is good: no restart is needed."""
    database = tmp_path / "usage.db"
    text(database)
    sessions = [new_session() for _ in range(5)]
    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
        for session in sessions:
            post(server, session)
        database.rename(tmp_path / "usage.db.damaged")
        assert soon(lambda: sorted(stored(database)) == sorted(sessions))
        assert fetch(f"{server.url}/readyz").status == 200
        assert database.stat().st_mode & 0o777 == 0o600


@pytest.mark.fault("unwritable database")
@pytest.mark.parametrize("where", ["a folder", "below a file", "nowhere", "not ours"])
@each_server
def test_a_database_that_cannot_be_written(
    fake_upstream: FakeUpstream, tmp_path: Path, name: str, where: str, seen: Callable[[str], None]
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    database = {
        "a folder": tmp_path / "usage.db",
        "below a file": tmp_path / "file" / "usage.db",
        "nowhere": Path("/proc/none/usage.db"),
        "not ours": Path("/proc/version"),  # which even root cannot write to
    }[where]
    if where == "a folder":
        a_folder(database)
    env = {"CCR_ASGI_DATABASE_URL": str(database)}
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, env=env, **SERVERS[name]) as server:
        for _ in range(3):
            assert post(server) < 2.0
        assert fetch(f"{server.url}/readyz").status == 503
        assert fetch(f"{server.url}/dashboard").status == 503
        told = [line for line in server.log().splitlines() if "ERROR" in line and str(database) in line]
        assert told, server.log()
        assert "Traceback" not in server.log()
        server.kill()
    seen(told[0].partition("cannot be used: ")[2].partition(".")[0])
    assert (tmp_path / "file").read_bytes() == b"x"


# Full


@pytest.mark.fault("disk full")
@each_server
def test_a_disk_that_is_full_for_a_while(
    fake_upstream: FakeUpstream, tmp_path: Path, name: str, seen: Callable[[str], None]
) -> None:
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, **SERVERS[name]) as server:
        post(server)
        server.usage_rows(1)
        before = {process_id: resource.prlimit(process_id, resource.RLIMIT_FSIZE) for process_id in processes(server)}
        for process_id, (_, hard) in before.items():
            resource.prlimit(process_id, resource.RLIMIT_FSIZE, (8192, hard))  # log and WAL may not go beyond
        sessions = [new_session() for _ in range(20)]
        slowest_s = max(post(server, session) for session in sessions)
        assert soon(lambda: "takes no rows now" in server.log())
        assert not set(stored(server.database)) & set(sessions)
        assert fetch(f"{server.url}/dashboard").status == 200
        for process_id, limits in before.items():
            resource.prlimit(process_id, resource.RLIMIT_FSIZE, limits)
        assert soon(lambda: set(sessions) <= set(stored(server.database)))
        assert soon(lambda: "takes rows again" in server.log())
        log = server.log()
    assert_whole(server.database)
    assert slowest_s < LOCK_S / 2
    assert "Traceback" not in log
    seen(f"20 requests, the slowest {slowest_s * 1000:.0f} ms; {log.count('takes no rows')} line in the log; all rows")


@pytest.mark.fault("disk full")
@each_server
def test_a_disk_that_is_full_at_the_start(fake_upstream: FakeUpstream, tmp_path: Path, name: str) -> None:
    env = {"CRAMPED_BYTES": "8192"}
    target = "tests.faults.cramped:app"
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, target=target, env=env, **SERVERS[name]) as server:
        sessions = [new_session() for _ in range(3)]
        for session in sessions:
            assert post(server, session) < 2.0
        assert fetch(f"{server.url}/readyz").status == 503
        told = [line for line in server.log().splitlines() if "ERROR" in line and str(server.database) in line]
        assert told, server.log()
        assert "Traceback" not in server.log()
        for process_id in processes(server):
            _, hard = resource.prlimit(process_id, resource.RLIMIT_FSIZE)
            resource.prlimit(process_id, resource.RLIMIT_FSIZE, (hard, hard))
        assert soon(lambda: sorted(stored(server.database)) == sorted(sessions))
        assert fetch(f"{server.url}/readyz").status == 200


# Several workers


@pytest.mark.fault("8 workers on a fresh database")
@pytest.mark.parametrize("name", ["httptools", "granian"])
def test_eight_workers_migrate_once(
    fake_upstream: FakeUpstream, tmp_path: Path, name: str, seen: Callable[[str], None]
) -> None:
    changes_of_one = asyncio.run(migrated_by_one(tmp_path / "alone.db"))
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, workers=8, **SERVERS[name]) as server:
        sessions = [new_session() for _ in range(64)]
        for session in sessions:
            post(server, session)
        assert soon(lambda: sorted(stored(server.database)) == sorted(sessions))
        assert schema_version(server.database) == changes_of_one
        assert len(read_rows(server.database, "select * from alembic_version")) == 1
        server.signal(signal.SIGTERM)
        server.wait()
        assert "Traceback" not in server.log()
        assert "ERROR" not in server.log()
    assert_whole(server.database)
    seen(f"{changes_of_one} schema changes, as by one; 64 rows")


async def migrated_by_one(database: Path) -> int:
    """How often the schema is changed where nobody else does it."""
    store = UsageStore(database)
    await store.start()
    await store.stop()
    return schema_version(database)


def schema_version(database: Path) -> int:
    """How often the schema has been changed."""
    with closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("pragma schema_version").fetchone()
        return int(version)


@pytest.mark.fault("file modes and pragmas")
@each_server
def test_the_files_are_ours_alone(fake_upstream: FakeUpstream, tmp_path: Path, name: str) -> None:
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, **SERVERS[name]) as server:
        post(server)
        server.usage_rows(1)
        files = sorted(tmp_path.glob("usage.db*"))
        assert len(files) >= 3
        assert {file.name: file.stat().st_mode & 0o777 for file in files} == {file.name: 0o600 for file in files}
        with closing(sqlite3.connect(server.database)) as connection:
            assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
