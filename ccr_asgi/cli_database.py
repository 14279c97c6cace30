"""The verbs of the `ccr-asgi` command for the usage database: `import`, and `db` with what keeps a database well.

The database's code is imported by the verb that runs: a server's start need not wait for what it does not use.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccr_asgi.config import Config, load_config
from ccr_asgi.usage.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from ccr_asgi.usage.batch import Value
    from ccr_asgi.usage.database import Database
    from ccr_asgi.usage.importer import ImportSummary
    from ccr_asgi.usage.repricing import ModelChange
    from ccr_asgi.usage.store import UsageStore

FAILED = 1
USAGE_ERROR = 2
INTERRUPTED = 130

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

Verbs = Any
"""What `add_subparsers` returns: argparse has no public name for it."""


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module to the command; each parser sets `run`, from its arguments to the exit code."""
    importing = _add(verbs, "import", "import a usage.jsonl", _IMPORT, import_file)
    importing.epilog = _IMPORT_EXIT
    importing.add_argument("file", metavar="FILE", type=Path)
    importing.add_argument("--billed", metavar="PROVIDER", action="append", default=[], help="paid by an API key")
    importing.add_argument("--json", action="store_true", help="print the summary as JSON")
    _add_quiet(importing)
    database = verbs.add_parser("db", help="look after the usage database")
    _add_db(database.add_subparsers(dest="db_verb", required=True, metavar="VERB"))


def _add_db(verbs: Verbs) -> None:
    _add(verbs, "upgrade", "bring its schema up to date", _UPGRADE, upgrade)
    backing_up = _add(verbs, "backup", "copy it while it is in use", _BACKUP, backup)
    backing_up.add_argument("file", metavar="FILE", type=Path)
    vacuuming = _add(verbs, "vacuum", "give unused space back", _VACUUM, vacuum)
    repricing = _add(verbs, "reprice", "price stored requests anew", _REPRICE, reprice)
    repricing.add_argument("--since", metavar="TIME", type=_moment, help="from this day or time on (ISO 8601; UTC)")
    repricing.add_argument("--until", metavar="TIME", type=_moment, help="before this day or time")
    repricing.add_argument("--provider", help="only this provider's")
    repricing.add_argument("--model", help="only this model's, as the provider names it")
    repricing.add_argument("--apply", action="store_true", help="store the new figures")
    repricing.add_argument("--json", action="store_true", help="print the changes as JSON")
    for parser in (backing_up, vacuuming, repricing):
        _add_quiet(parser)


