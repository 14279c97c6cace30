"""The made-up past: the same for the same arguments, before now, and without a gap in its last hours."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ccr_asgi.demo import history
from ccr_asgi.demo.cast import KINDS
from ccr_asgi.demo.history import rows_of_days
from ccr_asgi.demo.simulation import configuration
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.valuation import Valuer
from tests.support.server import read_rows

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOURS = [NOW.replace(hour=hour) for hour in (0, 3, 9, 20)]


def test_the_same_arguments_make_the_same_past() -> None:
    rows = rows_of_days(5, 3, NOW)
    assert rows == rows_of_days(5, 3, NOW)
    assert rows != rows_of_days(5, 4, NOW)
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize("days", [1, 8])
@pytest.mark.parametrize("now", HOURS)
def test_it_fills_its_days_and_ends_before_now(days: int, now: datetime) -> None:
    rows = rows_of_days(days, 1, now)
    assert rows == sorted(rows, key=lambda row: row.started_at)
    assert now - timedelta(days=days) <= rows[0].started_at
    assert rows[-1].started_at + timedelta(milliseconds=rows[-1].duration_ms or 0) < now
    for hours in (1, 6, 24):
        assert any(row.started_at >= now - timedelta(hours=hours) for row in rows)
    assert {row.provider for row in rows} == KINDS.keys()


def test_it_has_all_outcomes() -> None:
    rows = rows_of_days(20, 1, NOW)
    assert {row.outcome for row in rows} == {"ok", "error", "cancelled", "truncated"}
    assert sum(row.outcome == "error" for row in rows) < len(rows) / 20
    assert {row.route_reason for row in rows} == {"default", "tag", "fallback"}


def test_no_days_are_no_past() -> None:
    assert rows_of_days(0, 1, NOW) == []


async def test_it_is_stored_with_its_prices(tmp_path: Path) -> None:
    config = configuration(tmp_path, "http://127.0.0.1:1")
    store = UsageStore(config.usage.database, value=Valuer(config.providers, config.usage.costs).value)
    await store.start()
    count = await history(store, days=6, seed=1, now=NOW)
    await store.stop()
    rows = read_rows(tmp_path / "usage.db")
    assert count == len(rows) == len(rows_of_days(6, 1, NOW)) > 400
    answered = [row for row in rows if row["outcome"] == "ok"]
    assert all(row["list_usd"] is not None and row["saved_usd"] is not None for row in answered)
    for provider, paid in {"anthropic": False, "cerebras": True, "codex": False}.items():
        assert (sum(row["billed_usd"] for row in answered if row["provider"] == provider) > 0) is paid
    assert sum(row["saved_usd"] for row in answered) > 0
