"""The demo, running: the server, the simulated providers beside it, the past in its database, and traffic to it."""

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from ccr_asgi.application import create_app
from ccr_asgi.config import Config, parse_config
from ccr_asgi.demo.cast import KINDS, PATHS, fallbacks_of, models_of
from ccr_asgi.demo.history import history
from ccr_asgi.demo.providers import simulated_providers
from ccr_asgi.demo.story import live as story
from ccr_asgi.demo.story import seeded
from ccr_asgi.demo.traffic import traffic
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.valuation import Valuer

LOOPBACK = "127.0.0.1"
FOLDER_PREFIX = "ccr-asgi-demo-"
STOP_S = 2
"""Seconds that running requests have at the end."""


class PortTaken(Exception):
    """The port that was asked for cannot be had; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo.

    Attributes:
        url: The server's origin.
        providers_url: The simulated providers' origin.
        config: The configuration in force; nothing of it is the user's.
        past_requests: How many requests of the past were made up.
    """

    url: str
    providers_url: str
    config: Config
    past_requests: int

    @property
    def dashboard_url(self) -> str:
        """Where a browser is to go."""
        return f"{self.url}/dashboard"


@asynccontextmanager
async def running(
    port: int = 0, *, seed: int = 1, days: int = 30, pace: float = 1.0, live: bool = True
) -> AsyncIterator[Demo]:
    """Run the demo until the block is left; its folder, database included, is then removed.

    Args:
        port: Where the server listens, on the loopback interface; 0 finds a free one.
        seed: Decides what happens: the same seed, the same traffic.
        days: How far back the made-up past reaches; 0 begins with an empty database.
        pace: Stretches the times of the live traffic; 1 is lifelike.
        live: Whether there is any.

    Raises:
        PortTaken: Another program has `port`, or it may not be used.
    """
    with TemporaryDirectory(prefix=FOLDER_PREFIX) as folder, _listening(port) as listener, _listening(0) as beside:
        url, providers_url = _origin(listener), _origin(beside)
        config = configuration(Path(folder), providers_url)
        past_requests = await _past(config, days, seed)
        async with AsyncExitStack() as started:
            await started.enter_async_context(_serving(simulated_providers(pace=pace), beside))
            await started.enter_async_context(_serving(create_app(config), listener))
            if live:
                await started.enter_async_context(_background(traffic(url, story(seeded("live", seed)), pace=pace)))
            yield Demo(url, providers_url, config, past_requests)


def configuration(folder: Path, providers_url: str) -> Config:
    """The demo's configuration: every URL is `providers_url`, every file in `folder`, and no variable changes that."""
    auth_file = folder / "codex-auth.json"
    _write_login(auth_file)
    providers: dict[str, dict[str, object]] = {
        name: {
            "type": kind,
            "baseUrl": f"{providers_url}{PATHS[name]}",
            "models": list(models_of(name)),
            "fallback": fallbacks_of(name),
        }
        for name, kind in KINDS.items()
    }
    providers["anthropic"]["passthrough"] = True
    providers["cerebras"]["apiKey"] = "simulated"
    providers["codex"] |= {"authFile": str(auth_file), "tokenUrl": f"{providers_url}/codex/oauth/token"}
    config = parse_config({"providers": providers, "usage": {"database": str(folder / "usage.db")}}, environ={})
    return replace(config, simulated=True)


def _write_login(auth_file: Path) -> None:
    """A Codex login that no refresh is due for."""
    tokens = {"access_token": "simulated", "refresh_token": "simulated", "account_id": "simulated"}
    login = {"OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": datetime.now(UTC).isoformat()}
    with open(auth_file, "x", opener=_private) as file:
        json.dump(login, file)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def _past(config: Config, days: int, seed: int) -> int:
    store = UsageStore(config.usage.database, value=Valuer(config.providers, config.usage.costs).value)
    await store.start()
    try:
        return await history(store, days=days, seed=seed, now=datetime.now(UTC))
    finally:
        await store.stop()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A socket that listens on `port` of the loopback interface."""
    try:
        listener = socket.create_server((LOOPBACK, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "another program has it" if taken else os.strerror(error.errno or 0)
        raise PortTaken(f"port {port} of {LOOPBACK} cannot be used: {why}") from None
    with listener:
        yield listener


def _origin(listener: socket.socket) -> str:
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


class _Server(uvicorn.Server):
    """uvicorn in a running loop: it says when it serves, or has failed to, and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on `listener` while the block runs."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await server.ready.wait()
    try:
        yield
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have `work` done while the block runs."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
