"""`/api/quota`: the meters and what was spent, as JSON."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from ccr_asgi.dashboard.quota import quota_routes
from ccr_asgi.errors import RequestError
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.tables import iso_utc
from tests.support.asgi import request
from tests.usage.records import record
from tests.usage.valuations import valuation

NOW = datetime.now(UTC).replace(microsecond=0)


async def ask(path: Path, query: str, *windows: QuotaWindow) -> Any:
    store = UsageStore(path, value=lambda _: valuation(1_500_000, 2_000_000, 500_000))
    await store.start()

    async def opened() -> UsageStore:
        return store

    try:
        old = record("old", started_at=NOW - timedelta(days=40))
        await store.insert([record("new", started_at=NOW, quota=windows), old])
        response = await request(Starlette(routes=quota_routes(opened)), path="/api/quota", query=query.encode())
        assert (response.status, response.header("cache-control")) == (200, b"no-store")
        return json.loads(response.body)
    finally:
        await store.stop()


async def test_it_tells_each_limit_with_its_forecast(tmp_path: Path) -> None:
    resets_at = NOW + timedelta(hours=4)
    told = await ask(
        tmp_path / "usage.db",
        "",
        QuotaWindow("codex", "primary", NOW, 50.0, 300, resets_at, plan="plus"),
        QuotaWindow("anthropic", "<5h>", NOW, 90.0, 300, NOW - timedelta(minutes=1), "allowed"),
    )
    over, running = told["windows"]
    assert running.pop("forecast") == {
        "outlook": "runs-out",
        "runs_out_at": iso_utc(NOW + timedelta(hours=1)),
        "because": "50 % was used in the first 1 h of 5 h.",
    }
    assert running == {
        "provider": "codex",
        "window": "primary",
        "label": "5h",
        "observed_at": iso_utc(NOW),
        "used_percent": 50.0,
        "last_used_percent": 50.0,
        "window_minutes": 300,
        "resets_at": iso_utc(resets_at),
        "status": None,
        "plan": "plus",
        "credits_balance": None,
    }
    assert (over["window"], over["used_percent"], over["last_used_percent"]) == ("<5h>", None, 90.0)
    assert over["forecast"]["outlook"] == "begun-anew"


@pytest.mark.parametrize(("query", "requests"), [("range=7d", 1), ("range=all", 2), ("range=all&provider=none", 0)])
async def test_it_tells_what_was_spent(tmp_path: Path, query: str, requests: int) -> None:
    spent = (await ask(tmp_path / "usage.db", query))["spent"]
    assert (spent["requests"] or 0) == requests
    usd = (1.5 * requests, 2.0 * requests, 0.5 * requests) if requests else (None, None, None)
    assert (spent["billed_usd"], spent["list_usd"], spent["saved_usd"]) == usd


async def test_today_is_the_default(tmp_path: Path) -> None:
    spent = (await ask(tmp_path / "usage.db", ""))["spent"]
    assert spent["range"] == "today"


async def test_a_parameter_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="rnage"):
        await ask(tmp_path / "usage.db", "rnage=7d")
