"""`ccr-asgi models`: what each provider offers now, with price and context length."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, say, table
from ccr_asgi.config import load_config

if TYPE_CHECKING:
    from ccr_asgi.offers import Answer

_MODELS = """Ask each configured provider which models it offers now, and show them with their list prices (US dollars
per million tokens) and context lengths as far as those are known. Claude's own are asked for with your login by Claude
Code itself, so a passthrough provider is left out. The exit code is 1 if a provider could not be asked."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = add_verb(verbs, "models", "what each provider offers now", _MODELS, run)
    parser.add_argument("provider", nargs="?", help="only this one")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi models [PROVIDER]`."""
    from ccr_asgi.offers import ask_all

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


def _lines(answers: "Sequence[Answer]") -> Iterator[str]:
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
