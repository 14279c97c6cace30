"""Where the sums of a window are read: from the cells of the rollup as far as they know what is asked, else from rows.

What is read is always exact: only how long it takes differs. The cells know provider and model, whether it was a main
conversation, and one of agent, session and project; they know no status. Whatever is asked beyond that, the rows tell.

Statements are put together as text (`usage.rollup` says why), of words of ours alone: every value is a parameter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ccr_asgi.dashboard.filters import NOT_TOLD, OUTCOMES, FilterName, Window
from ccr_asgi.dashboard.spans import Span, cut
from ccr_asgi.dashboard.steps import Steps
from ccr_asgi.usage.rollup import COUNTS, GRAINS, NAMES, SUMS
from ccr_asgi.usage.tables import iso_utc, storable

Key = Literal["provider", "model", "agent", "session", "project"]

LONG = timedelta(days=14)
"""From here on, days are better looked for among all than by the index of time, and then sorted."""

STEP = "step"
"""The column with a step's number, from 0."""


@dataclass(slots=True)
class Sql:
    """A statement or a part of one, and the parameters in it."""

    words: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: object) -> str:
        """A new parameter with this value, as it is written in the words."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a window.

    Attributes:
        keys: By what its requests are grouped.
        measures: What is summed: names of `usage.rollup.COUNTS` and `SUMS`.
        steps: Divide it by time as well.
        names: Of the first key, only these; None means all.
        rows: Where rows are read: `requests` will do, and is faster, while none was priced anew.
    """

    window: Window
    keys: Sequence[Key]
    measures: Sequence[str]
    steps: Steps | None = None
    names: Sequence[str | None] | None = None
    rows: Literal["requests", "requests_priced"] = "requests_priced"


def summed(question: Question) -> Sql:
    """The SQL for the sums that are asked for.

    A row has the column `step` if there are steps, one for each key (NULL for requests that name none), and one for
    each measure, where NULL is a sum to which no request told anything.
    """
    sql, cube, steps = Sql(), cube_of(question.window, question.keys), question.steps
    parts = _parts(sql, question, cube) if steps is None else _parts_of_steps(sql, question, cube, steps)
    grouped = [*question.keys] if steps is None else [STEP, *question.keys]
    columns = ", ".join([*grouped, *(_total(name, f"SUM({name})") for name in question.measures)])
    sql.words = f"SELECT {columns} FROM ({' UNION ALL '.join(parts)}) AS parts{_grouped_by(grouped)}"  # noqa: S608 -- ours
    if len(parts) == 1:
        sql.words = parts[0]
    return sql


def largest(question: Question, limit: int) -> Sql:
    """As `summed` by one key, of the groups with the most requests alone, the largest first."""
    (key,) = question.keys
    sql = summed(question)
    sql.words += f" ORDER BY requests DESC, {key} NULLS FIRST LIMIT {limit:d}"
    return sql


def cube_of(window: Window, keys: Iterable[Key]) -> str | None:
    """The cube that knows all that `window` filters by and `keys`; None if there is none."""
    asked = {*window.filters, *keys} - {"provider", "model"}
    if window.filters.get("agent") == NOT_TOLD and "agent" not in keys:
        asked.discard("agent")  # all cubes know the main conversations apart
    if not asked:
        return "all"
    (cube, *others) = asked
    return cube if not others and cube in GRAINS else None


def row_conditions(sql: Sql, window: Window) -> str:
    """The words for the time and the filters of `window`, on rows of `requests_priced`."""
    where = [*_within(sql, "started_at", window.start, window.end), *_row_filters(sql, window)]
    return " AND ".join(where) or "1 = 1"


@dataclass(slots=True)
class _Source:
    """Cells or rows, by the names of their columns.

    Attributes:
        shown: The columns of the question's keys, as they are shown.
        grouped: The same, as they are grouped by.
        figures: How each measure is summed.
    """

    table: str
    moment: str
    shown: list[str]
    grouped: list[str]
    figures: Mapping[str, str]
    where: list[str]


def _parts(sql: Sql, question: Question, cube: str | None) -> list[str]:
    """A SELECT for each span of the window."""
    window = question.window
    spans = cut(window.start, window.end, GRAINS[cube] if cube else ()) or [Span(None, window.start, window.end)]
    parts = []
    for span in spans:
        if cube is None or span.minutes is None:
            source = _rows(sql, question)
        else:
            source = _cells(sql, question, cube, long=_is_long(span, window.now))
            source.where.append(f"minutes = {span.minutes:d}")
        source.where += _within(sql, source.moment, span.start, span.end)
        parts.append(_select(source, question, [*source.grouped]))
    return parts


def _parts_of_steps(sql: Sql, question: Question, cube: str | None, steps: Steps) -> list[str]:
    """A SELECT for the cells of all steps and one for their rows, each joined with the list of the spans of the steps.

    So joined, each span searches its own part of an index.
    """
    of_cells: list[str] = []
    of_rows: list[str] = []
    for number, (since, until) in enumerate(zip(steps.edges, (*steps.edges[1:], question.window.end), strict=True)):
        for span in cut(since, until, GRAINS[cube] if cube else ()):
            bounds = f"{sql.bind(iso_utc(span.start or since))}, {sql.bind(_or_open(span.end))}"
            (of_cells if span.minutes else of_rows).append(f"({number}, {span.minutes or 0}, {bounds})")
    parts = []
    if of_cells and cube is not None:
        parts.append(_select_steps(_cells(sql, question, cube, long=False), question, of_cells, "minutes = column2"))
    if of_rows:
        parts.append(_select_steps(_rows(sql, question), question, of_rows, "1 = 1"))
    return parts


