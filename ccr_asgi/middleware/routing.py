"""Which provider serves the request, and who is asked when that one cannot."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi.asgi import Headers, header, raw_path
from ccr_asgi.budgets import Asker, Standing, Verdict, afford
from ccr_asgi.errors import ERROR_TYPES, CcrError, UpstreamError
from ccr_asgi.exchange import MESSAGES_PATH, Exchange, is_messages_request, route_headers, with_exchange
from ccr_asgi.routing import Facts, Route, RoutingTable
from ccr_asgi.usage.record import Attempt

COVERED = frozenset({402, 408, 429})
"""Client-side statuses that another provider may not have; so may any from 500 on."""
COOLDOWN_S = 30.0
MAX_COOLDOWN_S = 600.0
"""How long a link that failed is passed over: as long as it asks for, within the limit, or the usual time."""
HELD_BYTES = 1024 * 1024
"""A longer refusal of a link is not kept to be shown."""


class Cooldowns:
    """The links that have failed lately, by provider and model; shared by all requests of a process."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until_s: dict[tuple[str, str | None], float] = {}

    def rest(self, route: Route, retry_after_s: float | None) -> None:
        """Pass `route` over for a while."""
        wait_s = COOLDOWN_S if retry_after_s is None else min(retry_after_s, MAX_COOLDOWN_S)
        self._until_s = {link: until_s for link, until_s in self._until_s.items() if until_s > self._now()}
        self._until_s[route.provider.name, route.model] = self._now() + wait_s

    def ready(self, links: list[Route]) -> list[Route]:
        """The links that may be asked now; all of them where none may."""
        now_s = self._now()
        ready = [link for link in links if self._until_s.get((link.provider.name, link.model), 0.0) <= now_s]
        return ready or links


