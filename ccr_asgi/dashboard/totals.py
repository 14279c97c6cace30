"""Sums over requests, as the pages and the JSON show them. A sum is None where no row told anything, which is not 0."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from operator import itemgetter
from typing import Any

from ccr_asgi.usage.tables import TTFT_BIN_EDGES_MS


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a set of requests; tokens in the disjoint parts of `record.Tokens`, money in micro-dollars.

    Attributes:
        errors, cancelled, truncated: Requests by outcome; the others were ok.
        subscription: Requests that a subscription paid for, so that they were billed 0.
        billed_unpriced, list_unpriced, saved_unpriced: Requests that used tokens and have no such amount.
        timed: Requests whose time to first token is known.
    """

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    truncated: int = 0
    subscription: int = 0
    timed: int = 0
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    billed_micro_usd: int | None = None
    billed_unpriced: int = 0
    list_micro_usd: int | None = None
    list_unpriced: int = 0
    saved_micro_usd: int | None = None
    saved_unpriced: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*add_counts(astuple(self), astuple(other)))

    @property
    def cache_write_tokens(self) -> int | None:
        """Tokens written to a cache, for however long."""
        return plus(self.cache_write_5m_tokens, self.cache_write_1h_tokens)

    @property
    def tokens(self) -> int | None:
        """All tokens; reasoning is part of the output."""
        return _sum((self.input_tokens, self.cache_read_tokens, self.cache_write_tokens, self.output_tokens))

    @property
    def cache_hit_ratio(self) -> float | None:
        """Tokens read from the cache, of all input; None where no provider told of its cache, or of no input."""
        whole = _sum((self.cache_read_tokens, self.cache_write_tokens, self.input_tokens))
        return self.cache_read_tokens / whole if self.cache_read_tokens is not None and whole else None

    @property
    def error_ratio(self) -> float | None:
        """Errors of all requests; None if there was none."""
        return self.errors / self.requests if self.requests else None


TOTALS = tuple(field.name for field in fields(Totals))
NOTHING = Totals()
"""The totals of no request."""


Counts = tuple[Any, ...]
"""The values of a `Totals`, in the order of its fields."""

read_counts: Callable[[Mapping[str, Any]], Counts] = itemgetter(*TOTALS)
"""The counts in a row that has a column for each."""


def read_totals(row: Mapping[str, Any]) -> Totals:
    """The totals in a row that has a column for each."""
    return Totals(*read_counts(row))


def add_counts(some: Counts, others: Counts) -> Counts:
    """The sums, count by count."""
    return tuple(map(plus, some, others))


def plus(one: int | None, other: int | None) -> int | None:
    """The sum of two counts, of which None was not told."""
    return other if one is None else one if other is None else one + other


def _sum(parts: Iterable[int | None]) -> int | None:
    whole: int | None = None
    for part in parts:
        whole = plus(whole, part)
    return whole


def percentile(bins: Sequence[int], share: float) -> float | None:
    """The time to first token, in milliseconds, that `share` of the requests did not exceed, as their bins tell it.

    Within a bin, which is a quarter as long as its beginning, the times are taken to be spread evenly in their
    logarithm. None if there is none.
    """
    rank, below = math.ceil(sum(bins) * share), 0
    for number, count in enumerate(bins):
        if below < rank <= below + count:
            return _within(number, (rank - below - 0.5) / count)
        below += count
    return None


def _within(number: int, fraction: float) -> float:
    if number == 0:
        return TTFT_BIN_EDGES_MS[0] * fraction
    least = TTFT_BIN_EDGES_MS[number - 1]
    growth = TTFT_BIN_EDGES_MS[number] / least if number < len(TTFT_BIN_EDGES_MS) else 1.0
    return least * math.pow(growth, fraction)
