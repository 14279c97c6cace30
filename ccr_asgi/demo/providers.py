"""The simulated providers: Anthropic, Cerebras and Codex's backend on one port, each under a path of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ccr_asgi.demo import chat_api, messages_api, responses_api
from ccr_asgi.demo.cast import PATHS, models_of
from ccr_asgi.demo.limits import limits
from ccr_asgi.demo.requests import estimated_tokens, reply_for
from ccr_asgi.demo.story import REFUSAL_MS, Reply
from ccr_asgi.errors import RawHeaders
from ccr_asgi.wire.json_codec import dumps
from ccr_asgi.wire.sse import encode

BROKEN_AT = 0.6
"""How much of an answer has come when it breaks off, as a share of 1."""
RETRY_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Api:
    """How one provider speaks.

    Attributes:
        provider: Its name.
        events: A streamed answer, in events.
        whole: An answer in one; None if it only streams.
        refusal: An error, from its status and what it says.
        encode: One event as bytes.
        end: What follows the last event.
    """

    provider: str
    events: Callable[[Reply, str], Iterable[Mapping[str, Any]]]
    whole: Callable[[Reply, str], Mapping[str, Any]] | None
    refusal: Callable[[int, str], Mapping[str, Any]]
    encode: Callable[[Mapping[str, Any]], bytes]
    end: bytes = b""


def _named(event: Mapping[str, Any]) -> bytes:
    return encode(event["type"], dumps(event))


def _unnamed(event: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % dumps(event)


APIS = (
    Api("anthropic", messages_api.events, messages_api.whole, messages_api.refusal, _named),
    Api("cerebras", chat_api.chunks, chat_api.whole, chat_api.refusal, _unnamed, b"data: [DONE]\n\n"),
    Api("codex", responses_api.events, None, responses_api.refusal, _named),
)


def simulated_providers(*, pace: float = 1.0) -> Starlette:
    """The application of all providers; `pace` stretches their times, and 0 takes them out."""
    routes = [
        Route("/anthropic/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
        Route("/anthropic/v1/models", _models, methods=["GET"]),
        Route(PATHS["cerebras"].replace("/chat/completions", "/models"), _chat_models, methods=["GET"]),
        Route(PATHS["codex"].replace("/responses", "/models"), _codex_models, methods=["GET"]),
    ]
    for api in APIS:
        path = PATHS[api.provider] + ("/v1/messages" if api.provider == "anthropic" else "")
        routes.append(Route(path, _Endpoint(api, pace).answer, methods=["POST"]))
    return Starlette(routes=routes)


class _Endpoint:
    def __init__(self, api: Api, pace: float) -> None:
        self._api = api
        self._pace = pace

    async def answer(self, request: Request) -> Response:
        """What a request to this provider gets."""
        body = await request.body()
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            return _json(self._api.refusal(400, str(error)), 400, ())
        reply, model = reply_for(asked, len(body)), str(asked.get("model"))
        headers = [*limits(self._api.provider, datetime.now(UTC)), (b"request-id", f"req_{uuid4().hex}".encode())]
        if reply.refuses(self._api.provider):
            return await self._refuse(reply.status, headers)
        if self._api.whole is not None and not asked.get("stream"):
            await self._pause(reply.duration_ms)
            return _json(self._api.whole(reply, model), 200, headers)
        answer = StreamingResponse(self._stream(reply, model), media_type="text/event-stream")
        answer.raw_headers.extend(headers)
        return answer

    async def _refuse(self, status: int, headers: list[tuple[bytes, bytes]]) -> Response:
        await self._pause(REFUSAL_MS)
        if status == 429:
            headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
        return _json(self._api.refusal(status, f"The demo has this request fail with {status}."), status, headers)

    async def _stream(self, reply: Reply, model: str) -> AsyncIterator[bytes]:
        """The events at their times: the first content after `ttft_ms`, the last after `duration_ms`."""
        pieces = [self._api.encode(event) for event in self._api.events(reply, model)]
        step_ms = (reply.duration_ms - reply.ttft_ms) / len(pieces)
        await self._pause(reply.ttft_ms)
        for piece in pieces[: round(len(pieces) * BROKEN_AT)] if reply.breaks_off else [*pieces, self._api.end]:
            yield piece
            await self._pause(step_ms)

    async def _pause(self, milliseconds: float) -> None:
        await asyncio.sleep(milliseconds * self._pace / 1000)


async def _count_tokens(request: Request) -> Response:
    return _json({"input_tokens": estimated_tokens(len(await request.body()))}, 200, ())


async def _models(request: Request) -> Response:
    models = [
        {"type": "model", "id": name, "display_name": f"{name} (simulated)", "created_at": "2026-01-01T00:00:00Z"}
        for name in models_of("anthropic")
    ]
    listed = {"data": models, "has_more": False, "first_id": models[0]["id"], "last_id": models[-1]["id"]}
    return _json(listed, 200, ())


async def _chat_models(request: Request) -> Response:
    return _json(
        {"object": "list", "data": [{"id": name, "object": "model"} for name in models_of("cerebras")]}, 200, ()
    )


async def _codex_models(request: Request) -> Response:
    return _json({"models": [{"slug": name} for name in models_of("codex")]}, 200, ())


def _json(document: Mapping[str, Any], status: int, headers: RawHeaders) -> Response:
    response = Response(dumps(document), status, media_type="application/json")
    response.raw_headers.extend(headers)
    return response
