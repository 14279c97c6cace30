"""The charts, as Plotly figures: from what the queries found to what plotly.js draws. Pure.

A figure has no look of its own but the colours of its data, which are told apart on light and on dark alike; text,
grid and background come from one of the two `THEMES`, which the page chooses. All names are text that others wrote,
and plotly.js reads text as a little HTML: so it is escaped here, and never serves as an identity.
"""

import html
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

import plotly.graph_objects as go

from ccr_asgi.dashboard.failures import Cause
from ccr_asgi.dashboard.numbers import compact, duration, price, usd, whole
from ccr_asgi.dashboard.queries import Group, Series
from ccr_asgi.dashboard.steps import Steps

COLOURS: Final = ("#5b6ee1", "#c9741a", "#1f9488", "#c14d8f", "#5a9138", "#8e63ce", "#2f8fc4", "#6d7f99")
"""One for each provider, by its place; each has a contrast of 3 or more on both surfaces (WCAG 1.4.11)."""
BAD: Final = "#d0514a"
NAME_CHARS = 26
TICKS = 7
FEW = 5
FEWEST_BARS = 4
"""So many have room below each other at the least, that a lone bar is not as thick as a wall."""

TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens")

Names = Mapping[str | None, str]


def tokens_over_time(series: Series, zone: tzinfo, names: Names) -> go.Figure:
    """All tokens of each step, stacked by provider."""
    figure = _over_time(series.steps, zone)
    for colour, (provider, values) in zip(_colours(), series.providers.items(), strict=False):
        heights = step_tokens(values)
        figure.add_bar(
            x=step_labels(series.steps, zone), y=heights, **_named(names, provider, colour, map(compact, heights))
        )
    return figure


def cost_over_time(series: Series, zone: tzinfo, names: Names) -> go.Figure:
    """What each step was worth at list price, stacked by provider; what has no price has no height."""
    figure = _over_time(series.steps, zone, tickprefix="$", tickformat=",.2f")
    for colour, (provider, values) in zip(_colours(), series.providers.items(), strict=False):
        listed, billed = values["list_micro_usd"], values["billed_micro_usd"]
        words = (f"{price(one)}, billed {price(other)}" for one, other in zip(listed, billed, strict=True))
        heights = [(value or 0) / 1_000_000 for value in listed]
        figure.add_bar(x=step_labels(series.steps, zone), y=heights, **_named(names, provider, colour, words))
    return figure


def latency(series: Series, zone: tzinfo) -> go.Figure:
    """The median and the 95th percentile of the time to first token, in seconds."""
    figure = _over_time(series.steps, zone, ticksuffix=" s")
    for colour, name, values in (
        (COLOURS[0], "median", series.ttft_p50_ms),
        (COLOURS[1], "95th percentile", series.ttft_p95_ms),
    ):
        figure.add_scatter(
            x=step_labels(series.steps, zone),
            y=[None if value is None else round(value / 1000, 3) for value in values],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 5},
            customdata=[duration(value) for value in values],
            hovertemplate="%{customdata}",
        )
    return figure


def requests_by_model(groups: Sequence[Group], names: Names) -> go.Figure:
    """How many requests each model answered."""
    counts = [group.totals.requests for group in groups]
    return _ranked([names.get(group.name, "") for group in groups], counts, [whole(count) for count in counts])


def saved_by_agent(groups: Sequence[Group], names: Names) -> go.Figure:
    """What each agent saved against the Claude model that it asked for; below 0 it cost more."""
    saved = [group.totals.saved_micro_usd or 0 for group in groups]
    figure = _ranked(
        [names.get(group.name, "") for group in groups],
        [micro_usd / 1_000_000 for micro_usd in saved],
        [usd(micro_usd) for micro_usd in saved],
        [BAD if micro_usd < 0 else COLOURS[2] for micro_usd in saved],
    )
    figure.update_xaxes(tickprefix="$", dtick=None, tickformat=",.2f")
    return figure


def errors_by_cause(causes: Sequence[Cause]) -> go.Figure:
    """How many requests failed, by what was said of it."""
    counts = [cause.requests for cause in causes]
    return _ranked([cause.words for cause in causes], counts, [whole(count) for count in counts], [BAD] * len(causes))


def step_tokens(values: Mapping[str, Sequence[int | None]]) -> list[int]:
    """All tokens of each step; what was not told counts as none."""
    return [sum(count or 0 for count in step) for step in zip(*(values[name] for name in TOKENS), strict=True)]


def step_labels(steps: Steps, zone: tzinfo) -> list[str]:
    """When each step begins, as a clock in `zone` shows it; each is another, even where clocks are set back."""
    form = "%Y-%m-%d" if steps.name in ("1d", "7d", "1mo") else "%Y-%m-%d %H:%M"
    labels = [edge.astimezone(zone).strftime(form) for edge in steps.edges]
    return [
        label if labels.count(label) == 1 else edge.astimezone(zone).strftime(f"{form} %z")
        for label, edge in zip(labels, steps.edges, strict=True)
    ]


