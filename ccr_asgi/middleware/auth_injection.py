"""The client's secrets go out, the provider's come in."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.asgi import Headers, read_body, replay, with_headers
from ccr_asgi.credentials.base import Credentials
from ccr_asgi.errors import UpstreamError
from ccr_asgi.exchange import Exchange, with_exchange

FORWARDED = frozenset(
    {
        b"accept",
        b"accept-encoding",
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


class AuthInjectionMiddleware:
    """Replaces the client's credentials with the provider's own.

    Args:
        app: The layers below.
        credentials: Where they come from; None (or a callable that returns None) leaves the request untouched, which
            is what keeps a subscription's login working. A value, or a callable on the exchange.

    Of the client's headers only those in `FORWARDED` remain; on a converted leg the headers are the conversion's
    already and all remain. When the upstream refuses with 401 and the credentials can be refreshed, they are, once,
    and the request is sent again.
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
        kept: Headers = scope["headers"]
        if exchange.conversion is None:
            kept = [(name, value) for name, value in kept if name.lower() in FORWARDED]
        if not credentials.refreshable:
            await self.app(with_headers(scope, _joined(kept, await credentials.headers())), receive, send)
            return
        body = await read_body(receive)
        try:
            headers = _joined(kept, await credentials.headers())
            await self.app(with_headers(scope, headers), replay(body, receive), send)
        except UpstreamError as error:
            if error.upstream_status != 401:
                raise
            exchange.resends += 1
            headers = _joined(kept, await credentials.headers(force_refresh=True))
            await self.app(with_headers(scope, headers), replay(body, receive), send)


def _joined(kept: Headers, own: Headers) -> Headers:
    """Both lists; a field of `own` replaces the same field of `kept`."""
    names = {name for name, _ in own}
    return [(name, value) for name, value in kept if name.lower() not in names] + own
