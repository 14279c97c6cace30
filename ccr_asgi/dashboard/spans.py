"""A stretch of time, cut into whole cells of the rollup as far as it goes, and the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` on and before `end`; None is open.

    Attributes:
        minutes: It is made of whole cells of this length; None: of no cell, so that the rows must tell.
    """

    minutes: int | None
    start: datetime | None
    end: datetime | None


def cut(start: datetime | None, end: datetime | None, lengths: Sequence[int]) -> list[Span]:
    """The spans from `start` to `end`, in time's order: of cells as long as can be, and of rows where no cell fits.

    Args:
        start: UTC; None is open.
        end: UTC; None is open.
        lengths: Of the cells, in minutes, the longest first, each a multiple of the next.
    """
    if start is not None and start == end:
        return []
    if not lengths:
        return [Span(None, start, end)]
    longest, *shorter = lengths
    first = start and floor(start + timedelta(minutes=longest) - timedelta.resolution, longest)
    last = end and floor(end, longest)
    if first and last and first >= last:
        return cut(start, end, shorter)
    before = cut(start, first, shorter) if start else []
    after = cut(last, end, shorter) if end else []
    return [*before, Span(longest, first, last), *after]


def floor(moment: datetime, minutes: int) -> datetime:
    """The last beginning of a cell of this length at `moment` or before it; cells are counted from 1970, in UTC."""
    return moment - (moment - _EPOCH) % timedelta(minutes=minutes)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
