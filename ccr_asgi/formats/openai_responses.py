"""The Responses API: the wire format of a ChatGPT subscription (Codex) and of OpenAI's public endpoint."""

import logging
import re
from collections import OrderedDict
from typing import Any

from ccr_asgi import __version__
from ccr_asgi.config import Provider
from ccr_asgi.errors import CcrError, ProviderError, RawHeaders
from ccr_asgi.formats.answer_machine import AnswerContext
from ccr_asgi.formats.base import ConversionContext, UpstreamRequest, UsageExtra, secrets_of, shallow_enough
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.formats.openai_responses_errors import Refusals
from ccr_asgi.formats.openai_responses_request import Lane, ResponsesRequest, convert
from ccr_asgi.formats.openai_responses_stream import ResponsesStream
from ccr_asgi.quirks import for_model
from ccr_asgi.routing import Route
from ccr_asgi.wire import json_codec

logger = logging.getLogger(__name__)

CLI_VERSION = b"0.169.0"
"""The Codex CLI whose requests ours are like; the backend serves models by it."""
ORIGINATOR = b"ccr_asgi"
LITE_HEADER = (b"x-openai-internal-codex-responses-lite", b"true")
LITE_MODELS = {"*-luna": True}
"""Models that the full lane answers with 404; others answer in both, or in the full one alone."""
MAX_REMEMBERED = 1_000

_WRONG_LANE = re.compile(r"model not found|responses-lite|reasoning\.context", re.IGNORECASE)


class Lanes:
    """Which lane each model is served on, as far as its provider has said; the oldest knowledge is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Lane] = OrderedDict()

    def choose(self, provider: Provider, model: str) -> Lane:
        """The lane to try first."""
        if provider.quirks.lane in ("full", "lite"):
            return "lite" if provider.quirks.lane == "lite" else "full"
        guess: Lane = "lite" if for_model(LITE_MODELS, model, False) else "full"
        return self._known.get((provider.base_url, model), guess)

    def remember(self, provider: Provider, model: str, lane: Lane) -> None:
        """The provider has answered on this lane."""
        self._known[provider.base_url, model] = lane
        self._known.move_to_end((provider.base_url, model))
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)


class OpenAiResponses:
    """The Responses format; one instance remembers the lanes of its models."""

    kind = "openai-responses"

    def __init__(self) -> None:
        self._lanes = Lanes()

    def begin(self, body: dict[str, Any], route: Route, context: ConversionContext) -> "ResponsesConversion":
        """Convert a client's request; see `Format.begin`."""
        return ResponsesConversion(body, route, context, self._lanes)

    def count_tokens(self, body: dict[str, Any], route: Route) -> int:
        """Estimate a request's input tokens; see `Format.count_tokens`."""
        with shallow_enough():
            return count_request(body)


class ResponsesConversion:
    """One request's conversion; see `Conversion`.

    Two refusals can be mended, each once: that of a lane the model is not served on, and that of reasoning which was
    encrypted for another account or key.
    """

    def __init__(self, body: dict[str, Any], route: Route, context: ConversionContext, lanes: Lanes) -> None:
        """Convert `body`; raises RequestError if it cannot be."""
        self._client_body = context.read_again or (lambda: body)
        self._route = route
        self._provider = route.provider
        self._context = context
        self._lanes = lanes
        converted = self._converted(body)
        self._model = converted.model
        self._streamed = converted.streamed
        self._tool_names = converted.tool_names
        self._taken_ids = converted.call_ids
        self._has_reasoning_items = converted.has_reasoning_items
        self._lane = lanes.choose(route.provider, converted.model)
        self._lane_changed = False
        self._with_reasoning_items = True
        for note in converted.notes:
            logger.info("%s,%s: %s", route.provider.name, converted.model, note)
        self.request = self._written(converted)
        self.extra = UsageExtra()
        self._refusals = Refusals(
            route.provider.name,
            login=route.provider.chatgpt_login,
            secrets=secrets_of(route.provider),
            estimate=self._estimate_input_tokens,
        )

    def stream(self, content_type: str, headers: RawHeaders = ()) -> ResponsesStream:
        """A machine for an answer with a 2xx status; the header `openai-model` tells the model really served."""
        served = (value.decode("latin-1") for name, value in headers if name.lower() == b"openai-model")
        self.extra.served_model = next(served, None)
        if self._lane_changed:
            self._lanes.remember(self._provider, self._model, self._lane)
        return ResponsesStream(
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
            ),
            self._refusals.event,
        )

    def error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """What the client shall see of an answer that is not 2xx."""
        return self._refusals.http(status, headers, body)

    def retry(self, error: CcrError) -> UpstreamRequest | None:
        """The request on the other lane, or without the reasoning of earlier turns, if that is what was refused."""
        if not isinstance(error, ProviderError):
            return None
        if error.code == "invalid_encrypted_content":
            if not (self._with_reasoning_items and self._has_reasoning_items):
                return None
            self._with_reasoning_items = False
        elif self._may_change_lane and error.status in (400, 404) and _WRONG_LANE.search(error.message):
            self._lane = "lite" if self._lane == "full" else "full"
            self._lane_changed = True
        else:
            return None
        return self._written(self._converted(self._client_body()))

    @property
    def _may_change_lane(self) -> bool:
        return self._provider.quirks.lane == "auto" and not self._lane_changed

    def _converted(self, body: dict[str, Any]) -> ResponsesRequest:
        with shallow_enough():
            return convert(body, self._route, self._context.session_id)

    def _written(self, converted: ResponsesRequest) -> UpstreamRequest:
        with shallow_enough():
            body = converted.body(self._lane, with_reasoning_items=self._with_reasoning_items)
            return UpstreamRequest(json_codec.dumps(body), self._headers(converted.cache_key))

    def _headers(self, cache_key: str) -> tuple[tuple[bytes, bytes], ...]:
        headers = [(b"accept", b"text/event-stream")]
        if self._provider.chatgpt_login:
            session = cache_key.encode()
            headers += [
                (b"originator", ORIGINATOR),
                (b"user-agent", b"ccr_asgi/" + __version__.encode()),
                (b"version", CLI_VERSION),
                (b"session-id", session),
                (b"thread-id", session),
                (b"x-client-request-id", session),
            ]
        if self._lane == "lite":
            headers.append(LITE_HEADER)
        own = [(name.lower().encode(), value.encode()) for name, value in self._provider.quirks.headers.items()]
        return (*headers, *own)

    def _estimate_input_tokens(self) -> int:
        return count_request(self._client_body())


FORMAT = OpenAiResponses()
