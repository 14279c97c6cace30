"""Values stored requests anew, by the prices that are known today for the time when they were made.

What a request was first found to cost stays in `requests`; the new figures go into `repricings`, one row for each
request, and the views show those. A request for which there is no price any more keeps the figures that it has.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, case, func, literal, select, tuple_

from ccr_asgi.usage.batch import Value
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import iso_utc, repricings, requests, storable

if TYPE_CHECKING:
    from ccr_asgi.pricing import Valuation

ROWS_PER_PAGE = 1_000

Amount = int | None
"""Micro-dollars; None = no price."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which requests: begun from `since` on and before `until`, of this provider, model, agent; None means any."""

    since: datetime | None = None
    until: datetime | None = None
    provider: str | None = None
    model: str | None = None
    agent_id: str | None = None


@dataclass(slots=True)
class Sums:
    """What some requests cost, in micro-dollars; a sum is None where no request has such a figure.

    Attributes:
        unpriced: Requests without a list value.
    """

    billed_micro_usd: Amount = None
    list_micro_usd: Amount = None
    saved_micro_usd: Amount = None
    unpriced: int = 0

    def add(self, amounts: Sequence[Amount]) -> None:
        """Count one more request: what it was billed, its list value, what it saved."""
        billed, listed, saved = amounts
        self.billed_micro_usd = _plus(self.billed_micro_usd, billed)
        self.list_micro_usd = _plus(self.list_micro_usd, listed)
        self.saved_micro_usd = _plus(self.saved_micro_usd, saved)
        self.unpriced += listed is None

    def add_sums(self, more: "Sums") -> None:
        """Count the requests of `more` too."""
        self.billed_micro_usd = _plus(self.billed_micro_usd, more.billed_micro_usd)
        self.list_micro_usd = _plus(self.list_micro_usd, more.list_micro_usd)
        self.saved_micro_usd = _plus(self.saved_micro_usd, more.saved_micro_usd)
        self.unpriced += more.unpriced


@dataclass(slots=True)
class ModelChange:
    """What new prices change for one provider's model.

    Attributes:
        requests: How many were looked at.
        changed: How many of them have new figures.
        old, new: The sums over all of them, before and after.
    """

    provider: str | None
    model: str | None
    requests: int = 0
    changed: int = 0
    old: Sums = field(default_factory=Sums)
    new: Sums = field(default_factory=Sums)


async def reprice(
    store: UsageStore,
    value: Value,
    selection: Selection,
    *,
    at: datetime,
    apply: bool,
    advanced: Callable[[int, int], object] = lambda _done, _all: None,
) -> list[ModelChange]:
    """Value the selected requests anew; return what changes, by provider and model.

    Args:
        store: Started.
        value: Tells what a record is worth; it is called in a thread.
        selection: Which requests.
        at: The time to be noted as that of the repricing.
        apply: Store the new figures; else only tell them.
        advanced: Called after each page with the requests looked at and all of them.

    Raises:
        StoreUnavailable: The database takes no rows; the pages before stay stored.
    """
    changes: dict[tuple[str | None, str | None], ModelChange] = {}
    done, all_of_them = 0, await count(store, selection)
    async for page in pages(store, selection):
        valuations = await asyncio.to_thread(lambda rows: [value(record_of(row)) for row in rows], page)
        changed = {
            row["id"]: valuation
            for row, valuation in zip(page, valuations, strict=True)
            if _count(changes, row, valuation)
        }
        if apply and changed:
            await store.reprice(changed, at)
        done += len(page)
        advanced(done, max(done, all_of_them))
    return sorted(changes.values(), key=lambda change: (change.provider or "", change.model or ""))


def _count(
    changes: dict[tuple[str | None, str | None], ModelChange], row: Mapping[str, Any], valuation: "Valuation"
) -> bool:
    """Add one request to the change of its model; return whether its figures are new."""
    key = row["provider"], row["model"]
    change = changes.setdefault(key, ModelChange(*key))
    old = row["billed_now"], row["list_now"], row["saved_now"]
    new = valuation.billed_micro_usd, valuation.list_micro_usd, valuation.saved_micro_usd
    if valuation.list_micro_usd is None:
        new = old
    change.requests += 1
    change.changed += new != old
    change.old.add(old)
    change.new.add(new)
    return new != old


async def count(store: UsageStore, selection: Selection) -> int:
    """How many requests are selected."""
    async with store.reading() as connection:
        return (await connection.execute(_selected(select(func.count()), selection))).scalar() or 0


async def pages(store: UsageStore, selection: Selection) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """The selected requests, the oldest first, some at a time.

    A row has the columns of `requests`, and the figures that hold now: `billed_now`, `list_now` and `saved_now`.
    """
    page: Sequence[Mapping[str, Any]] = ()
    while page := await _next_page(store, selection, page[-1] if page else None):
        yield page


async def _next_page(
    store: UsageStore, selection: Selection, last: Mapping[str, Any] | None
) -> Sequence[Mapping[str, Any]]:
    """The requests that follow `last`, the oldest first, with the figures that hold for them now."""
    age = requests.c.started_at, requests.c.id
    query = _selected(select(requests, *_NOW), selection).order_by(*age).limit(ROWS_PER_PAGE)
    query = query.outerjoin_from(requests, repricings, repricings.c.request_id == requests.c.id)
    if last is not None:
        query = query.where(tuple_(*age) > tuple_(literal(last["started_at"]), literal(last["id"])))
    async with store.reading() as connection:
        return [row._mapping for row in await connection.execute(query)]


def _selected(query: Select[Any], selection: Selection) -> Select[Any]:
    column = requests.c
    query = query.select_from(requests)
    if selection.since is not None:
        query = query.where(column.started_at >= iso_utc(selection.since))
    if selection.until is not None:
        query = query.where(column.started_at < iso_utc(selection.until))
    if selection.provider is not None:
        query = query.where(column.provider == storable(selection.provider))
    if selection.model is not None:
        query = query.where(column.model == storable(selection.model))
    if selection.agent_id is not None:
        query = query.where(column.agent_id == storable(selection.agent_id))
    return query


def _now(name: str) -> ColumnElement[Any]:
    # Not coalesce: the newest figure may be that there is none.
    repriced = repricings.c.request_id.is_not(None)
    return case((repriced, repricings.c[f"{name}_micro_usd"]), else_=requests.c[f"{name}_micro_usd"])


_NOW = [_now(name).label(f"{name}_now") for name in ("billed", "list", "saved")]

_SAME = [item.name for item in fields(UsageRecord) if item.name in requests.c and item.name != "started_at"]
"""Columns of `requests` that are fields of a record under the same name."""


def record_of(row: Mapping[str, Any]) -> UsageRecord:
    """The record that `row` was made of, as far as it was stored."""
    tokens = Tokens(**{name: row[f"{name}_tokens"] for name in Tokens.__dataclass_fields__})
    started_at = datetime.fromisoformat(row["started_at"])
    return UsageRecord(started_at=started_at, tokens=tokens, **{name: row[name] for name in _SAME})


def _plus(one: Amount, other: Amount) -> Amount:
    return other if one is None else one if other is None else one + other
