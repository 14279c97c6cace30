"""Anthropic's wire format outside, the provider's inside."""

import asyncio
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi.asgi import Headers, raw_path, send_json, with_body_length, with_headers
from ccr_asgi.config import Kind, Provider
from ccr_asgi.errors import CcrError, RequestError, UpstreamError, to_sse_event
from ccr_asgi.exchange import (
    COUNT_TOKENS_PATH,
    Exchange,
    is_messages_request,
    json_object,
    route_headers,
    with_exchange,
)
from ccr_asgi.formats import FORMATS, anthropic
from ccr_asgi.formats.base import Conversion, ConversionContext, StreamMachine, UpstreamRequest
from ccr_asgi.large_bodies import beside_the_loop
from ccr_asgi.routing import Route
from ccr_asgi.wire.decompress import Decoder, decoder, undone
from ccr_asgi.wire.json_codec import dumps

HOLD_S = 60.0
"""Seconds that the 200 of a stream waits for a first real event, so that an early failure can still be a status."""
PING_S = 10.0
"""Seconds without a byte for the client after which it gets a `ping`."""
EARLY_S = 0.5
"""How early a timer may come, since a loop's clock stands still while it works; a ping left out would be 10 s late."""

REFUSAL_BYTES = 64 * 1024
"""How much of a refusal is read, once it is unfolded."""

PING = b'event: ping\ndata: {"type": "ping"}\n\n'

_USER_AGENT = b"ccr-asgi"


class FormatConversionMiddleware:
    """Converts Messages requests to the wire format of their provider, and the answers back.

    Args:
        app: The layers below.
        kind: The wire format, a key of `ccr_asgi.formats.FORMATS`, or "anthropic", which changes nothing but the model
            name and the tag of a request that was routed by them. A value, or a callable on the exchange.

    A stream's 200 is held until the first real event. A failure before it is raised; afterwards the stream ends in
    `event: error`. count_tokens for a converted model is a local estimate.
    """

    def __init__(self, app: ASGIApp, *, kind: Kind | Callable[[Exchange], Kind]) -> None:
        self.app = app
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or not is_messages_request(scope):
            await self.app(scope, receive, send)
            return
        await with_exchange(self._convert, scope, receive, send)

    async def _convert(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        kind = self._kind(exchange) if callable(self._kind) else self._kind
        if kind == "anthropic":
            await self._pass(scope, receive, send, exchange)
            return
        if kind not in FORMATS:
            raise RequestError(
                f"This version cannot convert to {kind!r}; it can convert to {', '.join(map(repr, FORMATS))}."
            )
        body = await exchange.body(receive)
        if raw_path(scope) == COUNT_TOKENS_PATH:
            tokens = await beside_the_loop(len(body), partial(count_tokens, kind, body, exchange))
            await send_json(send, {"input_tokens": tokens}, request_id=exchange.request_id)
            return
        conversion = await beside_the_loop(len(body), partial(begin, kind, body, exchange))
        await self._exchange_messages(conversion, scope, send, exchange)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        route = exchange.route
        # By its default route too, a third party gets nothing that concerns the client's Anthropic account.
        if route is not None and (route.model is not None or not route.provider.passthrough):
            scope, receive = await _rewritten(route, scope, receive, exchange)
        await self.app(scope, receive, send)

    async def _exchange_messages(self, conversion: Conversion, scope: Scope, send: Send, exchange: Exchange) -> None:
        request = conversion.request
        exchange.conversion = conversion
        exchange.usage_extra = conversion.extra
        while True:
            answer = _Answer(send, conversion, exchange)
            headers = [*_upstream_headers(request, streamed=bool(exchange.streamed)), *exchange.trace_headers]
            try:
                await self.app(with_headers(scope, headers), exchange.replay(request.take_body()), answer.send)
                if not exchange.answered:
                    answer.keep_usage()  # the client left
                return
            except CcrError as error:
                failure = _provider_failure(error, conversion)
                if answer.started:
                    await answer.fail(failure)
                    return
                changed = conversion.retry(failure)
                if changed is None:
                    raise failure from error
                request = changed
                exchange.resends += 1


class _Answer:
    """One upstream answer on its way through the conversion; holds the response's start back (R6)."""

    def __init__(self, send: Send, conversion: Conversion, exchange: Exchange) -> None:
        self._send = send
        self._conversion = conversion
        self._exchange = exchange
        self._decoder: Decoder | None = None
        self._machine: StreamMachine | None = None
        self._begun_s = self._sent_s = time.monotonic()
        self.started = False

    async def send(self, message: Message) -> None:
        """Take one message of the layers below; raises what the machine makes of a bad answer."""
        if message["type"] == "http.response.start":
            headers = {name.lower(): str(value, "latin-1") for name, value in message["headers"]}
            self._machine = self._conversion.stream(headers.get(b"content-type", ""), message["headers"])
            self._decoder = decoder(headers.get(b"content-encoding", ""))
        elif self._machine is None:
            await self._ping()
        elif not self._exchange.answered:
            await self._convert(self._machine, message.get("body", b""), more=message.get("more_body", False))

    async def _convert(self, machine: StreamMachine, chunk: bytes, *, more: bool) -> None:
        """Convert a chunk piece by piece, since a small one may unfold into gigabytes: its reader sets the pace."""
        assert self._decoder is not None
        said = False
        for place, piece in enumerate(self._decoder.feed(chunk) if chunk else ()):
            if place:
                await asyncio.sleep(0)  # a `send` that need not wait lets nobody else run
            said = await self._say(machine, machine.feed(piece)) or said
            if self._exchange.answered:
                return
        if not more:
            self._decoder.close()
            said = await self._say(machine, machine.close()) or said
        if not said:
            await self._ping()

    async def _say(self, machine: StreamMachine, out: bytes) -> bool:
        if machine.finished:
            out += machine.close()
        if out or machine.finished:
            self._exchange.error = machine.failure
            if machine.failure is not None:
                self.keep_usage()
            await self._emit(out, last=machine.finished)
        return bool(out)

    async def fail(self, error: CcrError) -> None:
        """End a stream that has begun with `event: error`."""
        if self._exchange.answered:
            return
        self._exchange.error = error
        self.keep_usage()
        try:
            if self._machine is None:
                raise error
            out = self._machine.fail(error)
        except CcrError as unsaid:  # nothing but pings has come out so far: there is no block to close
            out = to_sse_event(unsaid, self._exchange.request_id)
        await self._emit(out, last=True)

    def keep_usage(self) -> None:
        """Note what has come of an answer whose end, with its usage, the client will not see."""
        if self._machine is not None:
            self._exchange.usage_extra.unsent = self._machine.usage_so_far()

    async def _ping(self) -> None:
        """Keep the client waiting for a silent provider; a held-back 200 goes out at last when that takes long."""
        now_s = time.monotonic() + EARLY_S
        if not self._exchange.streamed or now_s - self._sent_s < PING_S:
            return
        if self.started or now_s - self._begun_s >= HOLD_S:
            await self._emit(PING if self._machine is None else self._machine.idle())

    async def _emit(self, out: bytes, *, last: bool = False) -> None:
        self._sent_s = time.monotonic()
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers(out)})
        if last:
            self._exchange.answered = True
        await self._send({"type": "http.response.body", "body": out, "more_body": not last})

    def _headers(self, first: bytes) -> Headers:
        headers = [(b"request-id", self._exchange.request_id.encode("ascii")), *route_headers(self._exchange)]
        if self._exchange.streamed:
            headers += [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        else:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(first))]
        return headers


