"""What tokens cost: the list prices of `genai-prices`, and above them those of the configuration.

A model has no price by itself, it has one in somebody's list: gpt-oss-120b costs nine times as much at Cerebras as it
does elsewhere. So a list is chosen first, by what is known of the provider, and the model is looked up in that list
alone. Where nothing is found there is no price, which is never a price of 0.

Nothing here contacts the network: a price is as new as the installed `genai-prices`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from functools import cache, cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ccr_asgi.config import Cost

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices
    from genai_prices.types import Provider as PriceList

CONFIGURED = "config"
"""The source of a price that stands in the configuration."""

MAX_MODEL_CHARS = 200
"""A longer name has no price; a client may send one of 30 MB, which is not to be matched, nor remembered."""

# A ChatGPT subscription has no prices by the token; what it gives is worth what OpenAI's API asks for the same.
_LISTS_BY_NAME = {"codex": "openai"}
_LISTS_BY_HOST = {"chatgpt.com": "openai"}

_SUFFIX = re.compile(r"\[\w+\]$")
_DATED = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})$")
_EXACT = Context(prec=100)  # our own: the host application's context may round, and may raise


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens; None where a part has no price of its own."""

    input: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    output: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """The price that was in force, whole, so that a stored figure explains itself.

    Attributes:
        id: Made of all the rest: equal prices have equal ids, in every process and at any time.
        source: Where it is from: "genai-prices" with its version, or "config".
        price_list: Whose list it stands in; for "config" the provider's name.
        model: The model, as that list names it.
        rates: Those of the tier and of the time that were asked for.
    """

    id: str
    source: str
    price_list: str
    model: str
    rates: Rates


@dataclass(frozen=True, slots=True)
class Valuation:
    """What one request is worth, in micro-dollars (1,000,000 = 1 USD); None = no price, which is never 0.

    Attributes:
        billed_micro_usd: What it cost; 0 if a subscription paid for it.
        list_micro_usd: Its value by the price list of the provider that answered.
        saved_micro_usd: What its tokens would have cost on the Claude model that was asked for, less what they cost;
            below 0 if that model would have been cheaper.
        price: What made the list value.
        baseline: The price of the Claude model that was asked for.
    """

    billed_micro_usd: int | None = None
    list_micro_usd: int | None = None
    saved_micro_usd: int | None = None
    price: Price | None = None
    baseline: Price | None = None


def cost_micro_usd(
    rates: Rates,
    *,
    input_tokens: int | None,
    cache_read_tokens: int | None,
    cache_write_5m_tokens: int | None,
    cache_write_1h_tokens: int | None,
    output_tokens: int | None,
) -> int | None:
    """What these tokens cost, in micro-dollars: added up exactly, then rounded once, half to even.

    The counts are disjoint, each 0 or more; None is one that was not told, and counts as 0 beside one that was. Where a
    part of the cache has no price of its own, its tokens cost what plain input costs.

    Returns:
        None if no count was told, or if tokens were used that have no price.
    """
    write_5m = rates.input if rates.cache_write_5m is None else rates.cache_write_5m
    parts = (
        (input_tokens, rates.input),
        (cache_read_tokens, rates.input if rates.cache_read is None else rates.cache_read),
        (cache_write_5m_tokens, write_5m),
        (cache_write_1h_tokens, write_5m if rates.cache_write_1h is None else rates.cache_write_1h),
        (output_tokens, rates.output),
    )
    if all(tokens is None for tokens, _ in parts):
        return None
    total = Decimal(0)  # a rate is USD per million tokens, and so micro-dollars per token
    for tokens, rate in parts:
        if tokens and rate is None:
            return None
        if tokens and rate is not None:
            total = _EXACT.fma(tokens, rate, total)
    return round(total)


