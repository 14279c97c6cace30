"""Host applications that mount the product, for the tests that give a server an application of their own."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import ccr_asgi


async def _own_page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("the host's own")


def __getattr__(name: str) -> Starlette:
    # Made when a server asks for it, since making it reads the configuration.
    routes = [Route("/healthz", _own_page), Mount("/llm", ccr_asgi.app)]
    if name == "plain":
        return Starlette(routes=routes)
    if name == "composed":
        return Starlette(routes=routes, lifespan=ccr_asgi.lifespan)
    raise AttributeError(name)
