"""The queue and its task: nothing waits for the database, and nothing is lost that need not be."""

import asyncio
import contextvars
import logging
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ccr_asgi.usage import database
from ccr_asgi.usage.errors import StoreUnavailable
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.writer import UsageWriter
from tests.usage.records import record, unstorable


class FakeStore:
    """Takes rows as the store does: all or none, unless one is `bad`, and only while it is `open`."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.batches: list[int] = []
        self.bad: set[str] = set()
        self.available = asyncio.Event()
        self.available.set()
        self.refusals = 0
        self.held: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def insert(self, rows: Sequence[UsageRecord]) -> None:
        self.entered.set()
        if self.held is not None:
            await self.held.wait()
        self.insert_sync(rows)

    def insert_sync(self, rows: Sequence[UsageRecord]) -> None:
        if not self.available.is_set():
            self.refusals += 1
            raise StoreUnavailable("database is locked")
        ids = [row.id for row in rows]
        if self.bad.intersection(ids):
            raise ValueError(f"cannot store {ids}")
        self.rows += ids
        self.batches.append(len(ids))


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def writer(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UsageWriter]:
    monkeypatch.setattr("ccr_asgi.usage.writer.FIRST_RETRY_S", 0.001)
    writer = UsageWriter(store.insert, commit_interval_s=0.01)
    writer.start()
    yield writer
    await writer.stop()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; the test's own time limit says when it never comes."""
    while not condition():  # noqa: ASYNC110 -- counters announce nothing
        await asyncio.sleep(0.001)


async def test_rows_are_stored_in_order_and_together(writer: UsageWriter, store: FakeStore) -> None:
    for number in range(5):
        writer.record(record(f"req_{number}"))
    await until(lambda: writer.written == 5)
    assert store.rows == ["req_0", "req_1", "req_2", "req_3", "req_4"]
    assert store.batches == [5]
    assert (writer.queued, writer.dropped, writer.failed) == (0, 0, 0)


async def test_later_rows_are_stored_too(writer: UsageWriter, store: FakeStore) -> None:
    for number in range(3):
        writer.record(record(f"req_{number}"))
        await until(lambda: writer.queued == 0)
    assert store.batches == [1, 1, 1]


async def test_a_long_queue_goes_in_batches(store: FakeStore) -> None:
    writer = UsageWriter(store.insert, commit_interval_s=0.01, max_batch=4)
    for number in range(10):
        writer.record(record(f"req_{number}"))
    writer.start()
    await writer.stop()
    assert store.batches == [4, 4, 2]


async def test_rows_of_before_the_start_are_stored(store: FakeStore) -> None:
    writer = UsageWriter(store.insert, commit_interval_s=0.01)
    writer.record(record())
    writer.start()
    await until(lambda: writer.written == 1)
    await writer.stop()


