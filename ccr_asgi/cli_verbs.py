"""What the verbs of the `ccr-asgi` command share: how they are added, fail, open the database and speak.

The database's code is imported by the verb that runs: a server's start need not wait for what it does not use.
"""

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from ccr_asgi.config import Config
from ccr_asgi.usage.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from ccr_asgi.usage.batch import Value
    from ccr_asgi.usage.database import Database
    from ccr_asgi.usage.store import UsageStore

FAILED = 1
USAGE_ERROR = 2
INTERRUPTED = 130

Verbs = Any
"""What `add_subparsers` returns: argparse has no public name for it."""


def add_verb(
    verbs: Verbs, name: str, what: str, description: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add one verb, of which `run` makes the exit code; returns its parser, for its arguments."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=description)
    parser.set_defaults(run=guarded(run))
    return parser


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`, for a verb that shows its progress."""
    parser.add_argument("--quiet", action="store_true", help="no progress bar, which is shown on terminals only")


def guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run`, with a message and an exit code where the database fails or the user has had enough."""

    def run_guarded(args: argparse.Namespace) -> int:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return run(args)
        except (StoreError, StoreUnavailable) as error:
            complain(str(error))
        except SQLAlchemyError as error:
            complain(f"the usage database failed: {getattr(error, 'orig', error)}")
        except KeyboardInterrupt:
            complain("stopped")
            return INTERRUPTED
        return FAILED

    return run_guarded


def database_of(config: Config) -> "Database":
    """The usage database that the configuration names."""
    from ccr_asgi.usage.database import Database

    return Database.parse(config.usage.database)


@asynccontextmanager
async def opened(config: Config, value: "Value | None" = None) -> "AsyncIterator[UsageStore]":
    """The usage database of the configuration, with its schema up to date; `value` prices the rows that go in."""
    from ccr_asgi.usage.store import UsageStore

    store = UsageStore(config.usage.database, value=value)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def subscriptions(config: Config) -> set[str]:
    """The providers that a subscription pays, as far as the configuration tells; the original's "codex" always was."""
    told = {name for name, provider in config.providers.items() if provider.passthrough or provider.chatgpt_login}
    return told | ({"codex"} - config.providers.keys())


def value_of(config: Config) -> "Value":
    """What tells a record's worth by the configuration's prices and the price lists."""
    from ccr_asgi.usage.valuation import Valuer

    return Valuer(config.providers, config.usage.costs).value


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], object]]:
    """A bar on standard error, if that is a terminal: it takes how much is done, and of how much (0 = not known)."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from tqdm import tqdm

    def advance(done: int, all_of_it: int) -> None:
        bar.n, bar.total = done, all_of_it or None
        bar.refresh()

    columns, lines = get_terminal_size()  # tqdm shows nothing on a terminal that does not tell its size
    with tqdm(desc=label, file=sys.stderr, leave=False, unit="", unit_scale=True, ncols=columns, nrows=lines) as bar:
        yield advance


def table(rows: Sequence[Sequence[str]], *, names: int = 2) -> str:
    """`rows` in columns, the first `names` of them to the left and the others, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if at < names else '>'}{widths[at]}}" for at, cell in enumerate(row)) for row in rows
    )


def arrow(old: str, new: str) -> str:
    """What becomes of a figure, or the figure where it stays."""
    return old if old == new else f"{old} -> {new}"


def usd(micro_usd: int | None) -> str:
    """An amount in US dollars; `-` where there is no price."""
    return "-" if micro_usd is None else f"{micro_usd / 1_000_000:,.4f}"


def say(text: str) -> None:
    """Say what the user asked for."""
    print(text)  # noqa: T201 -- a command speaks on its standard streams


def complain(text: str) -> None:
    """Say what is wrong."""
    print(f"ccr-asgi: {text}", file=sys.stderr)  # noqa: T201 -- as above
