"""The state of one request that the layers share, in `scope["ccr_asgi.exchange"]`.

The outermost of our middlewares makes it, every other reads and writes its own fields. Who does what stands with each
field; whatever is not named there is private to its layer.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from ccr_asgi.asgi import ClientDisconnected, ErrorResponder, Headers, raw_path, read_body, replay
from ccr_asgi.errors import CcrError, RawHeaders, RequestError
from ccr_asgi.formats.base import Conversion, UsageExtra
from ccr_asgi.formats.fields import describe
from ccr_asgi.routing import Route, Tag
from ccr_asgi.usage.record import Attempt, UsageRecord
from ccr_asgi.wire.json_codec import loads

SCOPE_KEY = "ccr_asgi.exchange"
PROXY_KEY = "ccr_asgi.proxy_key"
"""In the scope: the name of the proxy key that the client gave. Written by Guard."""

MESSAGES_PATH = b"/v1/messages"
COUNT_TOKENS_PATH = b"/v1/messages/count_tokens"


def new_request_id() -> str:
    """An id for `request-id`, unlike Anthropic's own so that a reader can tell who answered."""
    return "req_ccr_" + secrets.token_hex(12)


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer, from the first byte to the row.

    Attributes:
        request_id: Made here; in our own answers' `request-id`, and the row's id.
        started_at: When the request came; UTC.
        started_s: The same on `time.perf_counter`, for durations.
        requested_model: `model` of the body. Written by TagExtraction; read by Routing and UsageCapture.
        proxy_key: The name of the proxy key that the client gave. Written by Guard, through the scope; read by
            Routing and UsageCapture.
        streamed: `stream` of the body; None if nobody has read it. Written by TagExtraction; read by UsageCapture.
        tag: The tag that routes. Written by TagExtraction; read by Routing.
        session_id: Claude Code's session, by header or metadata. Written by TagExtraction; read by FormatConversion
            and UsageCapture.
        project: The name of the folder that the client works in. Written by TagExtraction; read by UsageCapture.
        route: The link of the chain that is being tried. Written by Routing; read by all below it and UsageCapture.
        attempts: Links tried so far. Written by Routing; read by FormatConversion and UsageCapture.
        attempt_log: The links tried, where there is a chain of them. Written by Routing; read by UsageCapture.
        fallback_left: Another link stands ready, so that this one is not asked twice. Written by Routing; read by
            UpstreamApp.
        resends: Times a request was sent again within a link. Written by UpstreamApp, AuthInjection and
            FormatConversion.
        conversion: The conversion of this leg; None makes it a passthrough leg, whose target, headers and answers go
            through as they are. Written by FormatConversion; read by AuthInjection and UpstreamApp.
        upstream_headers: The header fields of the upstream's latest answer, refusals included. Written by UpstreamApp;
            read by UsageCapture, for the quota they tell.
        upstream_headers_at: When they came; UTC.
        former_headers: The same of the links before this one, with the provider's name first. Written by Routing; read
            by UsageCapture.
        credentials_sent: The header fields that the provider was given in the client's place. Written by AuthInjection;
            read by UsageCapture, so that no echo of them gets into a row.
        trace_headers: The context of this request's span, for whom it is sent to. Written by Tracing; sent on by
            FormatConversion and AuthInjection, which let nothing of the client's own through.
        usage: The row of this request, once it is over. Written by UsageCapture; read by Tracing.
        usage_extra: What the Anthropic wire cannot carry. Written by FormatConversion; read by UsageCapture.
        error: The error that the client was shown. Written by ErrorMiddleware; read by UsageCapture.
        answered: The last byte of the answer has been handed to the server, though the upstream may still be open.
            Written by FormatConversion and AuthInjection; read by UpstreamApp.
        disconnected: Set when the client has left. Written by `watch` and UsageCapture; legs wait on it.
    """

    request_id: str = field(default_factory=new_request_id)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.perf_counter)
    proxy_key: str | None = None
    requested_model: str | None = None
    streamed: bool | None = None
    tag: Tag | None = None
    session_id: str | None = None
    project: str | None = None
    route: Route | None = None
    attempts: int = 0
    attempt_log: list[Attempt] = field(default_factory=list)
    fallback_left: bool = False
    resends: int = 0
    conversion: Conversion | None = None
    upstream_headers: RawHeaders = ()
    upstream_headers_at: datetime | None = None
    former_headers: list[tuple[str, RawHeaders, datetime]] = field(default_factory=list)
    credentials_sent: Headers = field(default_factory=list)
    trace_headers: Headers = field(default_factory=list)
    usage: UsageRecord | None = None
    usage_extra: UsageExtra = field(default_factory=UsageExtra)
    error: CcrError | None = None
    answered: bool = False
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    _watcher: asyncio.Task[None] | None = None

    def begin_link(self, route: Route, *, fallback_left: bool) -> None:
        """Take up the next link of a chain: of the former one's answer only its header fields are kept.

        Called by Routing.
        """
        if self.route is not None and self.upstream_headers_at is not None:
            self.former_headers.append((self.route.provider.name, self.upstream_headers, self.upstream_headers_at))
        self.route, self.fallback_left = route, fallback_left
        self.attempts += 1
        self.conversion = None
        self.usage_extra = UsageExtra()
        self.upstream_headers, self.upstream_headers_at = (), None
        self.error = None
        self.answered = False

    async def body(self, receive: Receive) -> bytes:
        """Read a whole body; from then on the client's leaving is watched.

        It is not kept: whoever may have to send it again holds it, and hands it on with `replay`.

        Raises:
            ClientDisconnected: The client left before its end.
        """
        body = await read_body(receive)
        self.watch(receive)
        return body

    def replay(self, body: bytes) -> Receive:
        """A fresh `receive` for one leg: `body` whole, then a wait for the client's leaving."""
        return replay(body, self._wait_for_disconnect)

    def watch(self, receive: Receive) -> None:
        """Watch `receive`, whose body is spent, for the client's leaving; only the first call counts.

        There is one such task for each request since no server promises that `receive` may be awaited twice at once.
        """
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(receive))

    def end(self) -> None:
        """Stop watching: the exchange is over. Called by whoever made it."""
        if self._watcher is not None:
            self._watcher.cancel()

    def left(self) -> None:
        """The server has told of a disconnect, as it also does after a complete answer."""
        if not self.answered:
            self.disconnected.set()

    async def _watch(self, receive: Receive) -> None:
        with suppress(Exception):  # a server's failing `receive` tells nothing; the answer goes on
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left()

    async def _wait_for_disconnect(self) -> dict[str, str]:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}


