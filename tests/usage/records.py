"""Rows for the tests of the usage database."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ccr_asgi.usage.record import Tokens, UsageRecord

RECORD = UsageRecord(
    id="req_1",
    started_at=datetime(2026, 1, 31, 9, 30, 0, 123_987, tzinfo=UTC),
    provider="cerebras",
    requested_model="claude-haiku-4-5",
    model="gpt-oss-120b",
    route_reason="tag",
    agent_id="agent-1",
    parent_agent_id="agent-0",
    session_id="session-1",
    project="ledger",
    streamed=True,
    status=200,
    outcome="ok",
    stop_reason="end_turn",
    error_type=None,
    tokens=Tokens(input=10, cache_read=20, cache_write_5m=30, cache_write_1h=40, output=50, reasoning=5),
    ttft_ms=123.4567,
    duration_ms=2000.0,
    attempts=1,
    resends=0,
    estimated=False,
    subscription=False,
)


def record(row_id: str = "req_1", **changes: Any) -> UsageRecord:
    """A full row with `changes`."""
    return replace(RECORD, id=row_id, **changes)


def unstorable(row_id: str) -> UsageRecord:
    """A row that the database refuses, whatever is tried."""
    return record(row_id, outcome="no such outcome")