def _select_steps(source: _Source, question: Question, spans: list[str], of_span: str) -> str:
    # VALUES name their columns so on SQLite and PostgreSQL alike.
    listed = f"(VALUES {', '.join(spans)}) AS spans"
    source.table = (
        f"{listed} JOIN {source.table} ON {source.moment} >= column3 AND {source.moment} < column4 AND {of_span}"
    )
    return _select(source, question, ["column1", *source.grouped], f"column1 AS {STEP}")


def _select(source: _Source, question: Question, grouped: list[str], *first: str) -> str:
    keys = (f"{column} AS {key}" for column, key in zip(source.shown, question.keys, strict=True))
    selected = [*first, *keys, *(_total(name, source.figures[name]) for name in question.measures)]
    where = " AND ".join(source.where) or "1 = 1"
    return f"SELECT {', '.join(selected)} FROM {source.table} WHERE {where}{_grouped_by(grouped)}"  # noqa: S608 -- ours


def _is_long(span: Span, now: datetime) -> bool:
    return span.start is None or (span.end or now) - span.start >= LONG


def _cells(sql: Sql, question: Question, cube: str, *, long: bool) -> _Source:
    """The rollup, where a `long` or a short span of it is wanted."""
    columns = [_cell_column(key) for key in question.keys]
    shown = [f"NULLIF({column}, '')" for column in columns]
    where = [f"cube = {sql.bind(cube)}", *_cell_filters(sql, question.window)]
    if cube == "all":
        where.append("name = ''")  # they have none; so said, the primary key leads to a time
    if question.names is not None:
        where.append(f"{columns[0]} IN ({', '.join(sql.bind(name or '') for name in question.names)})")
    # Grouped by the bare name, SQLite walks the primary key through all of time, and sorts nothing.
    return _Source("rollup", "start", shown, columns if long else shown, _CELL_FIGURES, where)


def _rows(sql: Sql, question: Question) -> _Source:
    columns = [_ROW_COLUMNS[key] for key in question.keys]
    where = _row_filters(sql, question.window)
    if question.names is not None:
        where.append(_is_one_of(sql, columns[0], question.names))
    # Grouped by the bare column, SQLite walks its index through all rows, to sort nothing. No name is empty.
    shown = [f"NULLIF({column}, '')" for column in columns]
    return _Source(question.rows, "started_at", shown, shown, _ROW_FIGURES, where)


def _grouped_by(columns: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(columns)}" if columns else ""


def _or_open(until: datetime | None) -> str:
    return "~" if until is None else iso_utc(until)  # "~" is after all digits


def _within(sql: Sql, moment: str, start: datetime | None, end: datetime | None) -> list[str]:
    since = [] if start is None else [f"{moment} >= {sql.bind(iso_utc(start))}"]
    until = [] if end is None else [f"{moment} < {sql.bind(iso_utc(end))}"]
    return since + until


def _cell_filters(sql: Sql, window: Window) -> list[str]:
    where = []
    for name, value in window.filters.items():
        if name == "agent" and value == NOT_TOLD:
            where.append("main")
        else:
            where.append(f"{_cell_column(name)} = {sql.bind('' if value == NOT_TOLD else storable(value))}")
    return where


def _row_filters(sql: Sql, window: Window) -> list[str]:
    where = []
    for name, value in window.filters.items():
        if name == "status":
            where.append(_status_is(sql, value))
        elif value == NOT_TOLD:
            where.append(f"{_ROW_COLUMNS[name]} IS NULL")
        else:
            where.append(f"{_ROW_COLUMNS[name]} = {sql.bind(storable(value))}")
        if name in ("status", "outcome") and value in OUTCOMES and value != "ok":
            where.append("outcome <> 'ok'")  # as the index of failed requests says it
    return where


def _status_is(sql: Sql, value: str) -> str:
    if value == NOT_TOLD:
        return "status IS NULL"
    if value in OUTCOMES:
        return f"outcome = {sql.bind(value)}"
    if value.endswith("xx"):
        return f"status BETWEEN {sql.bind(int(value[0]) * 100)} AND {sql.bind(int(value[0]) * 100 + 99)}"
    return f"status = {sql.bind(int(value))}"


def _is_one_of(sql: Sql, column: str, names: Sequence[str | None]) -> str:
    among = f"{column} IN ({', '.join(sql.bind(name) for name in names)})"
    return f"({among} OR {column} IS NULL)" if None in names else among


def _cell_column(name: FilterName) -> str:
    return name if name in ("provider", "model") else "name"


def _total(name: str, figure: str) -> str:
    # PostgreSQL sums bigint as numeric, which would come as Decimal.
    total = f"CAST({figure} AS BIGINT)"
    return f"COALESCE({total}, 0) AS {name}" if name in COUNTS else f"{total} AS {name}"


_ROW_COLUMNS: dict[FilterName, str] = {
    "provider": "provider",
    "model": "model",
    "agent": NAMES["agent"],
    "session": NAMES["session"],
    "project": NAMES["project"],
    "outcome": "outcome",
}
_ROW_FIGURES = {**COUNTS, **SUMS}
_CELL_FIGURES = {
    **{name: f"SUM({name})" for name in COUNTS},
    **{name: f"SUM(CASE WHEN {name}_told > 0 THEN {name} END)" for name in SUMS},
}
