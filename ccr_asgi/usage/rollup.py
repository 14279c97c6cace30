"""Sums of the requests by time, so that a page need not read a million rows; kept in the transactions of the rows.

A *cell* holds the sums of the requests that began in one stretch of time and share a provider, a model and a place in a
*cube*: `all` knows no more of them, the others also their agent, session or project. All that a cell holds is a count,
and two cells add up field by field. So rows come in by addition and go by subtraction, and a range is the sum of its
whole days, the whole quarters of an hour beside them, and single rows at its ends. What a sum cannot tell, whether a
number is 0 or was never told, is a count as well (`…_told`).

Every time zone in use begins its hours on a quarter of an hour of UTC, so quarters serve all of them.

Statements are text, the same on SQLite and PostgreSQL: they are long, and SQLAlchemy would take longer to put each
together than a database to run it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, TextClause, bindparam, text

from ccr_asgi.usage.tables import AMOUNTS, MONEY_COLUMNS, TOKEN_COLUMNS, TTFT_BIN_EDGES_MS, TTFT_BINS, rollup

QUARTER: Final = 15
HOUR: Final = 60
DAY: Final = 24 * 60

GRAINS: Mapping[str, tuple[int, ...]] = {
    "all": (DAY, HOUR, QUARTER),
    "agent": (DAY, QUARTER),
    "session": (DAY, QUARTER),
    "project": (DAY, QUARTER),
}
"""The lengths of each cube's cells in minutes, the longest first."""

NAMES: Mapping[str, str] = {"agent": "agent_id", "session": "session_id", "project": "project"}
"""The column of `requests_priced` that the cells of a cube are named by; those of `all` have no name."""


def _count(condition: str) -> str:
    return f"COUNT(CASE WHEN {condition} THEN 1 END)"


def _bin(number: int) -> str:
    least = f" AND ttft_ms >= {TTFT_BIN_EDGES_MS[number - 1]}" if number > 0 else ""
    most = f" AND ttft_ms < {TTFT_BIN_EDGES_MS[number]}" if number < len(TTFT_BIN_EDGES_MS) else ""
    return _count(f"ttft_ms IS NOT NULL{least}{most}")


_USED = "(input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"

COUNTS: Mapping[str, str] = {
    "requests": "COUNT(*)",
    "errors": _count("outcome = 'error'"),
    "cancelled": _count("outcome = 'cancelled'"),
    "truncated": _count("outcome = 'truncated'"),
    "subscription": _count("subscription"),
    "timed": "COUNT(ttft_ms)",
    **{f"{amount}_unpriced": _count(f"{_USED} AND {amount}_micro_usd IS NULL") for amount in AMOUNTS},
    **{name: _bin(number) for number, name in enumerate(TTFT_BINS)},
}
"""How many rows of `requests_priced` there are of each kind."""

SUMS: Mapping[str, str] = {name: f"SUM({name})" for name in (*TOKEN_COLUMNS, *MONEY_COLUMNS)}
"""Sums over rows of `requests_priced`; NULL where no row told anything."""

_MEASURES: Mapping[str, str] = {
    **COUNTS,
    **{name: f"COALESCE({total}, 0)" for name, total in SUMS.items()},
    **{f"{name}_told": f"COUNT({name})" for name in SUMS},
}
"""What a cell holds, as it is counted over rows."""

_KEYS = tuple(rollup.primary_key.columns.keys())
_COLUMNS = ", ".join((*_KEYS, *_MEASURES))
_STARTS = {
    DAY: "substr({moment}, 1, 10) || 'T00:00:00.000Z'",
    HOUR: "substr({moment}, 1, 13) || ':00:00.000Z'",
    QUARTER: "substr({moment}, 1, 14) || CASE WHEN substr({moment}, 15, 2) < '15' THEN '00' "
    "WHEN substr({moment}, 15, 2) < '30' THEN '15' WHEN substr({moment}, 15, 2) < '45' THEN '30' ELSE '45' END "
    "|| ':00.000Z'",
}
"""The SQL for the beginning of the cell in which a moment lies."""


# No row's name is empty: that is seen to where rows are made.
_ROW_KEYS = "COALESCE(provider, ''), COALESCE(model, ''), agent_id IS NULL"
# By their places: PostgreSQL takes a name for the column of the rows, which may be NULL.
_BY_KEYS = ", ".join(str(place) for place in range(1, len(_KEYS) + 1))


