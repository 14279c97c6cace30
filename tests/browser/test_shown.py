import pytest

from tests.browser.shown import read

CASES = [
    ("$1,234.50", 1234.5),
    ("-$0.25", -0.25),
    ("$0.0042", 0.00421),
    ("under $0.0001", 0.00003),
    ("1,234,567", 1234567),
    ("1.23\N{NO-BREAK SPACE}M", 1_234_000),
    ("97.3\N{NO-BREAK SPACE}%", 0.97312),
    ("850 ms", 850.3),
    ("2.1 s", 2130.0),
    ("3 min 20 s", 200_400.0),
    ("subscription", 0.0),
    ("no price", None),
    ("–", None),
]


@pytest.mark.parametrize(("text", "value"), CASES)
def test_a_number_agrees_with_what_it_shows(text: str, value: float | None) -> None:
    assert read(text).agrees(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,234.50", 1234.51),
        ("$0.25", -0.25),
        ("1.23 M", 1_236_000),
        ("97.3 %", 0.974),
        ("850 ms", 851),
        ("3 min 20 s", 201_000.0),
        ("–", 0),
        ("0", None),
    ],
)
def test_it_does_not_agree_with_another(text: str, value: float | None) -> None:
    assert not read(text).agrees(value)


@pytest.mark.parametrize("text", ["", "many", "12 apples"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(AssertionError, match="number"):
        read(text)
