"""`ccr-asgi usage`: what the dashboard shows, on a terminal."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ccr_asgi.cli_verbs import Verbs, add_verb, opened, say, table, usd
from ccr_asgi.config import load_config
from ccr_asgi.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ccr_asgi.dashboard.filters import Window
    from ccr_asgi.dashboard.queries import Overview, RequestRow
    from ccr_asgi.dashboard.totals import Totals
    from ccr_asgi.usage.store import UsageStore

KEYS = ("provider", "model", "agent", "session", "project")
FILTERS = (*KEYS, "status", "outcome")
ZONES = "zoneinfo/"

_USAGE = """Show what was used, what it cost and what it saved, from the usage database: the sums, and the largest
groups of what --by names. Amounts are in US dollars: `billed` is 0 where a subscription paid, `list` is what it was
worth, `saved` is against the Claude model that was asked for; - means that there is no price."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    parser = add_verb(verbs, "usage", "what was used, and what it cost", _USAGE, run)
    parser.add_argument("--range", default="7d", help="1h, 6h, 24h, today, 7d, 30d, month or all; default: 7d")
    parser.add_argument("--from", dest="since", metavar="TIME", help="instead of --range: 2026-01-31 or a full time")
    parser.add_argument("--to", dest="until", metavar="TIME", help="the end of that")
    parser.add_argument("--tz", default=None, help="time zone, such as Europe/Berlin; default: this machine's")
    parser.add_argument("--by", choices=KEYS, default="model", help="what a line is for; default: %(default)s")
    for name in FILTERS:
        parser.add_argument(f"--{name}", metavar=name.upper(), help=_HELP.get(name, f"only this {name}'s; - is none"))
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all of it as JSON, as /api/usage does")
    form.add_argument("--csv", action="store_true", help="print the requests as CSV")


_HELP = {"status": "429, 4xx, error …", "outcome": "ok, error, cancelled or truncated"}


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi usage`."""
    from ccr_asgi.dashboard import payload
    from ccr_asgi.dashboard.queries import overview

    config, window = load_config(), _window(args)

    async def look() -> "Overview | None":
        async with opened(config) as store:
            if args.csv:
                await _write_csv(store, window)
                return None
            return await store.read(lambda connection: overview(connection, window))

    found = asyncio.run(look())
    if found is None:
        return 0
    if args.json:
        say(json.dumps(payload.usage(found, window)))
        return 0
    say(table(list(_rows(args.by, found)), names=1))
    count, shown = found.breakdowns[args.by].count, len(found.breakdowns[args.by].groups)
    if count is None or count > shown:
        say(f"\nThe {shown} with the most requests; --json has the same, the dashboard leads further.")
    return 0


def _window(args: argparse.Namespace) -> "Window":
    from ccr_asgi.dashboard.filters import parse_window

    given = {name: getattr(args, name) for name in FILTERS}
    given |= {"from": args.since, "to": args.until, "tz": args.tz or local_zone()}
    if args.since is None and args.until is None:
        given["range"] = args.range
    parameters = [(name, value) for name, value in given.items() if value is not None]
    try:
        return parse_window(parameters, datetime.now(UTC), paged=not args.csv)
    except RequestError as error:
        raise ConfigError(error.message) from None


async def _write_csv(store: "UsageStore", window: "Window") -> None:
    from ccr_asgi.dashboard import payload
    from ccr_asgi.dashboard.queries import entries
    from ccr_asgi.dashboard.routes import BATCH_ROWS

    after: tuple[str, str] | None = None

    def more(connection: "Connection") -> "Sequence[RequestRow]":
        return entries(connection, window, after=after, limit=BATCH_ROWS)

    sys.stdout.buffer.write(payload.csv_lines((), head=True))
    while batch := await store.read(more):
        sys.stdout.buffer.write(payload.csv_lines(batch, head=False))
        after = (batch[-1].started_at, batch[-1].id)
    sys.stdout.buffer.flush()


def _rows(by: str, found: "Overview") -> Iterator[Sequence[str]]:
    yield by, "requests", "errors", "input", "cache read", "cache write", "output", "billed", "list", "saved"
    groups = found.breakdowns[by].groups  # type: ignore[index]  # argparse holds it to the keys
    for name, totals in [*((group.name or "-", group.totals) for group in groups), ("all", found.summary.totals)]:
        yield name, *_figures(totals)


def _figures(totals: "Totals") -> Iterator[str]:
    yield f"{totals.requests:,}"
    yield f"{totals.errors:,}"
    for tokens in (totals.input_tokens, totals.cache_read_tokens, totals.cache_write_tokens, totals.output_tokens):
        yield "-" if tokens is None else f"{tokens:,}"
    for micro_usd in (totals.billed_micro_usd, totals.list_micro_usd, totals.saved_micro_usd):
        yield usd(micro_usd)


def local_zone() -> str:
    """The IANA name of this machine's time zone; UTC where it does not tell."""
    from ccr_asgi.dashboard.filters import parse_zone

    linked = str(Path("/etc/localtime").resolve()).partition(ZONES)[2]
    for name in (os.environ.get("TZ", "").lstrip(":"), linked):
        try:
            parse_zone(name)
        except RequestError:
            continue
        return name
    return "UTC"
