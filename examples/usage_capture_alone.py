"""Usage in SQLite for an app of your own that answers as Anthropic's Messages API does: one middleware of ours.

    uvicorn examples.usage_capture_alone:app --port 8000
    curl -s localhost:8000/v1/messages -d '{"model": "claude-haiku-4-5"}'
    sqlite3 usage.db 'select model, input_tokens, output_tokens, list_usd from v_requests'

No configuration file is read. Rows are written in the background, in groups, with what they cost.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from ccr_asgi import UsageCaptureMiddleware
from ccr_asgi.config import parse_config
from ccr_asgi.runtime import Runtime

usage = Runtime(parse_config({"usage": {"database": os.environ.get("USAGE_DB", "usage.db")}}))


async def messages(request: Request) -> JSONResponse:
    """Your app: a stream is as well as a whole message."""
    asked = await request.json()
    text = {"type": "text", "text": "Nothing is free but this answer."}
    tokens = {"input_tokens": 1_000, "output_tokens": 20}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [text]}
    return JSONResponse({**message, "stop_reason": "end_turn", "stop_sequence": None, "usage": tokens})


async def health(request: Request) -> PlainTextResponse:
    """Another page, which is none of the middleware's business."""
    return PlainTextResponse("ok\n")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the database, and on leaving write what is queued."""
    await usage.start()
    yield
    await usage.stop()


app = Starlette(
    routes=[Route("/v1/messages", messages, methods=["POST"]), Route("/healthz", health)],
    middleware=[Middleware(UsageCaptureMiddleware, sink=usage.record, provider="anthropic")],
    lifespan=lifespan,
)
