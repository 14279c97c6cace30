"""The charts: figures for plotly.js with the numbers of the queries, and tables with the same."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ccr_asgi.dashboard import figures
from ccr_asgi.dashboard.charts import BARS, Chart, charts, themes
from ccr_asgi.dashboard.failures import Cause, Failures
from ccr_asgi.dashboard.queries import SERIES_MEASURES, Breakdown, Group, Overview, Series, Summary
from ccr_asgi.dashboard.sources import Key
from ccr_asgi.dashboard.steps import divide
from ccr_asgi.dashboard.totals import NOTHING, Totals

HOSTILE = "</script><b>x</b>&amp;"
NO_NAME = {"provider": "none asked", "model": "not told", "agent": "main conversation"}
STEPS = divide(datetime(2026, 1, 30, tzinfo=UTC), datetime(2026, 1, 30, 3, tzinfo=UTC), UTC)
NO_FAILURE = Failures((), 0, ())


def values(**changed: list[int | None]) -> dict[str, list[int | None]]:
    steps = len(STEPS.edges)
    counts: list[int | None] = [0] * steps
    nothing: list[int | None] = [None] * steps
    empty = {name: counts if name in ("requests", "errors", "subscription") else nothing for name in SERIES_MEASURES}
    return {**empty, **{name: (told + nothing)[:steps] for name, told in changed.items()}}


def overview(series: Series | None = None, **groups: Sequence[Group]) -> Overview:
    keys: tuple[Key, ...] = ("provider", "model", "agent")
    breakdowns = {key: Breakdown(key, list(groups.get(key, ())), len(groups.get(key, ()))) for key in keys}
    return Overview(Summary(NOTHING, None, None, None, False), breakdowns, series, (), True)


def drawn(found: Overview, failures: Failures = NO_FAILURE) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts(found, failures, UTC, NO_NAME)}


def figure(chart: Chart) -> Any:
    assert chart.figure is not None
    assert not {"<", ">", "&"} & set(chart.figure)
    return json.loads(chart.figure)


def test_every_panel_is_there_even_without_a_number() -> None:
    found = drawn(overview())
    assert list(found) == [
        "tokens-over-time", "cost-over-time", "requests-by-model", "saved-by-agent", "latency", "errors",
    ]  # fmt: skip
    assert all(chart.figure is None and not chart.rows for chart in found.values())


def test_tokens_are_stacked_by_provider_and_every_step_is_there() -> None:
    told = {
        "anthropic": values(requests=[1], input_tokens=[10], cache_read_tokens=[5], output_tokens=[1, None, 4]),
        None: values(requests=[1]),
    }
    nothing = [None] * len(STEPS.edges)
    chart = drawn(overview(Series(STEPS, told, nothing, nothing)))["tokens-over-time"]
    first, second = figure(chart)["data"]
    assert figure(chart)["layout"]["barmode"] == "stack"
    assert (first["name"], second["name"]) == ("anthropic", "none asked")
    assert len(first["x"]) == len(first["y"]) == len(STEPS.edges) == len(chart.rows)
    assert first["y"][:3] == [16, 0, 4]
    assert list(chart.head) == ["Begins", "anthropic", "none asked"]
    assert chart.rows[0] == ("2026-01-30 00:00", "16", "0")


def test_costs_say_what_is_no_price_and_what_a_subscription_paid() -> None:
    told: dict[str | None, dict[str, list[int | None]]] = {
        "codex": values(requests=[2, 1], subscription=[2, 0], list_micro_usd=[1_500_000], billed_micro_usd=[0])
    }
    nothing = [None] * len(STEPS.edges)
    chart = drawn(overview(Series(STEPS, told, nothing, nothing)))["cost-over-time"]
    (bars,) = figure(chart)["data"]
    assert bars["y"][:2] == [1.5, 0]
    assert bars["customdata"][:2] == ["$1.50, billed $0.00", "no price, billed no price"]
    assert [row[1:] for row in chart.rows[:3]] == [("$1.50", "subscription"), ("no price", "no price"), ("–", "–")]


def test_latency_leaves_a_gap_where_nothing_was_timed() -> None:
    steps = len(STEPS.edges)
    p50 = ([1_200.0, None] + [None] * steps)[:steps]
    p95 = ([2_400.0, None] + [None] * steps)[:steps]
    chart = drawn(overview(Series(STEPS, {"a": values(requests=[1])}, p50, p95)))["latency"]
    median, most = figure(chart)["data"]
    assert (median["y"][:2], most["y"][:2]) == ([1.2, None], [2.4, None])
    assert chart.rows[0][1:] == ("1.2 s", "2.4 s")
    assert chart.rows[1][1:] == ("–", "–")


def test_models_are_ranked_as_they_come_and_cut() -> None:
    groups = [Group(f"m{number}", Totals(requests=100 - number)) for number in range(BARS + 3)]
    chart = drawn(overview(model=groups))["requests-by-model"]
    (bars,) = figure(chart)["data"]
    assert bars["x"] == [100 - number for number in range(BARS)]
    assert bars["y"] == list(range(BARS))
    assert chart.rows[0] == ("m0", "100")
    assert "most" in chart.note


def test_agents_that_cost_more_than_they_saved_are_shown_as_such() -> None:
    groups = [
        Group(None, Totals(saved_micro_usd=0)),
        Group("dear", Totals(saved_micro_usd=-2_000_000)),
        Group("cheap", Totals(saved_micro_usd=1_000_000)),
        Group("unpriced", Totals(saved_micro_usd=None)),
    ]
    chart = drawn(overview(agent=groups))["saved-by-agent"]
    (bars,) = figure(chart)["data"]
    assert bars["x"] == [1.0, 0.0, -2.0]
    assert bars["marker"]["color"][2] == figures.BAD
    assert figure(chart)["layout"]["xaxis"]["range"][0] < -2
    assert chart.rows == [("cheap", "$1.00"), ("main conversation", "$0.00"), ("dear", "-$2.00")]
    assert drawn(overview(agent=groups[:1]))["saved-by-agent"].figure is None


def test_errors_are_counted_by_what_the_client_got() -> None:
    causes = [
        Cause("error", 429, "rate_limit_error", 5),
        Cause("error", None, None, 2),
        Cause("truncated", None, None, 1),
    ]
    chart = drawn(overview(), Failures(causes, 3, ()))["errors"]
    assert chart.rows == [
        ("429 rate_limit_error", "5"), ("no answer", "2"), ("answer broke off", "1"), ("all others", "3"),
    ]  # fmt: skip
    assert figure(chart)["data"][0]["x"] == [5, 2, 1]


def test_an_axis_of_counts_has_no_halves_and_one_of_money_has_cents() -> None:
    few = drawn(overview(), Failures([Cause("error", 429, None, 2)], 0, ()))["errors"]
    many = drawn(overview(), Failures([Cause("error", 429, None, 200)], 0, ()))["errors"]
    assert figure(few)["layout"]["xaxis"]["dtick"] == 1
    assert figure(many)["layout"]["xaxis"].get("dtick") is None
    saved = drawn(overview(agent=[Group("a", Totals(saved_micro_usd=300_000))]))["saved-by-agent"]
    axis = figure(saved)["layout"]["xaxis"]
    assert (axis.get("dtick"), axis["tickformat"], axis["tickprefix"]) == (None, ",.2f", "$")


def test_names_are_text_for_the_page_and_for_plotly() -> None:
    chart = drawn(overview(model=[Group(HOSTILE, Totals(requests=1))]))["requests-by-model"]
    (label,) = figure(chart)["layout"]["yaxis"]["ticktext"]
    assert label == "&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;&amp;amp;"
    assert chart.rows == [(HOSTILE, "1")]


def test_a_long_name_is_cut_in_its_middle_and_stays_on_one_line() -> None:
    assert figures.plain("qwen-3-235b-a22b-instruct-2507-very-long") == "qwen-3-235b-a22b-…ery-long"
    assert figures.plain("a\nb  c") == "a b c"


@pytest.mark.parametrize(
    ("start", "end", "zone", "most", "first"),
    [
        ("2026-01-30T00:00", "2026-01-30T01:00", "UTC", 7, "Fri 30"),
        ("2026-01-30T09:10", "2026-01-30T15:10", "UTC", 7, "10:00"),
        ("2026-01-29T09:10", "2026-01-30T09:10", "Europe/Berlin", 7, "12:00"),
        ("2026-01-23T09:10", "2026-01-30T09:10", "UTC", 8, "Sat 24"),
        ("2026-01-01T00:00", "2026-01-30T09:10", "UTC", 7, None),
        ("2024-01-01T00:00", "2026-01-30T09:10", "UTC", 7, None),
    ],
)
def test_the_axis_of_time_has_few_and_full_marks(start: str, end: str, zone: str, most: int, first: str | None) -> None:
    begins, ends = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    steps = divide(begins, ends, ZoneInfo(zone))
    nothing = [None] * len(steps.edges)
    told: dict[str | None, dict[str, list[int]]] = {"a": {name: [0] * len(steps.edges) for name in SERIES_MEASURES}}
    found = figures.tokens_over_time(Series(steps, told, nothing, nothing), ZoneInfo(zone), {"a": "a"})
    axis = found.to_plotly_json()["layout"]["xaxis"]
    assert 1 <= len(axis["tickvals"]) == len(axis["ticktext"]) <= most
    assert first is None or axis["ticktext"][0] == first


def test_every_step_has_a_label_of_its_own_where_clocks_are_set_back() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    steps = divide(datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 4, tzinfo=UTC), berlin)
    labels = figures.step_labels(steps, berlin)
    assert len(set(labels)) == len(labels) == len(steps.edges)
    assert any(label.endswith("+0200") for label in labels)


def test_both_themes_have_the_same_parts() -> None:
    light, dark = (json.loads(themes())[name] for name in ("light", "dark"))
    assert light["layout"].keys() == dark["layout"].keys()
    assert light["layout"]["font"]["color"] != dark["layout"]["font"]["color"]
    assert "<" not in themes()


def test_a_series_without_a_provider_is_none() -> None:
    nothing = [None] * len(STEPS.edges)
    found = drawn(replace(overview(), series=Series(STEPS, {}, nothing, nothing)))
    assert found["tokens-over-time"].figure is None