def _start(minutes: int, moment: str) -> str:
    return _STARTS[minutes].format(moment=moment)


def _statement(sql: str) -> TextClause:
    """`sql` with its parameters written as `@name`, since SQLAlchemy would take the colons of times for some."""
    return text(sql.replace(":", r"\:").replace("@", ":"))


# Keeping it


def add(connection: Connection, ids: Sequence[str]) -> None:
    """Add the requests with these ids, which are stored and were not added before."""
    connection.execute(_ADD, {"ids": list(ids)})


def subtract(connection: Connection, ids: Sequence[str]) -> None:
    """Take out the requests with these ids, as they are stored now: before they are deleted or changed."""
    connection.execute(_SUBTRACT, {"ids": list(ids)})


def sweep(connection: Connection, start: str, end: str) -> None:
    """Delete the cells that are empty, of those which hold requests that began from `start` on and before `end`."""
    # Whole days, since a day's cell begins before what it holds.
    span = {"first": start[:10], "last": f"{end[:10]}~"}
    for cube, grains in GRAINS.items():
        for minutes in grains:
            connection.execute(_SWEEP, {"cube": cube, "minutes": minutes, **span})


def rebuild(connection: Connection) -> None:
    """Make all cells anew from the rows, after these were changed by other means than ours; 100,000 take seconds."""
    connection.execute(text("DELETE FROM rollup"))
    for cube, (*longer, shortest) in GRAINS.items():
        connection.execute(_statement(_from_rows(cube, shortest)))
        for minutes in longer:
            connection.execute(_statement(_from_cells(cube, minutes, shortest)))


def _adding(sign: str) -> TextClause:
    """The statement that adds the rows with these `ids` to all their cells, or takes them out of these."""
    kinds = " UNION ALL ".join(
        f"SELECT '{cube}' AS cube, {minutes} AS minutes" for cube, grains in GRAINS.items() for minutes in grains
    )
    starts = " ".join(f"WHEN {minutes} THEN {_start(minutes, 'started_at')}" for minutes in _STARTS)
    names = " ".join(f"WHEN '{cube}' THEN COALESCE({name}, '')" for cube, name in NAMES.items())
    measures = ", ".join(f"{sign}{measure}" for measure in _MEASURES.values())
    added = ", ".join(f"{name} = rollup.{name} + excluded.{name}" for name in _MEASURES)
    statement = _statement(
        f"INSERT INTO rollup ({_COLUMNS}) "  # noqa: S608 -- words of ours
        f"SELECT cube, minutes, CASE cube {names} ELSE '' END, CASE minutes {starts} END, {_ROW_KEYS}, {measures} "
        f"FROM requests_priced CROSS JOIN ({kinds}) AS kinds WHERE id IN @ids GROUP BY {_BY_KEYS} "
        f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET {added}"
    )
    return statement.bindparams(bindparam("ids", expanding=True))


def _from_rows(cube: str, minutes: int) -> str:
    """All cells of one length, made of the rows."""
    name = f"COALESCE({NAMES[cube]}, '')" if cube in NAMES else "''"
    return (
        f"INSERT INTO rollup ({_COLUMNS}) SELECT '{cube}', {minutes}, "  # noqa: S608 -- words of ours
        f"{name}, {_start(minutes, 'started_at')}, {_ROW_KEYS}, {', '.join(_MEASURES.values())} "
        f"FROM requests_priced GROUP BY {_BY_KEYS}"
    )


def _from_cells(cube: str, minutes: int, shorter: int) -> str:
    """All cells of one length, made of those of a shorter one."""
    return (
        f"INSERT INTO rollup ({_COLUMNS}) SELECT cube, {minutes}, "  # noqa: S608 -- words of ours
        f"name, {_start(minutes, 'start')}, provider, model, main, {', '.join(f'SUM({name})' for name in _MEASURES)} "
        f"FROM rollup WHERE cube = '{cube}' AND minutes = {shorter} GROUP BY {_BY_KEYS}"
    )


_ADD = _adding("")
_SUBTRACT = _adding("-")
_SWEEP = _statement(
    "DELETE FROM rollup "
    "WHERE cube = @cube AND minutes = @minutes AND start >= @first AND start < @last AND requests = 0"
)
