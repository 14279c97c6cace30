"""`ccr-asgi models`: what each provider offers now, with price and context length."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, say, table
from ccr_asgi.config import Config, Provider, load_config
from ccr_asgi.errors import CcrError
from ccr_asgi.pricing import PriceBook, Rates
from ccr_asgi.provider_models import offered_models
from ccr_asgi.runtime import Runtime

PATIENCE_S = 15.0

_MODELS = """Ask each configured provider which models it offers now, and show them with their list prices (US dollars
per million tokens) and context lengths as far as those are known. Claude's own are asked for with your login by Claude
Code itself, so a passthrough provider is left out. The exit code is 1 if a provider could not be asked."""


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


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = add_verb(verbs, "models", "what each provider offers now", _MODELS, run)
    parser.add_argument("provider", nargs="?", help="only this one")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi models [PROVIDER]`."""
    config = load_config()
    asked = [provider for provider in config.providers.values() if not provider.passthrough]
    asked = [provider for provider in asked if args.provider in (None, provider.name)]
    answers = asyncio.run(ask_all(asked, config))
    if args.json:
        say(json.dumps([asdict(answer) for answer in answers]))
    else:
        for line in _lines(answers):
            say(line)
    return FAILED if any(answer.problem for answer in answers) or not answers else 0


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


def _lines(answers: Sequence[Answer]) -> Iterator[str]:
    rows = [
        (
            o.provider,
            o.model,
            _usd(o.input_usd),
            _usd(o.output_usd),
            _count(o.context_tokens),
            "configured" if o.listed else "",
        )
        for answer in answers
        for o in answer.offers
    ]
    if rows:
        yield table([("provider", "model", "input", "output", "context", ""), *rows])
    for answer in answers:
        if answer.problem is not None:
            yield f"{answer.provider}: {answer.problem}"
        for model in answer.gone:
            yield f"{answer.provider}: {model} stands in the configuration and is not offered: take it out of `models`"
    if not answers:
        yield "No provider with a credential of its own is configured: `ccr-asgi config init` writes a first one."


def _usd(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:g}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
