"""The minimal forwarder at the bottom of the stack: scope -> httpx transport -> ASGI."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
from starlette.types import Message, Receive, Scope, Send

from ccr_asgi.asgi import ClientDisconnected, Headers, end_to_end, raw_target
from ccr_asgi.errors import UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from ccr_asgi.exchange import Exchange, with_exchange
from ccr_asgi.transport import Http11Transport

logger = logging.getLogger(__name__)

MAX_SENDS = 3
"""How often one request is sent within a link, counting the first (only after failures to connect or stale reuse)."""
ERROR_BODY_BYTES = 64 * 1024
"""How much of an error answer is read on a converted leg."""
DRAIN_S = 1.0
"""How long an upstream may take to end an answer that is complete already, so that its connection can be kept."""
NEVER_FORWARDED = frozenset({b"host", b"expect", b"x-ccr-key", b"x-ccr-project"})
"""Fields that speak to us or to the server we run under."""

_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)

IDLE: Message = {"type": "http.response.body", "body": b"", "more_body": True}
"""What a converted leg is handed when its upstream is silent, even before the answer has begun."""


class UpstreamApp:
    """Sends the request to its upstream and the answer back, byte for byte and as it comes.

    Args:
        base_url: Where to: for a passthrough leg an origin with an optional path prefix, which the request's own
            target is appended to; for a converted leg (`exchange.conversion` is set) the full endpoint URL. A value,
            or a callable on the exchange.
        transport: What carries it; a transport of its own by default. A value, or a callable (asked on each request).
            Reading the answer is cancelled and taken up again at each silence of a converted leg, which a response
            stream must bear as `Http11Transport`'s does.
        silence_s: Seconds of silence after which a converted leg is handed an empty chunk (see `IDLE`).

    Before the first byte has been sent to the client a failure is raised: `UpstreamUnreachable`, `UpstreamTimeout`,
    and on converted legs `UpstreamError` for any status but 2xx. A passthrough leg sends the upstream's own answer,
    whatever it is. Afterwards `UpstreamCut` or `UpstreamTimeout` is raised. When the client leaves, the upstream
    request is ended at once and nothing is raised.
    """

    def __init__(
        self,
        *,
        base_url: str | Callable[[Exchange], str],
        transport: httpx.AsyncBaseTransport | Callable[[], httpx.AsyncBaseTransport] | None = None,
        silence_s: float = 10.0,
    ) -> None:
        self._base_url = base_url
        self._transport = transport if transport is not None else Http11Transport()
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise RuntimeError(f"UpstreamApp forwards HTTP requests, not {scope['type']!r}")
        await with_exchange(self._forward, scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        base_url = self._base_url if isinstance(self._base_url, str) else self._base_url(exchange)
        transport = self._transport() if callable(self._transport) else self._transport
        leg = _Leg(scope, send, exchange, base_url, transport, self._silence_s)
        await _until_disconnect(leg.run(receive), exchange)


class _Leg:
    """One request to one upstream."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        exchange: Exchange,
        base_url: str,
        transport: httpx.AsyncBaseTransport,
        silence_s: float,
    ) -> None:
        self._send = send
        self._exchange = exchange
        self._transport = transport
        self._converted = exchange.conversion is not None
        self._silence_s = silence_s if self._converted else None
        parts = urlsplit(base_url)
        self._host = parts.hostname or base_url
        self._method: str = scope["method"]
        self._url = httpx.URL(scheme=parts.scheme, host=parts.hostname, port=parts.port, path="/")
        self._target = _target(parts.path, parts.query, None if self._converted else raw_target(scope))
        headers = end_to_end(scope["headers"])
        self._headers = [(name, value) for name, value in headers if name.lower() not in NEVER_FORWARDED]

    async def run(self, receive: Receive) -> None:
        body = await _RequestBody.begin(receive, self._exchange)
        try:
            await self._forward(body)
        finally:
            body.close()

    async def _forward(self, body: "_RequestBody") -> None:
        response = await self._answer(body)
        body.let_go()
        self._exchange.upstream_headers = response.headers.raw
        self._exchange.upstream_headers_at = datetime.now(UTC)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            if self._converted and not 200 <= response.status_code < 300:
                raise await self._refusal(response)
            await self._send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": self._answer_headers(response),
                }
            )
            await self._send_body(self._chunks(stream))
        finally:
            await stream.aclose()

    def _answer_headers(self, response: httpx.Response) -> Headers:
        # ASGI wants the names in lower case, however the upstream writes them.
        headers = [(name.lower(), value) for name, value in end_to_end(response.headers.raw)]
        if response.status_code in (204, 304) and self._method != "HEAD":
            # It tells the length of what is not sent (and has no place in a 204); servers take it for what is.
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        return headers

    async def _send_body(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self._exchange.answered:
                with suppress(TimeoutError, UpstreamError):
                    async with asyncio.timeout(DRAIN_S):
                        async for _ in chunks:
                            pass
                return
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, body: "_RequestBody") -> httpx.Response:
        for sends in range(1, MAX_SENDS + 1):
            request = httpx.Request(
                self._method,
                self._url,
                headers=self._headers,
                stream=body.stream(),
                extensions={"target": self._target},
            )
            try:
                return await self._head(request)
            except httpx.TransportError as error:
                last = sends == MAX_SENDS or (self._exchange.fallback_left and isinstance(error, _NOT_CONNECTED))
                if last or not body.replayable or not _unanswered(error):
                    raise self._failure(error, began=False) from error
                self._exchange.resends += 1
        raise AssertionError("unreachable")

    async def _head(self, request: httpx.Request) -> httpx.Response:
        if self._silence_s is None:
            return await self._transport.handle_async_request(request)
        head = asyncio.ensure_future(self._transport.handle_async_request(request))
        try:
            while not (await asyncio.wait({head}, timeout=self._silence_s))[0]:
                await self._send(IDLE)
            return head.result()
        except BaseException:
            head.cancel()
            raise

    async def _chunks(self, stream: httpx.AsyncByteStream) -> AsyncIterator[bytes]:
        """The answer's bytes as they come, with b"" for each spell of silence on a converted leg."""
        chunks = aiter(stream)
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                chunk = b""
            except httpx.TransportError as error:
                raise self._failure(error, began=True) from error
            yield chunk

    async def _refusal(self, response: httpx.Response) -> UpstreamError:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = bytearray()
        with suppress(httpx.TransportError):  # what has come of the refusal's text is enough
            async for chunk in response.stream:
                body += chunk
                if len(body) >= ERROR_BODY_BYTES:
                    break
        return UpstreamError(
            f"{self._host} answered with status {response.status_code}.",
            upstream_status=response.status_code,
            headers=response.headers.raw,
            body=bytes(body[:ERROR_BODY_BYTES]),
        )

    def _failure(self, error: httpx.TransportError, *, began: bool) -> UpstreamError:
        logger.warning("Request %s to %s failed: %r", self._exchange.request_id, self._host, error)
        if isinstance(error, httpx.ConnectTimeout):
            return UpstreamTimeout(f"Could not connect to {self._host} in time.")
        if isinstance(error, httpx.TimeoutException):
            return UpstreamTimeout(f"{self._host} was silent for too long.")
        if isinstance(error, httpx.ConnectError):
            return UpstreamUnreachable(f"Could not connect to {self._host}.")
        if began:
            return UpstreamCut(f"{self._host} closed the connection in the middle of its answer.")
        return UpstreamUnreachable(f"{self._host} closed the connection without an answer that can be understood.")