def _add(
    verbs: Verbs, name: str, what: str, description: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=description)
    parser.set_defaults(run=_guarded(run))
    return parser


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bar, which is shown on terminals only")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}; accepted is ISO 8601, as 2026-01-31") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run`, with a message and an exit code where the database fails or the user has had enough."""

    def guarded(args: argparse.Namespace) -> int:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return run(args)
        except (StoreError, StoreUnavailable) as error:
            _complain(str(error))
        except SQLAlchemyError as error:
            _complain(f"the usage database failed: {getattr(error, 'orig', error)}")
        except KeyboardInterrupt:
            _complain("stopped")
            return INTERRUPTED
        return FAILED

    return guarded


# The verbs


def import_file(args: argparse.Namespace) -> int:
    """`ccr-asgi import FILE`."""
    from ccr_asgi.usage.importer import import_lines

    config = load_config()
    try:
        file = args.file.open("rb")
    except OSError as error:
        _complain(f"{args.file} cannot be read: {error.strerror}")
        return USAGE_ERROR
    with file, _progress(f"importing {args.file.name}", quiet=args.quiet) as advanced:
        size_bytes = os.fstat(file.fileno()).st_size

        async def run() -> "ImportSummary":
            async with _opened(config, _value(config)) as store:
                return await import_lines(
                    file,
                    store,
                    subscriptions=subscriptions(config) - set(args.billed),
                    advanced=lambda summary: advanced(summary.read_bytes, size_bytes),
                )

        summary = asyncio.run(run())
    _tell_import(args, summary)
    return FAILED if summary.bad else 0


def subscriptions(config: Config) -> set[str]:
    """The providers that a subscription pays, as far as the configuration tells; the original's "codex" always was."""
    told = {name for name, provider in config.providers.items() if provider.passthrough or provider.chatgpt_login}
    return told | ({"codex"} - config.providers.keys())


def _tell_import(args: argparse.Namespace, summary: "ImportSummary") -> None:
    if args.json:
        told = asdict(summary)
        told["first_bad"] = [{"line": number, "reason": reason} for number, reason in summary.first_bad]
        _say(json.dumps({"file": str(args.file), **told}))
        return
    for number, reason in summary.first_bad:
        _complain(f"{args.file}:{number}: {reason}")
    if more := summary.bad - len(summary.first_bad):
        _complain(f"{args.file}: {more} more bad lines")
    _say(f"{summary.lines} lines: {summary.imported} imported, {summary.known} there already, {summary.bad} bad")


def upgrade(args: argparse.Namespace) -> int:
    """`ccr-asgi db upgrade`."""
    from ccr_asgi.usage.maintenance import schema_revision

    config = load_config()
    database = _database(config)

    async def run() -> tuple[str | None, str | None]:
        before = await schema_revision(database)
        async with _opened(config):
            return before, await schema_revision(database)

    before, after = asyncio.run(run())
    change = f"up to date at {after}" if before == after else f"upgraded from {before or 'nothing'} to {after}"
    _say(f"{database}: schema {change}")
    return 0


def backup(args: argparse.Namespace) -> int:
    """`ccr-asgi db backup FILE`."""
    from ccr_asgi.usage import maintenance

    database = _database(load_config())
    with _progress("copying", quiet=args.quiet) as advanced:
        maintenance.backup(database, args.file, advanced)
    _say(f"{database}: {_megabytes(args.file.stat().st_size)} copied to {args.file}")
    return 0


def vacuum(args: argparse.Namespace) -> int:
    """`ccr-asgi db vacuum`."""
    from ccr_asgi.usage import maintenance

    database = _database(load_config())
    with _progress("writing it anew", quiet=args.quiet):
        done = maintenance.vacuum(database)
    freed_bytes = done.before_bytes - done.after_bytes
    _say(f"{database}: {_megabytes(freed_bytes)} freed, {_megabytes(done.after_bytes)} left")
    if not done.truncated:
        _complain("somebody is still reading an older state of it; more comes free when that is done")
    return 0


def reprice(args: argparse.Namespace) -> int:
    """`ccr-asgi db reprice`."""
    from ccr_asgi.usage import repricing

    config = load_config()
    value = _value(config)
    selection = repricing.Selection(args.since, args.until, args.provider, args.model)
    with _progress("pricing", quiet=args.quiet) as advanced:

        async def run() -> "list[ModelChange]":
            async with _opened(config) as store:
                at = datetime.now(UTC)
                return await repricing.reprice(store, value, selection, at=at, apply=args.apply, advanced=advanced)

        changes = asyncio.run(run())
    _tell_repricing(args, changes)
    return 0


def _tell_repricing(args: argparse.Namespace, changes: "Sequence[ModelChange]") -> None:
    changed, looked_at = sum(change.changed for change in changes), sum(change.requests for change in changes)
    if args.json:
        _say(json.dumps({"applied": args.apply, "changed": changed, "models": [asdict(change) for change in changes]}))
        return
    if changes:
        _say(_table(list(_repricing_rows(changes))))
    applied = "stored; the original ones are kept" if args.apply else "not stored without --apply"
    _say(f"new figures for {changed} of {looked_at} requests: {applied}")


def _repricing_rows(changes: "Sequence[ModelChange]") -> Iterator[Sequence[str]]:
    yield "provider", "model", "requests", "changed", "no price", "billed", "list value", "saved"
    for change in changes:
        old, new = change.old, change.new
        yield (
            change.provider or "-",
            change.model or "-",
            str(change.requests),
            str(change.changed),
            _arrow(str(old.unpriced), str(new.unpriced)),
            _arrow(_usd(old.billed_micro_usd), _usd(new.billed_micro_usd)),
            _arrow(_usd(old.list_micro_usd), _usd(new.list_micro_usd)),
            _arrow(_usd(old.saved_micro_usd), _usd(new.saved_micro_usd)),
        )


# What they share


def _database(config: Config) -> "Database":
    from ccr_asgi.usage.database import Database

    return Database.parse(config.usage.database)


@asynccontextmanager
async def _opened(config: Config, value: "Value | None" = None) -> "AsyncIterator[UsageStore]":
    """The usage database of the configuration, with its schema up to date; `value` prices the rows that go in."""
    from ccr_asgi.usage.store import UsageStore

    store = UsageStore(config.usage.database, value=value)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def _value(config: Config) -> "Value":
    from ccr_asgi.usage.valuation import Valuer

    return Valuer(config.providers, config.usage.costs).value


@contextmanager
def _progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], object]]:
    """A bar on standard error, if that is a terminal: it takes how much is done, and of how much (0 = not known)."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, all_of_it: bar.update(task, completed=done, total=all_of_it or None)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """`rows` in columns, names to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if at < 2 else '>'}{widths[at]}}" for at, cell in enumerate(row)) for row in rows
    )


def _arrow(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"


def _usd(micro_usd: int | None) -> str:
    return "-" if micro_usd is None else f"{micro_usd / 1_000_000:,.4f}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.1f} MB"


def _say(text: str) -> None:
    print(text)  # noqa: T201 -- a command speaks on its standard streams


def _complain(text: str) -> None:
    print(f"ccr-asgi: {text}", file=sys.stderr)  # noqa: T201 -- as above
