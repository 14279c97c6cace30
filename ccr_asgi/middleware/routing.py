"""Which provider serves the request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.exchange import Exchange, with_exchange
from ccr_asgi.routing import RoutingTable


class RoutingMiddleware:
    """Chooses the route of each request from its tag and its model name.

    Args:
        app: The layers below.
        table: Providers by name, the default one, and what to do with a name that leads nowhere.

    A route that leads nowhere raises a `RequestError` that names the choices, before any upstream is asked.
    """

    def __init__(self, app: ASGIApp, *, table: RoutingTable) -> None:
        self.app = app
        self.table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await with_exchange(self._route, scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchange.route = self.table.resolve(exchange.requested_model, exchange.tag)
        exchange.attempts += 1
        await self.app(scope, receive, send)