def is_messages_request(scope: Scope) -> bool:
    """Whether the request's body is a Messages body (also that of count_tokens); no other is read or converted."""
    return scope["method"] == "POST" and raw_path(scope) in (MESSAGES_PATH, COUNT_TOKENS_PATH)


def json_object(body: bytes) -> dict[str, Any]:
    """A Messages request's body, parsed.

    Raises:
        RequestError: It is not a JSON object.
    """
    try:
        value = loads(body)
    except ValueError as error:
        raise RequestError(f"The request body is not JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise RequestError(f"The request body is {describe(value)}; it must be a JSON object.")
    return value


def get_exchange(scope: Scope) -> Exchange:
    """The exchange of a request that one of our middlewares has already seen.

    Raises:
        LookupError: None has: put one of them (UsageCaptureMiddleware, say) around this app.
    """
    exchange = scope.get(SCOPE_KEY)
    if not isinstance(exchange, Exchange):
        raise LookupError("no ccr_asgi middleware has seen this request")
    return exchange


def ensure_exchange(scope: Scope) -> tuple[Scope, Exchange, bool]:
    """The request's exchange, made if need be: the scope that holds it, itself, and whether it was made here."""
    exchange = scope.get(SCOPE_KEY)
    if isinstance(exchange, Exchange):
        return scope, exchange, False
    exchange = Exchange(proxy_key=scope.get(PROXY_KEY))
    return {**scope, SCOPE_KEY: exchange}, exchange, True


def route_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """The header fields that tell who answered; none for an answer that passed through from the first link."""
    route = exchange.route
    if route is None or (exchange.conversion is None and exchange.attempts < 2):
        return []
    model = quote(route.model or exchange.requested_model or "", safe=" !#$&'()*+,/:;=?@[]~")  # a client's own words
    return [
        (b"x-ccr-provider", quote(route.provider.name, safe=" ").encode("ascii")),
        (b"x-ccr-model", model.encode("ascii")),
        (b"x-ccr-attempts", b"%d" % exchange.attempts),
    ]


Layer = Callable[[Scope, Receive, Send, Exchange], Awaitable[None]]


async def with_exchange(layer: Layer, scope: Scope, receive: Receive, send: Send) -> None:
    """Run one layer with the request's exchange.

    The layer that had to make the exchange is the outermost of ours, so it also renders the errors of ours that are
    raised below it: each middleware works alone.
    """
    scope, exchange, made = ensure_exchange(scope)
    if not made:
        await layer(scope, receive, send, exchange)
        return
    try:
        await render_errors(layer, scope, receive, send, exchange)
    finally:
        exchange.end()


async def render_errors(layer: Layer, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
    """Run `layer` and tell the client of a `CcrError` that it raises, in Anthropic's form.

    Any other exception goes on to whoever is outside, as in every ASGI application: it may be a host's own.
    """
    responder = ErrorResponder(send, exchange.request_id)
    try:
        await layer(scope, receive, responder.send, exchange)
    except ClientDisconnected:
        exchange.disconnected.set()
    except CcrError as error:
        exchange.error = error
        if not exchange.disconnected.is_set():
            await responder.render(error, route_headers(exchange))
