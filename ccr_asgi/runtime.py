"""What an application holds beside its configuration: connections to upstreams, the usage store and its writer."""

import asyncio
import atexit
import contextvars
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import httpx

from ccr_asgi.config import Config, Network, Provider, Timeouts
from ccr_asgi.credentials.base import Credentials
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.credentials.static import StaticKey
from ccr_asgi.credentials.token_endpoint import TOKEN_URL
from ccr_asgi.credentials.with_headers import WithHeaders
from ccr_asgi.metrics import Metrics
from ccr_asgi.middleware.routing import Cooldowns
from ccr_asgi.request_log import log_request
from ccr_asgi.transport import Http11Transport
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.record import UsageRecord
from ccr_asgi.usage.writer import UsageWriter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from ccr_asgi.budgets import Standing
    from ccr_asgi.pricing import Valuation
    from ccr_asgi.usage.store import UsageStore
    from ccr_asgi.usage.valuation import Valuer

logger = logging.getLogger(__name__)

START_S = 2.0
"""How long a server's start waits for the usage database before it serves all the same."""

_LoginKey = tuple[Path, str, Timeouts, Network]
_TransportKey = tuple[Timeouts, Network]


class UsageServices:
    """The usage store and its writer in one event loop; made inside it.

    Traffic never waits for the database: rows are queued from the first request on, and a database that cannot be
    opened is said in the log and tried again with the next rows.
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        # Here, so that importing the package loads no SQLAlchemy.
        from ccr_asgi.usage.log_file import LogFile
        from ccr_asgi.usage.maintenance import Retention
        from ccr_asgi.usage.spending import Ledger
        from ccr_asgi.usage.store import UsageStore

        self._config = config
        self._valuer: tuple[Config, Valuer] | None = None
        usage = config().usage
        log_file, days = usage.log_file, usage.retention_days
        self.store = UsageStore(usage.database, value=self._value)
        self.writer = UsageWriter(self._insert)
        self.ledger = Ledger(self.opened, self._value)
        self._log_file = LogFile(log_file) if log_file else None
        self._retention = Retention(self.store, days) if days else None
        self._retaining: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        # A strong reference, and an empty context: what the first request happens to carry must not outlive it.
        self.starting = asyncio.get_running_loop().create_task(self._start(), context=contextvars.Context())

    def record(self, row: UsageRecord) -> None:
        """Queue one row, and count it for the budgets; returns at once."""
        if self._config().budgets:
            self.ledger.record(row)
        self.writer.record(row)

    async def opened(self) -> "UsageStore":
        """The store, once it is open.

        Raises:
            StoreError: It cannot be opened; each call tries again.
        """
        async with self._opening:
            await self.store.start()
        return self.store

    async def stop(self) -> None:
        """Write what is queued, and close the database."""
        await self.starting
        if self._retention is not None and self._retaining is not None:
            self._retention.stop()
            await self._retaining
        await self.writer.stop()
        await self.store.stop()
        atexit.unregister(self._flush_at_exit)
        self._flush_at_exit()

    def _value(self, record: UsageRecord) -> "Valuation":
        """What a record is worth by the configuration of now; called in a thread."""
        from ccr_asgi.usage.valuation import Valuer

        config = self._config()
        if self._valuer is None or self._valuer[0] is not config:
            self._valuer = config, Valuer(config.providers, config.usage.costs)
        return self._valuer[1].value(record)

    async def _start(self) -> None:
        atexit.register(self._flush_at_exit)
        self.writer.start()
        try:
            await self.opened()
        except StoreError as error:
            logger.error("%s Requests are served all the same; their usage waits in memory.", error)
        if self._retention is not None:
            self._retaining = asyncio.create_task(self._retention.run())

    async def _insert(self, rows: Sequence[UsageRecord]) -> None:
        try:
            store = await self.opened()
        except StoreError as error:
            raise StoreUnavailable(str(error)) from None
        await store.insert(rows)
        if self._log_file is not None:
            await self._log_file.append(rows)

    def _flush_at_exit(self) -> None:
        self.writer.flush_sync(self.store.insert_sync)


class Runtime:
    """The resources of one application, made on first use in each event loop; a configuration reload keeps them.

    Attributes:
        config: The configuration in force; a reload puts another in its place.
        cooldowns: The links of fallback chains that have failed lately.
        metrics: Counts requests for Prometheus; None where nobody asked for that.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.cooldowns = Cooldowns()
        self.metrics = Metrics(lambda name: name in self.config.providers) if config.metrics else None
        self._usage: WeakKeyDictionary[asyncio.AbstractEventLoop, UsageServices] = WeakKeyDictionary()
        self._logins: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_LoginKey, CodexLogin]] = WeakKeyDictionary()
        self._transports: dict[_TransportKey, httpx.AsyncBaseTransport] = {}
        self._spans: TracerProvider | None = None

    def transport(self, config: Config) -> httpx.AsyncBaseTransport:
        """The transport for these time limits and this way out."""
        key = (config.timeouts, config.network)
        if key not in self._transports:
            self._transports[key] = Http11Transport(
                connect_timeout_s=config.timeouts.connect_s,
                write_timeout_s=config.timeouts.write_s,
                idle_timeout_s=config.timeouts.idle_s,
                proxy=config.network.proxy,
                ca_file=config.network.ca_file,
            )
        return self._transports[key]

    def credentials(self, provider: Provider, config: Config) -> Credentials | None:
        """The provider's credentials; None where the client's own are handed on."""
        if provider.passthrough:
            return None
        if provider.auth_file is None or not provider.chatgpt_login:
            return StaticKey.of(provider)
        login = self._login(Path(provider.auth_file), provider.token_url or TOKEN_URL, config)
        return WithHeaders(login, provider.headers) if provider.headers else login

    def _login(self, auth_file: Path, token_url: str, config: Config) -> CodexLogin:
        """The running loop's source of this login: one for all requests, so that they share its refresh."""
        logins = self._logins.setdefault(asyncio.get_running_loop(), {})
        key = (auth_file, token_url, config.timeouts, config.network)
        if key not in logins:
            logins[key] = CodexLogin(auth_file, token_url=token_url, transport=self.transport(config))
        return logins[key]

    def usage(self) -> UsageServices:
        """The running loop's usage services, started in the background if they are not yet."""
        loop = asyncio.get_running_loop()
        if (services := self._usage.get(loop)) is None:
            services = self._usage[loop] = UsageServices(lambda: self.config)
        return services

    async def store(self) -> "UsageStore":
        """The usage store, open.

        Raises:
            StoreError: It cannot be opened.
        """
        return await self.usage().opened()

    def record(self, row: UsageRecord) -> None:
        """Queue one row, and tell of it in log and metrics where they are on; returns at once."""
        log_request(row)
        usage = self.usage()
        usage.record(row)
        if self.metrics is not None:
            self.metrics.count(row, usage.writer.dropped + usage.writer.failed)

    async def standings(self) -> "list[Standing]":
        """How the configuration's budgets stand now."""
        return await self.usage().ledger.standings(self.config.budgets, datetime.now(UTC))

    async def start(self) -> None:
        """Have the running loop's services started; returns when the database is open, or given up for now.

        A database that somebody else has locked is waited for no longer than `START_S`: traffic comes first.
        """
        if self.config.tracing:
            from ccr_asgi.span_export import export_spans

            self._spans = export_spans()
        _, waiting = await asyncio.wait({self.usage().starting}, timeout=START_S)
        if waiting:
            logger.warning(
                "The usage database is not open after %g s. Requests are served; their usage waits.", START_S
            )

    async def stop(self) -> None:
        """Write what is queued and close what the running loop has open."""
        loop = asyncio.get_running_loop()
        for login in self._logins.pop(loop, {}).values():
            await login.aclose()
        if services := self._usage.pop(loop, None):
            await services.stop()
        for transport in self._transports.values():
            await transport.aclose()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.shutdown)  # it sends the last ones