class RoutingMiddleware:
    """Chooses the route of each request from its tag and its model name.

    Args:
        app: The layers below.
        table: Providers by name, the default one, and what to do with a name that leads nowhere.
        cooldowns: What is known of links that have failed; its own by default.
        standings: Tells how the budgets stand that requests are held to; None if there are none.

    A route that leads nowhere raises a `RequestError` that names the choices, before any upstream is asked. Where a
    provider has a fallback, a Messages request that it refuses or fails goes to the next link, as long as the client
    has seen nothing yet; if all fail, the client is shown what the first one said. A budget that is used up raises
    `BudgetSpent`, takes links away, or is only told, in `x-ccr-budget`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        table: RoutingTable,
        cooldowns: Cooldowns | None = None,
        standings: Callable[[], Awaitable[Sequence[Standing]]] | None = None,
    ) -> None:
        self.app = app
        self.table = table
        self._cooldowns = cooldowns or Cooldowns()
        self._standings = standings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await with_exchange(self._route, scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        route, receive = await self._resolve(scope, receive, exchange)
        links = [route, *self.table.fallbacks(route)] if is_messages_request(scope) else [route]
        if self._standings is not None and scope["method"] == "POST" and raw_path(scope) == MESSAGES_PATH:
            verdict = self._afford(links, await self._standings(), scope, exchange)
            links = verdict.links
            if verdict.used_up:
                send = _with_header(send, b"x-ccr-budget", verdict.header())
        if len(links) > 1:
            await _Walk(self.app, self._cooldowns, scope, send, exchange).along(links, receive)
            return
        (exchange.route,) = links
        exchange.attempts += 1
        await self.app(scope, receive, send)

    async def _resolve(self, scope: Scope, receive: Receive, exchange: Exchange) -> tuple[Route, Receive]:
        facts = None
        if self.table.rules and is_messages_request(scope):
            facts = Facts(header(scope, b"x-claude-code-agent-id"), await exchange.body(receive))
            receive = exchange.replay(facts.body)
        return self.table.resolve(exchange.requested_model, exchange.tag, facts), receive

    def _afford(self, links: list[Route], standings: Sequence[Standing], scope: Scope, exchange: Exchange) -> Verdict:
        asker = Asker(header(scope, b"x-claude-code-agent-id"), exchange.proxy_key)
        asked_model = links[0].model or exchange.requested_model
        return afford(
            links, standings, asker, lambda link: self.table.link(link, asked_model, "budget"), datetime.now(UTC)
        )


def _with_header(send: Send, name: bytes, value: bytes) -> Send:
    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (name, value)]}
        await send(message)

    return send_with_header


@dataclass(slots=True)
class _Failure:
    """How a link failed: an error was raised, or its own answer says so."""

    status: int
    error: CcrError | None
    answer: list[Message]

    async def show(self, send: Send) -> None:
        if self.error is not None:
            raise self.error
        for message in self.answer:
            await send(message)

    @property
    def retry_after_s(self) -> float | None:
        if self.error is not None:
            return self.error.retry_after_s
        told = dict(self.answer[0]["headers"]).get(b"retry-after", b"")
        return float(told) if told.isdigit() and len(told) < 10 else None


class _Walk:
    """One request on its way along a chain of links."""

    def __init__(self, app: ASGIApp, cooldowns: Cooldowns, scope: Scope, send: Send, exchange: Exchange) -> None:
        self._app = app
        self._cooldowns = cooldowns
        self._scope = scope
        self._send = send
        self._exchange = exchange
        self._body = b""
        self._first: _Failure | None = None

    async def along(self, links: list[Route], receive: Receive) -> None:
        self._body = await self._exchange.body(receive)
        links = self._cooldowns.ready(links)
        for place, link in enumerate(links):
            self._exchange.begin_link(link, fallback_left=place < len(links) - 1)
            failure = await self._try(alone=len(links) == 1)
            if failure is None:
                return
            if not _is_covered(failure.status) and self._first is None:
                await failure.show(self._send)
                return
            self._first = self._first or failure
        assert self._first is not None
        await self._first.show(self._send)

    async def _try(self, *, alone: bool) -> _Failure | None:
        """Ask one link; None if the client has its answer, whatever that is."""
        exchange, started_s = self._exchange, time.perf_counter()
        route = exchange.route
        assert route is not None
        answer = _Held(self._send_on, exchange, holds=not alone, all_errors=self._first is not None)
        failure: _Failure | None = None
        try:
            await self._app(self._scope, exchange.replay(self._body), answer.send)
        except CcrError as error:
            if answer.passed_on:
                self._log(started_s, answer.status, error.error_type)
                raise
            failure = _Failure(error.status, error, [])
        if failure is None and answer.held:
            failure = _Failure(answer.status or 502, None, answer.held)
        error_type = None
        if failure is not None:
            raised = failure.error
            error_type = raised.error_type if raised is not None else ERROR_TYPES.get(failure.status, "api_error")
        status = failure.status if failure is not None else answer.status
        self._log(started_s, status, error_type)
        if status is not None and _is_covered(status):
            self._cooldowns.rest(route, failure.retry_after_s if failure is not None else None)
        return failure

    async def _send_on(self, message: Message) -> None:
        self._body = b""  # the client has its answer: no link will be asked any more
        await self._send(message)

    def _log(self, started_s: float, status: int | None, error_type: str | None) -> None:
        route, now_s = self._exchange.route, time.perf_counter()
        assert route is not None
        self._exchange.attempt_log.append(
            Attempt(
                provider=route.provider.name,
                model=route.model or self._exchange.requested_model,
                status=status,
                error_type=error_type,
                started_ms=(started_s - self._exchange.started_s) * 1000,
                duration_ms=(now_s - started_s) * 1000,
            )
        )


class _Held:
    """Hands an answer on, but for a refusal that another link may make good; that one is kept.

    Only a link that passes answers through sends refusals; a converted one raises them.
    """

    def __init__(self, send: Send, exchange: Exchange, *, holds: bool, all_errors: bool) -> None:
        self._send = send
        self._exchange = exchange
        self._holds = holds
        self._all_errors = all_errors
        self._bytes = 0
        self._start: Message | None = None
        self.status: int | None = None
        self.held: list[Message] = []
        self.passed_on = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._holds and self._is_refusal(message["status"]):
                self.held.append(message)
                return
            self._start = {**message, "headers": [*message["headers"], *self._told()]}
        elif self.held:
            self._keep(message)
        else:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        """Send a part of the body, behind the head, which waits for it: until then another link may answer."""
        if self._start is not None:
            if not message.get("body") and message.get("more_body", False):
                return
            start, self._start, self.passed_on = self._start, None, True
            await self._send(start)
        await self._send(message)

    def _is_refusal(self, status: int) -> bool:
        return _is_covered(status) or (self._all_errors and status >= 400)

    def _keep(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))
        if self._bytes > HELD_BYTES:
            raise UpstreamError(f"{self._provider} refused with status {self.status}, at great length.")
        self.held.append(message)

    def _told(self) -> Headers:
        # A converted answer has these header fields already.
        return route_headers(self._exchange) if self._exchange.conversion is None else []

    @property
    def _provider(self) -> str:
        assert self._exchange.route is not None
        return self._exchange.route.provider.name


def _is_covered(status: int) -> bool:
    """Whether an answer of this status may be made good by another provider."""
    return status in COVERED or status >= 500
