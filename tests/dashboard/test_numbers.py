"""How numbers are written for a person."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from ccr_asgi.dashboard.numbers import compact, duration, moment, percent, price, size, usd, whole

DASH = "\N{EN DASH}"


@pytest.mark.parametrize(("number", "text"), [(None, DASH), (0, "0"), (1_234_567, "1,234,567")])
def test_whole(number: int | None, text: str) -> None:
    assert whole(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, DASH),
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10 k"),
        (12_345, "12.3 k"),
        (999_499, "999 k"),
        (999_500, "1 M"),
        (1_234_567, "1.23 M"),
        (999_600_000, "1 G"),
        (5_000_000_000_000, "5,000 G"),
    ],
)
def test_compact(number: int | None, text: str) -> None:
    assert compact(number) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("micro_usd", "text"),
    [
        (0, "$0.00"),
        (1, "under $0.0001"),
        (-1, "between -$0.0001 and 0"),
        (1_234, "$0.0012"),
        (9_999, "$0.0100"),
        (10_000, "$0.01"),
        (1_234_567_890, "$1,234.57"),
        (-2_500_000, "-$2.50"),
    ],
)
def test_usd(micro_usd: int, text: str) -> None:
    assert usd(micro_usd) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, DASH),
        (0.0, "0 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (59_949.0, "59.9 s"),
        (59_960.0, "1 min 0 s"),
        (200_400.0, "3 min 20 s"),
    ],
)
def test_duration(milliseconds: float | None, text: str) -> None:
    assert duration(milliseconds) == text


@pytest.mark.parametrize(("ratio", "text"), [(None, DASH), (0.0, "0.0 %"), (0.97251, "97.3 %"), (1.0, "100.0 %")])
def test_percent(ratio: float | None, text: str) -> None:
    assert percent(ratio) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_moment_is_in_the_zone() -> None:
    assert moment("2026-01-31T23:30:00.123Z", UTC) == "2026-01-31 23:30:00"
    assert moment("2026-01-31T23:30:00.123Z", ZoneInfo("Europe/Berlin")) == "2026-02-01 00:30:00"


def test_an_unknown_price_is_never_0() -> None:
    assert price(None) == "no price"
    assert price(0) == "$0.00"


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (1_440_000, "1.44 MB"), (5_000_000_000_000, "5e+03 GB")],
)
def test_size(count_bytes: int, text: str) -> None:
    assert size(count_bytes) == text.replace(" ", "\N{NO-BREAK SPACE}").replace("5e+03", "5,000")
