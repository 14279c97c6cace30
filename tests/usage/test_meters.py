"""Meters: what was told last of each limit, read back, named and put in order."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ccr_asgi.usage.forecast import Forecast
from ccr_asgi.usage.meters import QuotaMeter, length_name, read_meters
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SOON = NOW + timedelta(hours=4)


async def meters(path: Path, *windows: QuotaWindow) -> list[QuotaMeter]:
    store = UsageStore(path)
    await store.start()
    try:
        await store.insert([record(quota=windows)])
        return await store.read(lambda connection: read_meters(connection, NOW))
    finally:
        await store.stop()


async def test_they_are_what_was_told_the_shorter_first(tmp_path: Path) -> None:
    told = (
        QuotaWindow("codex", "secondary", NOW, 7.5, 10_080, SOON, plan="plus"),
        QuotaWindow("codex", "primary", NOW, 25.0, 300, SOON, plan="plus"),
        QuotaWindow("codex", "credits", NOW, status="available", credits_balance=3.5),
        QuotaWindow("anthropic", "unified", NOW, status="allowed"),
        QuotaWindow("anthropic", "7d_oi", NOW, 50.0, 10_080, NOW),
    )
    found = await meters(tmp_path / "usage.db", *told)
    assert [(meter.window.provider, meter.label, meter.used_percent) for meter in found] == [
        ("anthropic", "7d_oi", None),
        ("anthropic", "unified", None),
        ("codex", "5h", 25.0),
        ("codex", "7d", 7.5),
        ("codex", "credits", None),
    ]
    assert {meter.window for meter in found} == set(told)
    assert found[0].forecast.outlook == "begun-anew"


async def test_there_may_be_none(tmp_path: Path) -> None:
    assert await meters(tmp_path / "usage.db") == []


@pytest.mark.parametrize(
    ("window", "label"),
    [
        (QuotaWindow("codex", "primary", NOW), "primary"),
        (QuotaWindow("codex", "other-primary", NOW, window_minutes=90), "other-90m"),
        (QuotaWindow("anthropic", "5h", NOW, window_minutes=300), "5h"),
    ],
)
def test_a_limit_is_called_by_its_length_where_its_name_tells_none(window: QuotaWindow, label: str) -> None:
    assert QuotaMeter(window, Forecast("unknown", "")).label == label


@pytest.mark.parametrize(("minutes", "name"), [(300, "5h"), (10_080, "7d"), (90, "90m"), (1440, "1d")])
def test_lengths(minutes: int, name: str) -> None:
    assert length_name(minutes) == name
