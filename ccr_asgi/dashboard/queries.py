"""What the pages know: SQL with bound parameters, the same on SQLite and PostgreSQL.

One query sums by provider and model; the summary, the providers and the models are folds of its few groups, so that
they agree by construction.

They are plain functions of a connection, for `UsageStore.read`: a page asks a dozen things, and goes to a thread once.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, literal, select, text, tuple_

from ccr_asgi.dashboard.filters import Window
from ccr_asgi.dashboard.sources import STEP, Key, Question, Sql, cube_of, largest, row_conditions, summed
from ccr_asgi.dashboard.steps import Steps, divide
from ccr_asgi.dashboard.totals import (
    NOTHING,
    TOTALS,
    Counts,
    Totals,
    add_counts,
    percentile,
    plus,
    read_counts,
    read_totals,
)
from ccr_asgi.usage.record import Outcome
from ccr_asgi.usage.tables import TTFT_BINS, repricings, storable
from ccr_asgi.usage.views import requests_priced as requests

NAMED_GROUPS = 100
"""Groups in a breakdown, those with the most requests: there is an agent for each run of a subagent."""

EXACT_TTFTS = 10_000
"""The percentiles of more times than these are read from their bins, where there are any."""

NAMED: tuple[Key, ...] = ("agent", "session", "project")
"""What only the rows and the cubes of these names know."""

SERIES_MEASURES = (
    "requests",
    "errors",
    "subscription",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "billed_micro_usd",
    "list_micro_usd",
    "saved_micro_usd",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything in the window.

    Attributes:
        totals: All of it.
        previous: The same of the equal time before; None where there is no such time.
        ttft_p50_ms, ttft_p95_ms: Times to first token, of the nearest rank; None if none is known.
        ttft_estimated: They are read from bins, each a quarter longer than where it begins.
        previous_ttft_p50_ms, previous_ttft_p95_ms: Those of the time before.
    """

    totals: Totals
    previous: Totals | None
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    ttft_estimated: bool
    previous_ttft_p50_ms: float | None = None
    previous_ttft_p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The requests that share a provider, model, agent, session or project; `name` is None for those that name none."""

    name: str | None
    totals: Totals


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Groups, the largest first.

    Attributes:
        of: What the groups are, as a filter names it.
        groups: The first of them.
        count: How many there are in all; None where there are more than `NAMED_GROUPS`, which takes long to count.
    """

    of: Key
    groups: Sequence[Group]
    count: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """The window in steps of time.

    Attributes:
        steps: When they begin and end.
        providers: For each provider, and for each of `SERIES_MEASURES`, a value for each step: 0 requests where there
            was none, and None where nothing was told.
        ttft_p50_ms, ttft_p95_ms: Of each step, estimated from bins; None where none is known.
    """

    steps: Steps
    providers: Mapping[str | None, Mapping[str, Sequence[int | None]]]
    ttft_p50_ms: Sequence[float | None]
    ttft_p95_ms: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request, as `v_requests` has it, but for money, which is in micro-dollars."""

    id: str
    started_at: str
    provider: str | None
    requested_model: str | None
    model: str | None
    agent_id: str | None
    parent_agent_id: str | None
    session_id: str | None
    project: str | None
    streamed: bool | None
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
    duration_ms: float | None
    attempts: int
    resends: int
    estimated: bool
    billed_micro_usd: int | None
    list_micro_usd: int | None
    saved_micro_usd: int | None
    route_reason: str | None
    subscription: bool
    price_id: str | None
    baseline_price_id: str | None
    original_billed_micro_usd: int | None
    original_list_micro_usd: int | None
    original_saved_micro_usd: int | None
    repriced_at: str | None
    proxy_key: str | None
    upstream_request_id: str | None

    @property
    def cache_write_tokens(self) -> int | None:
        """Tokens written to a cache, for however long."""
        return plus(self.cache_write_5m_tokens, self.cache_write_1h_tokens)

    @property
    def unpriced(self) -> bool:
        """The request used tokens, and what they cost is not known."""
        used = self.input_tokens is not None or self.output_tokens is not None
        return used and self.billed_micro_usd is None


@dataclass(frozen=True, slots=True)
class Overview:
    """What the dashboard shows of a window.

    Attributes:
        breakdowns: By provider, model, and those of agent, session and project that were asked for.
        series: None where there is no time to divide.
        recent: The page of requests that was asked for, the newest first; all pages hold `summary.totals.requests`.
        stored: There is a request in the database, be it outside the window.
    """

    summary: Summary
    breakdowns: Mapping[Key, Breakdown]
    series: Series | None
    recent: Sequence[RequestRow]
    stored: bool


def overview(connection: Connection, window: Window, named: Collection[Key] = NAMED) -> Overview:
    """Read what the dashboard shows of `window`; of agents, sessions and projects, which take long, those `named`."""
    cells = _ask(connection, summed(Question(window, ("provider", "model"), TOTALS)))
    totals = sum((read_totals(cell) for cell in cells), start=NOTHING)
    breakdowns: dict[Key, Breakdown] = {"provider": _fold("provider", cells), "model": _fold("model", cells)}
    breakdowns |= _by_names(connection, window, named)
    return Overview(
        summary=_summary(connection, window, totals),
        breakdowns=breakdowns,
        series=_series(connection, window),
        recent=_recent(connection, window),
        stored=totals.requests > 0 or _first_moment(connection) is not None,
    )


def entries(
    connection: Connection, window: Window, *, after: tuple[str, str] | None, limit: int
) -> Sequence[RequestRow]:
    """Requests of `window`, the oldest first: `limit` at most, from `after` on (the last one's time and id).

    The page of a paged window is counted from its first row, so it is read whole, with `after` None.
    """
    by_age, sql = (requests.c.started_at, requests.c.id), Sql()
    query = _ROWS.where(text(row_conditions(sql, window))).order_by(*by_age).limit(limit)
    if after is not None:
        query = query.where(tuple_(*by_age) > tuple_(literal(after[0]), literal(after[1])))
    elif window.page_size is not None:
        query = query.offset(window.offset)
    return [RequestRow(**row._mapping) for row in connection.execute(query, sql.parameters)]


def request_row(connection: Connection, request_id: str) -> RequestRow | None:
    """The request with this id; None if there is none."""
    found = (connection.execute(_ROWS.where(requests.c.id == storable(request_id)))).first()
    return None if found is None else RequestRow(**found._mapping)


def _summary(connection: Connection, window: Window, totals: Totals) -> Summary:
    p50_ms, p95_ms, estimated = _percentiles(connection, window, totals.timed)
    before = window.before()
    if before is None:
        return Summary(totals, None, p50_ms, p95_ms, estimated)
    (row,) = _ask(connection, summed(Question(before, (), TOTALS)))
    previous = read_totals(row)
    previous_ms = _percentiles(connection, before, previous.timed)
    return Summary(totals, previous, p50_ms, p95_ms, estimated, *previous_ms[:2])


def _percentiles(connection: Connection, window: Window, timed: int) -> tuple[float | None, float | None, bool]:
    """The 50th and 95th percentile of the times to first token of `timed` requests, and whether they are estimates."""
    if timed <= EXACT_TTFTS or cube_of(window, ()) is None:
        return *_exact_percentiles(connection, window, timed), False
    (row,) = _ask(connection, summed(Question(window, (), TTFT_BINS)))
    counts = [row[name] for name in TTFT_BINS]
    return percentile(counts, 0.50), percentile(counts, 0.95), True


def _exact_percentiles(connection: Connection, window: Window, timed: int) -> tuple[float | None, float | None]:
    """The nearest-rank 50th and 95th percentile of `timed` values, by one sort."""
    if timed == 0:
        return None, None
    sql = Sql()
    sql.words = (
        "SELECT place, ttft_ms FROM (SELECT ttft_ms, ROW_NUMBER() OVER (ORDER BY ttft_ms) AS place "  # noqa: S608 -- words of ours
        f"FROM requests WHERE {row_conditions(sql, window)} AND ttft_ms IS NOT NULL) AS sorted "
        f"WHERE place IN ({math.ceil(timed * 0.50)}, {math.ceil(timed * 0.95)}) ORDER BY place"
    )
    found = _ask(connection, sql)
    return found[0]["ttft_ms"], found[-1]["ttft_ms"]


def _by_names(connection: Connection, window: Window, named: Collection[Key]) -> Mapping[Key, Breakdown]:
    """The breakdowns by agent, session and project, as far as they are `named`."""
    few = [
        key for key in named if cube_of(window, (key,)) is None and not {"agent", "session"}.isdisjoint(window.filters)
    ]
    # Of one agent or session, cells know no more; what it did elsewhere is little, and read in one go.
    rows = _ask(connection, summed(Question(window, few, TOTALS, rows=_rows(connection)))) if few else []
    return {key: _fold(key, rows) if key in few else _by_name(connection, window, key) for key in named}


def _rows(connection: Connection) -> Literal["requests", "requests_priced"]:
    """Where rows are read: what nobody priced anew need not be looked for there, which saves a third of the time."""
    repriced = connection.execute(select(repricings.c.request_id).limit(1)).scalar()
    return "requests" if repriced is None else "requests_priced"


def _by_name(connection: Connection, window: Window, key: Key) -> Breakdown:
    """The largest groups, of any number. In cells, their names come first, and then the sums of those alone."""
    cells = cube_of(window, (key,)) is not None
    question = Question(window, (key,), ("requests",) if cells else TOTALS)
    first = _ask(connection, largest(question, NAMED_GROUPS + 1))
    count, first = len(first) if len(first) <= NAMED_GROUPS else None, first[:NAMED_GROUPS]
    names: list[str | None] = [row[key] for row in first]
    found = _ask(connection, summed(Question(window, (key,), TOTALS, names=names))) if cells and names else first
    totals = {row[key]: read_totals(row) for row in found}
    return Breakdown(key, [Group(name, totals[name]) for name in names], count)


def _series(connection: Connection, window: Window) -> Series | None:
    start = window.start or _first_moment(connection)
    end = window.end or window.now
    if start is None or start >= end:
        return None
    steps, known = divide(start, end, window.zone), replace(window, start=start)
    providers: dict[str | None, dict[str, list[int | None]]] = {}
    bins = [[0] * len(TTFT_BINS) for _ in steps.edges]
    question = Question(known, ("provider",), (*SERIES_MEASURES, *TTFT_BINS), steps)
    for row in sorted(_ask(connection, summed(question)), key=lambda row: row["provider"] or ""):
        empty = {name: [_COUNT_OF_NONE.get(name)] * len(steps.edges) for name in SERIES_MEASURES}
        values = providers.setdefault(row["provider"], empty)
        for name in SERIES_MEASURES:
            values[name][row[STEP]] = row[name]
        bins[row[STEP]] = [count + row[name] for count, name in zip(bins[row[STEP]], TTFT_BINS, strict=True)]
    p50_ms, p95_ms = ([percentile(counts, share) for counts in bins] for share in (0.50, 0.95))
    return Series(steps, providers, p50_ms, p95_ms)


def _recent(connection: Connection, window: Window) -> Sequence[RequestRow]:
    newest = (requests.c.started_at.desc(), requests.c.id.desc())
    sql = Sql()
    query = _ROWS.where(text(row_conditions(sql, window))).order_by(*newest)
    found = connection.execute(query.limit(window.page_size).offset(window.offset), sql.parameters)
    return [RequestRow(**row._mapping) for row in found]


def _ask(connection: Connection, sql: Sql) -> Sequence[Mapping[str, Any]]:
    found = connection.execute(text(sql.words), sql.parameters)
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found]  # `found.mappings()` takes three times as long


def _first_moment(connection: Connection) -> datetime | None:
    first: str | None = (connection.execute(select(func.min(requests.c.started_at)))).scalar()
    return None if first is None else datetime.fromisoformat(first)


def _fold(of: Key, cells: Iterable[Mapping[str, Any]]) -> Breakdown:
    sums: dict[str | None, Counts] = {}
    for cell in cells:  # thousands of them, so that a `Totals` for each would take longer than the database
        counts = read_counts(cell)
        sums[cell[of]] = add_counts(sums[cell[of]], counts) if cell[of] in sums else counts
    groups = [Group(name, Totals(*counts)) for name, counts in sums.items()]
    groups.sort(key=lambda group: (-group.totals.requests, group.name or ""))
    return Breakdown(of, groups[:NAMED_GROUPS], len(groups) if len(groups) <= NAMED_GROUPS else None)


_COUNT_OF_NONE = {"requests": 0, "errors": 0, "subscription": 0}
_ROWS = select(*(requests.c[field.name] for field in fields(RequestRow)))
