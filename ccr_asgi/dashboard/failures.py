"""Why requests failed: those that ended in an error or broke off, by what was said of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, text

from ccr_asgi.dashboard.filters import Window
from ccr_asgi.dashboard.sources import Sql, row_conditions
from ccr_asgi.usage.tables import MAX_COUNT

CAUSES_SHOWN = 8
NO_SUCH_MODEL = (404, "not_found_error")
"""What a provider answers about a model that it does not serve, or no more."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One way to fail.

    Attributes:
        outcome: error, or truncated for an answer that broke off.
        status: What the client got; None if no answer came.
        error_type: Anthropic's type of the error.
        requests: How many failed in this way.
    """

    outcome: Literal["error", "truncated"]
    status: int | None
    error_type: str | None
    requests: int

    @property
    def words(self) -> str:
        """What a person reads: `429 rate_limit_error`."""
        if self.outcome == "truncated":
            return "answer broke off"
        return " ".join(str(part) for part in (self.status, self.error_type) if part is not None) or "no answer"


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of a window.

    Attributes:
        causes: The most frequent first, `CAUSES_SHOWN` at most.
        others: How many requests failed in yet other ways.
        unknown_models: Provider and model of requests that were refused since there is no such model.
    """

    causes: Sequence[Cause]
    others: int
    unknown_models: Sequence[tuple[str, str]]


def failures(connection: Connection, window: Window) -> Failures:
    """Read why requests of `window` failed."""
    sql = Sql()
    time, filters = replace(window, filters={}), replace(window, start=None, end=None)
    # The failures of that time stand in an index of their own, which holds all that is asked. With a limit they are
    # read first; else SQLite takes the index of a filter's column, and then every row that it leads to.
    failed = (
        f"SELECT {_COLUMNS} FROM requests WHERE {row_conditions(sql, time)} "  # noqa: S608 -- words of ours
        f"AND outcome <> 'ok' AND outcome <> 'cancelled' ORDER BY started_at LIMIT {MAX_COUNT}"
    )
    sql.words = (
        f"SELECT {_GROUPS}, COUNT(*) AS requests FROM ({failed}) AS failed "  # noqa: S608 -- words of ours
        f"WHERE {row_conditions(sql, filters)} GROUP BY {_GROUPS}"
    )
    counts: dict[tuple[Literal["error", "truncated"], int | None, str | None], int] = {}
    unknown: set[tuple[str, str]] = set()
    for outcome, status, error_type, provider, model, requests in connection.execute(text(sql.words), sql.parameters):
        key = (outcome, None if outcome == "truncated" else status, None if outcome == "truncated" else error_type)
        counts[key] = counts.get(key, 0) + requests
        if (status, error_type) == NO_SUCH_MODEL and provider and model:
            unknown.add((provider, model))
    causes = [Cause(*key, requests) for key, requests in counts.items()]
    causes.sort(key=lambda cause: (-cause.requests, cause.words))
    rest = sum(cause.requests for cause in causes[CAUSES_SHOWN:])
    return Failures(causes[:CAUSES_SHOWN], rest, sorted(unknown))


_GROUPS = "outcome, status, error_type, provider, model"
_COLUMNS = f"{_GROUPS}, agent_id, session_id, project"
