"""Which database holds the usage, and how it is opened: what is particular to SQLite stands here and nowhere else.

One file, `usage.db`, is written by several processes and read by people at the same time. So: WAL (readers never wait
for a writer), BEGIN IMMEDIATE (a writer waits for the lock at its start, where waiting works, instead of failing in the
middle when a read lock cannot grow), a busy timeout, and 0600 for the file and its two companions, which SQLite creates
with the mode of the file.
"""

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ccr_asgi.usage.errors import StoreError, StoreUnavailable

if sys.platform != "win32":
    import fcntl

BUSY_TIMEOUT_MS = 5_000
EXIT_TIMEOUT_S = 2.0
LOCK_TIMEOUT_S = 60.0
READ_CONNECTIONS = 4
WRITE_LOCK = 3_456_001
"""The number of our lock among all the advisory locks of a PostgreSQL database."""

_PRAGMAS = (
    f"busy_timeout = {BUSY_TIMEOUT_MS}",  # first: the others may have to wait
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
)

Use = Literal["writes", "reads", "writes at exit"]

_BEGINNINGS: Mapping[tuple[str, Use], tuple[Sequence[str], str]] = {
    ("sqlite", "writes"): (_PRAGMAS, "BEGIN IMMEDIATE"),
    ("sqlite", "reads"): ((*_PRAGMAS, "query_only = ON"), "BEGIN"),
    ("sqlite", "writes at exit"): (("synchronous = NORMAL", "foreign_keys = ON"), "BEGIN IMMEDIATE"),
    # One writer at a time, as above: what looks for a row and then stores it must not be done by two at once.
    ("postgresql", "writes"): ((), f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"),
    ("postgresql", "reads"): ((), "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
}
"""The pragmas of a new connection, and the first statement of each transaction."""


@dataclass(frozen=True, slots=True)
class Database:
    """One usage database: a SQLite file or, by any other SQLAlchemy URL, a server.

    Attributes:
        url: With an asynchronous driver.
        path: The SQLite file, absolute; None for a server.
    """

    url: URL
    path: Path | None

    @classmethod
    def parse(cls, url_or_path: str | os.PathLike[str]) -> Self:
        """Read a SQLAlchemy URL, or a path, which means SQLite; `~` is expanded.

        Raises:
            StoreError: It is no URL, or a SQLite database in memory, which no two connections share.
        """
        text = os.fspath(url_or_path)
        try:
            url = make_url(text) if "://" in text else URL.create("sqlite", database=text)
        except ArgumentError:
            # The text itself may hold a password.
            raise StoreError("The database is neither a path nor a URL like sqlite:////absolute/path") from None
        if url.get_backend_name() != "sqlite":
            return cls(url, None)
        if not url.database or ":memory:" in url.database or "uri" in url.query:
            raise StoreError(f"{text!r} names no file; give a path or sqlite:////absolute/path")
        path = Path(os.path.abspath(os.path.expanduser(url.database)))
        return cls(url.set(drivername="sqlite+aiosqlite", database=str(path)), path)

    def __str__(self) -> str:
        """The path, or the URL without its password."""
        return str(self.path or self.url.render_as_string(hide_password=True))

    def prepare(self) -> None:
        """Make a SQLite file that is only ours (0600, in a folder of 0700 if there was none) or make it so."""
        if self.path is None:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError, PermissionError):  # not there; or another user's, who decides
                os.chmod(f"{self.path}{suffix}", 0o600)

    def is_blank(self) -> bool:
        """A SQLite file into which nothing was ever written."""
        return self.path is not None and self.path.stat().st_size == 0

    def write_engine(self) -> AsyncEngine:
        """An engine of one connection whose transactions take the write lock when they begin."""
        return self._engine("writes", pool_size=1, max_overflow=0)

    def read_engine(self) -> AsyncEngine:
        """An engine whose connections refuse to write, and see one moment in each transaction."""
        return self._engine("reads", pool_size=READ_CONNECTIONS, max_overflow=0)

    def _engine(self, use: Use, **pool: int) -> AsyncEngine:
        # hide_parameters: an error of SQLAlchemy's would quote the row.
        if self.path is None:
            try:
                engine = create_async_engine(self.url, hide_parameters=True, **pool)
            except (ImportError, ArgumentError, InvalidRequestError) as error:
                raise StoreError(f"The usage database {self} has no driver here: {error}") from error
            set_up(engine.sync_engine, use)
            return engine
        # isolation_level None: the driver's own BEGIN comes too late for DDL, and is never IMMEDIATE
        # (sqlalchemy.dialects.sqlite.base, "Transactions with SQLite").
        engine = create_async_engine(self.url, hide_parameters=True, connect_args={"isolation_level": None}, **pool)
        set_up(engine.sync_engine, use)
        return engine

    def thread_engine(self, use: Use, connections: int) -> Engine | None:
        """An engine for threads; None for a server, which the asynchronous driver speaks to without any."""
        if self.path is None:
            return None
        engine = create_engine(
            self.url.set(drivername="sqlite"),
            hide_parameters=True,
            connect_args={"isolation_level": None},
            pool_size=connections,
            max_overflow=0,
        )
        set_up(engine, use)
        return engine

    def migration_lock(self) -> AbstractAsyncContextManager[None]:
        """The lock under which the schema is changed, across processes; the file beside the database stays."""
        if self.path is None:
            return nullcontext()
        return _file_lock(self.path.with_name(f"{self.path.name}.lock"))

    def exit_engine(self) -> Engine:
        """A writing engine without an event loop or a thread, neither of which can be had at the interpreter's exit.

        Raises:
            StoreUnavailable: A server cannot be written to in this way.
        """
        if self.path is None:
            raise StoreUnavailable("only a SQLite database can be written to at exit")
        # mode=rw: a file that is not there is not made, for it would be empty and readable by others.
        uri = f"{self.path.as_uri()}?mode=rw"

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(uri, timeout=EXIT_TIMEOUT_S, uri=True, isolation_level=None)

        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
        set_up(engine, "writes at exit")
        return engine


def set_up(engine: Engine, use: Use) -> None:
    """Have each connection of `engine`, and each transaction, begin as `use` demands of its kind of database."""
    pragmas, begin = _BEGINNINGS.get((engine.dialect.name, use), ((), None))

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def send_begin(connection: Connection) -> None:
        if begin is not None:
            connection.exec_driver_sql(begin)


@asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline_s:
                raise StoreError(
                    f"Another process has held {path} for {LOCK_TIMEOUT_S:.0f} s; end that one and start again"
                )
            await asyncio.sleep(0.02)
        yield
    finally:
        os.close(descriptor)  # which also gives the lock back


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True  # BEGIN IMMEDIATE alone keeps two migrations apart
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
