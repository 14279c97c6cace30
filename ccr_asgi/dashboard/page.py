"""The dashboard as HTML: what the templates are given, and how a number is written for a person.

Everything stands in the page as it is sent; scripts, when they come, only add to it.
"""

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ccr_asgi.dashboard.filters import FILTERS, NOT_TOLD, OUTCOMES, RANGES, FilterName, Window
from ccr_asgi.dashboard.queries import Overview
from ccr_asgi.dashboard.static_files import static_url
from ccr_asgi.resources import resource_dir
from ccr_asgi.usage.database import Database
from ccr_asgi.usage.errors import StoreError

MISSING = "\N{EN DASH}"
NO_NAME = {
    "provider": "none asked",
    "model": "not told",
    "agent": "main conversation",
    "session": "not told",
    "project": "not told",
}
GROUPS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where this page stands, as its reader reaches it.

    Attributes:
        prefix: What stands before our paths, percent-encoded; "" unless mounted.
        origin: Scheme and authority, as the client named them.
        database: The usage database as configured: a path or a URL.
    """

    prefix: str
    origin: str
    database: str


@dataclass(frozen=True, slots=True)
class Link:
    """A place to go: its words, its address, and whether it is the present one."""

    words: str
    href: str
    current: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """What is said in place of the numbers."""

    title: str
    message: str


def render_overview(overview: Overview, window: Window, place: Place) -> str:
    """The page with its numbers, or with the first steps while no request was ever stored."""
    return _render(place, window, overview=overview, groups_shown=GROUPS_SHOWN)


def render_notice(notice: Notice, window: Window, place: Place) -> str:
    """The page with `notice` where the numbers would be."""
    return _render(place, window, notice=notice)


def _render(place: Place, window: Window, **context: Any) -> str:
    defaults = {"overview": None, "notice": None}
    return environment().get_template("dashboard.html").render(
        {
            **defaults,
            **context,
            "window": window,
            "here": f"{place.prefix}/dashboard",
            "api": f"{place.prefix}/api/usage",
            "asset": lambda name: f"{place.prefix}{static_url(name)}",
            "ranges": _ranges(window, place),
            "active_filters": _active_filters(window, place),
            "filter_names": FILTERS,
            "outcomes": OUTCOMES,
            "not_told": NOT_TOLD,
            "no_name": NO_NAME,
            "start_command": f"ANTHROPIC_BASE_URL={shlex.quote(place.origin + place.prefix)} claude",
            "provider_command": 'CCR_ASGI_PROVIDERS__CEREBRAS__APIKEY="$CEREBRAS_API_KEY" ccr-asgi serve',
            "sql_command": sql_command(place.database),
        }
    )  # fmt: skip


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
    made.filters.update(whole=whole, compact=compact, usd=usd, duration=duration, percent=percent, moment=moment)
    return made


def whole(number: int | None) -> str:
    """All digits: 1,234,567."""
    return MISSING if number is None else f"{number:,}"


def compact(number: int | None) -> str:
    """Three digits and a magnitude: 1.23 M; four digits are still written out."""
    if number is None or number < 10_000:
        return whole(number)
    scaled, magnitude = number / 1e3, "k"
    for larger in ("M", "G"):
        if scaled < 999.5:  # more would be rounded to four digits
            break
        scaled, magnitude = scaled / 1e3, larger
    return (
        f"{scaled:.3g}\N{NO-BREAK SPACE}{magnitude}"
        if scaled < 999.5
        else f"{scaled:,.0f}\N{NO-BREAK SPACE}{magnitude}"
    )


def usd(micro_usd: int) -> str:
    """Dollars and cents; of less than a cent, four places."""
    sign, value = "-" if micro_usd < 0 else "", abs(micro_usd) / 1_000_000
    if 0 < value < 0.0001:
        return "between -$0.0001 and 0" if sign else "under $0.0001"
    return f"{sign}${value:,.4f}" if 0 < value < 0.01 else f"{sign}${value:,.2f}"


def duration(milliseconds: float | None) -> str:
    """850 ms, 2.1 s or 3 min 20 s."""
    if milliseconds is None:
        return MISSING
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


def percent(ratio: float | None) -> str:
    """One decimal place: 97.3 %."""
    return MISSING if ratio is None else f"{ratio:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def moment(started_at: str, zone: tzinfo) -> str:
    """A time of the database in `zone`, to the second."""
    return datetime.fromisoformat(started_at).replace(tzinfo=UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def sql_command(database: str) -> str | None:
    """How to ask the database by hand; None if it is of a kind whose shell we do not know. Shows no password."""
    try:
        parsed = Database.parse(database)
    except StoreError:
        return None
    query = "'select * from v_requests'"
    if parsed.path is not None:
        return f"sqlite3 {shlex.quote(str(parsed.path))} {query}"
    if parsed.url.get_backend_name() == "postgresql":
        url = parsed.url.set(drivername="postgresql").render_as_string(hide_password=True)
        return f"psql {shlex.quote(url)} -c {query}"
    return None


def _ranges(window: Window, place: Place) -> list[Link]:
    unbounded = {"from": None, "to": None}
    return [
        Link(name, f"{place.prefix}/dashboard{window.query(range=name, **unbounded)}", name == window.range)
        for name in RANGES
    ]


def _active_filters(window: Window, place: Place) -> list[Link]:
    return [
        Link(f"{name}: {_value(name, value)}", f"{place.prefix}/dashboard{window.query(**{name: None})}")
        for name, value in window.filters.items()
    ]


def _value(name: FilterName, value: str) -> str:
    return NO_NAME.get(name, "not told") if value == NOT_TOLD else value