def plain(text: str) -> str:
    """A name for plotly.js: escaped, on one line, and cut in its middle if it is long."""
    line = " ".join(text.split())
    if len(line) > NAME_CHARS:
        line = f"{line[: NAME_CHARS - 9]}…{line[-8:]}"
    return html.escape(line, quote=False)


def _colours() -> Sequence[str]:
    return COLOURS * 20


def _named(names: Names, provider: str | None, colour: str, words: Any) -> dict[str, Any]:
    return {
        "name": plain(names.get(provider) or str(provider)),
        "marker": {"color": colour, "line": {"width": 0}},
        "customdata": list(words),
        "hovertemplate": "%{customdata}",
    }


def _over_time(steps: Steps, zone: tzinfo, **of_values: str) -> go.Figure:
    """A figure without data whose steps of time lie side by side, each as wide as another."""
    places, words = _ticks(steps, zone)
    return go.Figure(
        layout={
            "template": {},
            "barmode": "stack",
            "hovermode": "x unified",
            "showlegend": True,
            "xaxis": {
                "type": "category",
                "tickvals": places,
                "ticktext": words,
                "range": [-0.6, len(steps.edges) - 0.4],
            },
            "yaxis": {"rangemode": "tozero", **of_values},
        }
    )


def _ranked(
    names: Sequence[str], values: Sequence[float], words: Sequence[str], colours: Sequence[str] = ()
) -> go.Figure:
    """Bars that lie below each other, the first at the top, each with its value beside it."""
    places = list(range(len(names)))
    labels = [plain(name) for name in names]
    least, most = min([0, *values]), max([0, *values])
    room = (most - least) * 0.16 or 1
    return go.Figure(
        data=go.Bar(
            x=list(values),
            y=places,
            orientation="h",
            marker={"color": list(colours) or COLOURS[0]},
            text=list(words),
            textposition="outside",
            cliponaxis=False,
            customdata=labels,
            hovertemplate="%{customdata}: %{text}<extra></extra>",
            width=0.62,
        ),
        layout={
            "template": {},
            "hovermode": "closest",
            "showlegend": False,
            "xaxis": {
                "range": [least - (room if least < 0 else 0), most + room],
                "nticks": 5,
                "dtick": 1 if most <= FEW else None,  # of counts, which have no halves
            },
            "yaxis": {
                "tickvals": places,
                "ticktext": labels,
                "range": [max(len(names), FEWEST_BARS) - 0.5, -0.5],
                "showgrid": False,
                "ticklabelstandoff": 6,
                "automargin": True,
            },
        },
    )


def _ticks(steps: Steps, zone: tzinfo) -> tuple[list[int], list[str]]:
    """Where the axis of time is labelled, and how: at full hours or days, as many as there is room for."""
    edges = [edge.astimezone(zone) for edge in steps.edges]
    if steps.name in ("1d", "7d", "1mo"):
        every = -(-len(edges) // TICKS)
        places = list(range((len(edges) - 1) % every, len(edges), every))
        return places, [_day(edges[place], steps.name) for place in places]
    for minutes in (5, 15, 30, 60, 120, 180, 240, 360, 720, 1440):
        places = [place for place, edge in enumerate(edges) if _is_full(edge, timedelta(minutes=minutes))]
        if len(places) <= TICKS:
            break
    return places, [_clock(edges[place]) for place in places]


def _day(edge: datetime, step: str) -> str:
    return f"{edge:%b %Y}" if step == "1mo" else f"{edge.day} {edge:%b}"


def _is_full(edge: datetime, length: timedelta) -> bool:
    return timedelta(hours=edge.hour, minutes=edge.minute, seconds=edge.second) % length == timedelta()


def _clock(edge: datetime) -> str:
    return f"{edge:%a %d}" if (edge.hour, edge.minute) == (0, 0) else f"{edge:%H:%M}"


def _theme(text: str, muted: str, line: str, surface: str) -> dict[str, Any]:
    axis = {
        "color": muted,
        "gridcolor": line,
        "linecolor": line,
        "zeroline": False,
        "fixedrange": True,
        "ticks": "",
        "tickfont": {"size": 11.5},
        "showline": False,
    }
    return {
        "layout": {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": text},
            "margin": {"l": 44, "r": 12, "t": 8, "b": 26},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": muted}},
            "hoverlabel": {"bgcolor": surface, "bordercolor": line, "font": {"color": text}, "align": "left"},
            "dragmode": False,
            "bargap": 0.22,
            "xaxis": {**axis, "showgrid": False, "automargin": True},
            "yaxis": {**axis, "nticks": 5, "automargin": True},
        }
    }


THEMES: Mapping[str, Mapping[str, Any]] = {
    "light": _theme("#1b2230", "#586174", "#e3e7ee", "#ffffff"),
    "dark": _theme("#e6e9f0", "#9ca6b8", "#2c3443", "#222936"),
}
"""The looks of all figures, as plotly.js takes a template; the colours are those of dashboard.css."""
