"""`ccr-asgi whatif`: what stored requests would have cost under another routing table."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ccr_asgi.cli_verbs import (
    Verbs,
    add_quiet,
    add_verb,
    arrow,
    opened,
    progress,
    say,
    subscriptions,
    table,
    usd,
    value_of,
)
from ccr_asgi.config import Config, load_config
from ccr_asgi.errors import ConfigError

if TYPE_CHECKING:
    from ccr_asgi.usage.whatif import Group, Move

GROUPINGS = ("day", "agent", "model")

_WHATIF = """Show what stored requests would have cost on other models: their own tokens at other prices. MODEL is what
answered, as a part of its name or a pattern; of several --map the first that fits a request counts. Requests that none
fits stay as they were. Sums are in US dollars; - means that there is no price."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = add_verb(verbs, "whatif", "reckon stored requests on other models", _WHATIF, run)
    parser.add_argument(
        "--map", metavar="MODEL=PROVIDER,MODEL", action="append", required=True, help="haiku=cerebras,gpt-oss-120b"
    )
    parser.add_argument("--range", default="30d", help="1h, 6h, 24h, today, 7d, 30d, month or all; default: 30d")
    parser.add_argument("--agent", metavar="ID", help="only this agent's requests")
    parser.add_argument("--by", choices=GROUPINGS, default="day", help="what a line is for; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi whatif --map MODEL=PROVIDER,MODEL`."""
    from ccr_asgi.dashboard.filters import RANGES
    from ccr_asgi.usage.repricing import Selection
    from ccr_asgi.usage.whatif import what_if

    config = load_config()
    moves = [_move(text, config) for text in args.map]
    if args.range not in RANGES:
        raise ConfigError(f"--range: found {args.range!r:.60}; accepted: {', '.join(RANGES)}.")
    since = RANGES[args.range](datetime.now().astimezone())
    selection = Selection(since=since, agent_id=args.agent)
    with progress("pricing", quiet=args.quiet) as advanced:

        async def reckon() -> "list[Group]":
            async with opened(config) as store:
                return await what_if(
                    store,
                    value_of(config),
                    moves,
                    selection,
                    by=args.by,
                    subscriptions=subscriptions(config),
                    advanced=advanced,
                )

        groups = asyncio.run(reckon())
    _tell(args, since, groups)
    return 0


def _move(text: str, config: Config) -> "Move":
    from ccr_asgi.usage.whatif import Move

    try:
        move = Move.parse(text)
    except ValueError as error:
        raise ConfigError(f"--map: {error}.") from None
    if move.to_provider not in config.providers:
        raise ConfigError(f"--map: found {move.to_provider!r:.100}; configured are {', '.join(config.providers)}.")
    return move


def _tell(args: argparse.Namespace, since: datetime | None, groups: "Sequence[Group]") -> None:
    from ccr_asgi.usage.tables import iso_utc
    from ccr_asgi.usage.whatif import ASSUMPTIONS, total

    whole = total(groups)
    if args.json:
        told = {
            "as_of": iso_utc(datetime.now(UTC)),
            "range": {"name": args.range, "from": iso_utc(since) if since else None},
            "map": args.map,
            "assumptions": ASSUMPTIONS,
            "by": args.by,
            "groups": [asdict(group) for group in groups],
            "total": asdict(whole),
        }
        say(json.dumps(told))
        return
    say(table(list(_rows(args.by, groups, whole)), names=1))
    say("")
    for assumption in ASSUMPTIONS:
        say(f"- {assumption}")


def _rows(by: str, groups: "Sequence[Group]", whole: "Group") -> Iterator[Sequence[str]]:
    yield by, "requests", "moved", "tokens moved", "billed", "without cache", "list value", "saved", "no price"
    for name, group in [*((group.name or "-", group) for group in groups), ("all", whole)]:
        now, then = group.now, group.then
        yield (
            name,
            str(group.requests),
            str(group.moved),
            f"{group.tokens:,}",
            arrow(usd(now.billed_micro_usd), usd(then.billed_micro_usd)),
            usd(group.without_cache.billed_micro_usd),
            arrow(usd(now.list_micro_usd), usd(then.list_micro_usd)),
            arrow(usd(now.saved_micro_usd), usd(then.saved_micro_usd)),
            arrow(str(now.unpriced), str(then.unpriced)),
        )
