"""Our own pages beside the stack: health, dashboard, usage as JSON, metrics; everything else of ours is a 404."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi import __version__
from ccr_asgi.asgi import has_dot_segment, raw_path
from ccr_asgi.budgets import Standing
from ccr_asgi.config import Config
from ccr_asgi.errors import CcrError, MethodNotAllowed, NotFound, to_anthropic
from ccr_asgi.exchange import new_request_id
from ccr_asgi.metrics import Metrics
from ccr_asgi.running_server import VERSION_HEADER
from ccr_asgi.usage.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from ccr_asgi.usage.store import UsageStore

FORWARDED = (b"/v1/", b"/api/")
"""Paths that belong to the providers, but for those of ours that lie under them."""
OURS = (b"/api/usage", b"/api/quota")
_HEADERS = {"x-content-type-options": "nosniff"}


class Pages:
    """Serves our own paths, and hands what lies under /v1/ and /api/ to the stack.

    Args:
        app: The stack.
        store: The usage store, open; awaited by the pages that read it.
        config: For what the pages tell of it.
        standings: How the budgets stand; None if there are none.
        metrics: What Prometheus reads at /metrics; None if there is no such page.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: "Callable[[], Awaitable[UsageStore]]",
        config: Config,
        standings: Callable[[], Awaitable[Sequence[Standing]]] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.app = app
        self._store = store
        self._config = config
        self._standings = standings
        self._metrics = metrics
        self._pages: Starlette | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or is_forwarded(raw_path(scope)):
            await self.app(scope, receive, send)
            return
        if self._pages is None:
            self._pages = self._build()
        await self._pages(scope, receive, send)

    def _build(self) -> Starlette:
        from ccr_asgi.dashboard.quota import quota_routes  # here, since they load SQLAlchemy and Jinja2
        from ccr_asgi.dashboard.routes import routes

        config = self._config

        async def ready(request: Request) -> Response:
            await (await self._store()).ping()
            return _ok()

        return Starlette(
            routes=[
                Route("/", home),
                Route("/healthz", health),
                Route("/readyz", ready),
                *routes(
                    self._store,
                    database=config.usage.database,
                    costs=config.usage.costs,
                    providers=config.providers,
                    simulated=config.simulated,
                    standings=self._standings,
                ),
                *quota_routes(self._store, self._standings),
                *_metrics_routes(self._metrics),
            ],
            exception_handlers={
                404: _not_found,
                405: _method_not_allowed,
                CcrError: _refused,
                StoreError: _not_ready,
                StoreUnavailable: _not_ready,
                Exception: _failed,
            },
        )


def is_forwarded(path: bytes) -> bool:
    """Whether a raw path is a provider's business: under /v1/ or /api/, not ours, and written without tricks."""
    if not path.startswith(FORWARDED) or any(path == page or path.startswith(page + b"/") for page in OURS):
        return False
    return not has_dot_segment(path)


async def home(request: Request) -> Response:
    """`HEAD /`, which Claude Code asks at its start; a person is led to the dashboard."""
    if request.method == "HEAD":
        return Response()
    return RedirectResponse(f"{request.scope.get('root_path', '')}/dashboard")


def _metrics_routes(metrics: Metrics | None) -> list[Route]:
    def read(request: Request) -> Response:  # not async: it reads files, of which there are some for each worker
        assert metrics is not None
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8", headers=_HEADERS)

    return [] if metrics is None else [Route("/metrics", read)]


async def health(request: Request) -> Response:
    """200 as soon as requests are served; the database is not asked. A header tells that it is us."""
    answer = _ok()
    answer.headers[VERSION_HEADER] = __version__
    return answer


def _ok() -> Response:
    return Response("ok\n", media_type="text/plain", headers=_HEADERS)


async def _not_found(request: Request, error: Exception) -> Response:
    return _rendered(NotFound(f"There is nothing at {request.scope['path']!r:.200}."))


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "GET")
    response = _rendered(MethodNotAllowed(f"{request.method} is not possible here; accepted: {allowed}."))
    response.headers["allow"] = allowed
    return response


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, CcrError)
    return _rendered(error)


async def _not_ready(request: Request, error: Exception) -> Response:
    return _rendered(CcrError(str(error), status=503))


async def _failed(request: Request, error: Exception) -> Response:
    return _rendered(CcrError("This page failed; the server's log has the details."))


def _rendered(error: CcrError) -> Response:
    answer = to_anthropic(error, new_request_id())
    response = Response(answer.body, status_code=answer.status, headers=_HEADERS)
    response.raw_headers[:0] = answer.headers
    return response
