"""The product, and beside it `/tasks`, which tells how many asyncio tasks its process has."""

import asyncio
import gc

from starlette.types import Receive, Scope, Send

import ccr_asgi
from ccr_asgi.asgi import send_json


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve `/tasks` here, and all else by the product."""
    if scope["type"] == "http" and scope["path"] == "/tasks":
        gc.collect()
        await send_json(send, len(asyncio.all_tasks()))
        return
    await ccr_asgi.app(scope, receive, send)
