"""What `/api/usage` says: an overview as JSON, requests as CSV, and the form in which the original answered."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ccr_asgi.config import Cost
from ccr_asgi.dashboard.filters import Window
from ccr_asgi.dashboard.queries import Breakdown, Overview, RequestRow, Series
from ccr_asgi.dashboard.totals import Totals
from ccr_asgi.usage.tables import iso_utc

_MICRO = "_micro_usd"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def usage(overview: Overview, window: Window) -> dict[str, Any]:
    """The whole answer; amounts in USD, None where there is no price."""
    summary, breakdowns = overview.summary, overview.breakdowns
    total = summary.totals.requests
    return {
        "range": {
            "name": window.range,
            "from": iso_utc(window.start) if window.start else None,
            "to": iso_utc(window.end) if window.end else None,
            "tz": str(window.zone),
        },
        "filters": dict(window.filters),
        "summary": {
            **_totals(summary.totals),
            "ttft_p50_ms": summary.ttft_p50_ms,
            "ttft_p95_ms": summary.ttft_p95_ms,
            "ttft_estimated": summary.ttft_estimated,
        },
        "previous": None if summary.previous is None else _totals(summary.previous),
        **{f"by_{key}": _groups(breakdown) for key, breakdown in breakdowns.items()},
        **{f"{key}s": breakdown.count for key, breakdown in breakdowns.items()},
        "series": None if overview.series is None else _series(overview.series),
        "requests": [request(row) for row in overview.recent],
        "page": window.page,
        "page_size": window.page_size,
        "pages": window.pages(total),
        "total": total,
    }


def request(row: RequestRow) -> dict[str, Any]:
    """One request under the names of `v_requests`."""
    return _in_usd({field.name: getattr(row, field.name) for field in fields(row)})


def csv_lines(rows: Sequence[RequestRow], *, head: bool) -> bytes:
    """`rows` as CSV (RFC 4180) under the names of `v_requests`, which stand before them where `head` is asked for.

    A text that a spreadsheet would take for a formula is put behind an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    if head:
        writer.writerow(
            _usd(field.name, None)[0] if field.name.endswith(_MICRO) else field.name for field in fields(RequestRow)
        )
    for row in rows:
        writer.writerow(_cell(value) for value in request(row).values())
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def legacy_entry(row: RequestRow) -> dict[str, Any]:
    """One request as the original logged it: cache writes are one number, and what was not told is 0."""
    parts = {
        "inputTokens": row.input_tokens or 0,
        "outputTokens": row.output_tokens or 0,
        "cacheReadTokens": row.cache_read_tokens or 0,
        "cacheCreationTokens": (row.cache_write_5m_tokens or 0) + (row.cache_write_1h_tokens or 0),
    }
    return {
        "timestamp": row.started_at,
        "provider": row.provider,
        "model": row.model,
        **parts,
        "totalTokens": sum(parts.values()),
    }


def legacy_costs(costs: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    """The configured prices as the original answered them, in USD per million tokens."""
    return {model: {"input": cost.input, "output": cost.output} for model, cost in costs.items()}


def _groups(breakdown: Breakdown) -> Sequence[dict[str, Any]]:
    return [{breakdown.of: group.name, **_totals(group.totals)} for group in breakdown.groups]


def _series(series: Series) -> dict[str, Any]:
    """Steps of time and, for each of them in its order, one value in each list."""
    return {
        "step": series.steps.name,
        "starts": [iso_utc(edge) for edge in series.steps.edges],
        "end": iso_utc(series.steps.end),
        "by_provider": [
            {"provider": provider, **dict(_steps(name, values) for name, values in measures.items())}
            for provider, measures in series.providers.items()
        ],
        "ttft_p50_ms": list(series.ttft_p50_ms),
        "ttft_p95_ms": list(series.ttft_p95_ms),
    }


def _steps(name: str, values: Sequence[int | None]) -> tuple[str, Sequence[float | None]]:
    if not name.endswith(_MICRO):
        return name, values
    return _usd(name, None)[0], [_usd(name, value)[1] for value in values]


def _totals(totals: Totals) -> dict[str, Any]:
    said = _in_usd({field.name: getattr(totals, field.name) for field in fields(totals)})
    return {
        **said,
        "total_tokens": totals.tokens,
        "cache_hit_ratio": totals.cache_hit_ratio,
        "error_ratio": totals.error_ratio,
    }


def _in_usd(values: dict[str, Any]) -> dict[str, Any]:
    return dict(_usd(name, value) if name.endswith(_MICRO) else (name, value) for name, value in values.items())


def _usd(name: str, micro_usd: int | None) -> tuple[str, float | None]:
    return name.removesuffix(_MICRO) + "_usd", None if micro_usd is None else micro_usd / 1_000_000
