"""What the pages know: SQL over `requests`, bound parameters, the same on SQLite and PostgreSQL.

One scan groups by provider and model; the summary, the providers and the models are folds of its few groups, so that
they agree by construction. A sum is None where no row told anything, which is not 0.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, Select, case, cast, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ccr_asgi.dashboard.filters import NOT_TOLD, OUTCOMES, FilterName, Window
from ccr_asgi.usage.record import Outcome
from ccr_asgi.usage.tables import iso_utc, requests, storable

AGENT_ROWS = 100
"""Agents in a breakdown, those with the most requests first: every subagent's run has an id of its own."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a set of requests; tokens in the disjoint parts of `record.Tokens`, money in micro-dollars.

    Attributes:
        errors, cancelled, truncated: Requests by outcome; the others were ok.
        subscription: Requests that a subscription paid for, so that they were billed 0.
        billed_unpriced, list_unpriced, saved_unpriced: Requests that used tokens and have no such amount.
        timed: Requests whose time to first token is known.
    """

    requests: int
    errors: int
    cancelled: int
    truncated: int
    subscription: int
    timed: int
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    billed_micro_usd: int | None
    billed_unpriced: int
    list_micro_usd: int | None
    list_unpriced: int
    saved_micro_usd: int | None
    saved_unpriced: int

    def __add__(self, other: "Totals") -> "Totals":
        sums: dict[str, Any] = {name: _plus(getattr(self, name), getattr(other, name)) for name in _TOTALS}
        return Totals(**sums)

    @property
    def cache_write_tokens(self) -> int | None:
        """Tokens written to a cache, for however long."""
        return _plus(self.cache_write_5m_tokens, self.cache_write_1h_tokens)

    @property
    def tokens(self) -> int | None:
        """All tokens; reasoning is part of the output."""
        parts = (self.input_tokens, self.cache_read_tokens, self.cache_write_tokens, self.output_tokens)
        return _sum(parts)

    @property
    def cache_hit_ratio(self) -> float | None:
        """Tokens read from the cache, of all input; None where no provider told of its cache, or of no input."""
        whole = _sum((self.cache_read_tokens, self.cache_write_tokens, self.input_tokens))
        return self.cache_read_tokens / whole if self.cache_read_tokens is not None and whole else None

    @property
    def error_ratio(self) -> float | None:
        """Errors of all requests; None if there was none."""
        return self.errors / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything in the window."""

    totals: Totals
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The requests that share a provider, model or agent; `name` is None for those that name none."""

    name: str | None
    totals: Totals


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Groups, the largest first.

    Attributes:
        of: What the groups are, as a filter names it.
        groups: The first of them.
        count: How many there are in all.
    """

    of: FilterName
    groups: Sequence[Group]
    count: int


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request, as `v_requests` has it, and whether a subscription paid for it."""

    id: str
    started_at: str
    provider: str | None
    requested_model: str | None
    model: str | None
    agent_id: str | None
    parent_agent_id: str | None
    session_id: str | None
    project: str | None
    streamed: bool
    status: int | None
    outcome: Outcome
    stop_reason: str | None
    error_type: str | None
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    ttft_ms: float | None
    duration_ms: float
    attempts: int
    resends: int
    estimated: bool
    billed_micro_usd: int | None
    list_micro_usd: int | None
    saved_micro_usd: int | None
    subscription: bool

    @property
    def cache_write_tokens(self) -> int | None:
        """Tokens written to a cache, for however long."""
        return _plus(self.cache_write_5m_tokens, self.cache_write_1h_tokens)

    @property
    def unpriced(self) -> bool:
        """The request used tokens, and what they cost is not known."""
        used = self.input_tokens is not None or self.output_tokens is not None
        return used and self.billed_micro_usd is None


@dataclass(frozen=True, slots=True)
class Overview:
    """What the dashboard shows of a window.

    Attributes:
        recent: The page of requests that was asked for, the newest first; all pages hold `summary.totals.requests`.
        stored: There is a request in the database, be it outside the window.
    """

    summary: Summary
    by_provider: Breakdown
    by_model: Breakdown
    by_agent: Breakdown
    recent: Sequence[RequestRow]
    stored: bool


async def overview(connection: AsyncConnection, window: Window) -> Overview:
    """Read all that the dashboard shows of `window`."""
    where = conditions(window)
    provider, model = requests.c.provider, requests.c.model
    cells = (await connection.execute(_totals(provider, model).where(*where).group_by(provider, model))).all()
    totals = sum((_read_totals(cell) for cell in cells), start=NOTHING)
    p50_ms, p95_ms = await _ttft_percentiles(connection, where, totals.timed)
    return Overview(
        summary=Summary(totals, p50_ms, p95_ms),
        by_provider=_fold("provider", cells),
        by_model=_fold("model", cells),
        by_agent=await _by_agent(connection, where),
        recent=await _recent(connection, where, window),
        stored=totals.requests > 0 or await _is_stored(connection),
    )


async def entries(
    connection: AsyncConnection, window: Window, *, after: tuple[str, str] | None, limit: int
) -> Sequence[RequestRow]:
    """Requests of `window`, the oldest first: `limit` at most, from `after` on (the last one's time and id).

    The page of a paged window is counted from its first row, so it is read whole, with `after` None.
    """
    by_age = (requests.c.started_at, requests.c.id)
    query = select(*_ROW).where(*conditions(window)).order_by(*by_age).limit(limit)
    if after is not None:
        query = query.where(tuple_(*by_age) > tuple_(literal(after[0]), literal(after[1])))
    elif window.page_size is not None:
        query = query.offset(window.offset)
    return [RequestRow(**row._mapping) for row in await connection.execute(query)]


def conditions(window: Window) -> list[ColumnElement[bool]]:
    """The SQL for the time and the filters of `window`."""
    where: list[ColumnElement[bool]] = []
    if window.start is not None:
        where.append(requests.c.started_at >= iso_utc(window.start))
    if window.end is not None:
        where.append(requests.c.started_at < iso_utc(window.end))
    for name, value in window.filters.items():
        where.append(_status_is(value) if name == "status" else _names(_FILTERED[name], value))
    return where


def _names(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    return column.is_(None) if value == NOT_TOLD else column == storable(value)


def _status_is(value: str) -> ColumnElement[bool]:
    status = requests.c.status
    if value == NOT_TOLD:
        return status.is_(None)
    if value in OUTCOMES:
        return requests.c.outcome == value
    if value.endswith("xx"):
        return status.between(int(value[0]) * 100, int(value[0]) * 100 + 99)
    return status == int(value)


async def _ttft_percentiles(
    connection: AsyncConnection, where: list[ColumnElement[bool]], timed: int
) -> tuple[float | None, float | None]:
    """The nearest-rank 50th and 95th percentile of `timed` values, by one sort."""
    if timed == 0:
        return None, None
    ttft_ms = requests.c.ttft_ms
    rank = func.row_number().over(order_by=ttft_ms).label("rank")
    ranked = select(ttft_ms, rank).where(*where, ttft_ms.is_not(None)).subquery()
    p50, p95 = math.ceil(timed * 0.50), math.ceil(timed * 0.95)
    found = await connection.execute(select(ranked.c.rank, ranked.c.ttft_ms).where(ranked.c.rank.in_((p50, p95))))
    by_rank: dict[int, float] = {row.rank: row.ttft_ms for row in found}
    return by_rank.get(p50), by_rank.get(p95)


async def _by_agent(connection: AsyncConnection, where: list[ColumnElement[bool]]) -> Breakdown:
    agent = requests.c.agent_id
    all_agents = func.count().over().label("all_agents")
    query = _totals(agent, all_agents).where(*where).group_by(agent)
    largest = query.order_by(func.count().desc(), agent).limit(AGENT_ROWS)
    rows = (await connection.execute(largest)).all()
    groups = [Group(row.agent_id, _read_totals(row)) for row in rows]
    return Breakdown("agent", groups, rows[0].all_agents if rows else 0)


async def _recent(
    connection: AsyncConnection, where: list[ColumnElement[bool]], window: Window
) -> Sequence[RequestRow]:
    query = select(*_ROW).where(*where).order_by(requests.c.started_at.desc(), requests.c.id.desc())
    found = await connection.execute(query.limit(window.page_size).offset(window.offset))
    return [RequestRow(**row._mapping) for row in found]


async def _is_stored(connection: AsyncConnection) -> bool:
    return (await connection.execute(select(requests.c.id).limit(1))).first() is not None


def _totals(*columns: ColumnElement[Any]) -> Select[Any]:
    return select(*columns, *(column.label(name) for name, column in _TOTALS.items()))


def _read_totals(row: Row[Any]) -> Totals:
    return Totals(**{name: row._mapping[name] for name in _TOTALS})


def _fold(of: FilterName, cells: Iterable[Row[Any]]) -> Breakdown:
    sums: dict[str | None, Totals] = {}
    for cell in cells:
        name = cell._mapping[of]
        sums[name] = sums.get(name, NOTHING) + _read_totals(cell)
    groups = [Group(name, totals) for name, totals in sums.items()]
    groups.sort(key=lambda group: (-group.totals.requests, group.name or ""))
    return Breakdown(of, groups, len(groups))


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def _sum(parts: Iterable[int | None]) -> int | None:
    whole: int | None = None
    for part in parts:
        whole = _plus(whole, part)
    return whole


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.count(case((condition, 1)))


def _whole(name: str) -> ColumnElement[Any]:
    # PostgreSQL sums bigint as numeric, which would come as Decimal.
    return cast(func.sum(requests.c[name]), BigInteger)


def _unpriced(name: str) -> ColumnElement[Any]:
    used = or_(requests.c.input_tokens.is_not(None), requests.c.output_tokens.is_not(None))
    return _count(used & requests.c[name].is_(None))


_COUNTED = {
    "requests": func.count(),
    "errors": _count(requests.c.outcome == "error"),
    "cancelled": _count(requests.c.outcome == "cancelled"),
    "truncated": _count(requests.c.outcome == "truncated"),
    "subscription": _count(requests.c.subscription),
    "timed": func.count(requests.c.ttft_ms),
    "billed_unpriced": _unpriced("billed_micro_usd"),
    "list_unpriced": _unpriced("list_micro_usd"),
    "saved_unpriced": _unpriced("saved_micro_usd"),
}
_TOTALS: dict[str, ColumnElement[Any]] = {
    field.name: _COUNTED[field.name] if field.name in _COUNTED else _whole(field.name) for field in fields(Totals)
}
_ROW = [requests.c[field.name] for field in fields(RequestRow)]
_FILTERED: dict[FilterName, ColumnElement[Any]] = {
    "provider": requests.c.provider,
    "model": requests.c.model,
    "agent": requests.c.agent_id,
    "session": requests.c.session_id,
    "project": requests.c.project,
    "outcome": requests.c.outcome,
}

_nothing: dict[str, Any] = {field.name: 0 if field.name in _COUNTED else None for field in fields(Totals)}
NOTHING = Totals(**_nothing)
"""The totals of no request."""
