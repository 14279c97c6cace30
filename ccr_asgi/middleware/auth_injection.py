"""The client's secrets go out, the provider's come in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi.asgi import ClientDisconnected, Headers, with_body_length, with_headers
from ccr_asgi.credentials.base import Credentials
from ccr_asgi.errors import UpstreamError
from ccr_asgi.exchange import Exchange, with_exchange
from ccr_asgi.wire.decompress import undone

FORWARDED = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-length",
        b"content-type",
        b"host",
        b"transfer-encoding",
        b"user-agent",
    }
)
"""The client's header fields that another party than Anthropic may see. It is a list of what passes, not of what is
held back, since nobody can list the custom headers that people put their secrets in."""

ERROR_BYTES = 1024 * 1024
"""A longer error is cut: it is held until its end, to be searched."""
MAX_RESENDS = 2
"""After a 401: with what has been renewed by others meanwhile, then with what was renewed for this request."""
SECRET_BYTES = 8
"""Shorter values are no secrets, and blanking them out would maim a message."""


class AuthInjectionMiddleware:
    """Replaces the client's credentials with the provider's own.

    Args:
        app: The layers below.
        credentials: Where they come from; None (or a callable that returns None) leaves the request untouched, which
            is what keeps a subscription's login working. A value, or a callable on the exchange.

    Of the client's headers only those in `FORWARDED` remain; on a converted leg the headers are the conversion's
    already and all remain. When the upstream refuses with 401 and the credentials are refreshable, the request is sent
    again with others, `MAX_RESENDS` times at most.
    """

    def __init__(
        self, app: ASGIApp, *, credentials: Credentials | Callable[[Exchange], Credentials | None] | None = None
    ) -> None:
        self.app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await with_exchange(self._authenticate, scope, receive, send)

    async def _authenticate(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        credentials = self._credentials(exchange) if callable(self._credentials) else self._credentials
        if credentials is None:
            await self.app(scope, receive, send)
            return
        if not credentials.refreshable:
            await self._send_on(await credentials.headers(), scope, receive, send, exchange)
            return
        request = _Resendable(await exchange.body(receive), send)
        own = await _unless_client_leaves(credentials.headers(), exchange)
        for _ in range(MAX_RESENDS):
            try:
                await self._send_on(own, scope, exchange.replay(request.body), request.send, exchange)
                return
            except UpstreamError as error:
                if error.upstream_status != 401:
                    raise
            own = await _unless_client_leaves(credentials.headers(refused=own), exchange)
            exchange.resends += 1
        await self._send_on(own, scope, exchange.replay(request.body), send, exchange)

    async def _send_on(self, own: Headers, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchange.credentials_sent = own
        kept: Headers = scope["headers"]
        if exchange.conversion is None:
            kept = [(name, value) for name, value in kept if name.lower() in FORWARDED] + exchange.trace_headers
            send = _Blanked(send, own, exchange).send
        await self.app(with_headers(scope, _joined(kept, own)), receive, send)


class _Resendable:
    """Holds a request's body until its answer begins, which is no 401 then."""

    def __init__(self, body: bytes, send: Send) -> None:
        self.body = body
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.body = b""
        await self._send(message)


class _Blanked:
    """Hands an answer on with our secrets blanked out, since an upstream may echo them.

    An answer without them stays byte for byte as it is. A converted leg needs no such thing: it writes answers anew.
    """

    def __init__(self, send: Send, own: Headers, exchange: Exchange) -> None:
        self._send = send
        self._exchange = exchange
        values = [value.removeprefix(b"Bearer ") for _, value in own]
        self._secrets = [value for value in values if len(value) >= SECRET_BYTES]
        self._start: Message | None = None
        self._body = bytearray()
        self._held = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [(name, self._blanked(value)) for name, value in message["headers"]]}
            if message["status"] >= 400:
                self._start = message
            else:
                await self._send(message)
        elif self._start is None:
            more = message.get("more_body", False)
            await self._send({**message, "body": self._blanked_part(message.get("body", b""), more=more)})
        elif not self._exchange.answered:
            self._body += message.get("body", b"")
            if not message.get("more_body", False) or len(self._body) > ERROR_BYTES:
                self._exchange.answered = True
                await self._send_error(self._start, bytes(self._body))

    async def _send_error(self, start: Message, body: bytes) -> None:
        headers: Headers = start["headers"]
        plain = _decoded(headers, body)
        blanked = self._blanked(plain)
        if cut := max(len(body), len(plain)) > ERROR_BYTES:
            blanked = blanked[: len(blanked) - self._beginning(blanked)][:ERROR_BYTES]
        if cut or blanked != plain:
            headers = with_body_length([pair for pair in headers if pair[0] != b"content-encoding"], blanked)
            body = blanked
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _blanked(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"***")
        return data

    def _blanked_part(self, part: bytes, *, more: bool) -> bytes:
        """A part of a body; what may be the beginning of a secret is held back until the rest has come."""
        part = self._held + part
        for secret in self._secrets:
            part = part.replace(secret, b"*" * len(secret))  # as long as it was, for its length has been told already
        held = self._beginning(part) if more else 0
        self._held = part[len(part) - held :]
        return part[: len(part) - held]

    def _beginning(self, part: bytes) -> int:
        """How many bytes at the end of `part` may be the beginning of a secret."""
        lengths = (
            length for secret in self._secrets for length in range(1, len(secret)) if part.endswith(secret[:length])
        )
        return max(lengths, default=0)


async def _unless_client_leaves(asking: Coroutine[Any, Any, Headers], exchange: Exchange) -> Headers:
    """What credentials give, which a refresh may delay; ClientDisconnected if nobody waits for it any more."""
    answer = asyncio.ensure_future(asking)
    leaving = asyncio.ensure_future(exchange.disconnected.wait())
    try:
        await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnected
        return answer.result()
    finally:
        leaving.cancel()
        answer.cancel()


def _decoded(headers: Headers, body: bytes) -> bytes:
    """`body` without its coding, to one byte more than `ERROR_BYTES`."""
    encoding = str(dict(headers).get(b"content-encoding", b""), "latin-1")
    try:
        return undone(body, encoding, max_bytes=ERROR_BYTES + 1)
    except UpstreamError:
        return body


def _joined(kept: Headers, own: Headers) -> Headers:
    """Both lists; a field of `own` replaces the same field of `kept`."""
    names = {name for name, _ in own}
    return [(name, value) for name, value in kept if name.lower() not in names] + own
