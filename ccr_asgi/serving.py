"""The servers that `ccr-asgi serve` runs, with the options that the promises need."""

import asyncio
import math
import signal
from types import FrameType

from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.config import Config, load_config

TARGET = "ccr_asgi:app"
STOP_S = 9
"""Seconds that a worker has, after `timeouts.drainS`, to write its rows before it is killed."""

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


def serve_uvicorn(config: Config, workers: int, http: str) -> None:
    """Serve with uvicorn until it is told to stop; `http` is its parser, "httptools" or "h11"."""
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
        timeout_graceful_shutdown=math.ceil(config.timeouts.drain_s),
    )


def serve_granian(config: Config, workers: int) -> None:
    """Serve with granian until it is told to stop.

    Raises:
        ImportError: It is not installed.
    """
    from granian import Granian
    from granian.constants import Interfaces

    Granian(
        "ccr_asgi.serving:drained_app",
        factory=True,
        address=config.host,
        port=config.port,
        interface=Interfaces.ASGI,
        workers=workers,
        websockets=False,
        log_dictconfig=LOG_CONFIG,
        workers_kill_timeout=math.ceil(config.timeouts.drain_s) + STOP_S,
    ).serve()


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
