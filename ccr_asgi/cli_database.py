"""The verbs of the `ccr-asgi` command for the usage database: `import`, and `db` with what keeps a database well.

The database's code is imported by the verb that runs: a server's start need not wait for what it does not use.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ccr_asgi.cli_verbs import (
    FAILED,
    USAGE_ERROR,
    Verbs,
    add_quiet,
    add_verb,
    arrow,
    complain,
    database_of,
    opened,
    progress,
    say,
    subscriptions,
    table,
    usd,
    value_of,
)
from ccr_asgi.config import load_config

if TYPE_CHECKING:
    from ccr_asgi.usage.importer import ImportSummary
    from ccr_asgi.usage.repricing import ModelChange

_IMPORT = """Take a usage.jsonl (the original's, or the one that usage.logFile keeps) into the usage database. A line
that is there already is passed over, so the same file, or a longer version of it, can be imported again and again. A
line that cannot be read is told with its number, and the others are imported all the same. Providers that are reached
by a subscription are billed 0; name those that were paid by an API key with --billed."""
_IMPORT_EXIT = """Exit code: 0 if all lines are in the database; 1 if some were bad, or the database failed; 2 if FILE
cannot be read."""
_UPGRADE = """Bring the usage database's schema up to date, as every start of the server does; make the database if
it is not there."""
_BACKUP = """Copy the usage database as it is now to the new file FILE (mode 0600), while requests go on. An existing
file is never overwritten."""
_VACUUM = """Give the space of deleted rows back to the disk. Needs as much free disk as the rows take. Reading goes on;
a server's new rows wait in its memory until it is done."""
_REPRICE = """Show what stored requests cost by today's price list, for the time when they were made, and what that
changes. With --apply it is stored beside the original figures, which are kept, and the views show it. Requests that
have no price by now keep the one they have. Sums are in US dollars; - means that there is no price."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module to the command; each parser sets `run`, from its arguments to the exit code."""
    importing = add_verb(verbs, "import", "import a usage.jsonl", _IMPORT, import_file)
    importing.epilog = _IMPORT_EXIT
    importing.add_argument("file", metavar="FILE", type=Path)
    importing.add_argument("--billed", metavar="PROVIDER", action="append", default=[], help="paid by an API key")
    importing.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_quiet(importing)
    database = verbs.add_parser("db", help="look after the usage database")
    _add_db(database.add_subparsers(dest="db_verb", required=True, metavar="VERB"))


def _add_db(verbs: Verbs) -> None:
    add_verb(verbs, "upgrade", "bring its schema up to date", _UPGRADE, upgrade)
    backing_up = add_verb(verbs, "backup", "copy it while it is in use", _BACKUP, backup)
    backing_up.add_argument("file", metavar="FILE", type=Path)
    vacuuming = add_verb(verbs, "vacuum", "give unused space back", _VACUUM, vacuum)
    repricing = add_verb(verbs, "reprice", "price stored requests anew", _REPRICE, reprice)
    repricing.add_argument("--since", metavar="TIME", type=_moment, help="from this day or time on (ISO 8601; UTC)")
    repricing.add_argument("--until", metavar="TIME", type=_moment, help="before this day or time")
    repricing.add_argument("--provider", help="only this provider's")
    repricing.add_argument("--model", help="only this model's, as the provider names it")
    repricing.add_argument("--apply", action="store_true", help="store the new figures")
    repricing.add_argument("--json", action="store_true", help="print the changes as JSON")
    for parser in (backing_up, vacuuming, repricing):
        add_quiet(parser)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; accepted is ISO 8601, as 2026-01-31") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# The verbs


def import_file(args: argparse.Namespace) -> int:
    """`ccr-asgi import FILE`."""
    from ccr_asgi.usage.importer import import_lines

    config = load_config()
    try:
        file = args.file.open("rb")
    except OSError as error:
        complain(f"{args.file} cannot be read: {error.strerror}")
        return USAGE_ERROR
    with file, progress(f"importing {args.file.name}", quiet=args.quiet) as advanced:
        size_bytes = os.fstat(file.fileno()).st_size

        async def run() -> "ImportSummary":
            async with opened(config, value_of(config)) as store:
                return await import_lines(
                    file,
                    store,
                    subscriptions=subscriptions(config) - set(args.billed),
                    advanced=lambda summary: advanced(summary.read_bytes, size_bytes),
                )

        summary = asyncio.run(run())
    _tell_import(args, summary)
    return FAILED if summary.bad else 0


def _tell_import(args: argparse.Namespace, summary: "ImportSummary") -> None:
    if args.json:
        told = asdict(summary)
        told["first_bad"] = [{"line": number, "reason": reason} for number, reason in summary.first_bad]
        say(json.dumps({"file": str(args.file), **told}))
        return
    for number, reason in summary.first_bad:
        complain(f"{args.file}:{number}: {reason}")
    if more := summary.bad - len(summary.first_bad):
        complain(f"{args.file}: {more} more bad lines")
    say(f"{summary.lines} lines: {summary.imported} imported, {summary.known} there already, {summary.bad} bad")


def upgrade(args: argparse.Namespace) -> int:
    """`ccr-asgi db upgrade`."""
    from ccr_asgi.usage.maintenance import schema_revision

    config = load_config()
    database = database_of(config)

    async def run() -> tuple[str | None, str | None]:
        before = await schema_revision(database)
        async with opened(config):
            return before, await schema_revision(database)

    before, after = asyncio.run(run())
    change = f"up to date at {after}" if before == after else f"upgraded from {before or 'nothing'} to {after}"
    say(f"{database}: schema {change}")
    return 0


def backup(args: argparse.Namespace) -> int:
    """`ccr-asgi db backup FILE`."""
    from ccr_asgi.usage import maintenance

    database = database_of(load_config())
    with progress("copying", quiet=args.quiet) as advanced:
        maintenance.backup(database, args.file, advanced)
    say(f"{database}: {_megabytes(args.file.stat().st_size)} copied to {args.file}")
    return 0


def vacuum(args: argparse.Namespace) -> int:
    """`ccr-asgi db vacuum`."""
    from ccr_asgi.usage import maintenance

    database = database_of(load_config())
    with progress("writing it anew", quiet=args.quiet):
        done = maintenance.vacuum(database)
    freed_bytes = max(0, done.before_bytes - done.after_bytes)  # one without a gap may come out a page longer
    say(f"{database}: {_megabytes(freed_bytes)} freed, {_megabytes(done.after_bytes)} left")
    if not done.truncated:
        complain("somebody is still reading an older state of it; more comes free when that is done")
    return 0


def reprice(args: argparse.Namespace) -> int:
    """`ccr-asgi db reprice`."""
    from ccr_asgi.usage import repricing

    config = load_config()
    value = value_of(config)
    selection = repricing.Selection(args.since, args.until, args.provider, args.model)
    with progress("pricing", quiet=args.quiet) as advanced:

        async def run() -> "list[ModelChange]":
            async with opened(config) as store:
                at = datetime.now(UTC)
                return await repricing.reprice(store, value, selection, at=at, apply=args.apply, advanced=advanced)

        changes = asyncio.run(run())
    _tell_repricing(args, changes)
    return 0


def _tell_repricing(args: argparse.Namespace, changes: "Sequence[ModelChange]") -> None:
    changed, looked_at = sum(change.changed for change in changes), sum(change.requests for change in changes)
    if args.json:
        say(json.dumps({"applied": args.apply, "changed": changed, "models": [asdict(change) for change in changes]}))
        return
    if changes:
        say(table(list(_repricing_rows(changes))))
    applied = "stored; the original ones are kept" if args.apply else "not stored without --apply"
    say(f"new figures for {changed} of {looked_at} requests: {applied}")


def _repricing_rows(changes: "Sequence[ModelChange]") -> Iterator[Sequence[str]]:
    yield "provider", "model", "requests", "changed", "no price", "billed", "list value", "saved"
    for change in changes:
        old, new = change.old, change.new
        yield (
            change.provider or "-",
            change.model or "-",
            str(change.requests),
            str(change.changed),
            arrow(str(old.unpriced), str(new.unpriced)),
            arrow(usd(old.billed_micro_usd), usd(new.billed_micro_usd)),
            arrow(usd(old.list_micro_usd), usd(new.list_micro_usd)),
            arrow(usd(old.saved_micro_usd), usd(new.saved_micro_usd)),
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.1f} MB"
