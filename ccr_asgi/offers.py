"""What the configured providers offer now, with what is known of price and length: all are asked at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from ccr_asgi.config import Config, Provider
from ccr_asgi.errors import CcrError
from ccr_asgi.pricing import PriceBook, Rates
from ccr_asgi.provider_models import offered_models
from ccr_asgi.runtime import Runtime

PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that a provider offers; prices in USD per million tokens.

    Attributes:
        listed: It stands in the configuration, under the provider's `models`.
    """

    provider: str
    model: str
    listed: bool
    input_usd: float | None
    output_usd: float | None
    context_tokens: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said: its offers, or why there are none; `gone` are configured models that it does not offer."""

    provider: str
    offers: Sequence[Offer] = ()
    gone: Sequence[str] = ()
    problem: str | None = None


async def ask_all(providers: Sequence[Provider], config: Config) -> list[Answer]:
    """What each of `providers` offers; all are asked at once."""
    runtime = Runtime(config)
    try:
        return await asyncio.gather(*(_ask(provider, config, runtime) for provider in providers))
    finally:
        await runtime.stop()


async def _ask(provider: Provider, config: Config, runtime: Runtime) -> Answer:
    if not provider.has_credential:
        return Answer(provider.name, problem=f"no key is configured ({provider.key_hint or 'set apiKey'})")
    try:
        async with asyncio.timeout(PATIENCE_S):
            names = await offered_models(provider, runtime.credentials(provider, config), runtime.transport(config))
    except TimeoutError:
        return Answer(provider.name, problem=f"no answer within {PATIENCE_S:.0f} s")
    except CcrError as error:
        return Answer(provider.name, problem=error.message)
    book = await asyncio.to_thread(_loaded, config)
    offers = [_offer(provider, name, book) for name in names]
    return Answer(provider.name, offers, [name for name in provider.models if name not in names])


def _loaded(config: Config) -> PriceBook:
    book = PriceBook(config.usage.costs)
    book.load()
    return book


def _offer(provider: Provider, model: str, book: PriceBook) -> Offer:
    pricing, name, host = provider.pricing, provider.name, provider.base_url
    price = book.find(
        price_list=pricing, provider=name, host=host, model=model, at=datetime.now(UTC), input_total_tokens=0
    )
    rates = price.rates if price is not None else Rates()
    context = book.context_tokens(price_list=pricing, provider=name, host=host, model=model)
    return Offer(name, model, model in provider.models, _float(rates.input), _float(rates.output), context)


def _float(rate: Decimal | None) -> float | None:
    return None if rate is None else float(rate)
