"""`/api/quota`: how much is left, and what was spent meanwhile, in one small answer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ccr_asgi.budgets import MICRO, Standing, label
from ccr_asgi.dashboard.filters import Window, parse_window
from ccr_asgi.dashboard.headers import PRIVATE
from ccr_asgi.dashboard.sources import Question, summed
from ccr_asgi.errors import escape_html
from ccr_asgi.usage.meters import QuotaMeter, read_meters
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import iso_utc
from ccr_asgi.wire.json_codec import dumps

_SPENT = ("requests", "billed_micro_usd", "list_micro_usd", "saved_micro_usd")


def quota_routes(
    store: Callable[[], Awaitable[UsageStore]], standings: Callable[[], Awaitable[Sequence[Standing]]] | None = None
) -> list[BaseRoute]:
    """The route of `/api/quota`.

    Args:
        store: Awaits the open usage store; raises StoreError if it cannot be opened.
        standings: How the budgets stand; None if there are none.
    """

    async def quota(request: Request) -> Response:
        now = datetime.now(UTC)
        window = parse_window(request.query_params.multi_items(), now, default_range="today")
        budgets = await standings() if standings is not None else ()
        meters, spent = await (await store()).read(
            lambda connection: (read_meters(connection, now), _spent(connection, window))
        )
        told = {
            "as_of": iso_utc(now),
            "windows": [_meter(meter) for meter in meters],
            "budgets": [_budget(standing) for standing in budgets],
            "spent": spent,
        }
        return Response(escape_html(dumps(told)), media_type="application/json", headers=PRIVATE)

    return [Route("/api/quota", quota)]


def _meter(meter: QuotaMeter) -> dict[str, Any]:
    """One limit; what is told of a window that has begun anew since stands in `last_used_percent` alone."""
    window, forecast = meter.window, meter.forecast
    told = {field.name: _written(getattr(window, field.name)) for field in fields(QuotaWindow)}
    return {
        **told,
        "label": meter.label,
        "used_percent": meter.used_percent,
        "last_used_percent": window.used_percent,
        "forecast": {
            "outlook": forecast.outlook,
            "runs_out_at": _written(forecast.runs_out_at),
            "because": forecast.because,
        },
    }


def _budget(standing: Standing) -> dict[str, Any]:
    """One budget, under the names of the configuration, and how it stands."""
    budget = standing.budget
    spent = standing.spent if budget.tokens is not None else standing.spent / MICRO
    return {
        **{field.encode_name: getattr(budget, field.name) for field in msgspec.structs.fields(budget)},
        "label": label(budget),
        "spent": spent,
        "unpriced": standing.unpriced,
        "used_percent": round(standing.used_percent, 2),
        "used_up": standing.used_up,
        "began_at": iso_utc(standing.began_at),
        "resets_at": iso_utc(standing.resets_at),
    }


def _spent(connection: Connection, window: Window) -> dict[str, Any]:
    """What the requests of `window` cost, in USD; None where none has a price."""
    sql = summed(Question(window, (), _SPENT))
    (row,) = connection.execute(text(sql.words), sql.parameters).mappings()
    usd = {f"{name}_usd": row[f"{name}_micro_usd"] for name in ("billed", "list", "saved")}
    return {
        "range": window.range,
        "from": _written(window.start),
        "to": _written(window.end),
        "requests": row["requests"],
        **{name: None if value is None else value / MICRO for name, value in usd.items()},
    }


def _written(value: Any) -> Any:
    return iso_utc(value) if isinstance(value, datetime) else value
