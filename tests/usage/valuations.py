"""Prices and what they make of a record, for the tests of the usage database."""

from decimal import Decimal

from ccr_asgi.pricing import Price, Rates, Valuation


def price(price_id: str = "p1", **rates: str) -> Price:
    """A price whose `rates` are USD per million tokens."""
    parts = {part: Decimal(rates[part]) if part in rates else None for part in Rates.__dataclass_fields__}
    return Price(price_id, "genai-prices 0.0.1", "cerebras", "gpt-oss-120b", Rates(**parts))


def valuation(
    billed: int | None, listed: int | None = None, saved: int | None = None, baseline: Price | None = None
) -> Valuation:
    """Amounts in micro-dollars, by the price `p1` where there is a list value."""
    used = price(input="0.35", output="0.75") if listed is not None else None
    return Valuation(billed, listed, saved, used, baseline)