def count_tokens(kind: Kind, body: bytes, exchange: Exchange) -> int:
    """Estimate the input tokens of a request for the provider that it goes to."""
    asked = json_object(body)
    return FORMATS[kind].count_tokens(asked, exchange.route or _route_of(kind, asked))


async def _rewritten(route: Route, scope: Scope, receive: Receive, exchange: Exchange) -> tuple[Scope, Receive]:
    body = await exchange.body(receive)
    body = await beside_the_loop(len(body), partial(_rewritten_body, body, route))
    return with_headers(scope, with_body_length(scope["headers"], body)), exchange.replay(body)


def _rewritten_body(body: bytes, route: Route) -> bytes:
    return dumps(anthropic.rewrite(json_object(body), route, own_key=not route.provider.passthrough))


def begin(kind: Kind, body: bytes, exchange: Exchange) -> Conversion:
    """Start the conversion of one request, of which nothing parsed is kept: a stream may be open for a long time."""
    read = partial(json_object, body)
    asked = read()
    exchange.streamed = asked.get("stream") is True
    context = ConversionContext("msg_ccr_" + secrets.token_hex(12), exchange.session_id, read_again=read)
    return FORMATS[kind].begin(asked, exchange.route or _route_of(kind, asked), context)


def _route_of(kind: Kind, body: dict[str, Any]) -> Route:
    """The route when no RoutingMiddleware stands above: the client's own model at a provider without quirks."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError("`model` is missing: it must be a non-empty string.")
    return Route(Provider(name=kind, kind=kind, base_url=""), model, "default")


def _upstream_headers(request: UpstreamRequest, *, streamed: bool) -> Headers:
    """All that a provider gets to see: nothing of the client's. The conversion's own headers win."""
    usual = {
        b"content-type": b"application/json",
        b"accept": b"text/event-stream" if streamed else b"application/json",
        b"accept-encoding": b"identity",
        b"user-agent": _USER_AGENT,
    }
    own = {name for name, _ in request.headers}
    return [
        *((name, value) for name, value in usual.items() if name not in own),
        *request.headers,
        (b"content-length", b"%d" % len(request.body)),
    ]


def _provider_failure(error: CcrError, conversion: Conversion) -> CcrError:
    """What the client is shown: a refusal in the conversion's words, anything else as it was raised."""
    if isinstance(error, UpstreamError) and error.upstream_status is not None:
        return conversion.error(error.upstream_status, error.headers, _told(error))
    return error


def _told(refusal: UpstreamError) -> bytes:
    """The body of a refusal, readable; empty if it is not what its content-encoding says."""
    encoding = next((value for name, value in refusal.headers if name.lower() == b"content-encoding"), b"")
    try:
        return undone(refusal.body, str(encoding, "latin-1"), max_bytes=REFUSAL_BYTES)
    except UpstreamError:
        return b""
