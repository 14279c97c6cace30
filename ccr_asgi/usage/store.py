"""The usage database, open: rows go in by `insert`, queries read through `reading`."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from importlib import import_module
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, Engine, exc, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ccr_asgi.usage import changes
from ccr_asgi.usage.batch import Value, prepare, prepare_repricing
from ccr_asgi.usage.database import READ_CONNECTIONS, Database
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.tables import SCHEMA_REVISION, iso_utc

if TYPE_CHECKING:
    from ccr_asgi.pricing import Valuation

logger = getLogger(__name__)

START_PATIENCE_S = 30.0
"""How long a start waits for a database that another process has locked."""

Answer = TypeVar("Answer")

_REVISION = text("SELECT version_num FROM alembic_version")


class UsageStore:
    """One process's access to the usage database; it belongs to the event loop that called `start`.

    Args:
        database: A path, which means SQLite, or a SQLAlchemy URL.
        value: Tells what a record is worth; called off the event loop. Without it rows have no price.

    Raises:
        StoreError: `database` is neither.
    """

    def __init__(self, database: str | os.PathLike[str], *, value: Value | None = None) -> None:
        self._database = Database.parse(database)
        self._value = value
        self._writer: AsyncEngine | None = None
        self._reader: AsyncEngine | None = None
        self._threads: _Threads | None = None

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a server."""
        return self._database.path

    async def start(self) -> None:
        """Open the database and bring its schema up to date, once among all processes that start together.

        Raises:
            StoreError: It cannot be used; the message says why and how to mend it, and a damaged file stays as it is.
                A later `start` tries again.
        """
        if self._writer is not None:
            return
        writer, reader = self._database.write_engine(), self._database.read_engine()
        try:
            self._database.prepare()
            await self._migrate_patiently(writer, reader)
            self._writer, self._reader = writer, reader
            self._threads = _Threads.over(self._database)
        except (StoreError, exc.SQLAlchemyError, OSError) as error:
            raise StoreError(self._refusal(error)) from error
        finally:
            if self._writer is None:
                await _dispose(writer, reader)

    async def stop(self) -> None:
        """Close all connections; the last process to do so leaves one file, without its WAL."""
        engines, self._writer, self._reader = (self._writer, self._reader), None, None
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.close)
        await _dispose(*engines)

    async def insert(self, rows: Sequence[UsageRecord]) -> None:
        """Store `rows` in one transaction; a row whose id is there already is left as it is.

        Raises:
            StoreUnavailable: None of them is stored, and a later try may succeed.
            sqlalchemy.exc.SQLAlchemyError: None of them is stored, since at least one cannot be.
        """
        batch = await asyncio.to_thread(prepare, rows, self._value)
        skipped = await self._change(lambda connection: changes.insert(connection, batch))
        if skipped:
            logger.warning("%d usage rows were already stored under the same id", skipped)

    async def reprice(self, valuations: Mapping[str, "Valuation"], at: datetime) -> int:
        """Store new prices of stored requests, by their id, beside the original ones, in one transaction.

        Returns for how many: an id that is not there is passed over. Raises as `insert` does.
        """
        repricing = prepare_repricing(valuations, at)
        return await self._change(lambda connection: changes.reprice(connection, repricing))

    async def delete_between(self, start: datetime, end: datetime) -> int:
        """Delete the requests that began from `start` on and before `end`, in one transaction; return how many.

        Raises as `insert` does.
        """
        moments = iso_utc(start), iso_utc(end)
        return await self._change(lambda connection: changes.delete_between(connection, *moments))

    async def _change(self, change: Callable[[Connection], int]) -> int:
        """Run `change` in a transaction of its own; raises as `insert` does."""
        if self._writer is None:
            raise StoreUnavailable("the usage database is not open")
        try:
            if self._threads is not None:
                return await self._threads.change(change)
            async with self._writer.begin() as connection:
                return await connection.run_sync(change)
        except (exc.DBAPIError, exc.TimeoutError, OSError) as error:
            if _may_pass(error):
                raise StoreUnavailable(_reason(error)) from None
            raise

    def insert_sync(self, rows: Sequence[UsageRecord]) -> None:
        """As `insert`, without an event loop or a thread: for the interpreter's exit.

        The schema may not be there yet, if the exit comes while `start` makes it.
        """
        try:
            with self._database.exit_engine().begin() as connection:
                if not (_has_revision(connection) and connection.execute(_REVISION).scalar() == SCHEMA_REVISION):
                    import_module("ccr_asgi.usage.migrate").upgrade(connection)
                changes.insert(connection, prepare(rows, self._value))
        except exc.DBAPIError as error:
            if _may_pass(error):
                raise StoreUnavailable(_reason(error)) from None
            raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection that cannot write and sees the database as it is at its first query, until it is left.

        Raises:
            StoreUnavailable: The database is not open. Errors of the queries come as SQLAlchemy raises them.
        """
        if self._reader is None:
            raise StoreUnavailable("the usage database is not open")
        async with self._reader.connect() as connection:
            yield connection

    async def read(self, ask: Callable[[Connection], Answer]) -> Answer:
        """What `ask` makes of the database, through a connection as `reading` has it: for what asks several things.

        Raises:
            StoreUnavailable: The database is not open. Whatever `ask` raises comes through.
        """
        if self._threads is not None:
            return await self._threads.read(ask)
        async with self.reading() as connection:
            return await connection.run_sync(ask)

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            StoreUnavailable: It does not.
        """
        try:
            async with self.reading() as connection:
                await connection.execute(_REVISION)
        except (exc.SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(_reason(error)) from None

    async def _migrate_patiently(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        deadline_s = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                return await self._migrate(writer, reader)
            except exc.OperationalError as error:
                # Two processes that turn a file to WAL at once get "locked" without the busy timeout.
                if not _is_locked(error) or time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(0.05)

    async def _migrate(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        if await self._revision(reader) == SCHEMA_REVISION:
            return
        async with self._database.migration_lock():
            if await self._revision(reader) == SCHEMA_REVISION:
                return
            # In a thread, since importing Alembic takes longer than a running request should wait.
            migrate = await asyncio.to_thread(import_module, "ccr_asgi.usage.migrate")
            async with writer.begin() as connection:
                await connection.run_sync(migrate.upgrade)

    async def _revision(self, reader: AsyncEngine) -> str | None:
        """The schema's revision by one SELECT; None where there is no schema yet."""
        # A new file is not opened outside the lock: opening it would write to it (journal_mode).
        if self._database.is_blank():
            return None
        try:
            async with reader.connect() as connection:
                revision: str | None = (await connection.execute(_REVISION)).scalar()
                return revision
        except (exc.OperationalError, exc.ProgrammingError):
            async with reader.connect() as connection:
                if await connection.run_sync(_has_revision):
                    raise
            return None

    def _refusal(self, error: Exception) -> str:
        message = f"The usage database {self._database} cannot be used: {_reason(error)}."
        if not isinstance(error, exc.DBAPIError) or self._database.path is None:
            return message
        if _is_locked(error):
            return f"{message} Another program holds it; end that one, or wait until it is done."
        return (
            f"{message} It was left as it is. Restore a backup over it, or move it away to begin a new one: "
            f"mv {self._database} {self._database}.damaged"
        )


class _Threads:
    """Threads that read and one that writes, each with a connection to a SQLite file, made when they are needed.

    A whole transaction goes to one of them. The asynchronous driver has a thread too, but goes there and back four
    times for each statement: that took a row that comes alone 2 ms, and a page as long as its queries took themselves.
    """

    def __init__(self, reader: Engine, writer: Engine) -> None:
        self._reader, self._writer = reader, writer
        self._reading = ThreadPoolExecutor(READ_CONNECTIONS, thread_name_prefix="usage-reader")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="usage-writer")

    @classmethod
    def over(cls, database: Database) -> "_Threads | None":
        """Threads for `database`; None if it is a server."""
        reader = database.thread_engine("reads", READ_CONNECTIONS)
        writer = database.thread_engine("writes", 1)
        return None if reader is None or writer is None else cls(reader, writer)

    async def read(self, ask: Callable[[Connection], Answer]) -> Answer:
        def asked() -> Answer:
            with self._reader.connect() as connection:
                return ask(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reading, asked)

    async def change(self, change: Callable[[Connection], Answer]) -> Answer:
        def changed() -> Answer:
            with self._writer.begin() as connection:
                return change(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writing, changed)

    def close(self) -> None:
        """End them when they have done what they are at."""
        for executor, engine in ((self._writing, self._writer), (self._reading, self._reader)):
            executor.shutdown()
            engine.dispose()


async def _dispose(*engines: AsyncEngine | None) -> None:
    for engine in engines:
        if engine is not None:
            await engine.dispose()


def _has_revision(connection: Connection) -> bool:
    return inspect(connection).has_table("alembic_version")


def _is_locked(error: exc.DBAPIError) -> bool:
    return "locked" in _reason(error)


def _may_pass(error: Exception) -> bool:
    """Whether the same rows may be stored later: it was the database's state that refused them, not their values."""
    if isinstance(error, exc.DBAPIError) and not error.connection_invalidated:
        return not isinstance(error, (exc.IntegrityError, exc.DataError, exc.ProgrammingError, exc.InterfaceError))
    return True


def _reason(error: Exception) -> str:
    """What the database says, without SQLAlchemy's statement; of a server's, the first line (the next quote rows)."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return (str(cause).splitlines() or [""])[0] or type(cause).__name__
