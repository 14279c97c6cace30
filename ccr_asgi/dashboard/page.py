"""The pages as HTML: what the templates are given.

Everything stands in a page as it is sent; scripts only add to it.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ccr_asgi.budgets import Standing, label
from ccr_asgi.dashboard import numbers
from ccr_asgi.dashboard.cards import cards
from ccr_asgi.dashboard.details import Branch, RequestDetail
from ccr_asgi.dashboard.failures import Failures
from ccr_asgi.dashboard.filters import FILTERS, NOT_TOLD, OUTCOMES, RANGES, FilterName, Window
from ccr_asgi.dashboard.health import Health
from ccr_asgi.dashboard.queries import Overview
from ccr_asgi.dashboard.recipes import recipes, sql_command
from ccr_asgi.dashboard.sources import Key
from ccr_asgi.dashboard.static_files import static_url
from ccr_asgi.resources import resource_dir
from ccr_asgi.usage.forecast import spell
from ccr_asgi.usage.meters import QuotaMeter
from ccr_asgi.usage.tables import iso_utc

NO_NAME = {
    "provider": "none asked",
    "model": "not told",
    "agent": "main conversation",
    "session": "not told",
    "project": "not told",
}
GROUPS_SHOWN = 10
TABS: dict[str, Key] = {
    "agents": "agent",
    "sessions": "session",
    "projects": "project",
    "models": "model",
    "providers": "provider",
}
"""The tabs of the breakdown, and what each breaks down by."""

REASONS = {
    "default": "Nothing in the request asked for another provider.",
    "tag": "A tag in the agent's system prompt names it.",
    "model-pair": "The request's model has the form provider,model.",
    "rule": "A rule of the configuration fits the request.",
    "model-name": "This provider is the only one whose configuration lists the model.",
    "fallback": "The providers that were asked before it failed.",
    "budget": "A budget of another provider is used up.",
}
"""What each `route_reason` means."""

RANGE_WORDS = {
    "1h": "last hour",
    "6h": "last 6 hours",
    "24h": "last 24 hours",
    "today": "today",
    "7d": "last 7 days",
    "30d": "last 30 days",
    "month": "this month",
    "all": "all time",
    "custom": "custom…",
}
STATUSES = (*OUTCOMES, "4xx", "5xx", "401", "429", "500", "529")
"""What the filter of the status offers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands, as its reader reaches it.

    Attributes:
        prefix: What stands before our paths, percent-encoded; "" unless mounted.
        origin: Scheme and authority, as the client named them.
        database: The usage database as configured: a path or a URL.
        simulated: All that is shown was made up, by `ccr-asgi demo`.
    """

    prefix: str
    origin: str
    database: str
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """What is said in place of the numbers."""

    title: str
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """All that the dashboard shows of a window.

    Attributes:
        tab: A key of `TABS`.
        version: Changes with whatever is stored.
    """

    overview: Overview
    failures: Failures
    health: Health
    meters: Sequence[QuotaMeter]
    standings: Sequence[Standing]
    tab: str
    version: str


def render_overview(found: Found, window: Window, place: Place) -> str:
    """The dashboard with its numbers, or with the first steps while no request was ever stored."""
    if not found.overview.stored:
        return _render("first_steps.html", place, window, found=found, start=start_commands(place))
    from ccr_asgi.dashboard.charts import charts, themes  # here, since it loads Plotly, which takes a while

    return _render(
        "dashboard.html",
        place,
        window,
        found=found,
        cards=cards(found.overview.summary),
        charts=charts(found.overview, found.failures, window.zone, NO_NAME),
        themes=themes(),
        breakdown=found.overview.breakdowns[TABS[found.tab]],
        recipes=recipes(place.database, window),
    )


def render_request(detail: RequestDetail, window: Window, place: Place) -> str:
    """The page of one request."""
    return _render("request.html", place, window, detail=detail, row=detail.row, reasons=REASONS)


def render_session(session_id: str, main: Branch, found: Overview, window: Window, place: Place) -> str:
    """The page of one session: its agents as a tree, and its requests."""
    here = _session_url(place, session_id)
    return _render("session.html", place, window, session_id=session_id, main=main, overview=found, requests_here=here)


def render_notice(notice: Notice, window: Window, place: Place) -> str:
    """A page with `notice` where the numbers would be."""
    return _render("notice.html", place, window, notice=notice)


def start_commands(place: Place) -> list[tuple[str, str, str]]:
    """The first steps, each with its command and what is to be said of it."""
    url = shlex.quote(place.origin + place.prefix)
    steps = [
        (
            "Start Claude Code through this server",
            f"ANTHROPIC_BASE_URL={url} claude",
            "Your subscription's login stays as it is.",
        ),
        (
            "Add a provider for tagged subagents",
            'CCR_ASGI_PROVIDERS__CEREBRAS__APIKEY="$CEREBRAS_API_KEY" ccr-asgi serve',
            "Or write it into the configuration file for good.",
        ),
    ]
    if (command := sql_command(place.database)) is not None:
        steps.append(("Ask the database yourself", command, "Every request is a row of v_requests."))
    return steps


def _render(template: str, place: Place, window: Window, **context: Any) -> str:
    here = f"{place.prefix}/dashboard"
    shared = {
        "window": window,
        "place": place,
        "here": here,
        "api": f"{place.prefix}/api/usage",
        "asset": lambda name: f"{place.prefix}{static_url(name)}",
        "request_url": lambda request_id: f"{here}/requests/{quote(request_id, safe='')}",
        "session_url": lambda session_id: _session_url(place, session_id),
        "requests_here": here,
        "ranges": [*RANGES, "custom"],
        "range_words": RANGE_WORDS,
        "active_filters": {name: _value(name, value) for name, value in window.filters.items()},
        "filter_names": FILTERS,
        "statuses": STATUSES,
        "tabs": TABS,
        "not_told": NOT_TOLD,
        "no_name": NO_NAME,
        "groups_shown": GROUPS_SHOWN,
        "found": None,
    }
    return environment().get_template(template).render({**shared, **context})


def _session_url(place: Place, session_id: str) -> str:
    return f"{place.prefix}/dashboard/sessions/{quote(session_id, safe='')}"


@cache
def environment() -> Environment:
    """The template environment: everything escaped, and a name that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(resource_dir("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for form in ("whole", "compact", "usd", "price", "duration", "percent", "moment", "size"):
        made.filters[form] = getattr(numbers, form)
    made.filters.update(
        budget=lambda standing: label(standing.budget),
        spell=lambda until, now: spell(until - now),
        iso=iso_utc,
        day=_day,
    )
    return made


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%d")


def _value(name: FilterName, value: str) -> str:
    return NO_NAME.get(name, "not told") if value == NOT_TOLD else value
