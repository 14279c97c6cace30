"""The charts of the dashboard as their panels hold them: a title, a figure for plotly.js, and the same as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

import plotly.graph_objects as go
from markupsafe import Markup

from ccr_asgi.dashboard import figures
from ccr_asgi.dashboard.failures import Failures
from ccr_asgi.dashboard.numbers import MISSING, compact, duration, price, whole
from ccr_asgi.dashboard.queries import Group, Overview, Series
from ccr_asgi.errors import escape_html
from ccr_asgi.wire.json_codec import dumps

BARS = 8
"""In a chart of models or agents: those with the most."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel.

    Attributes:
        name: As the page calls it.
        title: For people.
        note: What the title leaves open.
        figure: JSON that may stand in HTML; None where there is nothing to draw.
        head: The names of the table's columns.
        rows: Its cells, the first of each row being what the row is about.
    """

    name: str
    title: str
    note: str
    figure: Markup | None
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def charts(found: Overview, failures: Failures, zone: tzinfo, no_name: Mapping[str, str]) -> list[Chart]:
    """All charts of an overview, in their order on the page; `no_name` tells what stands where a name is not told."""
    series = found.series if found.series is not None and found.series.providers else None
    providers = _names([] if series is None else list(series.providers), no_name["provider"])
    return [
        _tokens(series, zone, providers),
        _cost(series, zone, providers),
        _models(found.breakdowns["model"].groups[:BARS], no_name["model"]),
        _agents(found.breakdowns["agent"].groups, no_name["agent"]),
        _latency(series, zone),
        _errors(failures),
    ]


def themes() -> Markup:
    """The looks of all figures, as JSON that may stand in HTML."""
    return _json(figures.THEMES)


def _tokens(series: Series | None, zone: tzinfo, names: figures.Names) -> Chart:
    title, note = "Tokens over time", "by provider; cached ones included"
    if series is None:
        return Chart("tokens-over-time", title, note, None, (), ())
    columns = [figures.step_tokens(values) for values in series.providers.values()]
    rows = _rows(series, zone, [[compact(count) for count in column] for column in columns])
    head = ["Begins", *(names[provider] for provider in series.providers)]
    return Chart("tokens-over-time", title, note, _drawn(figures.tokens_over_time(series, zone, names)), head, rows)


def _cost(series: Series | None, zone: tzinfo, names: figures.Names) -> Chart:
    title, note = "Cost over time", "at list price, by provider; what was billed is in the table"
    if series is None:
        return Chart("cost-over-time", title, note, None, (), ())
    head, columns = ["Begins"], []
    for provider, values in series.providers.items():
        for words, measure in (("", "list_micro_usd"), (", billed", "billed_micro_usd")):
            head.append(f"{names[provider]}{words}")
            triples = zip(values[measure], values["requests"], values["subscription"], strict=True)
            columns.append([_amount(*triple) for triple in triples])
    figure = figures.cost_over_time(series, zone, names)
    return Chart("cost-over-time", title, note, _drawn(figure), head, _rows(series, zone, columns))


def _amount(micro_usd: int | None, requests: int | None, subscription: int | None) -> str:
    if not requests:
        return MISSING
    return "subscription" if micro_usd == 0 and subscription else price(micro_usd)


def _latency(series: Series | None, zone: tzinfo) -> Chart:
    title, note = "Time to first token", "estimated from bins"
    if series is None or not any(series.ttft_p50_ms):
        return Chart("latency", title, note, None, (), ())
    columns = [[duration(value) for value in values] for values in (series.ttft_p50_ms, series.ttft_p95_ms)]
    head = ("Begins", "Median", "95th percentile")
    return Chart("latency", title, note, _drawn(figures.latency(series, zone)), head, _rows(series, zone, columns))


def _models(groups: Sequence[Group], no_name: str) -> Chart:
    names = _names([group.name for group in groups], no_name)
    rows = [(names[group.name], whole(group.totals.requests)) for group in groups]
    figure = _drawn(figures.requests_by_model(groups, names)) if groups else None
    note = f"the {BARS} with the most" if len(groups) == BARS else ""
    return Chart("requests-by-model", "Requests by model", note, figure, ("Model", "Requests"), rows)


def _agents(groups: Sequence[Group], no_name: str) -> Chart:
    told = [group for group in groups if group.totals.saved_micro_usd is not None]
    told.sort(key=lambda group: -abs(group.totals.saved_micro_usd or 0))
    told = sorted(told[:BARS], key=lambda group: -(group.totals.saved_micro_usd or 0))
    names = _names([group.name for group in told], no_name)
    rows = [(names[group.name], price(group.totals.saved_micro_usd)) for group in told]
    figure = (
        _drawn(figures.saved_by_agent(told, names)) if any(group.totals.saved_micro_usd for group in told) else None
    )
    note = "against the Claude model that it asked for"
    return Chart("saved-by-agent", "Saved by agent", note, figure, ("Agent", "Saved"), rows)


def _errors(failures: Failures) -> Chart:
    rows = [(cause.words, whole(cause.requests)) for cause in failures.causes]
    if failures.others:
        rows.append(("all others", whole(failures.others)))
    figure = _drawn(figures.errors_by_cause(failures.causes)) if failures.causes else None
    return Chart("errors", "Errors by cause", "what the client got", figure, ("Cause", "Requests"), rows)


def _names(found: Sequence[str | None], no_name: str) -> dict[str | None, str]:
    return {name: no_name if name is None else name for name in found}


def _rows(series: Series, zone: tzinfo, columns: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return list(zip(figures.step_labels(series.steps, zone), *columns, strict=True))


def _drawn(figure: go.Figure) -> Markup:
    return _json(figure.to_plotly_json())


def _json(value: object) -> Markup:
    """JSON that no browser reads as HTML, wherever it stands."""
    return Markup(escape_html(dumps(value)).decode("utf-8"))  # noqa: S704 -- its <, > and & are escapes
