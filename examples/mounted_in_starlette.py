"""The whole proxy inside a Starlette app, started and stopped with it.

    uvicorn examples.mounted_in_starlette:app --port 8000
    ANTHROPIC_BASE_URL=http://localhost:8000/llm claude

The dashboard is at http://localhost:8000/llm/dashboard. The configuration is the usual file.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import ccr_asgi


async def health(request: Request) -> PlainTextResponse:
    """A page of the host's own."""
    return PlainTextResponse(f"up since {request.app.state.since}\n")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """The host's own start and end, with ours inside; if yours has nothing to do, `lifespan=ccr_asgi.lifespan`."""
    app.state.since = "this morning"
    async with ccr_asgi.lifespan(app):
        yield


app = Starlette(routes=[Route("/healthz", health), Mount("/llm", ccr_asgi.app)], lifespan=lifespan)
