"""What a usage database needs besides rows: a backup, its space back, an end to old rows.

Backup and vacuum are SQLite's own, and run in the calling thread on a connection of their own; a database server has
tools for both. Retention is what the server runs, beside its traffic: an hour's rows at a time, with pauses.
"""

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path

from sqlalchemy import exc, func, inspect, select, text

from ccr_asgi.usage.database import BUSY_TIMEOUT_MS, Database
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import requests

logger = getLogger(__name__)

PAGES_PER_STEP = 1_000
"""Pages copied between two reports of progress: 4 MB."""

RETENTION_INTERVAL_S = 24 * 3600.0
RETENTION_RETRY_S = 600.0
RETENTION_PAUSE_S = 0.1
"""Between two transactions that delete an hour's rows: in it, new rows are written."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum did.

    Attributes:
        before_bytes, after_bytes: The database and its WAL.
        truncated: False if somebody still reads an older state: the file shrinks when that one is done.
    """

    before_bytes: int
    after_bytes: int
    truncated: bool


def backup(database: Database, target: Path, advanced: Callable[[int, int], object] = lambda _done, _all: None) -> None:
    """Copy the database as it is now to the new file `target` (0600), while others go on to write.

    The copy is checked, and is there whole or not at all.

    Args:
        database: A SQLite one.
        target: A path where nothing is, in a folder that is there.
        advanced: Called with the pages copied and all pages.

    Raises:
        StoreError: There is no such database, something is at `target`, or the database is damaged.
        StoreUnavailable: It is locked, or the disk is full.
    """
    with (
        _new_file(target) as partial,
        _opened(database) as source,
        closing(sqlite3.connect(partial, isolation_level=None)) as copy,
    ):
        _copy(source, copy, advanced)


@contextmanager
def _new_file(target: Path) -> Iterator[str]:
    """A file to write to, beside `target`, that becomes it in the end; an error leaves neither of them."""
    try:
        # Taken first, so that of two writers of one file only one begins.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StoreError(f"{target} is there already, and a backup overwrites nothing; name another file") from None
    except OSError as error:
        raise StoreError(f"{target} cannot be made: {error.strerror}") from None
    written = [str(target)]
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".partial", dir=target.parent)
        os.close(descriptor)
        written.append(partial)
        yield partial
        os.replace(partial, target)
    except BaseException:
        for path in written:
            os.unlink(path)
        raise


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, advanced: Callable[[int, int], object]) -> None:
    # Inside a read transaction the source stays what it is. Without one, each row that others write between two steps
    # would make the copy begin anew, for ever on a busy database.
    source.execute("BEGIN")
    source.execute("SELECT 1 FROM sqlite_master").fetchone()
    source.backup(copy, pages=PAGES_PER_STEP, progress=lambda _, left, pages: advanced(pages - left, pages))
    source.execute("COMMIT")
    copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    ((found,),) = copy.execute("PRAGMA quick_check(1)")
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def vacuum(database: Database) -> Vacuumed:
    """Write the database anew without the space of deleted rows; it needs as much free disk as the database has rows.

    Others can read meanwhile; writers wait.

    Raises:
        StoreError: There is no such database, it is no SQLite one, or it is damaged.
        StoreUnavailable: Somebody else writes to it, or the disk is full.
    """
    with _opened(database) as connection:
        before_bytes = _size_bytes(database)
        connection.execute("VACUUM")
        ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Vacuumed(before_bytes, _size_bytes(database), truncated=not busy)


class Retention:
    """Deletes the rows that are older than `days`, when it begins and once a day.

    Whole hours go, so a row may stay for an hour more, and each with its sums: what the database says of an hour is
    always the sum of the rows that it has.

    Args:
        store: Where the rows are; while it is not open, nothing is deleted.
        days: More than 0.
        now: The clock.
    """

    def __init__(self, store: UsageStore, days: float, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._days = days
        self._now = now
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep to it until `stop` is called; a database that cannot be written to now is tried again later."""
        while not self._stopping.is_set():
            wait_s = RETENTION_INTERVAL_S
            try:
                if deleted := await self.delete_old():
                    logger.info("%d usage rows were older than %g days and are deleted", deleted, self._days)
            except (StoreUnavailable, exc.SQLAlchemyError) as error:
                logger.warning("old usage rows are not deleted now: %s", error)
                wait_s = RETENTION_RETRY_S
            await self._wait(wait_s)

    def stop(self) -> None:
        """Have `run` end soon; a transaction that is under way is completed."""
        self._stopping.set()

    async def delete_old(self) -> int:
        """Delete the hours that are too old now, the oldest first; return how many rows that were.

        Raises:
            StoreUnavailable: The database cannot be written to; what was deleted before stays deleted.
        """
        end = _hour_of(self._now() - timedelta(days=self._days))
        deleted = 0
        while not self._stopping.is_set() and (hour := await self._oldest_hour()) is not None and hour < end:
            deleted += await self._store.delete_between(hour, hour + timedelta(hours=1))
            await self._wait(RETENTION_PAUSE_S)
        return deleted

    async def _oldest_hour(self) -> datetime | None:
        async with self._store.reading() as connection:
            oldest: str | None = (await connection.execute(select(func.min(requests.c.started_at)))).scalar()
        return None if oldest is None else _hour_of(datetime.fromisoformat(oldest))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def schema_revision(database: Database) -> str | None:
    """The revision of the database's schema; None where there is no schema, or none that can be read."""
    if database.path is not None and not (database.path.exists() and database.path.stat().st_size):
        return None
    engine = database.read_engine()
    try:
        async with engine.connect() as connection:
            if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
                return None
            revision: str | None = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
            return revision
    except (exc.SQLAlchemyError, OSError):
        return None
    finally:
        await engine.dispose()


def _size_bytes(database: Database) -> int:
    sizes = 0
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            sizes += os.stat(f"{database.path}{suffix}").st_size
    return sizes


@contextmanager
def _opened(database: Database) -> Iterator[sqlite3.Connection]:
    """A connection to a SQLite database that is there, whose errors are told in our terms."""
    if database.path is None:
        raise StoreError(f"{database} is not SQLite; use the database server's own tools for this")
    if not database.path.exists():
        raise StoreError(f"there is no usage database {database}")
    try:
        # mode=rw: where there is no file, none is made.
        uri = f"{database.path.as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
        with closing(connection):
            yield connection
    except sqlite3.OperationalError as error:
        busy = "locked" in str(error)
        advice = "; another program writes to it: try again when that one is done, or stop it first" if busy else ""
        raise StoreUnavailable(f"{database}: {error}{advice}") from None
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{database} is damaged: {error}") from None
