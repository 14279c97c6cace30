"""Two differently configured proxies in one process, each with its own providers, prices and database.

    uvicorn examples.two_stacks:app --port 8000
    ANTHROPIC_BASE_URL=http://localhost:8000/work claude         # ~/.claude-code-router/work.json
    ANTHROPIC_BASE_URL=http://localhost:8000/private claude      # ~/.claude-code-router/private.json

Each file should name a `usage.database` of its own. Both are watched for changes.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import ccr_asgi


async def health(request: Request) -> PlainTextResponse:
    """A page of the host's own."""
    return PlainTextResponse("ok\n")


app = Starlette(
    routes=[
        Route("/healthz", health),
        Mount("/work", ccr_asgi.create_app("~/.claude-code-router/work.json")),
        Mount("/private", ccr_asgi.create_app("~/.claude-code-router/private.json")),
    ],
    lifespan=ccr_asgi.lifespan,  # of both
)
