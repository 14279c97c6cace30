"""How numbers and moments are written for a person."""

from datetime import UTC, datetime, tzinfo

MISSING = "\N{EN DASH}"


def whole(number: int | None) -> str:
    """All digits: 1,234,567."""
    return MISSING if number is None else f"{number:,}"


def compact(number: int | None) -> str:
    """Three digits and a magnitude: 1.23 M; four digits are still written out."""
    if number is None or number < 10_000:
        return whole(number)
    scaled, magnitude = number / 1e3, "k"
    for larger in ("M", "G"):
        if scaled < 999.5:  # more would be rounded to four digits
            break
        scaled, magnitude = scaled / 1e3, larger
    digits = f"{scaled:.3g}" if scaled < 999.5 else f"{scaled:,.0f}"
    return f"{digits}\N{NO-BREAK SPACE}{magnitude}"


def usd(micro_usd: int) -> str:
    """Dollars and cents; of less than a cent, four places."""
    sign, value = "-" if micro_usd < 0 else "", abs(micro_usd) / 1_000_000
    if 0 < value < 0.0001:
        return "between -$0.0001 and 0" if sign else "under $0.0001"
    return f"{sign}${value:,.4f}" if 0 < value < 0.01 else f"{sign}${value:,.2f}"


def price(micro_usd: int | None) -> str:
    """As `usd`; a price that is not known is never 0."""
    return "no price" if micro_usd is None else usd(micro_usd)


def duration(milliseconds: float | None) -> str:
    """850 ms, 2.1 s or 3 min 20 s."""
    if milliseconds is None:
        return MISSING
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


def percent(ratio: float | None) -> str:
    """One decimal place: 97.3 %."""
    return MISSING if ratio is None else f"{ratio:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def size(count_bytes: int) -> str:
    """In the largest unit that it is one of: 1.4 MB."""
    scaled, unit = float(count_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if scaled < 999.5:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.3g}\N{NO-BREAK SPACE}{unit}" if scaled < 999.5 else f"{scaled:,.0f}\N{NO-BREAK SPACE}{unit}"


def moment(started_at: str, zone: tzinfo) -> str:
    """A time of the database in `zone`, to the second."""
    return datetime.fromisoformat(started_at).replace(tzinfo=UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