async def test_a_full_queue_drops_and_counts(store: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
    writer = UsageWriter(store.insert, max_queue=3, commit_interval_s=0.01)
    for number in range(5):
        writer.record(record(f"req_{number}"))
    assert (writer.queued, writer.dropped) == (3, 2)
    assert caplog.text.count("usage rows are dropped") == 1
    writer.start()
    await writer.stop()
    assert store.rows == ["req_0", "req_1", "req_2"]
    assert "2 usage rows were dropped" in caplog.text
    for number in range(5):
        writer.record(record(f"req_{number}"))
    assert caplog.text.count("usage rows are dropped") == 2


async def test_an_unavailable_database_costs_no_row(
    writer: UsageWriter, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.available.clear()
    writer.record(record("req_1"))
    await until(lambda: store.refusals >= 3)
    writer.record(record("req_2"))
    assert (writer.queued, writer.written) == (2, 0)
    store.available.set()
    await until(lambda: writer.written == 2)
    assert store.rows == ["req_1", "req_2"]
    assert caplog.text.count("takes no rows now") == 1
    assert caplog.text.count("takes rows again") == 1


async def test_one_bad_row_loses_no_other(
    writer: UsageWriter, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.bad = {"req_1", "req_3"}
    for number in range(5):
        writer.record(record(f"req_{number}"))
    await until(lambda: writer.queued == 0)
    assert store.rows == ["req_0", "req_2", "req_4"]
    assert (writer.written, writer.failed) == (3, 2)
    assert caplog.text.count("cannot be stored (ValueError)") == 1
    assert "req_" not in caplog.text
    for number in range(5, 8):
        writer.record(record(f"req_{number}"))
    await until(lambda: writer.queued == 0)
    assert store.batches[-1] == 3, "after the bad batch rows go together again"


async def test_an_outage_among_single_rows_costs_no_row(writer: UsageWriter, store: FakeStore) -> None:
    store.bad = {"req_0"}
    for number in range(3):
        writer.record(record(f"req_{number}"))
    await until(lambda: writer.failed == 1)
    store.available.clear()
    await until(lambda: writer.queued == 0 or store.refusals > 0)
    store.available.set()
    await until(lambda: writer.queued == 0)
    assert store.rows == ["req_1", "req_2"]


async def test_stop_stores_what_waits(store: FakeStore) -> None:
    writer = UsageWriter(store.insert, commit_interval_s=3600)
    writer.start()
    writer.record(record())
    await writer.stop()
    assert store.rows == ["req_1"]
    await writer.stop()


async def test_stop_without_rows_or_start_ends_at_once(store: FakeStore) -> None:
    writer = UsageWriter(store.insert)
    await writer.stop()
    started = UsageWriter(store.insert)
    started.start()
    await started.stop()
    assert store.rows == []


async def test_stop_waits_for_a_commit_and_never_cancels_it(store: FakeStore) -> None:
    store.held = asyncio.Event()
    writer = UsageWriter(store.insert, commit_interval_s=0)
    writer.start()
    writer.record(record("req_1"))
    await store.entered.wait()
    writer.record(record("req_2"))
    stopping = asyncio.ensure_future(writer.stop())
    await asyncio.sleep(0)
    store.held.set()
    await stopping
    assert store.rows == ["req_1", "req_2"]


async def test_stop_gives_up_in_time_and_leaves_the_rest_to_the_last_chance(
    store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.available.clear()
    writer = UsageWriter(store.insert, commit_interval_s=0)
    writer.start()
    writer.record(record())
    await writer.stop(timeout_s=0.01)
    assert "1 usage rows are not stored" in caplog.text
    store.available.set()
    writer.flush_sync(store.insert_sync)
    assert store.rows == ["req_1"]
    assert (writer.queued, writer.written) == (0, 1)


async def test_a_row_after_stop_waits_for_the_last_chance(store: FakeStore) -> None:
    writer = UsageWriter(store.insert)
    writer.start()
    await writer.stop()
    writer.record(record())
    writer.flush_sync(store.insert_sync)
    assert store.rows == ["req_1"]


async def test_a_cancelled_commit_loses_nothing(store: FakeStore) -> None:
    store.held = asyncio.Event()
    writer = UsageWriter(store.insert, commit_interval_s=0)
    writer.start()
    writer.record(record())
    await store.entered.wait()
    assert writer._task is not None
    writer._task.cancel()
    with suppress(asyncio.CancelledError):
        await writer._task
    writer.flush_sync(store.insert_sync)
    assert store.rows == ["req_1"]


def test_a_row_after_the_end_of_the_loop_waits_for_the_last_chance(store: FakeStore) -> None:
    writer = UsageWriter(store.insert)
    loop = asyncio.new_event_loop()

    async def start() -> None:
        writer.start()
        await asyncio.sleep(0)

    loop.run_until_complete(start())
    task = writer._task
    loop.close()
    writer.record(record())
    assert writer.queued == 1
    writer.flush_sync(store.insert_sync)
    assert store.rows == ["req_1"]
    # The loop is gone with the task in it; what asyncio says about that is not this test's matter.
    assert task is not None
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # not in typeshed


async def test_the_last_chance_tries_bad_rows_alone(store: FakeStore) -> None:
    store.bad = {"req_1"}
    writer = UsageWriter(store.insert)
    for number in range(3):
        writer.record(record(f"req_{number}"))
    writer.flush_sync(store.insert_sync)
    assert store.rows == ["req_0", "req_2"]
    assert (writer.written, writer.failed, writer.queued) == (2, 1, 0)


async def test_a_lost_last_chance_is_counted_and_said(store: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
    store.available.clear()
    writer = UsageWriter(store.insert)
    writer.record(record())
    writer.flush_sync(store.insert_sync)
    assert (writer.failed, writer.queued) == (1, 0)
    assert "1 usage rows are lost at exit: database is locked" in caplog.text


async def test_the_task_keeps_nothing_of_the_request_that_started_it(store: FakeStore) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="empty")
    seen: list[str] = []

    async def insert(rows: Sequence[UsageRecord]) -> None:
        seen.append(variable.get())

    variable.set("of the request")
    writer = UsageWriter(insert, commit_interval_s=0)
    writer.start()
    writer.record(record())
    await writer.stop()
    assert seen == ["empty"]


# With the real store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def stored(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM v_requests ORDER BY id")]


async def test_a_lock_held_by_someone_else_costs_no_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_PRAGMAS", ("busy_timeout = 20", *database._PRAGMAS[1:]))
    store = UsageStore(path)
    await store.start()
    writer = UsageWriter(store.insert, commit_interval_s=0.001)
    writer.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(10):
            writer.record(record(f"req_{number}"))
            await asyncio.sleep(0.005)
        await until(lambda: "takes no rows now" in caplog.text)
        other.execute("ROLLBACK")
    await writer.stop()
    await store.stop()
    assert stored(path) == [f"req_{number}" for number in range(10)]
    assert (writer.written, writer.failed, writer.dropped) == (10, 0, 0)


async def test_a_row_the_database_refuses_loses_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ccr_asgi")
    store = UsageStore(path)
    await store.start()
    writer = UsageWriter(store.insert)
    for row in (record("req_0"), unstorable("req_1"), record("req_2")):
        writer.record(row)
    writer.start()
    await writer.stop()
    await store.stop()
    assert stored(path) == ["req_0", "req_2"]
    assert writer.failed == 1
    assert "IntegrityError" in caplog.text
    assert "no such outcome" not in caplog.text


async def test_others_read_the_view_while_rows_are_written(path: Path) -> None:
    store = UsageStore(path)
    await store.start()
    writer = UsageWriter(store.insert, commit_interval_s=0.001)
    writer.start()
    for number in range(200):
        writer.record(record(f"req_{number:03}"))
        if number % 10 == 0:
            at_least = writer.written
            seen = await asyncio.to_thread(stored, path)
            assert at_least <= len(seen)
            assert seen == [f"req_{n:03}" for n in range(len(seen))]
    await writer.stop()
    await store.stop()
    assert len(stored(path)) == 200


PROCESS = """
import asyncio, atexit, signal, sys
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.writer import UsageWriter
from tests.usage.records import record

async def main():
    store = UsageStore(sys.argv[1])
    await store.start()
    writer = UsageWriter(store.insert)
    atexit.register(writer.flush_sync, store.insert_sync)
    writer.start()
    for number in range(10):
        writer.record(record(f"req_{number}"))
    if sys.argv[2] == "kill":
        await asyncio.sleep(2)
        signal.raise_signal(signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("end", "returncode"),
    [
        pytest.param("exit", 0, id="at an exit without a lifespan all rows are stored"),
        pytest.param("kill", -signal.SIGKILL, id="kill -9 loses no row that is 2 s old"),
    ],
)
def test_the_end_of_a_process(end: str, returncode: int, path: Path) -> None:
    # -W ignore: a loop that ends without `stop` leaves connections open, and Python says so.
    command = [sys.executable, "-W", "ignore", "-c", PROCESS, str(path), end]
    assert subprocess.run(command, check=False).returncode == returncode
    assert stored(path) == [f"req_{number}" for number in range(10)]
