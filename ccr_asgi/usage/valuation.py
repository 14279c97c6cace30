"""What a stored request cost, what it was worth, and what it saved."""

from collections.abc import Mapping

from ccr_asgi.config import Cost, Provider
from ccr_asgi.pricing import Price, PriceBook, Valuation, cost_micro_usd
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.tables import storable_count

_INPUT = ("input", "cache_read", "cache_write_5m", "cache_write_1h")
_PRICED = (*_INPUT, "output")  # reasoning is part of output

Counts = Mapping[str, int | None]


class Valuer:
    """Values records by the prices of `genai-prices` and those of the configuration, which win.

    Args:
        providers: The configuration's, by name. A record of another one (it was removed since) is valued by its name.
        costs: The configuration's `usage.costs`.
    """

    def __init__(self, providers: Mapping[str, Provider], costs: Mapping[str, Cost]) -> None:
        self._providers = providers
        self._book = PriceBook(costs)

    def value(self, record: UsageRecord) -> Valuation:
        """What `record` is worth. To be called in a thread: the first call loads `genai-prices` (0.3 s)."""
        counts = {part: storable_count(getattr(record.tokens, part)) for part in _PRICED}
        if counts["input"] is None:  # where nothing is known of the input, output alone would make it too cheap
            return Valuation()
        price, listed = self._listed(record, counts)
        baseline, avoided = self._asked_for(record, counts)
        billed = 0 if record.subscription else listed
        # Where the client's own Claude account answers, a subscription pays for either model, so that only the
        # difference in list value is saved: nothing, on the model that was asked for.
        given = listed if self._own_account(record.provider) else billed
        saved = avoided - given if avoided is not None and given is not None else None
        return Valuation(billed, listed, saved, price, baseline)

    def _listed(self, record: UsageRecord, counts: Counts) -> tuple[Price | None, int | None]:
        """By the name that the model gave itself; if that has no price, by the name that it was asked for by."""
        provider = self._providers.get(record.provider or "")
        for model in dict.fromkeys((record.model, record.routed_model)):
            price, listed = self._priced(
                record,
                counts,
                price_list=provider.pricing if provider is not None else None,
                provider=record.provider,
                host=provider.base_url if provider is not None else None,
                model=model,
            )
            if price is not None:
                return price, listed
        return None, None

    def _asked_for(self, record: UsageRecord, counts: Counts) -> tuple[Price | None, int | None]:
        named = (record.requested_model or "").rpartition(",")[2].strip()  # "provider,model" names one, too
        claude = named if named.lower().startswith("claude-") else None
        return self._priced(record, counts, price_list="anthropic", provider="anthropic", host=None, model=claude)

    def _priced(
        self,
        record: UsageRecord,
        counts: Counts,
        *,
        price_list: str | None,
        provider: str | None,
        host: str | None,
        model: str | None,
    ) -> tuple[Price | None, int | None]:
        """The price in force for `model`, and what the tokens cost by it; neither, if it does not price them all."""
        if model is None:
            return None, None
        price = self._book.find(
            price_list=price_list,
            provider=provider,
            host=host,
            model=model,
            at=record.started_at,
            input_total_tokens=sum(counts[part] or 0 for part in _INPUT),
        )
        if price is None:
            return None, None
        cost = cost_micro_usd(price.rates, **{f"{part}_tokens": count for part, count in counts.items()})
        return (price, cost) if cost is not None else (None, None)

    def _own_account(self, provider: str | None) -> bool:
        known = self._providers.get(provider or "")
        return known is not None and known.passthrough
