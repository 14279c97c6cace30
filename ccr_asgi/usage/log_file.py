"""The original's usage.jsonl, kept beside the database for those who read it with their own tools."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.tables import iso_utc, storable
from ccr_asgi.wire.json_codec import dumps

logger = logging.getLogger(__name__)


class LogFile:
    """Appends rows to a JSONL file, one line each, in the original's form plus the row's `id`.

    The folder is made if it is not there, the file with mode 0600. A failure to write is logged once until it passes;
    the database has the rows in any case.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._failing = False

    async def append(self, rows: Sequence[UsageRecord]) -> None:
        """Append `rows`; never raises."""
        lines = b"".join(legacy_line(row) for row in rows)
        try:
            await asyncio.to_thread(self._write, lines)
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.error("the usage log %s cannot be written: %s", self._path, error.strerror)
            self._failing = True

    def _write(self, lines: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(lines)


def legacy_line(row: UsageRecord) -> bytes:
    """One line of usage.jsonl: the original's keys, where cache writes are one number and nothing told is 0.

    What these cannot say stands behind them, if there is something to say: which of the cache writes were for an hour,
    and an outcome that is not ok.
    """
    tokens = row.tokens
    parts = {
        "inputTokens": tokens.input or 0,
        "outputTokens": tokens.output or 0,
        "cacheReadTokens": tokens.cache_read or 0,
        "cacheCreationTokens": (tokens.cache_write_5m or 0) + (tokens.cache_write_1h or 0),
    }
    told = {
        "cacheCreation1hTokens": tokens.cache_write_1h or None,
        "outcome": None if row.outcome == "ok" else row.outcome,
    }
    line = {
        "timestamp": iso_utc(row.started_at),
        "provider": storable(row.provider),
        "model": storable(row.model),
        **parts,
        "totalTokens": sum(parts.values()),
        "id": row.id,
        **{key: value for key, value in told.items() if value is not None},
    }
    return dumps(line) + b"\n"
