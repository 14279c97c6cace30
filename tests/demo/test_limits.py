"""The limits that the simulated providers tell are read as the real ones are."""

from datetime import UTC, datetime, timedelta

import pytest

from ccr_asgi.demo.limits import limits
from ccr_asgi.usage.quota import QuotaWindow, parse_quota

MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def windows(provider: str, at: datetime) -> dict[str, QuotaWindow]:
    return {window.window: window for window in parse_quota(provider, limits(provider, at), at)}


@pytest.mark.parametrize(
    ("provider", "lengths"),
    [("anthropic", {"5h": 300, "7d": 10080}), ("codex", {"primary": 300, "secondary": 10080})],
)
def test_a_window_fills_and_begins_anew(provider: str, lengths: dict[str, int]) -> None:
    found = windows(provider, MONDAY)
    assert {name: window.window_minutes for name, window in found.items() if window.used_percent is not None} == lengths
    for name, minutes in lengths.items():
        window = found[name]
        assert window.resets_at is not None
        assert MONDAY < window.resets_at <= MONDAY + timedelta(minutes=minutes)
        last = windows(provider, window.resets_at - timedelta(seconds=1))[name]
        first = windows(provider, window.resets_at + timedelta(seconds=1))[name]
        used = (window.used_percent, last.used_percent, first.used_percent)
        assert used[0] is not None and used[1] is not None and used[2] is not None  # noqa: PT018 -- one fact, for mypy
        assert 100 > used[1] >= used[0] >= used[2]
        assert used[2] < 1


def test_cerebras_tells_its_rates() -> None:
    told = dict(limits("cerebras", MONDAY))
    assert 0 < int(told[b"x-ratelimit-remaining-requests-day"]) <= int(told[b"x-ratelimit-limit-requests-day"])
    assert 0 < float(told[b"x-ratelimit-reset-requests-day"]) <= 24 * 3600
