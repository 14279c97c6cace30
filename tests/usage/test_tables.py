"""What a row becomes, and what importing the parts of usage costs."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccr_asgi.usage.record import Tokens
from ccr_asgi.usage.tables import (
    INSERT_REQUEST,
    MAX_COUNT,
    MAX_TEXT_CHARS,
    iso_utc,
    requests,
    row_values,
    storable,
    storable_count,
)
from tests.usage.records import record


def test_a_record_becomes_a_row() -> None:
    assert row_values(record()) == {
        "id": "req_1",
        "started_at": "2026-01-31T09:30:00.123Z",
        "provider": "cerebras",
        "requested_model": "claude-haiku-4-5",
        "model": "gpt-oss-120b",
        "route_reason": "tag",
        "agent_id": "agent-1",
        "parent_agent_id": "agent-0",
        "session_id": "session-1",
        "project": "ledger",
        "streamed": True,
        "status": 200,
        "outcome": "ok",
        "stop_reason": "end_turn",
        "error_type": None,
        "input_tokens": 10,
        "cache_read_tokens": 20,
        "cache_write_5m_tokens": 30,
        "cache_write_1h_tokens": 40,
        "output_tokens": 50,
        "reasoning_tokens": 5,
        "ttft_ms": 123.457,
        "duration_ms": 2000.0,
        "attempts": 1,
        "resends": 0,
        "estimated": False,
        "subscription": False,
        "billed_micro_usd": None,
        "list_micro_usd": None,
        "saved_micro_usd": None,
    }


def test_every_column_is_written() -> None:
    assert list(row_values(record())) == requests.columns.keys()
    assert all(f":{name}" in INSERT_REQUEST for name in row_values(record()))


def test_every_column_says_what_it_means() -> None:
    assert [column.name for column in requests.columns if not column.doc] == []


def test_what_was_not_told_is_null_and_not_zero() -> None:
    row = row_values(record(tokens=Tokens(), ttft_ms=None))
    assert [name for name, value in row.items() if name.endswith("_tokens") and value is not None] == []
    assert row["ttft_ms"] is None


def test_a_subscription_is_billed_nothing_and_no_price_is_not_nothing() -> None:
    assert row_values(record(subscription=True))["billed_micro_usd"] == 0
    assert row_values(record(subscription=False))["billed_micro_usd"] is None


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (None, None),
        ("", ""),
        ("gpt-oss-120b", "gpt-oss-120b"),
        ("<script>", "<script>"),
        ("a\ud83dz", "a?z"),
        ("a\0z", "a\ufffdz"),
        ("x" * 10_000, "x" * MAX_TEXT_CHARS),
    ],
)
def test_any_text_can_be_stored(text: str | None, stored: str | None) -> None:
    assert storable(text) == stored


@pytest.mark.parametrize(
    ("count", "stored"), [(None, None), (0, 0), (MAX_COUNT, MAX_COUNT), (MAX_COUNT + 1, None), (-1, None)]
)
def test_a_count_that_cannot_be_meant_is_no_count(count: int | None, stored: int | None) -> None:
    assert storable_count(count) == stored


def test_time_is_written_in_utc() -> None:
    assert iso_utc(datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))) == "2025-12-31T23:30:00.000Z"


moments = st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))


@given(moments, moments)
def test_written_time_sorts_as_time_does(one: datetime, other: datetime) -> None:
    one, other = (moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in (one, other))
    assert (iso_utc(one) < iso_utc(other)) == (one < other)
    assert len(iso_utc(one)) == 24


@pytest.mark.parametrize("module", ["record", "accumulator", "writer", "errors"])
def test_the_parts_on_the_way_of_a_request_load_no_database(module: str) -> None:
    code = f"import sys, ccr_asgi.usage.{module}; sys.exit(int(bool({{'sqlalchemy', 'alembic'}} & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
