"""The `ccr-asgi` command: thin verbs over the library."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from ccr_asgi import (
    __version__,
    cli_agents,
    cli_config,
    cli_database,
    cli_demo,
    cli_doctor,
    cli_explain,
    cli_models,
    cli_server,
    cli_shell,
    cli_usage,
    cli_whatif,
    statusline,
)
from ccr_asgi.config import load_config
from ccr_asgi.errors import ConfigError
from ccr_asgi.metrics import counted_together
from ccr_asgi.running_server import Note, noted
from ccr_asgi.serving import serve_granian, serve_uvicorn
from ccr_asgi.startup import invitation

USAGE_ERROR = 2
UNREAD = 141
"""As a shell tells of a command that the signal SIGPIPE has ended."""

_VERBS = (
    cli_server,
    cli_config,
    cli_doctor,
    cli_agents,
    cli_explain,
    cli_models,
    cli_usage,
    cli_whatif,
    cli_database,
    cli_demo,
    cli_shell,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 well, 1 failed, 2 not understood, 141 nobody read on)."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could follow
        import argcomplete

        argcomplete.autocomplete(parser())
    asked = sys.argv[1:] if argv is None else argv
    if not asked:  # somebody looks at it for the first time: all verbs, not a line on what is missing
        parser().exit(USAGE_ERROR, parser().format_help())
    args = parser().parse_args(_shielded(asked))
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except ConfigError as error:
        print(f"ccr-asgi: {error}", file=sys.stderr)  # noqa: T201 -- a command speaks on its standard streams
        return USAGE_ERROR
    except BrokenPipeError:  # `head` has seen enough; what is still in the buffer would be complained of at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return code


def parser() -> argparse.ArgumentParser:
    """The command line that is understood."""
    made = argparse.ArgumentParser(
        prog="ccr-asgi",
        description="Keeps Claude Code on its subscription while its subagents run on other models.",
    )
    made.add_argument("--version", action="version", version=f"ccr-asgi {__version__}")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_serve(verbs.add_parser("serve", help="run the proxy in the foreground", description=_SERVE))
    for module in _VERBS:
        module.add_verbs(verbs)
    line = verbs.add_parser("statusline", help="one line for Claude Code", description=statusline.DESCRIPTION)
    statusline.add_arguments(line)
    line.set_defaults(run=statusline.run)
    return made


def _shielded(argv: Sequence[str]) -> Sequence[str]:
    """The arguments, of which those for Claude Code are not taken for ours; but help for the verb itself is ours."""
    if argv[:1] != ["code"] or argv[1:] in (["-h"], ["--help"]):
        return argv
    return ["code", "--", *argv[1:]]


_SERVE = """Run the proxy in the foreground. SIGTERM or Ctrl-C stops it: no new connections, running streams get
timeouts.drainS seconds (30) to end, usage is written, and the exit code is 0."""


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=serve)
    parser.add_argument("--server", choices=["uvicorn", "granian"], default="uvicorn", help="default: %(default)s")
    parser.add_argument("--http", choices=["httptools", "h11"], help="uvicorn's parser; default: httptools")
    parser.add_argument("--host", help="address to listen on; default: the configuration's, else 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: the configuration's, else 3456")
    parser.add_argument(
        "--log-format", choices=["line", "json"], default="line", help="json has a line for each request; default: line"
    )
    parser.add_argument("--workers", type=_count, default=1, help="processes, all on one usage.db; default: 1")


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; accepted is 1 or more")
    return value


def serve(args: argparse.Namespace) -> int:
    """`ccr-asgi serve`: flags travel to the workers by environment, since servers may start them afresh."""
    if args.host is not None:
        os.environ["CCR_ASGI_HOST"] = args.host
    if args.port is not None:
        os.environ["CCR_ASGI_PORT"] = str(args.port)
    config = load_config()
    if args.log_format == "line":
        print(f"ccr-asgi: {invitation(config)}", file=sys.stderr)  # noqa: T201 -- a command speaks on its standard streams
    note = Note(os.getpid(), __version__, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        with noted(config, note), counted_together(args.workers if config.metrics else 1):
            if args.server == "granian":
                serve_granian(config, args.workers, args.log_format)
            else:
                serve_uvicorn(config, args.workers, args.http or "httptools", args.log_format)
    except ImportError as error:
        print(f"ccr-asgi: {error}: pip install 'ccr-asgi[{args.server}]'", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
