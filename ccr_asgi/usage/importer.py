"""Takes a usage.jsonl into the usage database: the original's file, or the one that `usage.logFile` keeps.

A line of the original is `{"timestamp", "provider", "model", "inputTokens", "outputTokens", "cacheReadTokens",
"cacheCreationTokens", "totalTokens"}`; ours has an `id` besides (`ccr_asgi.usage.log_file`). What becomes of them:

=====================  ================================================================================================
column                 value
=====================  ================================================================================================
id                     the line's own; else `import_` and a hash of what the line says and of how often it was said
                       before in the file: the same file adds nothing twice, two equal lines are two rows, and of a
                       file that has grown only the new lines come
started_at             `timestamp`; the original took it when the answer ended
provider, model        as written
input, cache, output   as written, but NULL for a 0 that means "not told": in a line without any tokens, and in the
                       original's lines of converted providers, of whose input and cache it knew nothing
cache writes           `cacheCreationTokens`, of which `cacheCreation1hTokens` were for an hour if the line has that,
                       and the others for 5 minutes, as wherever no breakdown was told
outcome                `outcome` if the line has one; else ok, or error where no provider was asked
attempts               1, or 0 where no provider was asked
subscription           whether the caller says that a subscription pays the provider
all others             NULL, 0 or false: the line does not tell
=====================  ================================================================================================

`totalTokens` is the sum of the others and only goes into the hash. Keys beyond these are passed over.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from typing import Any, BinaryIO, cast, get_args

from sqlalchemy import select

from ccr_asgi.usage.errors import StoreUnavailable
from ccr_asgi.usage.record import Outcome, Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import MAX_COUNT, iso_utc, requests, storable
from ccr_asgi.wire.json_codec import dumps, loads

MAX_LINE_BYTES = 64 * 1024
"""A longer line is bad; it is never held in memory."""

MAX_BAD_LINES_TOLD = 100
ROWS_PER_TRANSACTION = 1_000

PATIENCE_S = 60.0
"""How long the import waits for a database that another process has locked."""
RETRY_S = 0.25

_SEEN_CACHE_KIB = 32 * 1024
_BOM = b"\xef\xbb\xbf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_PARTS = ("inputTokens", "cacheReadTokens", "cacheCreationTokens", "outputTokens")
_PASSED_THROUGH = "anthropic"
"""The one provider whose input the original knew, since it only passed its answers through."""


class BadLine(ValueError):
    """A line that cannot be a row; the message says why."""


@dataclass(slots=True)
class ImportSummary:
    """What an import did; it grows while the import runs.

    Attributes:
        read_bytes: How much of the file was read.
        lines: Lines read, blank ones aside.
        imported: Lines that became rows.
        known: Lines whose row was there already.
        bad: Lines that could not become rows.
        first_bad: The first of those, `MAX_BAD_LINES_TOLD` at most: the number, from 1, and the reason.
    """

    read_bytes: int = 0
    lines: int = 0
    imported: int = 0
    known: int = 0
    bad: int = 0
    first_bad: list[tuple[int, str]] = field(default_factory=list)


class Occurrences:
    """Counts how often each line came, on disk: a file may hold more different lines than memory does."""

    def __init__(self) -> None:
        # An empty name is a temporary database of SQLite's, whose file is gone when it is closed. Keyed by time first:
        # lines come nearly in its order, so the table grows at its end.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"""
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_SEEN_CACHE_KIB};
            CREATE TABLE seen (started_at TEXT, content BLOB, times INTEGER, PRIMARY KEY (started_at, content))
            WITHOUT ROWID;
            """
        )

    def count(self, started_at: str, content: bytes) -> int:
        """How often a line of this time and this hash came, this one included."""
        (times,) = self._database.execute(
            "INSERT INTO seen VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times",
            (started_at, content),
        ).fetchone()
        return int(times)

    def close(self) -> None:
        """Forget them all."""
        self._database.close()


async def import_lines(
    file: BinaryIO,
    store: UsageStore,
    *,
    subscriptions: Collection[str] = (),
    advanced: Callable[[ImportSummary], object] = lambda _: None,
) -> ImportSummary:
    """Store the lines of `file` that the database does not have, in memory that does not grow with the file.

    Each transaction is complete in itself: an import that was broken off is completed by the next one.

    Args:
        file: Open for reading bytes, at its beginning.
        store: Started.
        subscriptions: Providers that a subscription pays, so that their rows are billed 0.
        advanced: Called after each transaction.

    Raises:
        StoreUnavailable: The database took no rows for `PATIENCE_S` seconds.
    """
    summary = ImportSummary()
    with closing(Occurrences()) as occurrences:
        rows = _rows(file, summary, subscriptions, occurrences)
        while batch := list(islice(rows, ROWS_PER_TRANSACTION)):
            stored = await _store_patiently(store, batch)
            summary.imported += stored
            summary.known += len(batch) - stored
            advanced(summary)
    advanced(summary)
    return summary


def _rows(
    file: BinaryIO, summary: ImportSummary, subscriptions: Collection[str], occurrences: Occurrences
) -> Iterator[UsageRecord]:
    for number, line in _lines(file, summary):
        summary.lines += 1
        try:
            yield parse_line(line, subscriptions, occurrences)
        except BadLine as error:
            summary.bad += 1
            if len(summary.first_bad) < MAX_BAD_LINES_TOLD:
                summary.first_bad.append((number, str(error)))


def _lines(file: BinaryIO, summary: ImportSummary) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; of one that is too long, no more than shows it."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        summary.read_bytes += len(line)
        if _goes_on(line):
            yield number, line
            while _goes_on(line):
                line = file.readline(MAX_LINE_BYTES + 1)
                summary.read_bytes += len(line)
        elif content := (line.removeprefix(_BOM) if number == 1 else line).strip():
            yield number, content


def _goes_on(piece: bytes) -> bool:
    return len(piece) > MAX_LINE_BYTES and not piece.endswith(b"\n")


async def _store_patiently(store: UsageStore, rows: Sequence[UsageRecord]) -> int:
    """Store `rows`; return how many were new."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await _store(store, rows)
        except StoreUnavailable:
            if time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(RETRY_S)


