"""What a number on a page says, read back: how a person would understand it, and how exactly it is meant."""

import re
from dataclasses import dataclass

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01, "ms": 1.0, "s": 1e3, "min": 60e3}
"""Factors to a plain number, a ratio, or milliseconds."""

WORDS = {"–": None, "no price": None, "subscription": 0.0}
"""What stands where there is no number, or where a 0 would say too little."""

_PART = re.compile(r"\$?(?P<digits>\d[\d,]*(?:\.(?P<decimals>\d+))?)\s?(?P<unit>[kMG%]|ms|s|min)?(?=\s|$)")


@dataclass(frozen=True)
class Shown:
    """A number as it is shown, and by how much its last digit may be off."""

    value: float | None
    exact_to: float

    def agrees(self, value: float | None) -> bool:
        """Whether `value` is shown in this way."""
        if self.value is None or value is None:
            return self.value is value
        return abs(self.value - value) <= self.exact_to * 1.000001


def read(text: str) -> Shown:
    """The number that a page shows as `text`: "$1,234.50", "1.23 M", "97.3 %", "3 min 20 s", "under $0.0001"."""
    text = " ".join(text.split())
    if text in WORDS:
        return Shown(WORDS[text], 0.0)
    if text == "under $0.0001":
        return Shown(0.00005, 0.00005)
    negative, rest = text.startswith(("-", "−")), text.lstrip("-−")
    parts = list(_PART.finditer(rest))
    assert parts, f"{text!r} is no number"
    assert not _PART.sub("", rest).strip(), f"{text!r} is more than a number"
    value = sum(float(part["digits"].replace(",", "")) * UNITS[part["unit"] or ""] for part in parts)
    last = parts[-1]
    exact_to = 0.5 * 10.0 ** -len(last["decimals"] or "") * UNITS[last["unit"] or ""]
    return Shown(-value if negative else value, exact_to)
