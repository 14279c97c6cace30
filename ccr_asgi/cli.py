"""The `ccr-asgi` command: thin verbs over the library."""

import argparse
import asyncio
import math
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi import __version__
from ccr_asgi.config import Config, load_config
from ccr_asgi.errors import ConfigError
from ccr_asgi.startup import invitation

USAGE_ERROR = 2
TARGET = "ccr_asgi:app"
STOP_S = 9
"""Seconds that a worker has, after `timeouts.drainS`, to write its rows before it is killed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 well, 1 failed, 2 not understood)."""
    parser = argparse.ArgumentParser(
        prog="ccr-asgi",
        description="Keeps Claude Code on its subscription while its subagents run on other models.",
    )
    parser.add_argument("--version", action="version", version=f"ccr-asgi {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_serve(verbs.add_parser("serve", help="run the proxy in the foreground", description=_SERVE))
    args = parser.parse_args(argv)
    try:
        return serve(args)
    except ConfigError as error:
        print(f"ccr-asgi: {error}", file=sys.stderr)  # noqa: T201 -- a command speaks on its standard streams
        return USAGE_ERROR


_SERVE = """Run the proxy in the foreground. SIGTERM or Ctrl-C stops it: no new connections, running streams get
timeouts.drainS seconds (30) to end, usage is written, and the exit code is 0."""


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", choices=["uvicorn", "granian"], default="uvicorn", help="default: %(default)s")
    parser.add_argument("--http", choices=["httptools", "h11"], help="uvicorn's parser; default: httptools")
    parser.add_argument("--host", help="address to listen on; default: the configuration's, else 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: the configuration's, else 3456")
    parser.add_argument("--workers", type=int, default=1, help="processes, all on one usage.db; default: 1")


def serve(args: argparse.Namespace) -> int:
    """`ccr-asgi serve`: flags travel to the workers by environment, since servers may start them afresh."""
    if args.host is not None:
        os.environ["CCR_ASGI_HOST"] = args.host
    if args.port is not None:
        os.environ["CCR_ASGI_PORT"] = str(args.port)
    config = load_config()
    print(f"ccr-asgi: {invitation(config)}", file=sys.stderr)  # noqa: T201 -- a command speaks on its standard streams
    if args.server == "granian":
        return _serve_granian(config, args.workers)
    return _serve_uvicorn(config, args.workers, args.http or "httptools")


def _serve_uvicorn(config: Config, workers: int, http: str) -> int:
    import uvicorn

    # uvicorn raises the signal that ended it once more; a server that was told to stop has not failed.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        TARGET,
        host=config.host,
        port=config.port,
        workers=workers,
        http=http,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=LOG_CONFIG,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(config.timeouts.drain_s),
    )
    return 0


def _serve_granian(config: Config, workers: int) -> int:
    try:
        from granian import Granian
        from granian.constants import Interfaces
    except ImportError:
        print("ccr-asgi: granian is not installed: pip install 'ccr-asgi[granian]'", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    Granian(
        "ccr_asgi.cli:drained_app",
        factory=True,
        address=config.host,
        port=config.port,
        interface=Interfaces.ASGI,
        workers=workers,
        websockets=False,
        log_dictconfig=LOG_CONFIG,
        workers_kill_timeout=math.ceil(config.timeouts.drain_s) + STOP_S,
    ).serve()
    return 0


class Drained:
    """Ends the requests that still run `drain_s` seconds after SIGTERM, as uvicorn does by itself.

    granian waits for them until it kills its worker, and their rows with it.
    """

    def __init__(self, app: ASGIApp, drain_s: float) -> None:
        self._app = app
        self._drain_s = drain_s
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection, or the server's lifespan."""
        if scope["type"] == "lifespan":
            self._await_sigterm(asyncio.get_running_loop())
            await self._app(scope, receive, send)
            return
        # granian's own tasks cannot be cancelled.
        task = asyncio.ensure_future(self._run(scope, receive, send))
        self._running.add(task)
        try:
            await task
        finally:
            self._running.discard(task)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _await_sigterm(self, loop: asyncio.AbstractEventLoop) -> None:
        servers_own = signal.getsignal(signal.SIGTERM)

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            if callable(servers_own):
                servers_own(number, frame)
            loop.call_soon_threadsafe(loop.call_later, self._drain_s, self._end)

        signal.signal(signal.SIGTERM, on_sigterm)

    def _end(self) -> None:
        for task in self._running:
            task.cancel()


def drained_app() -> Drained:
    """What a worker of granian serves; made inside it."""
    import ccr_asgi

    return Drained(ccr_asgi.app, load_config().timeouts.drain_s)


LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "ccr_asgi.startup.OneLineFormatter", "fmt": "%(asctime)s %(levelname)-8s %(message)s"}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("ccr_asgi", "uvicorn", "uvicorn.error", "_granian")
    },
}

if __name__ == "__main__":
    sys.exit(main())
