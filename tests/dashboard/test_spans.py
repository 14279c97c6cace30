"""Time is cut without a gap, and into whole cells wherever one fits."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.dashboard.spans import Span, cut, floor

LENGTHS = (1440, 60, 15)


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "spans"),
    [
        (None, None, [Span(1440, None, None)]),
        (at(1), at(3), [Span(1440, at(1), at(3))]),
        (at(1, 22, 50), None, [
            Span(None, at(1, 22, 50), at(1, 23)), Span(60, at(1, 23), at(2)), Span(1440, at(2), None),
        ]),
        (None, at(2, 0, 20), [
            Span(1440, None, at(2)), Span(15, at(2), at(2, 0, 15)), Span(None, at(2, 0, 15), at(2, 0, 20)),
        ]),
        (at(1, 18, 30), at(2, 18, 30), [
            Span(15, at(1, 18, 30), at(1, 19)), Span(60, at(1, 19), at(2, 18)), Span(15, at(2, 18), at(2, 18, 30)),
        ]),
        (at(1, 0, 1), at(1, 0, 14), [Span(None, at(1, 0, 1), at(1, 0, 14))]),
        (at(1), at(1), []),
    ],
)  # fmt: skip
def test_cuts(start: datetime | None, end: datetime | None, spans: list[Span]) -> None:
    assert cut(start, end, LENGTHS) == spans


def test_without_cells_the_rows_tell_it_all() -> None:
    assert cut(at(1), None, ()) == [Span(None, at(1), None)]


moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 2, 1), timezones=st.just(UTC))


@settings(deadline=None)
@given(st.none() | moments, st.none() | moments, st.sampled_from([LENGTHS, (1440, 15), (15,), ()]))
def test_spans_follow_each_other_and_begin_and_end_with_cells(
    start: datetime | None, end: datetime | None, lengths: tuple[int, ...]
) -> None:
    if start is not None and end is not None and end < start:
        start, end = end, start
    spans = cut(start, end, lengths)
    edges = [start, *(span.end for span in spans)]
    assert [span.start for span in spans] == edges[:-1]
    assert edges[-1] == end
    for span in spans:
        for edge in (span.start, span.end):
            assert edge is None or span.minutes is None or floor(edge, span.minutes) == edge
        if span.minutes is None and lengths:  # no cell would have fitted
            assert span.start is not None
            assert span.end is not None
            assert span.end - span.start < 2 * timedelta(minutes=lengths[-1])