class _RequestBody(httpx.AsyncByteStream):
    """The request's body: whole if the first message holds it all, else streamed as the client sends it.

    A streamed one is read ahead of an upstream that takes it slowly, or else nobody would see the client leave in the
    middle of it. The guard bounds how much that can be.
    """

    def __init__(self, first: bytes, more: bool, receive: Receive, exchange: Exchange) -> None:
        self._first = first
        self._receive = receive
        self._exchange = exchange
        self._arrived: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read_ahead()) if more else None
        self.replayable = not more

    @classmethod
    async def begin(cls, receive: Receive, exchange: Exchange) -> "_RequestBody":
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body = cls(message.get("body", b""), message.get("more_body", False), receive, exchange)
        if body.replayable:
            exchange.watch(receive)
        return body

    def stream(self) -> httpx.AsyncByteStream:
        return httpx.ByteStream(self._first) if self.replayable else self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunk: bytes | Exception | None = self._first
        while chunk is not None:
            if isinstance(chunk, Exception):
                raise chunk
            if chunk:
                yield chunk
            chunk = await self._arrived.get()

    def let_go(self) -> None:
        """Forget a whole body, which is not sent again once there is an answer."""
        if self.replayable:
            self._first = b""

    def close(self) -> None:
        """Stop reading: the leg is over."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read_ahead(self) -> None:
        more = True
        try:
            while more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._exchange.disconnected.set()
                    raise ClientDisconnected
                more = message.get("more_body", False)
                self._arrived.put_nowait(message.get("body", b""))
        except Exception as error:  # the guard's refusal, say; it belongs to whoever reads the body
            self._arrived.put_nowait(error)
        else:
            self._arrived.put_nowait(None)
            self._exchange.watch(self._receive)


def _target(path: str, query: str, request_target: bytes | None) -> bytes:
    """The request target: the endpoint's own, or the client's below the endpoint's path prefix."""
    if request_target is not None:
        return path.rstrip("/").encode("ascii") + request_target
    return (path or "/").encode("ascii") + (b"?" + query.encode("ascii") if query else b"")


def _unanswered(error: httpx.TransportError) -> bool:
    """Whether the request may be sent again: no connection came about, or it closed before a byte of an answer."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ReadError | httpx.WriteError)


async def _until_disconnect(leg: Coroutine[object, object, None], exchange: Exchange) -> None:
    """Run `leg`, and end it as soon as the client leaves."""
    running = asyncio.ensure_future(leg)
    leaving = asyncio.ensure_future(exchange.disconnected.wait())
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    if running.done() and not running.cancelled():
        running.result()
