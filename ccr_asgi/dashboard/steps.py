"""How a window is divided for a chart: some dozens of steps that begin where a reader's clock or calendar does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a window.

    Attributes:
        name: How long a whole one is: 5m, 15m, 1h, 6h, 1d, 7d or 1mo.
        edges: Where each begins, UTC; the first is the window's start, so that the first step may be a part of one.
        end: Where the last one ends.
    """

    name: str
    edges: tuple[datetime, ...]
    end: datetime


def divide(start: datetime, end: datetime, zone: tzinfo) -> Steps:
    """Divide the time from `start` to `end` (UTC) into steps, which begin as clocks in `zone` show it."""
    length = end - start
    name, begins = next((name, begins) for most, name, begins in _STEPS if most is None or length <= most)
    edges = [start]
    for edge in takewhile(lambda edge: edge < end, begins(start, zone)):
        if edge > edges[-1]:  # where clocks are set back, a wall time comes twice
            edges.append(edge)
    return Steps(name, tuple(edges), end)


Begins = Callable[[datetime, tzinfo], Iterator[datetime]]


def _minutes(minutes: int) -> Begins:
    """Steps of the clock, an hour long or less: counted in UTC, since an hour is one however clocks are set."""

    def begins(start: datetime, zone: tzinfo) -> Iterator[datetime]:
        local = start.astimezone(zone)
        edge = start - timedelta(minutes=local.minute % minutes, seconds=local.second, microseconds=local.microsecond)
        while True:
            edge += timedelta(minutes=minutes)
            yield edge

    return begins


def _hours(hours: int) -> Begins:
    """Steps of a day or a part of it, by wall time: across a change of the clock one is longer or shorter."""

    def begins(start: datetime, zone: tzinfo) -> Iterator[datetime]:
        wall = _midnight(start, zone)
        while True:
            wall += timedelta(hours=hours)
            yield _utc(wall, zone)

    return begins


def _weeks(start: datetime, zone: tzinfo) -> Iterator[datetime]:
    wall = _midnight(start, zone)
    wall -= timedelta(days=wall.weekday())
    while True:
        wall += timedelta(days=7)
        yield _utc(wall, zone)


def _months(start: datetime, zone: tzinfo) -> Iterator[datetime]:
    wall = _midnight(start, zone).replace(day=1)
    while True:
        wall = (wall + timedelta(days=32)).replace(day=1)
        yield _utc(wall, zone)


def _midnight(moment: datetime, zone: tzinfo) -> datetime:
    """The day of `moment` as a wall clock in `zone` has it: without a zone, to be counted on."""
    return moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)


def _utc(wall: datetime, zone: tzinfo) -> datetime:
    return wall.replace(tzinfo=zone).astimezone(UTC)


_STEPS: tuple[tuple[timedelta | None, str, Begins], ...] = (
    (timedelta(hours=2), "5m", _minutes(5)),
    (timedelta(hours=8), "15m", _minutes(15)),
    (timedelta(hours=50), "1h", _minutes(60)),
    (timedelta(days=9), "6h", _hours(6)),
    (timedelta(days=100), "1d", _hours(24)),
    (timedelta(days=800), "7d", _weeks),
    (None, "1mo", _months),
)
"""Up to which length of the window each step serves, its name, and where it begins."""
