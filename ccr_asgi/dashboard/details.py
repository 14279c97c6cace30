"""What stands behind one request, and behind one session: its tries and prices, and the tree of its agents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, text

from ccr_asgi.dashboard.queries import RequestRow, request_row
from ccr_asgi.dashboard.totals import NOTHING, TOTALS, Totals, read_totals
from ccr_asgi.usage.rollup import COUNTS, SUMS
from ccr_asgi.usage.tables import attempts, prices, storable

MAX_DEPTH = 20
"""Agents start agents to a depth of two or three; a client that says more is shown flat."""


@dataclass(frozen=True, slots=True)
class Try:
    """One link of the chain that was tried; as the table `attempts` has it."""

    position: int
    provider: str
    model: str | None
    status: int | None
    error_type: str | None
    started_ms: float
    duration_ms: float


@dataclass(frozen=True, slots=True)
class RequestDetail:
    """All that is stored of a request.

    Attributes:
        row: The request.
        tries: The links that were tried, in their order; empty where one answered at once.
        price: The row of `prices` that made its list value; None if there is no price.
        baseline: That of the Claude model that was asked for.
    """

    row: RequestRow
    tries: Sequence[Try]
    price: Mapping[str, Any] | None
    baseline: Mapping[str, Any] | None


@dataclass(slots=True)
class Branch:
    """An agent of a session, with those that it started.

    Attributes:
        agent_id: None is the main conversation.
        own: Its own requests.
        first_at, last_at: When its own first and last request began; None of an agent that only others name.
        busy_ms: How long its own requests took together.
        branches: The agents that it started, the first first.
    """

    agent_id: str | None
    own: Totals = NOTHING
    first_at: str | None = None
    last_at: str | None = None
    busy_ms: float = 0.0
    models: list[str] = field(default_factory=list)
    branches: list["Branch"] = field(default_factory=list)

    @property
    def whole(self) -> Totals:
        """Its requests, and those of all agents below it."""
        return sum((branch.whole for branch in self.branches), start=self.own)

    @property
    def whole_busy_ms(self) -> float:
        """How long the requests of the whole branch took together."""
        return self.busy_ms + sum(branch.whole_busy_ms for branch in self.branches)

    def flat(self) -> Iterator[tuple["Branch", int]]:
        """It and all below it, each before those that it started, with how far below it stands."""
        yield self, 0
        for branch in self.branches:
            yield from ((below, depth + 1) for below, depth in branch.flat())


def request_detail(connection: Connection, request_id: str) -> RequestDetail | None:
    """Read the request with this id; None if there is none."""
    row = request_row(connection, request_id)
    if row is None:
        return None
    query = select(attempts).where(attempts.c.request_id == row.id).order_by(attempts.c.position)
    tries = [
        Try(**{name: value for name, value in found.items() if name != "request_id"})
        for found in connection.execute(query).mappings()
    ]
    price, baseline = [_price(connection, price_id) for price_id in (row.price_id, row.baseline_price_id)]
    return RequestDetail(row, tries, price, baseline)


def session_tree(connection: Connection, session_id: str) -> Branch | None:
    """The main conversation of a session and the agents below it; None if no request names this session."""
    measures = ", ".join(
        f"COALESCE({total}, 0) AS {name}" if name in COUNTS else f"CAST({total} AS BIGINT) AS {name}"
        for name, total in {**COUNTS, **SUMS}.items()
        if name in TOTALS
    )
    query = text(
        f"SELECT agent_id, parent_agent_id, model, MIN(started_at) AS first_at, MAX(started_at) AS last_at, "  # noqa: S608 -- words of ours
        f"COALESCE(SUM(duration_ms), 0) AS busy_ms, {measures} FROM requests_priced WHERE session_id = :session "
        "GROUP BY agent_id, parent_agent_id, model ORDER BY first_at, agent_id, model"
    )
    rows = [dict(row) for row in connection.execute(query, {"session": storable(session_id)}).mappings()]
    return tree(rows) if rows else None


def tree(rows: Sequence[Mapping[str, Any]]) -> Branch:
    """The agents of one session as a tree, of its sums by agent, parent and model in time's order.

    An agent whose parent made no request here, or is below itself, stands under the main conversation.
    """
    main = Branch(None)
    branches: dict[str | None, Branch] = {None: main}
    parents: dict[str | None, str | None] = {}
    for row in rows:
        branch = branches.setdefault(row["agent_id"], Branch(row["agent_id"]))
        branch.own += read_totals(row)
        branch.first_at = min(filter(None, (branch.first_at, row["first_at"])))
        branch.last_at = max(filter(None, (branch.last_at, row["last_at"])))
        branch.busy_ms += row["busy_ms"]
        if row["model"] is not None and row["model"] not in branch.models:
            branch.models.append(row["model"])
        parents.setdefault(row["agent_id"], row["parent_agent_id"])
    for agent_id, branch in branches.items():
        if agent_id is not None:
            branches[_parent(agent_id, parents)].branches.append(branch)
    return main


def _parent(agent_id: str, parents: Mapping[str | None, str | None]) -> str | None:
    """Its parent; None for the main conversation, which it also is where parents lead round in a circle, or too far."""
    parent = above = parents[agent_id]
    for _ in range(MAX_DEPTH):
        if above is None or above not in parents:
            return parent if parent in parents else None
        if above == agent_id:
            return None
        above = parents[above]
    return None


def _price(connection: Connection, price_id: str | None) -> Mapping[str, Any] | None:
    if price_id is None:
        return None
    found = connection.execute(select(prices).where(prices.c.id == price_id)).mappings().first()
    return None if found is None else dict(found)
