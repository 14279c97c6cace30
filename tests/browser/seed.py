"""What is in the database that most of these tests look at: the demo's past, and names that no honest client has."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from ccr_asgi.config import parse_config
from ccr_asgi.demo.history import rows_of_days
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.record import Attempt, Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.valuation import Valuer
from tests.usage.records import record

DAYS, SEED = 40, 7

SCRIPT = "<script>alert(1)</script>"
CLOSING = "</script><script>alert(2)</script>"
IMAGE = '"><img src=x onerror=alert(3)>'
LINK = '<a href="https://foreign.example/">bait</a>'
"""Of what Plotly takes for its own markup in a label."""
TEMPLATE = "{{ 7 * 7 }} %{x} ${alert(4)}"

PLANTED = (SCRIPT, CLOSING, IMAGE, LINK, TEMPLATE)

ENDLESS = "w" * 150
"""A name without a place to break it."""

UNPRICED = "a-model-without-a-price"
PLANTED_ID = "req_ccr_planted"
CHAIN_ID = "req_ccr_chain"
TREE_ID = "session-of-a-tree"

EDGES = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 7 * 24, 30 * 24))
MARGIN = timedelta(minutes=15)
"""No row is so near to where a range begins that it could leave it while a test runs."""


def store_rows(database: Path, rows: Sequence[UsageRecord], providers: dict[str, object]) -> None:
    """Make the database, with these rows priced as the server would."""
    config = parse_config({"providers": providers}, environ={})
    asyncio.run(_store(database, rows, Valuer(config.providers, config.usage.costs)))


async def _store(database: Path, rows: Sequence[UsageRecord], valuer: Valuer) -> None:
    store = UsageStore(database, value=valuer.value)
    await store.start()
    try:
        await store.insert(rows)
    finally:
        await store.stop()


def rows(now: datetime) -> list[UsageRecord]:
    """A past of some weeks that ends at `now`."""
    made = [
        *rows_of_days(DAYS, SEED, now),
        *_planted(now),
        _endless(now),
        _unpriced(now),
        _by_a_chain(now),
        *_tree(now),
    ]
    return [row for row in made if not any(edge - MARGIN <= now - row.started_at <= edge for edge in EDGES)]


def _planted(now: datetime) -> Iterator[UsageRecord]:
    """Each name in each place once."""
    for number, name in enumerate(PLANTED):
        yield record(
            f"{PLANTED_ID}_{number}",
            started_at=now - timedelta(minutes=5, seconds=number),
            provider=name,
            requested_model=name,
            model=name,
            agent_id=name,
            parent_agent_id=PLANTED[number - 1],
            session_id=name,
            project=name,
            status=502,
            outcome="error",
            error_type=name,
            stop_reason=name,
            attempts=2,
            attempt_log=(Attempt(name, name, 502, name, 0.0, 10.0), Attempt(name, name, 502, name, 10.0, 20.0)),
        )


def _endless(now: datetime) -> UsageRecord:
    return record(
        "req_ccr_endless",
        started_at=now - timedelta(minutes=8),
        provider=ENDLESS,
        model=ENDLESS,
        agent_id=ENDLESS,
        session_id=ENDLESS,
        project=ENDLESS,
        status=502,
        outcome="error",
        error_type=ENDLESS,
        quota=(QuotaWindow(ENDLESS, ENDLESS, now, used_percent=40.0, plan=ENDLESS),),
    )


def _unpriced(now: datetime) -> UsageRecord:
    return record("req_ccr_unpriced", started_at=now - timedelta(minutes=6), provider="local", model=UNPRICED)


def _by_a_chain(now: datetime) -> UsageRecord:
    return record(
        CHAIN_ID,
        started_at=now - timedelta(minutes=7),
        provider="codex",
        model="gpt-6-sol",
        route_reason="fallback",
        agent_id="fast-dev-1",
        parent_agent_id=None,
        session_id="session-of-the-chain",
        tokens=Tokens(input=1200, cache_read=3400, cache_write_5m=0, cache_write_1h=0, output=560, reasoning=70),
        attempts=2,
        attempt_log=(
            Attempt("cerebras", "zai-glm-4.7", 429, "rate_limit_error", 0.0, 40.0),
            Attempt("codex", "gpt-6-sol", 200, None, 40.0, 1960.0),
        ),
    )


def _tree(now: datetime) -> Iterator[UsageRecord]:
    """A session whose agents start agents, down to the fourth."""
    agents = [None, "planner", "explorer", "reader", "summarizer"]
    for number, (parent, agent) in enumerate(zip([None, *agents], agents, strict=False)):
        yield record(
            f"req_ccr_tree_{number}",
            started_at=now - timedelta(minutes=9, seconds=-number),
            agent_id=agent,
            parent_agent_id=parent,
            session_id=TREE_ID,
        )
