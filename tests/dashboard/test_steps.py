"""Charts are divided as a reader's clock and calendar are."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.dashboard.steps import divide

BERLIN, KOLKATA, KATHMANDU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Asia/Kathmandu")


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "name", "most"),
    [
        (timedelta(hours=1), "5m", 13),
        (timedelta(hours=6), "15m", 25),
        (timedelta(hours=24), "1h", 25),
        (timedelta(days=7), "6h", 29),
        (timedelta(days=30), "1d", 31),
        (timedelta(days=90), "1d", 91),
        (timedelta(days=365), "7d", 54),
        (timedelta(days=3 * 365), "1mo", 37),
    ],
)
def test_there_are_some_dozens_of_steps(length: timedelta, name: str, most: int) -> None:
    end = utc(2026, 3, 31, 9, 30, 15)
    steps = divide(end - length, end, UTC)
    assert (steps.name, steps.end, steps.edges[0]) == (name, end, end - length)
    assert most - 2 <= len(steps.edges) <= most


@pytest.mark.parametrize(
    ("zone", "second", "last"),
    [
        (UTC, utc(2026, 3, 30, 10), utc(2026, 3, 31, 9)),
        (KOLKATA, utc(2026, 3, 30, 10, 30), utc(2026, 3, 31, 9, 30)),
        (KATHMANDU, utc(2026, 3, 30, 10, 15), utc(2026, 3, 31, 9, 15)),
    ],
)
def test_hours_begin_as_clocks_show_them(zone: tzinfo, second: datetime, last: datetime) -> None:
    steps = divide(utc(2026, 3, 30, 9, 40), utc(2026, 3, 31, 9, 40), zone)
    assert (steps.edges[1], steps.edges[-1]) == (second, last)


def test_days_are_as_long_as_they_are() -> None:
    steps = divide(utc(2026, 3, 20), utc(2026, 4, 5), BERLIN)  # clocks are set forward on the 29th
    lengths = [b - a for a, b in zip(steps.edges[1:], steps.edges[2:], strict=False)]
    assert sorted(set(lengths)) == [timedelta(hours=23), timedelta(hours=24)]
    assert lengths.count(timedelta(hours=23)) == 1
    assert all(edge.astimezone(BERLIN).hour == 0 for edge in steps.edges[1:])


def test_parts_of_days_begin_by_wall_time() -> None:
    steps = divide(utc(2026, 3, 26, 12), utc(2026, 3, 31, 12), BERLIN)
    assert {edge.astimezone(BERLIN).hour for edge in steps.edges[1:]} == {0, 6, 12, 18}


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    weeks = divide(utc(2025, 6, 4, 9), utc(2026, 3, 1), BERLIN)
    assert {edge.astimezone(BERLIN).weekday() for edge in weeks.edges[1:]} == {0}
    months = divide(utc(2022, 12, 15), utc(2026, 3, 2), UTC)
    assert {edge.day for edge in months.edges[1:]} == {1}
    assert months.edges[1] == utc(2023, 1, 1)


zones = st.sampled_from(
    [UTC, BERLIN, KOLKATA, KATHMANDU, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/New_York")]
)


@settings(deadline=None)
@given(
    st.datetimes(datetime(2015, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=4000)),
    zones,
)
def test_steps_go_forward_within_the_window_and_are_never_many(
    start: datetime, length: timedelta, zone: tzinfo
) -> None:
    steps = divide(start, start + length, zone)
    assert steps.edges[0] == start
    assert all(a < b for a, b in zip(steps.edges, (*steps.edges[1:], steps.end), strict=True))
    assert len(steps.edges) <= 140
