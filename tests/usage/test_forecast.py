"""The forecast is plain arithmetic, and says nothing where nothing can be known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ccr_asgi.usage.forecast import Forecast, forecast, spell
from ccr_asgi.usage.quota import QuotaWindow

BEGAN = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
RESETS = BEGAN + 5 * HOUR


def told(used_percent: float | None, after: timedelta, **changes: Any) -> QuotaWindow:
    """A window of five hours, told `after` it began."""
    return replace(QuotaWindow("codex", "primary", BEGAN + after, used_percent, 300, RESETS), **changes)


@pytest.mark.parametrize(
    ("used_percent", "after", "runs_out"),
    [(50.0, HOUR, 2 * HOUR), (40.0, 2 * HOUR, None), (41.0, 2 * HOUR, 2 * HOUR / 0.41), (0.0, HOUR, None)],
)
def test_at_the_same_pace_it_lasts_or_runs_out(
    used_percent: float, after: timedelta, runs_out: timedelta | None
) -> None:
    found = forecast(told(used_percent, after), BEGAN + after)
    assert found.outlook == ("lasts" if runs_out is None else "runs-out")
    assert (found.runs_out_at is None) == (runs_out is None)
    if runs_out is not None and found.runs_out_at is not None:
        assert abs(found.runs_out_at - (BEGAN + runs_out)) < timedelta(milliseconds=1)
    assert found.because == f"{used_percent:g} % was used in the first {spell(after)} of 5 h."


def test_what_was_forecast_for_the_past_is_now() -> None:
    assert forecast(told(50.0, HOUR), BEGAN + 3 * HOUR).runs_out_at == BEGAN + 3 * HOUR


@pytest.mark.parametrize("used_percent", [100.0, 130.0])
def test_used_up_needs_no_pace(used_percent: float) -> None:
    window = told(used_percent, HOUR, window_minutes=None, resets_at=None)
    assert forecast(window, BEGAN + HOUR) == Forecast("used-up", f"{used_percent:g} % was used when it was last told.")


def test_after_its_end_what_was_told_holds_no_more() -> None:
    assert forecast(told(100.0, HOUR), RESETS - timedelta(seconds=1)).outlook == "used-up"
    assert forecast(told(100.0, HOUR), RESETS).outlook == "begun-anew"


@pytest.mark.parametrize(
    "window",
    [
        told(None, HOUR),
        told(50.0, HOUR, resets_at=None),
        told(50.0, HOUR, window_minutes=None),
        told(50.0, timedelta(minutes=14)),
        told(50.0, -HOUR),
    ],
)
def test_nothing_is_said_where_a_part_is_missing_or_it_is_early(window: QuotaWindow) -> None:
    found = forecast(window, BEGAN + HOUR)
    assert (found.outlook, found.runs_out_at) == ("unknown", None)


def test_a_trace_of_use_forecasts_no_time_beyond_the_calendar() -> None:
    assert forecast(told(1e-6, HOUR), BEGAN + HOUR).outlook == "lasts"


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(), "0 min"),
        (timedelta(seconds=-5), "0 min"),
        (timedelta(minutes=5, seconds=59), "5 min"),
        (timedelta(hours=1, minutes=20), "1 h 20 min"),
        (timedelta(hours=5), "5 h"),
        (timedelta(days=2, hours=3, minutes=4), "2 d 3 h"),
        (timedelta(days=2, minutes=4), "2 d"),
    ],
)
def test_durations_are_spelled_in_two_units(duration: timedelta, words: str) -> None:
    assert spell(duration) == words