async def _store(store: UsageStore, rows: Sequence[UsageRecord]) -> int:
    new = {row.id: row for row in rows}
    async with store.reading() as connection:
        for known in (await connection.execute(select(requests.c.id).where(requests.c.id.in_(new)))).scalars():
            del new[known]
    if new:
        await store.insert(list(new.values()))
    return len(new)


# One line


def parse_line(line: bytes, subscriptions: Collection[str], occurrences: Occurrences) -> UsageRecord:
    """The row that `line` becomes; the head of this module says how.

    Raises:
        BadLine: It cannot become one.
    """
    entry = _object(line)
    own_id = _own_id(entry)
    started_at = _moment(entry.get("timestamp"))
    # Our own file has lines of refused requests too, which name no provider.
    provider, model = (_name(entry, key, optional=own_id is not None) for key in ("provider", "model"))
    parts = [_count(entry, key) for key in _PARTS]
    content = [provider, model, *parts, _count(entry, "totalTokens")]
    tokens = _tokens(*parts, zero_is_told=own_id is not None or provider == _PASSED_THROUGH)
    return UsageRecord(
        id=own_id or _import_id(iso_utc(started_at), content, occurrences),
        started_at=started_at,
        provider=provider,
        requested_model=None,
        model=model,
        route_reason=None,
        agent_id=None,
        parent_agent_id=None,
        session_id=None,
        project=None,
        streamed=None,
        status=None,
        outcome=_outcome(entry, "ok" if provider else "error"),
        stop_reason=None,
        error_type=None,
        tokens=_by_life(tokens, _count(entry, "cacheCreation1hTokens")),
        ttft_ms=None,
        duration_ms=None,
        attempts=1 if provider else 0,
        resends=0,
        estimated=False,
        subscription=provider in subscriptions,
    )


def _object(line: bytes) -> Mapping[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        entry = loads(line)
    except ValueError as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise BadLine("not a JSON object")
    return entry


def _own_id(entry: Mapping[str, Any]) -> str | None:
    if "id" not in entry:
        return None
    row_id = entry["id"]
    if not isinstance(row_id, str) or not row_id or storable(row_id) != row_id:
        raise BadLine(f"id: found {_shown(row_id)}; accepted is the id of a row")
    return row_id


def _moment(value: object) -> datetime:
    """A time as ISO 8601 with its offset, or as milliseconds since 1970."""
    moment = None
    with suppress(ValueError, OverflowError):
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = _EPOCH + timedelta(milliseconds=value)
    if moment is None or moment.tzinfo is None or not _FIRST <= moment < _LAST:
        accepted = f"ISO 8601 with a time zone or milliseconds since 1970, from {_FIRST.year} to {_LAST.year - 1}"
        raise BadLine(f"timestamp: found {_shown(value)}; accepted is {accepted}")
    return moment


def _name(entry: Mapping[str, Any], key: str, *, optional: bool) -> str | None:
    value = entry.get(key)
    if (isinstance(value, str) and value) or (value is None and optional):
        return value
    raise BadLine(f"{key}: found {_shown(value)}; accepted is a name")


def _count(entry: Mapping[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is None or (type(value) is int and 0 <= value <= MAX_COUNT):
        return value
    raise BadLine(f"{key}: found {_shown(value)}; accepted is a whole number from 0 to {MAX_COUNT}")


def _outcome(entry: Mapping[str, Any], default: Outcome) -> Outcome:
    value = entry.get("outcome", default)
    if value not in get_args(Outcome):
        raise BadLine(f"outcome: found {_shown(value)}; accepted: {', '.join(get_args(Outcome))}")
    return cast(Outcome, value)


def _tokens(
    input_: int | None, cache_read: int | None, cache_write: int | None, output: int | None, *, zero_is_told: bool
) -> Tokens:
    if not any((input_, cache_read, cache_write, output)):
        return Tokens()
    if not zero_is_told:
        input_, cache_read, cache_write = input_ or None, cache_read or None, cache_write or None
    return Tokens(input=input_, cache_read=cache_read, cache_write_5m=cache_write, output=output)


def _by_life(tokens: Tokens, for_an_hour: int | None) -> Tokens:
    """`tokens` with those cache writes apart that are for an hour."""
    if not for_an_hour:
        return tokens
    written = tokens.cache_write_5m or 0
    if for_an_hour > written:
        raise BadLine(
            f"cacheCreation1hTokens: found {for_an_hour}; accepted is a part of cacheCreationTokens, {written}"
        )
    return replace(tokens, cache_write_5m=written - for_an_hour, cache_write_1h=for_an_hour)


def _import_id(started_at: str, content: Sequence[str | int | None], occurrences: Occurrences) -> str:
    # Never change what is hashed here: whoever imports a file again would have every row twice.
    said = blake2b(dumps([started_at, *content]), digest_size=16).digest()
    times = occurrences.count(started_at, said)
    return "import_" + blake2b(said + times.to_bytes(8, "big"), digest_size=16).hexdigest()


def _shown(value: object) -> str:
    """What was found, short and in ASCII: it may come from anywhere, and is shown on a terminal."""
    return ascii(value)[:60]
