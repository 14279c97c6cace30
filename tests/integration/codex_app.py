"""An application with one Codex login, for servers of their own: it tells at `/waiting` how many wait for the login."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from ccr_asgi import AuthInjectionMiddleware, FormatConversionMiddleware, UpstreamApp
from ccr_asgi.asgi import Headers
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.transport import Http11Transport


class CountedLogin(CodexLogin):
    """Knows how many are asking it."""

    waiting = 0

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        self.waiting += 1
        try:
            return await super().headers(refused=refused)
        finally:
            self.waiting -= 1


def made_of_environment() -> Starlette:
    """The application; its three settings are CODEX_FILE, CODEX_TOKEN_URL and CODEX_UPSTREAM."""
    transport = Http11Transport()
    login = CountedLogin(Path(os.environ["CODEX_FILE"]), token_url=os.environ["CODEX_TOKEN_URL"], transport=transport)
    stack = FormatConversionMiddleware(
        AuthInjectionMiddleware(
            UpstreamApp(base_url=os.environ["CODEX_UPSTREAM"], transport=transport), credentials=login
        ),
        kind="openai-chat",
    )

    async def healthz(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    async def waiting(request: Request) -> JSONResponse:
        return JSONResponse(login.waiting)

    return Starlette(routes=[Route("/healthz", healthz), Route("/waiting", waiting), Mount("/", app=stack)])
