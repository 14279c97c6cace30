"""SQL to take away: what the dashboard shows, as commands for the database's own shell."""

import shlex
from dataclasses import dataclass

from ccr_asgi.dashboard.filters import NOT_TOLD, OUTCOMES, Window
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.tables import iso_utc, storable

_NOT_IN_DOUBLE_QUOTES = frozenset('"$`\\!')


@dataclass(frozen=True, slots=True)
class Recipe:
    """A query of `v_requests` over the requests that are shown.

    Attributes:
        title: What it answers.
        sql: The statement, the same for SQLite and PostgreSQL.
        command: How to run it in a shell.
    """

    title: str
    sql: str
    command: str


def recipes(database: str, window: Window) -> list[Recipe]:
    """The recipes for `window`; none where we do not know the shell of the kind of database."""
    if (shell := _shell(database)) is None:
        return []
    where = f"WHERE {' AND '.join(_conditions(window)) or '1 = 1'}"
    statements = {title: sql.format(where=where) for title, sql in _SQL.items()}
    return [Recipe(title, sql, f"{shell} {_quoted(sql)}") for title, sql in statements.items()]


def sql_command(database: str) -> str | None:
    """How to ask the database by hand; None if it is of a kind whose shell we do not know. Shows no password."""
    shell = _shell(database)
    return None if shell is None else f"{shell} 'select * from v_requests'"  # noqa: S608 -- it runs nowhere here


def _shell(database: str) -> str | None:
    """The command that takes a statement as its last argument."""
    try:
        parsed = Database.parse(database)
    except StoreError:
        return None
    if parsed.path is not None:
        return f"sqlite3 {shlex.quote(str(parsed.path))}"
    if parsed.url.get_backend_name() == "postgresql":
        url = parsed.url.set(drivername="postgresql").render_as_string(hide_password=True)
        return f"psql {shlex.quote(url)} -c"
    return None


def _quoted(sql: str) -> str:
    """A statement as one word of a shell; its own quotes stay readable where they can."""
    return shlex.quote(sql) if _NOT_IN_DOUBLE_QUOTES & set(sql) else f'"{sql}"'


def _conditions(window: Window) -> list[str]:
    since = [f"started_at >= '{iso_utc(window.start)}'"] if window.start else []
    until = [f"started_at < '{iso_utc(window.end)}'"] if window.end else []
    return since + until + [_is(name, value) for name, value in window.filters.items()]


def _is(name: str, value: str) -> str:
    column = _COLUMNS.get(name, name)
    if value == NOT_TOLD:
        return f"{column} IS NULL"
    if name == "status" and value not in OUTCOMES:
        return f"status / 100 = {value[0]}" if value.endswith("xx") else f"status = {value}"
    if name == "status":
        column = "outcome"
    return f"{column} = {_literal(value)}"


def _literal(value: str) -> str:
    # Control characters would end the line, or worse, in a terminal that the command is pasted into.
    printable = "".join(character if character.isprintable() else "?" for character in storable(value) or "")
    return "'" + printable.replace("'", "''") + "'"


_COLUMNS = {"agent": "agent_id", "session": "session_id"}

_SQL = {
    "The numbers above": (
        "SELECT COUNT(*) AS requests, SUM(billed_usd) AS billed, SUM(list_usd) AS list_value, SUM(saved_usd) AS saved, "
        "COUNT(CASE WHEN outcome = 'error' THEN 1 END) AS errors FROM v_requests {where}"
    ),
    "Cost and tokens by model": (
        "SELECT provider, model, COUNT(*) AS requests, SUM(input_tokens) AS input, "
        "SUM(cache_read_tokens) AS cache_read, SUM(output_tokens) AS output, SUM(list_usd) AS list_value "
        "FROM v_requests {where} GROUP BY provider, model ORDER BY requests DESC"
    ),
    "What each agent saved": (
        "SELECT agent_id, COUNT(*) AS requests, SUM(saved_usd) AS saved FROM v_requests {where} "
        "GROUP BY agent_id ORDER BY saved DESC"
    ),
    "The dearest sessions": (
        "SELECT session_id, project, COUNT(*) AS requests, SUM(list_usd) AS list_value FROM v_requests {where} "
        "GROUP BY session_id, project ORDER BY list_value DESC LIMIT 20"
    ),
    "Why requests failed": (
        "SELECT outcome, status, error_type, COUNT(*) AS requests FROM v_requests {where} AND outcome <> 'ok' "
        "GROUP BY outcome, status, error_type ORDER BY requests DESC"
    ),
    "The slowest to begin": (
        "SELECT started_at, model, agent_id, ttft_ms, duration_ms FROM v_requests {where} AND ttft_ms IS NOT NULL "
        "ORDER BY ttft_ms DESC LIMIT 20"
    ),
}
