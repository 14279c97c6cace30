"""The query string of the pages: what it may hold, what it means, and how the rest is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ccr_asgi.dashboard.filters import FILTERS, PARAMETERS, RANGES, Window, parse_window
from ccr_asgi.dashboard.steps import divide
from ccr_asgi.errors import RequestError

NOW = datetime(2026, 3, 31, 9, 30, 15, 250_000, tzinfo=UTC)


def window(**parameters: str) -> Window:
    """The window of a query string; `from_` stands for `from`."""
    return window_at(NOW, **parameters)


def window_at(now: datetime, **parameters: str) -> Window:
    return parse_window([(name.rstrip("_"), value) for name, value in parameters.items()], now)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, micro: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("1h", utc(2026, 3, 31, 8, 30, 15, 250_000)),
        ("6h", utc(2026, 3, 31, 3, 30, 15, 250_000)),
        ("24h", utc(2026, 3, 30, 9, 30, 15, 250_000)),
        ("today", utc(2026, 3, 31)),
        ("7d", utc(2026, 3, 24, 9, 30, 15, 250_000)),
        ("30d", utc(2026, 3, 1, 9, 30, 15, 250_000)),
        ("month", utc(2026, 3, 1)),
        ("all", None),
    ],
)
def test_each_range_begins_where_its_name_says_and_is_open_to_the_present(name: str, start: datetime | None) -> None:
    found = window(range=name)
    assert (found.range, found.start, found.end) == (name, start, None)


def test_every_range_has_a_case_above() -> None:
    assert list(RANGES) == ["1h", "6h", "24h", "today", "7d", "30d", "month", "all"]


def test_without_parameters_it_is_the_last_24_hours_in_utc() -> None:
    found = window()
    assert (found.range, str(found.zone), found.filters) == ("24h", "UTC", {})
    assert (found.page, found.page_size, found.offset) == (1, 50, 0)


def test_an_empty_value_is_as_none_since_a_form_sends_its_empty_fields() -> None:
    assert window(range="", provider="", page="", tz=" ", from_="") == window()


def test_days_begin_in_the_zone_that_is_asked_for() -> None:
    late = utc(2026, 3, 31, 22, 30)  # the first of April in Berlin, where clocks are two hours ahead
    assert window_at(late, range="today", tz="Europe/Berlin").start == utc(2026, 3, 31, 22)
    assert window_at(late, range="month", tz="Europe/Berlin").start == utc(2026, 3, 31, 22)
    assert window_at(late, range="month").start == utc(2026, 3, 1)


def test_24_hours_are_24_hours_when_clocks_change() -> None:
    after_the_change = utc(2026, 3, 29, 12)
    assert window_at(after_the_change, range="24h", tz="Europe/Berlin").start == utc(2026, 3, 28, 12)
    assert window_at(after_the_change, range="today", tz="Europe/Berlin").start == utc(2026, 3, 28, 23)


@pytest.mark.parametrize(
    ("parameters", "start", "end"),
    [
        ({"from_": "2026-01-31", "to": "2026-01-31"}, utc(2026, 1, 31), utc(2026, 2, 1)),
        ({"from_": "2026-01-31T09:30"}, utc(2026, 1, 31, 9, 30), None),
        ({"to": "2026-01-31T09:30:00Z"}, None, utc(2026, 1, 31, 9, 30)),
        ({"from_": "2026-01-31T09:30:00+02:00"}, utc(2026, 1, 31, 7, 30), None),
        ({"from_": "2026-01-31T09:30:00 02:00"}, utc(2026, 1, 31, 7, 30), None),
        ({"from_": "2026-01-31 09:30"}, utc(2026, 1, 31, 9, 30), None),
        (
            {"from_": "2026-03-29", "to": "2026-03-29", "tz": "Europe/Berlin"},
            utc(2026, 3, 28, 23),
            utc(2026, 3, 29, 22),
        ),
        ({"range": "custom"}, None, None),
    ],
)
def test_custom_bounds(parameters: dict[str, str], start: datetime | None, end: datetime | None) -> None:
    found = window(**parameters)
    assert (found.range, found.start, found.end) == ("custom", start, end)


def test_the_widest_window_has_a_time_before_it_and_few_steps() -> None:
    widest = window(from_="1970-01-01", to="2100-12-31", tz="Pacific/Kiritimati")
    assert widest.start is not None
    assert widest.end is not None
    assert widest.before() is not None
    assert len(divide(widest.start, widest.end, widest.zone).edges) < 1600


def test_filters_are_taken_as_they_stand() -> None:
    given: dict[str, str] = {name: f" <{name}> " for name in FILTERS if name not in ("status", "outcome")}
    found = window(**given, status="4xx", outcome="truncated")
    assert found.filters == {**given, "status": "4xx", "outcome": "truncated"}


@pytest.mark.parametrize("status", ["200", "429", "5xx", "error", "cancelled", "-"])
def test_a_status_is_a_number_a_class_an_outcome_or_none(status: str) -> None:
    assert window(status=status).filters == {"status": status}


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        ({"range": "9d"}, ["range", "'9d'", "24h", "custom"]),
        ({"tz": "Mars/Base"}, ["tz", "'Mars/Base'", "Europe/Berlin"]),
        ({"tz": "../../etc/passwd"}, ["tz", "IANA"]),
        ({"tz": "Europe"}, ["tz", "'Europe'", "IANA"]),
        ({"tz": "a\0b"}, ["tz", "IANA"]),
        ({"status": "600"}, ["status", "'600'", "4xx", "cancelled"]),
        ({"status": "20"}, ["status", "'20'"]),
        ({"outcome": "fine"}, ["outcome", "'fine'", "ok, error, cancelled, truncated"]),
        ({"page": "0"}, ["page", "'0'", "1 to"]),
        ({"page": "-1"}, ["page", "'-1'"]),
        ({"page": "1e3"}, ["page"]),
        ({"page": "\u0661"}, ["page"]),
        ({"page": "9" * 5000}, ["page"]),
        ({"page_size": "501"}, ["page_size", "'501'", "1 to 500"]),
        ({"from_": "yesterday"}, ["from", "'yesterday'", "2026-01-31"]),
        ({"from_": "0001-01-01T00:00+14:00"}, ["from", "1970"]),
        ({"to": "9999-12-31"}, ["to", "1970 to 2100"]),
        ({"to": "2101-01-01"}, ["to", "1970 to 2100"]),
        ({"from_": "2026-02-01", "to": "2026-01-01"}, ["to", "'2026-01-01'", "2026-02-01"]),
        ({"range": "24h", "from_": "2026-02-01"}, ["from", "range=24h", "custom"]),
        ({"provder": "cerebras"}, ["'provder'", *PARAMETERS]),
    ],
)
def test_what_is_not_understood_is_refused_by_name(parameters: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(RequestError) as refusal:
        window(**parameters)
    assert [part for part in parts if part not in refusal.value.message] == []
    assert len(refusal.value.message) < 400


def test_a_parameter_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="provider is given twice"):
        parse_window([("provider", "a"), ("provider", "b")], NOW)


@pytest.mark.parametrize(("total", "pages"), [(0, 1), (1, 1), (50, 1), (51, 2), (101, 3)])
def test_pages(total: int, pages: int) -> None:
    assert window().pages(total) == pages


def test_all_rows_stand_on_one_page_unless_a_page_is_asked_for() -> None:
    whole: dict[str, Any] = {"now": NOW, "default_range": "all", "paged": False}
    unpaged = parse_window([], **whole)
    assert (unpaged.start, unpaged.page_size, unpaged.pages(1_000), unpaged.offset) == (None, None, 1, 0)
    assert parse_window([("page", "2")], **whole).offset == 50
    assert parse_window([("page_size", "7")], **whole).page_size == 7


def test_a_link_keeps_the_other_choices_and_begins_on_the_first_page() -> None:
    found = window(range="7d", model="a&b=<c> d", page="3", tz="Europe/Berlin")
    assert found.query() == "?range=7d&model=a%26b%3D%3Cc%3E+d&tz=Europe%2FBerlin"
    assert found.query(model=None, range="all") == "?range=all&tz=Europe%2FBerlin"
    assert "&page=4&" in found.query(page=4)
    assert window().query() == ""


def test_the_window_before_is_as_long_and_ends_where_this_begins() -> None:
    before = window(range="24h", provider="a").before()
    assert before is not None
    assert (before.start, before.end) == (NOW - timedelta(hours=48), NOW - timedelta(hours=24))
    assert before.filters == {"provider": "a"}
    bounded = window(from_="2026-01-30", to="2026-01-31").before()
    assert bounded is not None
    assert (bounded.start, bounded.end) == (utc(2026, 1, 28), utc(2026, 1, 30))
    under_way = window(from_="2026-03-30", to="2026-04-30").before()
    assert under_way is not None
    assert (under_way.start, under_way.end) == (utc(2026, 3, 30) - (NOW - utc(2026, 3, 30)), utc(2026, 3, 30))
    assert window(range="all").before() is None
    assert window(from_="2027-01-01").before() is None
