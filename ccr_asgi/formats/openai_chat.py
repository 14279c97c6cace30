"""Chat Completions, the wire format of Cerebras and of every OpenAI-compatible endpoint."""

import logging
from typing import Any

from ccr_asgi.config import Provider
from ccr_asgi.errors import CcrError, RawHeaders
from ccr_asgi.formats.answer_machine import AnswerContext
from ccr_asgi.formats.base import ConversionContext, UpstreamRequest, UsageExtra, secrets_of, shallow_enough
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.formats.openai_chat_request import convert
from ccr_asgi.formats.openai_chat_stream import ChatStream
from ccr_asgi.formats.openai_errors import from_http
from ccr_asgi.routing import Route
from ccr_asgi.wire import json_codec

logger = logging.getLogger(__name__)


class OpenAiChat:
    """The Chat Completions format."""

    kind = "openai-chat"

    def begin(self, body: dict[str, Any], route: Route, context: ConversionContext) -> "ChatConversion":
        """Convert a client's request; see `Format.begin`."""
        return ChatConversion(body, route, context)

    def count_tokens(self, body: dict[str, Any], route: Route) -> int:
        """Estimate a request's input tokens; see `Format.count_tokens`."""
        with shallow_enough():
            return count_request(body)


class ChatConversion:
    """One request's conversion; see `Conversion`."""

    def __init__(self, body: dict[str, Any], route: Route, context: ConversionContext) -> None:
        """Convert `body`; raises RequestError if it cannot be."""
        with shallow_enough():
            converted = convert(body, route)
            payload = json_codec.dumps(converted.body)
        for note in converted.notes:
            logger.info("%s,%s: %s", route.provider.name, converted.body.get("model"), note)
        self.request = UpstreamRequest(payload, _headers(route.provider))
        self.extra = UsageExtra()
        self._client_body = context.read_again or (lambda: body)
        self._model = converted.model
        self._streamed = converted.streamed
        self._tool_names = converted.tool_names
        self._taken_ids = converted.call_ids
        self._provider = route.provider
        self._context = context

    def stream(self, content_type: str, headers: RawHeaders = ()) -> ChatStream:
        """A machine for an answer with a 2xx status."""
        return ChatStream(
            AnswerContext(
                message_id=self._context.message_id,
                provider=self._provider.name,
                model=self._model,
                streamed=self._streamed,
                content_type=content_type,
                tool_names=self._tool_names,
                taken_ids=self._taken_ids,
                estimate_input_tokens=self._estimate_input_tokens,
                extra=self.extra,
                secrets=secrets_of(self._provider),
            )
        )

    def error(self, status: int, headers: RawHeaders, body: bytes) -> CcrError:
        """What the client shall see of an answer that is not 2xx."""
        return from_http(
            self._provider.name,
            status,
            headers,
            body,
            secrets=secrets_of(self._provider),
            estimate=self._estimate_input_tokens,
        )

    def _estimate_input_tokens(self) -> int:
        return count_request(self._client_body())

    def retry(self, error: CcrError) -> UpstreamRequest | None:
        """Nothing: a Chat Completions request has no other form that could succeed."""
        return None


def _headers(provider: Provider) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode()) for name, value in provider.quirks.headers.items())


FORMAT = OpenAiChat()
