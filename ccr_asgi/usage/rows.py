"""What records become: the values of rows, by the names of the tables' columns.

Nothing that a client or a provider wrote into a record can make it unfit to store.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.tables import iso_utc, storable, storable_count

if TYPE_CHECKING:
    from ccr_asgi.pricing import Price, Valuation

Row = dict[str, Any]


def request_row(record: UsageRecord, valuation: "Valuation | None" = None) -> Row:
    """The `requests` row of `record`, whose prices are those of `valuation`."""
    tokens = record.tokens
    return {
        "id": storable(record.id),
        "started_at": iso_utc(record.started_at),
        "provider": _name(record.provider),
        "requested_model": storable(record.requested_model),
        "model": _name(record.model),
        "route_reason": storable(record.route_reason),
        "agent_id": _name(record.agent_id),
        "parent_agent_id": storable(record.parent_agent_id),
        "session_id": _name(record.session_id),
        "project": _name(record.project),
        "streamed": record.streamed,
        "status": record.status,
        "outcome": record.outcome,
        "stop_reason": storable(record.stop_reason),
        "error_type": storable(record.error_type),
        "input_tokens": storable_count(tokens.input),
        "cache_read_tokens": storable_count(tokens.cache_read),
        "cache_write_5m_tokens": storable_count(tokens.cache_write_5m),
        "cache_write_1h_tokens": storable_count(tokens.cache_write_1h),
        "output_tokens": storable_count(tokens.output),
        "reasoning_tokens": storable_count(tokens.reasoning),
        "ttft_ms": _ms(record.ttft_ms),
        "duration_ms": _ms(record.duration_ms),
        "attempts": record.attempts,
        "resends": record.resends,
        "estimated": record.estimated,
        "subscription": record.subscription,
        **(amounts(valuation) if valuation is not None else _unvalued(record)),
        "proxy_key": storable(record.proxy_key),
        "upstream_request_id": storable(record.upstream_request_id),
    }


def amounts(valuation: "Valuation") -> Row:
    """The columns of money of a request, with the prices that made them."""
    return {
        "billed_micro_usd": valuation.billed_micro_usd,
        "list_micro_usd": valuation.list_micro_usd,
        "saved_micro_usd": valuation.saved_micro_usd,
        "price_id": valuation.price.id if valuation.price is not None else None,
        "baseline_price_id": valuation.baseline.id if valuation.baseline is not None else None,
    }


def _unvalued(record: UsageRecord) -> Row:
    unknown = ("list_micro_usd", "saved_micro_usd", "price_id", "baseline_price_id")
    return {"billed_micro_usd": 0 if record.subscription else None, **dict.fromkeys(unknown)}


def attempt_rows(record: UsageRecord) -> list[Row]:
    """The `attempts` rows of `record`; none where one link answered at once."""
    if len(record.attempt_log) < 2:
        return []
    return [
        {
            "request_id": storable(record.id),
            "position": position,
            "provider": storable(attempt.provider),
            "model": storable(attempt.model),
            "status": attempt.status,
            "error_type": storable(attempt.error_type),
            "started_ms": round(attempt.started_ms, 3),
            "duration_ms": round(attempt.duration_ms, 3),
        }
        for position, attempt in enumerate(record.attempt_log, start=1)
    ]


def price_row(price: "Price", first_used_at: str) -> Row:
    """The `prices` row of `price`."""
    rates = price.rates
    return {
        "id": price.id,
        "source": price.source,
        "price_list": price.price_list,
        "model": storable(price.model),
        "input_usd_per_mtok": _float(rates.input),
        "cache_read_usd_per_mtok": _float(rates.cache_read),
        "cache_write_5m_usd_per_mtok": _float(rates.cache_write_5m),
        "cache_write_1h_usd_per_mtok": _float(rates.cache_write_1h),
        "output_usd_per_mtok": _float(rates.output),
        "first_used_at": first_used_at,
    }


def quota_row(window: QuotaWindow) -> Row:
    """The `quota` row of `window`."""
    return {
        "provider": storable(window.provider),
        "window_name": storable(window.window),
        "used_percent": window.used_percent,
        "window_minutes": window.window_minutes,
        "resets_at": None if window.resets_at is None else iso_utc(window.resets_at),
        "status": storable(window.status),
        "plan": storable(window.plan),
        "credits_balance": window.credits_balance,
        "observed_at": iso_utc(window.observed_at),
    }


def _name(text: str | None) -> str | None:
    """What rows are grouped by: an empty name is none."""
    return storable(text) or None


def _ms(duration_ms: float | None) -> float | None:
    return None if duration_ms is None else round(duration_ms, 3)


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)
