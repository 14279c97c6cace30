"""The strip at the top of the dashboard: how the providers have answered of late, the database, the price list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, text

from ccr_asgi.config import Provider
from ccr_asgi.pricing import installed_on
from ccr_asgi.usage.tables import iso_utc

State = Literal["answers", "some errors", "failing", "quiet", "no key"]

LATELY = timedelta(hours=1)
"""What happened before tells nothing of now."""

_OWN_FAULTS = "status IS NULL OR status >= 500 OR status IN (401, 402, 403, 408, 429)"
"""The failures that tell something of the provider; the others tell of the request."""

# A link that failed and was made good by another stands in no row of its own.
_LATELY = text(f"""
SELECT provider, COUNT(*) AS asked, COUNT(CASE WHEN failed THEN 1 END) AS failed,
       MAX(CASE WHEN NOT failed THEN started_at END) AS answered_at,
       MAX(CASE WHEN failed THEN started_at END) AS failed_at
FROM (SELECT provider, started_at, outcome = 'truncated' OR (outcome = 'error' AND ({_OWN_FAULTS})) AS failed
      FROM requests WHERE started_at >= :since AND provider IS NOT NULL AND attempts <= 1
      UNION ALL
      SELECT tried.provider, started_at,
             tried.error_type IS NOT NULL AND ({_OWN_FAULTS.replace("status", "tried.status")})
      FROM requests JOIN attempts AS tried ON tried.request_id = requests.id
      WHERE started_at >= :since AND attempts > 1) AS tries
GROUP BY provider
""")  # noqa: S608 -- words of ours

_SOURCE = text("SELECT source FROM prices WHERE source <> 'config' ORDER BY first_used_at DESC, source LIMIT 1")
_STORED = text(
    "SELECT COALESCE(SUM(requests), 0), COALESCE(SUM(billed_micro_usd + list_micro_usd + saved_micro_usd), 0) "
    "FROM rollup WHERE cube = 'all' AND minutes = 1440 AND name = ''"
)
"""How many requests are stored, and what they are worth together."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How a provider has answered within `LATELY`.

    Attributes:
        name: As configured; or as it was once, where rows name it.
        state: `failing` means that nothing has worked since the last failure.
        asked: How often it was asked.
        failed: How often it failed for a reason of its own.
    """

    name: str
    state: State
    asked: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """What the strip shows.

    Attributes:
        providers: Those that are configured, in their order, then any others that were asked lately.
        requests: How many are stored in all.
        size_bytes: Of the database's files; None of a server.
        price_source: The list that the newest prices are from, with its version; None before the first.
        prices_installed_on: Since when that list is installed here.
    """

    providers: Sequence[ProviderHealth]
    requests: int
    size_bytes: int | None
    price_source: str | None
    prices_installed_on: date | None


def health(connection: Connection, providers: Mapping[str, Provider], path: Path | None, now: datetime) -> Health:
    """Read the state of things at `now`; `path` is that of a SQLite file."""
    found = connection.execute(_LATELY, {"since": iso_utc(now - LATELY)})
    lately = {row.provider: _health(*row) for row in found}
    shown = [lately.pop(name) if name in lately else _unasked(provider) for name, provider in providers.items()]
    stored = connection.execute(_STORED).one()
    source = connection.execute(_SOURCE).scalar()
    return Health(
        providers=[*shown, *lately.values()],
        requests=int(stored[0]),
        size_bytes=None if path is None else _size_bytes(path),
        price_source=source,
        prices_installed_on=installed_on() if source is not None else None,
    )


def version(connection: Connection) -> str:
    """A text that changes when requests are stored, deleted or priced anew; a matter of a millisecond."""
    requests, worth = connection.execute(_STORED).one()
    return f"{requests}.{worth}"


def _health(name: str, asked: int, failed: int, answered_at: str | None, failed_at: str | None) -> ProviderHealth:
    state: State = "answers"
    if failed:
        state = "failing" if answered_at is None or (failed_at or "") > answered_at else "some errors"
    return ProviderHealth(name, state, asked, failed)


def _unasked(provider: Provider) -> ProviderHealth:
    return ProviderHealth(provider.name, "quiet" if provider.has_credential else "no key")


def _size_bytes(path: Path) -> int:
    files = (path.with_name(path.name + suffix) for suffix in ("", "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
