"""The converters and the tee do not come to call more for each event: a check that no busy machine can fail."""

import sys

import pytest

from benchmarks.calls import COMMITTED, KINDS, measured, per_event

GROWTH = 1.15
"""Other versions of Python count a little otherwise; a call more in each step of an event is beyond it."""


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage traces, which calls functions of its own")
def test_an_event_calls_no_more_than_was_committed() -> None:
    found = measured()
    assert found.keys() == COMMITTED.keys()
    over = {name: value for name, value in found.items() if value > COMMITTED[name] * GROWTH + 1}
    assert not over, "more calls for each event: find out why, or commit the figure with its reason"


@pytest.mark.parametrize("kind", KINDS)
def test_the_figure_tells_of_events_and_not_of_the_stream(kind: str) -> None:
    begin, events = KINDS[kind]
    assert per_event(begin, events, at_once=False) == per_event(begin, events, at_once=False)
