"""The query string of our pages, read into a `Window`: which time, which rows of it, which page of those.

Pure: the moment "now" is given. What is not understood is refused by name, since a misspelt filter that shows all
rows would be a wrong answer that looks right.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from ccr_asgi.errors import RequestError
from ccr_asgi.usage.record import Outcome

FilterName = Literal["provider", "model", "agent", "session", "project", "status", "outcome"]

FILTERS: tuple[FilterName, ...] = get_args(FilterName)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

NOT_TOLD = "-"
"""As a filter's value: the rows that name none, as the main conversation names no agent."""

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_PAGE = 1_000_000

FIRST_YEAR, LAST_YEAR = 1970, 2100
"""Of a bound. A chart has a step for each month between two of them, which is work for as long as that is."""

_STATUS = re.compile(r"[1-5](\d\d|xx)")


@dataclass(frozen=True, slots=True)
class Window:
    """What a page shows.

    Attributes:
        range: A key of `RANGES`, or "custom".
        zone: The time zone in which days begin and times are written.
        start: First moment; None is the beginning. UTC.
        end: First moment after it; None is open, so that what happens now is in. UTC.
        filters: Values that the rows must have; `NOT_TOLD` stands for none. A status is "429", "4xx" or an outcome.
        page: From 1.
        page_size: Rows on a page; None puts all rows on one.
        now: When it was asked for; UTC. What is open ends here, as far as a length is concerned.
        given: The parameters as they were written, for the links of the page.
    """

    range: str
    zone: tzinfo
    start: datetime | None
    end: datetime | None
    filters: Mapping[FilterName, str]
    page: int
    page_size: int | None
    now: datetime
    given: Mapping[str, str]

    @property
    def offset(self) -> int:
        """How many rows stand on the pages before this one."""
        return (self.page - 1) * (self.page_size or 0)

    def pages(self, total: int) -> int:
        """On how many pages `total` rows stand; at least 1."""
        return max(1, -(-total // self.page_size)) if self.page_size else 1

    def before(self) -> "Window | None":
        """The same filters over the equal time before this one; None where this one has no beginning, or no length.

        It is as long as what has passed of this one: time to come has no requests that could be compared.
        """
        end = min(self.end or self.now, self.now)
        if self.start is None or self.start >= end:
            return None
        return replace(self, range="custom", start=self.start - (end - self.start), end=self.start)

    def query(self, **changes: str | int | None) -> str:
        """The query string of this window with `changes` (None takes a parameter out): "" or "?…".

        Another choice begins on its first page.
        """
        kept = {**self.given, "page": None, **changes}
        query = urlencode({name: value for name, value in kept.items() if value is not None})
        return f"?{query}" if query else ""


def parse_window(
    parameters: Iterable[tuple[str, str]],
    now: datetime,
    *,
    default_range: str = "24h",
    paged: bool = True,
    beside: Collection[str] = (),
) -> Window:
    """Read the parameters of a query string, decoded; an empty value is as none.

    Args:
        parameters: Names and values, in their order.
        now: An aware datetime.
        default_range: Where none is named.
        paged: False puts all rows on one page, unless a page is asked for.
        beside: Parameters that are the caller's own business: only kept in `given`.

    Raises:
        RequestError: A parameter is unknown, named twice, or has a value that is not accepted.
    """
    given = _named_once(parameters, (*PARAMETERS, *beside))
    zone = parse_zone(given.get("tz", "UTC"))
    name, start, end = _span(given, zone, now, default_range)
    paged = paged or "page" in given or "page_size" in given
    return Window(
        range=name,
        zone=zone,
        start=start,
        end=end,
        filters=_filters(given),
        page=_number(given, "page", 1, MAX_PAGE),
        page_size=_number(given, "page_size", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE) if paged else None,
        now=now.astimezone(UTC),
        given=given,
    )


def parse_zone(name: str) -> tzinfo:
    """The time zone with this IANA name; UTC needs no time zone database.

    Raises:
        RequestError: There is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of one of the database's folders
        raise _refusal("tz", name, "an IANA name such as Europe/Berlin, or UTC") from None


def _named_once(parameters: Iterable[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in known:
            raise RequestError(f"Parameter {name!r:.60} is not known; accepted: {', '.join(known)}.")
        if name in given:
            raise RequestError(f"Parameter {name} is given twice; accepted once.")
        if value.strip():
            given[name] = value
    return given


def _span(
    given: Mapping[str, str], zone: tzinfo, now: datetime, default: str
) -> tuple[str, datetime | None, datetime | None]:
    bounded = "from" in given or "to" in given
    name = given.get("range", "custom" if bounded else default)
    if name == "custom":
        start, end = _moment(given, "from", zone), _moment(given, "to", zone)
        if start and end and start >= end:
            raise _refusal("to", given["to"], f"a time after from ({given['from']})")
        return name, start, end
    if name not in RANGES:
        raise _refusal("range", name, ", ".join([*RANGES, "custom"]))
    if bounded:
        raise RequestError(f"Parameters from and to belong to range=custom; found range={name}.")
    return name, RANGES[name](now.astimezone(zone)), None


def _moment(given: Mapping[str, str], name: str, zone: tzinfo) -> datetime | None:
    """A bound in UTC: a time without an offset is the zone's, and a bare day is meant whole, as `to` too."""
    if (found := given.get(name)) is None:
        return None
    example = "2026-01-31, 2026-01-31T09:30 or 2026-01-31T09:30:00Z"
    accepted = f"a date or time from {FIRST_YEAR} to {LAST_YEAR}, such as {example}"
    text = found.replace(" ", "+") if "T" in found else found  # a `+02:00` that was not percent-encoded
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _refusal(name, found, accepted) from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise _refusal(name, found, accepted)
    if name == "to" and _is_day(text):
        moment += timedelta(days=1)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _filters(given: Mapping[str, str]) -> dict[FilterName, str]:
    filters: dict[FilterName, str] = {name: given[name] for name in FILTERS if name in given}
    status, outcome = filters.get("status", NOT_TOLD), filters.get("outcome", "ok")
    if status != NOT_TOLD and status not in OUTCOMES and not _STATUS.fullmatch(status):
        raise _refusal("status", status, f"a status such as 429, a class such as 4xx, {', '.join(OUTCOMES)}")
    if outcome not in OUTCOMES:
        raise _refusal("outcome", outcome, ", ".join(OUTCOMES))
    return filters


def _number(given: Mapping[str, str], name: str, default: int, highest: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= highest):
        raise _refusal(name, text, f"1 to {highest}")
    return int(text)


def _refusal(name: str, found: str, accepted: str) -> RequestError:
    return RequestError(f"Parameter {name}: found {found!r:.80}; accepted: {accepted}.")


def _last(**duration: int) -> Callable[[datetime], datetime]:
    # Taken from UTC: across a change of the clock, an aware local time less 24 h is 23 or 25 hours ago.
    return lambda now: now.astimezone(UTC) - timedelta(**duration)


def _midnight(now: datetime) -> datetime:
    return datetime.combine(now.date(), time(), now.tzinfo).astimezone(UTC)


RANGES: Mapping[str, Callable[[datetime], datetime | None]] = {
    "1h": _last(hours=1),
    "6h": _last(hours=6),
    "24h": _last(hours=24),
    "today": _midnight,
    "7d": _last(days=7),
    "30d": _last(days=30),
    "month": lambda now: _midnight(now.replace(day=1)),
    "all": lambda now: None,
}
"""When each range begins, told from the present moment in the zone that was asked for."""

PARAMETERS = ("range", "from", "to", "tz", *FILTERS, "page", "page_size")
"""All that a query string may hold, in the order in which an error names them."""
