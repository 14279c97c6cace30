"""The only ways in which stored usage changes, each inside the transaction that its connection is in.

Each keeps the rollup true. Statements are plain and the same on SQLite and PostgreSQL.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, Executable, Table, delete, select, text

from ccr_asgi.usage import rollup
from ccr_asgi.usage.batch import Batch, Repricing
from ccr_asgi.usage.rows import Row
from ccr_asgi.usage.tables import attempts, prices, quota, repricings, requests

T = TypeVar("T")

ROWS_PER_STATEMENT = 100
"""Binding a row's values takes 20 µs, in which nothing else runs here: between statements traffic goes on."""


def insert(connection: Connection, batch: Batch) -> int:
    """Store `batch`; return how many of its requests were there already, which are left as they are."""
    new = _new(connection, batch.requests)
    ids = {row["id"] for row in new}
    _execute(connection, UPSERT_PRICE, batch.prices)
    _execute(connection, INSERT_REQUEST, new)
    for some in _parts([row["id"] for row in new]):
        rollup.add(connection, some)
    _execute(connection, INSERT_ATTEMPT, [row for row in batch.attempts if row["request_id"] in ids])
    _execute(connection, UPSERT_QUOTA, batch.quota)
    return len(batch.requests) - len(new)


def reprice(connection: Connection, repricing: Repricing) -> int:
    """Store new prices beside the original ones; return for how many requests, since unknown ids are passed over."""
    known = _known(connection, [row["request_id"] for row in repricing.repricings])
    priced = [row for row in repricing.repricings if row["request_id"] in known]
    _execute(connection, UPSERT_PRICE, repricing.prices)
    for some in _parts(priced):
        ids = [row["request_id"] for row in some]
        rollup.subtract(connection, ids)
        connection.execute(UPSERT_REPRICING, some)
        rollup.add(connection, ids)
    return len(known)


def delete_between(connection: Connection, start: str, end: str) -> int:
    """Delete the requests that began from `start` on and before `end`, with all that belongs to them; return how many.

    The moments are written as the database writes them (`tables.iso_utc`).
    """
    gone = requests.c.started_at >= start, requests.c.started_at < end
    ids = connection.execute(select(requests.c.id).where(*gone)).scalars().all()
    for some in _parts(ids):
        rollup.subtract(connection, some)
    connection.execute(delete(requests).where(*gone))
    rollup.sweep(connection, start, end)
    return len(ids)


def _new(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """The rows whose id is not stored yet, each id once. The write lock is held, so nobody else stores it meanwhile."""
    new: dict[str, Row] = {}
    for row in rows:
        new.setdefault(row["id"], row)
    for request_id in _known(connection, list(new)):
        del new[request_id]
    return list(new.values())


def _known(connection: Connection, ids: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for some in _parts(ids):
        known.update(connection.execute(select(requests.c.id).where(requests.c.id.in_(some))).scalars())
    return known


def _execute(connection: Connection, statement: Executable, rows: Sequence[Row]) -> None:
    for some in _parts(rows):
        connection.execute(statement, some)


def _parts(all_of_them: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(all_of_them), ROWS_PER_STATEMENT):
        yield all_of_them[start : start + ROWS_PER_STATEMENT]


def _inserting(table: Table, otherwise: str = "NOTHING") -> Executable:
    """The statement that stores a row by its columns' names, and what it does where its key is there already."""
    names, keys = table.columns.keys(), table.primary_key.columns.keys()
    values = ", ".join(f":{name}" for name in names)
    return text(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}) "  # noqa: S608 -- names of ours
        f"ON CONFLICT ({', '.join(keys)}) DO {otherwise}"
    )


def _replacing(table: Table) -> str:
    keys = table.primary_key.columns.keys()
    names = [name for name in table.columns.keys() if name not in keys]  # noqa: SIM118 -- iterating yields columns
    return "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in names)


INSERT_REQUEST = _inserting(requests)
INSERT_ATTEMPT = _inserting(attempts)
UPSERT_PRICE = _inserting(
    prices,
    "UPDATE SET first_used_at = excluded.first_used_at WHERE excluded.first_used_at < prices.first_used_at",
)
UPSERT_QUOTA = _inserting(quota, f"{_replacing(quota)} WHERE excluded.observed_at > quota.observed_at")
UPSERT_REPRICING = _inserting(repricings, _replacing(repricings))
