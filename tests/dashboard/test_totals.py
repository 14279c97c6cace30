"""Sums, and percentiles that are read from bins."""

import math
from random import Random

import pytest

from ccr_asgi.dashboard.totals import NOTHING, Totals, percentile
from ccr_asgi.usage.tables import TTFT_BIN_EDGES_MS, TTFT_BINS


def test_nothing_added_changes_nothing() -> None:
    some = Totals(requests=3, input_tokens=5, billed_micro_usd=7, list_unpriced=1)
    assert some + NOTHING == NOTHING + some == some
    assert (some + some).input_tokens == 10
    assert NOTHING + NOTHING == NOTHING


def bins(times_ms: list[float]) -> list[int]:
    counts = [0] * len(TTFT_BINS)
    for time_ms in times_ms:
        counts[sum(edge <= time_ms for edge in TTFT_BIN_EDGES_MS)] += 1
    return counts


def test_without_times_there_is_no_percentile() -> None:
    assert percentile(bins([]), 0.5) is None


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("median_ms", [150, 900, 8_000])
def test_a_percentile_of_many_times_is_nearly_the_true_one(share: float, median_ms: float) -> None:
    chance = Random(1)  # noqa: S311 -- the same times each time
    times_ms = sorted(chance.lognormvariate(math.log(median_ms), 0.7) for _ in range(10_001))
    true_ms = times_ms[math.ceil(len(times_ms) * share) - 1]
    found_ms = percentile(bins(times_ms), share)
    assert found_ms is not None
    if true_ms < TTFT_BIN_EDGES_MS[0]:
        assert found_ms < TTFT_BIN_EDGES_MS[0]  # no more is known
    else:
        assert abs(found_ms / true_ms - 1) < (0.03 if share < 1 else 0.26)


@pytest.mark.parametrize("time_ms", [100.0, 126.0, 5_000.0, 102_399.0])
def test_of_equal_times_it_is_in_their_bin(time_ms: float) -> None:
    for share in (0.01, 0.5, 0.95, 1.0):
        found_ms = percentile(bins([time_ms] * 100), share)
        assert found_ms is not None
        assert abs(found_ms / time_ms - 1) < 0.26


def test_the_ends_are_open() -> None:
    assert percentile(bins([0.0] * 4), 0.5) == pytest.approx(37.5)
    assert percentile(bins([1e9] * 4), 0.5) == TTFT_BIN_EDGES_MS[-1]
