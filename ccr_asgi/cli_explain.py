"""`ccr-asgi explain`: where a request would go, why, and what would be sent there. Nothing is sent."""

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, complain, say
from ccr_asgi.config import Config, load_config
from ccr_asgi.errors import CcrError
from ccr_asgi.exchange import Exchange
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import ConversionContext, secrets_of
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.middleware.tag_extraction import read_body_fields
from ccr_asgi.routing import Facts, Route, RoutingTable
from ccr_asgi.wire.json_codec import loads

_EXPLAIN = """Show which provider and model a request would go to and why, what would follow if that failed, the body
that would be sent, and what its input would cost. REQUEST is a file with the JSON body of a POST to /v1/messages, or -
for standard input. Nothing is sent anywhere; headers, which hold the secrets, are not shown. The exit code is 1 if the
request would be refused."""
MASK = "***"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would become of a request.

    Attributes:
        route: Where it goes.
        why: What in the request or the configuration made it so.
        fallbacks: What would be asked next, in this order.
        body: The body that goes out; None where the client's own goes out as it is.
        input_tokens: An estimate, by local means.
        input_usd: What they cost at list price, uncached; None where there is no price.
    """

    route: Route
    why: str
    fallbacks: list[Route]
    body: Any
    input_tokens: int
    input_usd: Decimal | None


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = add_verb(verbs, "explain", "where a request would go, and why", _EXPLAIN, run)
    parser.add_argument("request", metavar="REQUEST", help="a file, or - for standard input")
    parser.add_argument("--agent", metavar="ID", help="as if this agent had sent it (rules may ask for that)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi explain REQUEST`."""
    config = load_config()
    try:
        content = sys.stdin.buffer.read() if args.request == "-" else Path(args.request).read_bytes()
    except OSError as error:
        complain(f"{args.request} cannot be read: {error.strerror}")
        return FAILED
    try:
        found = explain(content, config, args.agent)
    except CcrError as error:
        if args.json:
            say(json.dumps({"refused": {"status": error.status, "type": error.error_type, "message": error.message}}))
        else:
            complain(f"it would be refused with {error.status} {error.error_type}: {error.message}")
        return FAILED
    say(json.dumps(_told(found)) if args.json else "\n".join(_lines(found)))
    return 0


def explain(content: bytes, config: Config, agent_id: str | None = None) -> Explanation:
    """What would become of a request with this body.

    Raises:
        CcrError: It would be refused.
    """
    exchange = Exchange()
    read_body_fields(content, exchange)
    table = RoutingTable(config.providers, on_unknown=config.on_unknown, rules=config.rules)
    route, why = table.explain(exchange.requested_model, exchange.tag, Facts(agent_id, content))
    body = loads(content)
    sent, tokens = None, 0
    if (chosen := FORMATS.get(route.provider.kind)) is not None:
        conversion = chosen.begin(body, route, ConversionContext("msg_explained", exchange.session_id))
        sent, tokens = loads(_masked(conversion.request.body, route)), chosen.count_tokens(body, route)
    else:
        tokens = count_request(body)
    price = _input_price(config, route, exchange.requested_model or "", tokens)
    usd = None if price is None else tokens * price / 1_000_000
    return Explanation(route, why, table.fallbacks(route), sent, tokens, usd)


def _masked(body: bytes, route: Route) -> bytes:
    """Without what the configuration keeps secret, in case that quirks put it there."""
    for secret in secrets_of(route.provider):
        body = body.replace(secret.encode(), MASK.encode())
    return body


def _input_price(config: Config, route: Route, asked_model: str, tokens: int) -> Decimal | None:
    from ccr_asgi.pricing import PriceBook

    found = PriceBook(config.usage.costs).find(
        price_list=route.provider.pricing,
        provider=route.provider.name,
        host=route.provider.base_url,
        model=route.model or asked_model,
        at=datetime.now(UTC),
        input_total_tokens=tokens,
    )
    return None if found is None else found.rates.input


def _lines(found: Explanation) -> list[str]:
    route = found.route
    cost = "no price is known" if found.input_usd is None else f"${found.input_usd:.4f} at list price, uncached"
    lines = [
        f"provider   {route.provider.name} ({route.provider.base_url})",
        f"model      {route.model or 'as the client asks'}",
        f"reason     {route.reason}: {found.why}",
        *(f"if it fails  {link.provider.name}, {link.model or 'as the client asks'}" for link in found.fallbacks),
        f"input      about {found.input_tokens:,} tokens; {cost}",
    ]
    if route.provider.chatgpt_login or route.provider.passthrough:
        lines[-1] += " (a subscription bills nothing)"
    if found.body is None:
        return [*lines, f"body       the client's own, {'with this model' if route.model else 'byte for byte'}"]
    return [*lines, "body", json.dumps(found.body, indent=2, ensure_ascii=False)]


def _told(found: Explanation) -> dict[str, Any]:
    return {
        "provider": found.route.provider.name,
        "url": found.route.provider.base_url,
        "model": found.route.model,
        "reason": found.route.reason,
        "why": found.why,
        "fallbacks": [{"provider": link.provider.name, "model": link.model} for link in found.fallbacks],
        "body": found.body,
        "input_tokens": found.input_tokens,
        "input_usd": None if found.input_usd is None else float(found.input_usd),
    }
