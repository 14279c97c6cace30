"""The whole of it: the middlewares in their order, our own pages beside them, and what starts and stops with them."""

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.config import Config, config_path, load_config, parse_config
from ccr_asgi.config_file import ENV_PREFIX
from ccr_asgi.draining import Drain
from ccr_asgi.errors import ConfigError
from ccr_asgi.exchange import Exchange
from ccr_asgi.middleware.auth_injection import AuthInjectionMiddleware
from ccr_asgi.middleware.errors import ErrorMiddleware
from ccr_asgi.middleware.format_conversion import FormatConversionMiddleware
from ccr_asgi.middleware.guard import GuardMiddleware
from ccr_asgi.middleware.routing import RoutingMiddleware
from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware
from ccr_asgi.middleware.usage_capture import UsageCaptureMiddleware
from ccr_asgi.model_list import ModelList
from ccr_asgi.pages import Pages
from ccr_asgi.routing import Route, RoutingTable
from ccr_asgi.runtime import Runtime
from ccr_asgi.startup import describe, log_to_stderr_if_nobody_listens
from ccr_asgi.upstream import UpstreamApp

logger = logging.getLogger(__name__)

RELOAD_CHECK_S = 1.0
"""How often, at most, a request looks whether the configuration file has changed."""
NEED_A_RESTART: Mapping[str, Callable[[Config], object]] = {
    "host": lambda config: config.host,
    "port": lambda config: config.port,
    "usage.database": lambda config: config.usage.database,
    "usage.logFile": lambda config: config.usage.log_file,
    "metrics": lambda config: config.metrics,
    "tracing": lambda config: config.tracing,
    "usage.retentionDays": lambda config: config.usage.retention_days,
}
"""What a changed configuration file cannot change in a running process."""


def build_stack(config: Config, runtime: Runtime) -> ASGIApp:
    """The path of a request, read from the bottom up: what is named last sees it first."""
    app: ASGIApp = UpstreamApp(base_url=lambda x: _route(x).provider.base_url, transport=runtime.transport(config))
    app = AuthInjectionMiddleware(app, credentials=lambda x: runtime.credentials(_route(x).provider, config))
    app = FormatConversionMiddleware(app, kind=lambda x: _route(x).provider.kind)
    table = RoutingTable(config.providers, on_unknown=config.on_unknown, rules=config.rules)
    standings = runtime.standings if config.budgets else None
    app = RoutingMiddleware(app, table=table, cooldowns=runtime.cooldowns, standings=standings)
    app = TagExtractionMiddleware(app, project=config.usage.projects)
    app = ErrorMiddleware(app)
    app = UsageCaptureMiddleware(app, sink=runtime.record)
    app = traced(app) if config.tracing else app
    app = ModelList(app, providers=config.providers.values())
    app = Pages(app, store=runtime.store, config=config, standings=standings, metrics=runtime.metrics)
    return GuardMiddleware(
        app,
        allowed_hosts=(*config.allowed_hosts, f"[{config.host}]" if ":" in config.host else config.host),
        proxy_keys=config.proxy_keys,
        require_key=config.require_key,
        max_body_bytes=round(config.limits.body_mb * 1024 * 1024),
    )


def traced(app: ASGIApp) -> ASGIApp:
    """`app` below a TracingMiddleware, whose package is an extra.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        from ccr_asgi.middleware.tracing import TracingMiddleware
    except ImportError:
        raise ConfigError("tracing: needs OpenTelemetry: pip install 'ccr-asgi[tracing]'.") from None
    return TracingMiddleware(app)


def create_app(config: Config | Mapping[str, object] | str | Path | None = None) -> "Application":
    """An application, ready to be served or mounted.

    Args:
        config: A `Config`, the content of a configuration file, or the path of one; by default the file that
            `CCR_ASGI_CONFIG` names, else `~/.claude-code-router/config.json`. A file is watched: what changes in it
            holds for the next request.

    Raises:
        ConfigError: The configuration is not understood.
    """
    if isinstance(config, Config):
        return Application(config)
    if isinstance(config, Mapping):
        # The environment lends its secrets (`${VAR}`); what is written here is not overridden by it.
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        return Application(parse_config(dict(config), environ=environ))
    path = config_path() if config is None else Path(config).expanduser()
    return Application(load_config(config), watched=path, load=lambda: load_config(config))


class Application:
    """The ASGI application: the current stack, its resources, and the configuration file that both come from.

    Works mounted in another app without that app's lifespan: resources then start with the first request.
    """

    def __init__(
        self, config: Config, *, watched: Path | None = None, load: Callable[[], Config] = load_config
    ) -> None:
        self.config = config
        self._file = watched
        self._runtime = Runtime(config)
        self._reloader = Reloader(config, self._runtime, watched, load)
        self._drain = Drain(lambda: self._runtime.config.timeouts.drain_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection, or the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            self._runtime.usage()
            await self._drain.run(self._reloader.stack(), scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the resources, and on leaving write what is queued and close them."""
        log_to_stderr_if_nobody_listens()
        for line in describe(self.config, self._file):
            logger.info("%s", line)
        await self._runtime.start()
        try:
            yield
        finally:
            await self._runtime.stop()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._drain.await_signals()
        async with self.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


class Reloader:
    """Keeps the stack that the configuration file describes; running requests end on the one they began on."""

    def __init__(self, config: Config, runtime: Runtime, watched: Path | None, load: Callable[[], Config]) -> None:
        self._config = config
        self._runtime = runtime
        self._watched = watched
        self._load = load
        self._stack = build_stack(config, runtime)
        self._seen = _version_of(watched)
        self._next_check_s = time.monotonic() + RELOAD_CHECK_S

    def stack(self) -> ASGIApp:
        """The stack for a request that begins now."""
        if self._watched is not None and time.monotonic() >= self._next_check_s:
            self._next_check_s = time.monotonic() + RELOAD_CHECK_S
            if (version := _version_of(self._watched)) != self._seen:
                self._seen = version
                self._reload()
        return self._stack

    def _reload(self) -> None:
        try:
            config = self._load()
        except ConfigError as error:
            logger.error("The changed configuration is not used, the former one stays in force: %s", error)
            return
        for name, find in NEED_A_RESTART.items():
            if find(config) != find(self._config):
                logger.warning("The change of %s takes effect at the next start.", name)
        self._config = self._runtime.config = config
        self._stack = build_stack(config, self._runtime)
        logger.info("The configuration was read again; providers: %s.", ", ".join(config.providers))


@asynccontextmanager
async def lifespan(host: ASGIApp) -> AsyncIterator[None]:
    """For a host app that mounts ours: `Starlette(routes=[Mount("/llm", ccr_asgi.app)], lifespan=ccr_asgi.lifespan)`.

    Starts every application of ours among the host's routes, and shuts it down in order. Without it everything works
    too; rows are then written in the background and at the interpreter's exit.
    """
    ours = _applications(host)
    if not ours:
        raise ValueError("lifespan found no ccr_asgi application among the routes of this app; mount one")
    async with AsyncExitStack() as running:
        for app in ours:
            await running.enter_async_context(app.running())
        yield


def _applications(host: object) -> list[Application]:
    if isinstance(host, Application):
        return [host]
    return [app for route in getattr(host, "routes", []) for app in _applications(getattr(route, "app", None) or route)]


def _route(exchange: Exchange) -> Route:
    assert exchange.route is not None, "RoutingMiddleware stands above every layer that asks for the route"
    return exchange.route


def _version_of(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file does; None if it is not there."""
    try:
        stat = path.stat() if path is not None else None
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat is not None else None
