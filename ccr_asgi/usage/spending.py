"""What was spent of each budget: what the database has, and what this process knows before the database does.

Rows are in the database a quarter of a second after their requests, and other processes write there too. So a sum is
read again when it is a tenth of a second old, and the rows of our own that were not in it are added. For one process
the figure is exact at every moment; of what others did, the last moments are missing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ccr_asgi.budgets import Asker, Standing, covers, exempt, label, period
from ccr_asgi.config import BudgetEntry
from ccr_asgi.usage.batch import Value, valued
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.rollup import DAY, HOUR, QUARTER
from ccr_asgi.usage.tables import iso_utc, requests

if TYPE_CHECKING:
    from ccr_asgi.pricing import Valuation
    from ccr_asgi.usage.store import UsageStore

logger = logging.getLogger(__name__)

FRESH_S = 0.1
"""How old what the database said may be."""
REST = 10.0
"""How many times as long as it takes to ask the database is waited before it is asked again, where that is longer."""
PATIENCE_S = 0.5
"""How long requests wait for the database to say it; then they go by what is known."""
RETRY_S = 1.0
"""How long it is not asked again after it failed."""
IDS_PER_QUERY = 500

_COUNTED = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens")
_USED = "(input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"


@dataclass(frozen=True, slots=True)
class Spent:
    """What requests took of a budget, in its unit, and how many of them have no price."""

    amount: int = 0
    unpriced: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.amount + other.amount, self.unpriced + other.unpriced)


_Key = tuple[BudgetEntry, datetime]
"""A budget, and when its day or week began."""


class Ledger:
    """Tells how budgets stand; it belongs to one event loop.

    Args:
        store: Awaits the usage store, open.
        value: What a record is worth; called in a thread.
    """

    def __init__(self, store: "Callable[[], Awaitable[UsageStore]]", value: Value) -> None:
        self._store = store
        self._value = value
        self._stored: dict[_Key, Spent] = {}
        self._read_at_s = -float("inf")
        self._fresh_s = FRESH_S
        self._own: dict[str, UsageRecord] = {}
        self._worth: dict[str, Valuation | None] = {}
        self._reading: asyncio.Task[None] | None = None
        self._asked_at_s = self._retry_at_s = -float("inf")
        self._announced: set[_Key] = set()
        self._unreadable = False

    def record(self, row: UsageRecord) -> None:
        """Count `row`, which is on its way to the database."""
        if row.tokens != Tokens():
            self._own[row.id] = row

    async def standings(self, budgets: Sequence[BudgetEntry], now: datetime) -> list[Standing]:
        """How `budgets` stand at the moment `now` (aware), as far as is known."""
        periods = [period(budget, now) for budget in budgets]
        keys = [(budget, began_at) for budget, (began_at, _) in zip(budgets, periods, strict=True)]
        await self._refresh(keys)
        while unvalued := [row for row in self._own.values() if row.id not in self._worth]:
            worth = await asyncio.to_thread(lambda rows: [valued(row, self._value) for row in rows], unvalued)
            # But for those that a reading has found stored meanwhile: nobody would take them out again.
            told = zip((row.id for row in unvalued), worth, strict=True)
            self._worth.update((row_id, amount) for row_id, amount in told if row_id in self._own)
        found = []
        for place, (key, (began_at, resets_at)) in enumerate(zip(keys, periods, strict=True)):
            spent = sum(self._of_own(key), start=self._stored.get(key, Spent()))
            found.append(Standing(key[0], place, spent.amount, spent.unpriced, began_at, resets_at))
        self._announce(found)
        return found

    def _of_own(self, key: _Key) -> Iterable[Spent]:
        budget, began_at = key
        for row in self._own.values():
            if row.started_at >= began_at and covers(budget, row.provider, Asker(row.agent_id, row.proxy_key)):
                yield of_record(budget, row, self._worth[row.id])

    def _announce(self, standings: Iterable[Standing]) -> None:
        """Say once in its day or week that a budget is used up."""
        for standing in standings:
            if standing.used_up and (key := (standing.budget, standing.began_at)) not in self._announced:
                self._announced.add(key)
                logger.warning(
                    "The budget of %s is used up (%.0f%%) until %s; then: %s.",
                    label(standing.budget),
                    standing.used_percent,
                    iso_utc(standing.resets_at),
                    standing.budget.then,
                )

    async def _refresh(self, keys: Collection[_Key]) -> None:
        known = self._stored.keys() >= set(keys)
        if known and time.monotonic() - self._read_at_s < self._fresh_s:
            return
        now_s = time.monotonic()
        if self._reading is None or self._reading.done():
            if now_s < self._retry_at_s:
                return
            self._reading, self._asked_at_s = asyncio.create_task(self._read(keys)), now_s
        # One reading serves all that wait for it, and if it hangs it keeps only the first ones waiting.
        await asyncio.wait({self._reading}, timeout=max(0.0, self._asked_at_s + PATIENCE_S - now_s))

    async def _read(self, keys: Collection[_Key]) -> None:
        began_s = time.monotonic()
        try:
            async with (await self._store()).reading() as connection:
                stored = {key: await read_spent(connection, *key) for key in keys}
                # The rows of our own that are in these sums: the connection still sees the same moment.
                present = await _present(connection, list(self._own))
        except (StoreError, StoreUnavailable, SQLAlchemyError, OSError) as error:
            self._retry_at_s = time.monotonic() + RETRY_S
            if not self._unreadable:
                self._unreadable = True
                logger.error("Budgets go by what this process knows, since the usage database does not tell: %s", error)
            return
        # All at once, with no wait between: a row is in one of the two sums at every moment, and never in both.
        for row_id in present:
            self._own.pop(row_id, None)
            self._worth.pop(row_id, None)
        self._stored, self._read_at_s = stored, time.monotonic()
        self._fresh_s = max(FRESH_S, REST * (self._read_at_s - began_s))
        self._unreadable = False


def of_record(budget: BudgetEntry, row: UsageRecord, worth: "Valuation | None") -> Spent:
    """What one request took of a budget that covers it; `worth` is None where its price could not be told."""
    if budget.tokens is not None:
        tokens = row.tokens
        counts = (tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h, tokens.output)
        return Spent(sum(count or 0 for count in counts))
    micro_usd = None
    if worth is not None:
        micro_usd = worth.list_micro_usd if budget.counts == "list" else worth.billed_micro_usd
    return Spent(micro_usd or 0, int(micro_usd is None))


async def read_spent(connection: AsyncConnection, budget: BudgetEntry, began_at: datetime) -> Spent:
    """What the stored requests that began from `began_at` on took of `budget`."""
    conditions = {"provider = :provider": budget.provider, "provider <> :exempt": exempt(budget)}
    where = [condition for condition, value in conditions.items() if value is not None]
    values = {"provider": budget.provider, "exempt": exempt(budget)}
    if budget.key is None and budget.agent_id in (None, "*") and (minutes := _grain(began_at)):
        return await _from_cells(connection, budget, minutes, [*where, "start >= :began_at"], began_at, values)
    return await _from_rows(connection, budget, [*where, "started_at >= :began_at"], began_at, values)


async def _from_cells(
    connection: AsyncConnection,
    budget: BudgetEntry,
    minutes: int,
    where: list[str],
    began_at: datetime,
    values: dict[str, str | None],
) -> Spent:
    if budget.agent_id == "*":
        where.append("NOT main")
    unpriced = "0" if budget.tokens is not None else f"{budget.counts}_unpriced"
    sql = (
        f"SELECT COALESCE(SUM({_amount(budget)}), 0), COALESCE(SUM({unpriced}), 0) FROM rollup "  # noqa: S608 -- ours
        f"WHERE cube = 'all' AND minutes = {minutes:d} AND provider <> '' AND {' AND '.join(where)}"
    )
    (row,) = await connection.execute(text(sql), {**values, "began_at": iso_utc(began_at)})
    return Spent(int(row[0]), int(row[1]))


async def _from_rows(
    connection: AsyncConnection,
    budget: BudgetEntry,
    where: list[str],
    began_at: datetime,
    values: dict[str, str | None],
) -> Spent:
    unpriced = "1 = 0" if budget.tokens is not None else f"{_USED} AND {budget.counts}_micro_usd IS NULL"
    sql = (
        f"SELECT provider, agent_id, proxy_key, COALESCE(SUM({_amount(budget)}), 0), "  # noqa: S608 -- words of ours
        f"COUNT(CASE WHEN {unpriced} THEN 1 END) FROM requests_priced "
        f"WHERE {' AND '.join(where)} GROUP BY provider, agent_id, proxy_key"
    )
    rows = await connection.execute(text(sql), {**values, "began_at": iso_utc(began_at)})
    fitting = (row for row in rows if covers(budget, row[0], Asker(row[1], row[2])))
    return sum((Spent(int(row[3]), row[4]) for row in fitting), start=Spent())


def _amount(budget: BudgetEntry) -> str:
    if budget.tokens is None:
        return f"{budget.counts}_micro_usd"
    return " + ".join(f"COALESCE({name}, 0)" for name in _COUNTED)


def _grain(began_at: datetime) -> int | None:
    """The longest cells of the rollup of which one begins at that moment; None if none does."""
    minutes = began_at.astimezone(UTC).hour * 60 + began_at.minute
    return next((length for length in (DAY, HOUR, QUARTER) if minutes % length == 0), None)


async def _present(connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
    """Which of these requests are stored."""
    found: set[str] = set()
    for start in range(0, len(ids), IDS_PER_QUERY):
        some = ids[start : start + IDS_PER_QUERY]
        found.update((await connection.execute(select(requests.c.id).where(requests.c.id.in_(some)))).scalars())
    return found
