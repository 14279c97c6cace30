"""What records and prices become, as rows and as batches of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ccr_asgi.pricing import Valuation
from ccr_asgi.usage.batch import prepare, prepare_repricing
from ccr_asgi.usage.record import Attempt, Tokens, UsageRecord
from ccr_asgi.usage.rows import attempt_rows, price_row, request_row
from ccr_asgi.usage.tables import attempts, prices, quota, repricings, requests
from tests.usage.records import RECORD, record
from tests.usage.valuations import price, valuation

ATTEMPTS = (
    Attempt("cerebras", "gpt-oss-120b", 429, "rate_limit_error", 0.0, 123.45678),
    Attempt("codex", None, None, None, 124.0, 10.0),
)


def test_a_record_becomes_a_row() -> None:
    assert request_row(record(proxy_key="alice", upstream_request_id="req_9")) == {
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
        "price_id": None,
        "baseline_price_id": None,
        "proxy_key": "alice",
        "upstream_request_id": "req_9",
    }


def test_each_row_has_the_columns_of_its_table() -> None:
    batch = prepare([record(attempt_log=ATTEMPTS)], lambda _: valuation(1, 2, 3))
    repricing = prepare_repricing({"req_1": valuation(1, 2, 3)}, RECORD.started_at)
    assert list(batch.requests[0]) == requests.columns.keys()
    assert list(batch.attempts[0]) == attempts.columns.keys()
    assert list(batch.prices[0]) == list(repricing.prices[0]) == prices.columns.keys()
    assert set(repricing.repricings[0]) == set(repricings.columns.keys())
    assert (batch.quota, len(quota.columns)) == ([], 9)


def test_what_was_not_told_is_null_and_not_zero() -> None:
    row = request_row(record(tokens=Tokens(), ttft_ms=None))
    assert [name for name, value in row.items() if name.endswith("_tokens") and value is not None] == []
    assert row["ttft_ms"] is None


def test_without_a_price_only_a_subscription_is_billed_nothing() -> None:
    assert request_row(record(subscription=True))["billed_micro_usd"] == 0
    assert request_row(record(subscription=False))["billed_micro_usd"] is None


def test_a_valuation_is_taken_as_it_stands() -> None:
    row = request_row(record(subscription=True), valuation(0, 5, -3, price("p0")))
    assert [row[f"{amount}_micro_usd"] for amount in ("billed", "list", "saved")] == [0, 5, -3]
    assert (row["price_id"], row["baseline_price_id"]) == ("p1", "p0")
    nothing = request_row(record(subscription=True), valuation(None))
    assert (nothing["billed_micro_usd"], nothing["price_id"]) == (None, None)


def test_attempts_are_kept_where_a_chain_was_walked() -> None:
    assert attempt_rows(record()) == attempt_rows(record(attempt_log=ATTEMPTS[:1])) == []
    first, second = attempt_rows(record(attempt_log=ATTEMPTS))
    assert first == {
        "request_id": "req_1",
        "position": 1,
        "provider": "cerebras",
        "model": "gpt-oss-120b",
        "status": 429,
        "error_type": "rate_limit_error",
        "started_ms": 0.0,
        "duration_ms": 123.457,
    }
    assert (second["position"], second["model"], second["status"]) == (2, None, None)


def test_a_price_keeps_its_rates_and_what_it_has_not() -> None:
    row = price_row(price(input="0.35", output="0.75"), "2026-01-31T09:30:00.123Z")
    assert (row["input_usd_per_mtok"], row["output_usd_per_mtok"], row["cache_read_usd_per_mtok"]) == (0.35, 0.75, None)


def test_each_price_comes_once_with_the_first_moment_it_was_used_at() -> None:
    rows = [record(str(n), started_at=RECORD.started_at + timedelta(seconds=s)) for n, s in enumerate((1, 0, 2))]
    batch = prepare(rows, lambda _: valuation(1, 2, 3, price("p0")))
    assert [(row["id"], row["first_used_at"]) for row in batch.prices] == [
        ("p1", "2026-01-31T09:30:00.123Z"),
        ("p0", "2026-01-31T09:30:00.123Z"),
    ]


def test_a_price_that_cannot_be_told_costs_no_row(caplog: pytest.LogCaptureFixture) -> None:
    def value(row: UsageRecord) -> Valuation:
        if row.id == "bad":
            raise KeyError("a defect")
        return valuation(1, 2, 3)

    batch = prepare([record("good"), record("bad")], value)
    assert [row["list_micro_usd"] for row in batch.requests] == [2, None]
    assert "the price of request bad could not be told" in caplog.text


def test_a_repricing_is_of_its_moment() -> None:
    found = prepare_repricing({"a": valuation(1, 2, 3), "b": valuation(None)}, datetime(2026, 2, 1, tzinfo=UTC))
    assert [(row["request_id"], row["list_micro_usd"], row["price_id"]) for row in found.repricings] == [
        ("a", 2, "p1"),
        ("b", None, None),
    ]
    assert {row["repriced_at"] for row in found.repricings} == {"2026-02-01T00:00:00.000Z"}
    assert [row["first_used_at"] for row in found.prices] == ["2026-02-01T00:00:00.000Z"]


def test_what_a_chain_told_may_be_hostile() -> None:
    hostile = replace(ATTEMPTS[0], model="\ud83d\0" + "x" * 10_000)
    assert len(attempt_rows(record(attempt_log=(hostile, hostile)))[0]["model"]) == 500
