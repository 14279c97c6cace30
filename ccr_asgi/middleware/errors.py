"""Every failure below it becomes an answer in Anthropic's form."""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.asgi import ClientDisconnected
from ccr_asgi.errors import CcrError
from ccr_asgi.exchange import Exchange, render_errors, with_exchange

logger = logging.getLogger(__name__)


class ErrorMiddleware:
    """Turns a raised `CcrError` into Anthropic's error JSON, or into `event: error` once a stream has begun.

    Anything else that is raised is a defect of ours: it is logged with its traceback, and the client sees a plain 500
    that tells none of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await with_exchange(self._render, scope, receive, send)

    async def _render(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        await render_errors(self._forward, scope, receive, send, exchange)

    async def _forward(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        try:
            await self.app(scope, receive, send)
        except (CcrError, ClientDisconnected):
            raise
        except Exception:
            logger.exception("Request %s failed by a defect of ours", exchange.request_id)
            told = "The proxy failed on this request; its log has the details."
            raise CcrError(told, should_retry=False) from None
