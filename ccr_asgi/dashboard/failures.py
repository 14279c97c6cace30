"""Why requests failed: those that ended in an error or broke off, by what was said of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, text

from ccr_asgi.dashboard.filters import NOT_TOLD, FilterName, Window
from ccr_asgi.dashboard.sources import Sql, row_conditions

CAUSES_SHOWN = 8
ALL = 2**63 - 1
"""A limit that is none."""
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
    sql = _grouped(window)
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


def _grouped(window: Window) -> Sql:
    """The failures by what was said of them: found among all that failed, which are few, and then filtered.

    Told all at once, SQLite would look through the requests of a provider instead, of which most went well. It takes a
    subquery with a limit as it is. An agent's or a session's requests are fewer than those that failed. The index of
    these holds all that is asked.
    """
    sql = Sql()
    # The index of failed requests is found by its own words.
    failed = "outcome <> 'ok' AND outcome <> 'cancelled'"
    named = "outcome, status, error_type, provider, model"
    if all(window.filters.get(key, NOT_TOLD) == NOT_TOLD for key in _OF_FEW):
        in_time = row_conditions(sql, replace(window, filters={}))
        read = f"{named}, agent_id, session_id, project"
        source = f"(SELECT {read} FROM requests WHERE {in_time} AND {failed} LIMIT {ALL}) AS failed"  # noqa: S608 -- words of ours
        where = row_conditions(sql, replace(window, start=None, end=None))
    else:
        source, where = "requests", f"{row_conditions(sql, window)} AND {failed}"
    sql.words = f"SELECT {named}, COUNT(*) AS requests FROM {source} WHERE {where} GROUP BY {named}"  # noqa: S608 -- as above
    return sql


_OF_FEW: tuple[FilterName, ...] = ("agent", "session")