class PriceBook:
    """All prices that are known: those of `overrides` (by model), else those of `genai-prices`.

    It may be used by several threads at once. The first price that is not an override loads `genai-prices`, 0.3 s of
    imports that an event loop should not wait for: `load` may be called in a thread beforehand, or all of it be used
    there.
    """

    def __init__(self, overrides: Mapping[str, Cost]) -> None:
        self._overrides = {model: _configured_rates(cost) for model, cost in overrides.items()}
        self._look_up = lru_cache(maxsize=1024)(self._match)

    def load(self) -> None:
        """Import `genai-prices`, unless that was done."""
        _ = self._lists

    def find(
        self,
        *,
        price_list: str | None,
        provider: str | None,
        host: str | None,
        model: str,
        at: datetime,
        input_total_tokens: int,
    ) -> Price | None:
        """The price of `model` at a provider; None if it has none.

        Args:
            price_list: The provider's `pricing` key: the list to look in.
            provider: The provider's name, which is also that of its list if there is such a list.
            host: The provider's base URL, or the host alone: tells the list of a provider with a name of its own.
            model: As the client or the provider names it: a `[1m]`-style suffix is no part of it, and a dated name
                that is not listed has the price of the name without its date.
            at: When the request was made, aware: prices change.
            input_total_tokens: All of its input, cached or not: long requests may cost more by the token.
        """
        if len(model) > MAX_MODEL_CHARS:
            return None
        for name in _names(model):
            if name in self._overrides:
                return _price(CONFIGURED, provider or CONFIGURED, name, self._overrides[name])
        chosen, entry = self._look_up(price_list, provider, host, model)
        if chosen is None or entry is None:
            return None
        rates = _listed_rates(chosen, entry.get_prices(at), input_total_tokens)
        # Some models are listed without any price.
        return _price(self._source, chosen, entry.id, rates) if rates != Rates() else None

    def context_tokens(
        self, *, price_list: str | None, provider: str | None, host: str | None, model: str
    ) -> int | None:
        """How long a request to `model` may be, in tokens, as its price list tells; None if it does not. As `find`."""
        _, entry = self._look_up(price_list, provider, host, model)
        return None if entry is None else entry.context_window

    def choose_list(self, *, price_list: str | None, provider: str | None, host: str | None) -> str | None:
        """The list that a provider's models are looked up in; None if there is none.

        A `price_list` that does not exist is not made up for by name or host: whoever names one means that one.
        """
        if price_list is not None:
            return self._list_named(price_list)
        return self._list_named(provider) or self._list_at(host)

    def _match(
        self, price_list: str | None, provider: str | None, host: str | None, model: str
    ) -> "tuple[str | None, ModelInfo | None]":
        chosen = self.choose_list(price_list=price_list, provider=provider, host=host)
        if chosen is None:
            return None, None
        # Some lists name others, whose models they sell at the same price.
        everyone = list(self._lists.values())
        found = (self._lists[chosen].find_model(name, all_providers=everyone) for name in _names(model))
        return chosen, next(filter(None, found), None)

    def _list_named(self, name: str | None) -> str | None:
        # Its id and nothing else: genai-prices would also take "my-openai-proxy" for OpenAI.
        listed = (name or "").strip().lower()
        listed = _LISTS_BY_NAME.get(listed, listed)
        return listed if listed in self._lists else None

    def _list_at(self, host: str | None) -> str | None:
        if not host:
            return None
        parts = urlsplit(host if "://" in host else f"https://{host}")
        hostname = parts.hostname or ""
        url = f"https://{hostname}{parts.path}"
        by_pattern = (name for name, listed in self._lists.items() if re.match(listed.api_pattern, url))
        return _LISTS_BY_HOST.get(hostname) or next(by_pattern, None)

    @cached_property
    def _lists(self) -> "Mapping[str, PriceList]":
        # Not get_snapshot(): a host application may have set another one, which the version would not tell.
        from genai_prices.data import providers

        return {listed.id: listed for listed in providers}

    @cached_property
    def _source(self) -> str:
        return f"genai-prices {version('genai-prices')}"


def _names(model: str) -> tuple[str, ...]:
    """What `model` may be called where its price stands: as it is, without a suffix, without a date."""
    plain = _SUFFIX.sub("", model)
    return model, plain, _DATED.sub("", plain)


def _configured_rates(cost: Cost) -> Rates:
    def rate(usd: float | None) -> Decimal | None:
        return None if usd is None else Decimal(str(usd))  # by its text, so that 0.35 is 0.35

    write = rate(cost.cache_write)
    return Rates(
        rate(cost.input),
        rate(cost.cache_read),
        write,
        write if (kept := rate(cost.cache_write_1h)) is None else kept,
        rate(cost.output),
    )


def _listed_rates(price_list: str, prices: "ModelPrice", input_total_tokens: int) -> Rates:
    def rate(key: str) -> Decimal | None:
        return _in_tier(getattr(prices, key, None), input_total_tokens)

    plain, write_5m, write_1h = rate("input_mtok"), rate("cache_write_5m_mtok"), rate("cache_write_1h_mtok")
    if write_5m is None:
        write_5m = rate("cache_write_mtok")
    if write_1h is None and write_5m is not None and plain is not None and price_list == "anthropic":
        # https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
        write_1h = 2 * plain
    return Rates(plain, rate("cache_read_mtok"), write_5m, write_1h, rate("output_mtok"))


def _in_tier(price: "Decimal | TieredPrices | None", input_total_tokens: int) -> Decimal | None:
    """The price of a token in a request of that size: a tier holds for all tokens, once its start is exceeded."""
    if price is None or isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if input_total_tokens > tier.start]  # they are in ascending order
    return reached[-1] if reached else price.base


def _price(source: str, price_list: str, model: str, rates: Rates) -> Price:
    # Ratios, since 1 and 1.0 are one price.
    ratios = [None if rate is None else rate.as_integer_ratio() for rate in astuple(rates)]
    told = json.dumps([source, price_list, model, ratios])
    return Price(hashlib.sha256(told.encode()).hexdigest()[:16], source, price_list, model, rates)


@cache
def installed_on() -> date | None:
    """Since when the price list is installed: it has no date of its own, and is as new as that at best."""
    try:
        installed = Path(str(distribution("genai-prices").locate_file("genai_prices/__init__.py")))
        return datetime.fromtimestamp(installed.stat().st_mtime, UTC).date()
    except (PackageNotFoundError, OSError):
        return None
