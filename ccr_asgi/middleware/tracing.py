"""A span for every Messages request, by OpenTelemetry's conventions for generative AI."""

from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi import __version__
from ccr_asgi.asgi import Headers, raw_path, with_headers
from ccr_asgi.exchange import MESSAGES_PATH, Exchange, with_exchange
from ccr_asgi.usage.record import UsageRecord

KINDS = {"anthropic": "anthropic", "openai-chat": "openai", "openai-responses": "openai"}
"""What the conventions call the API that a kind of provider speaks."""


class TracingMiddleware:
    """Makes one client span of a Messages request, and hands its context on in `traceparent`.

    Args:
        app: The layers below; `UsageCaptureMiddleware` among them tells the span tokens, model and outcome.
        tracer_provider: Where spans go; by default the process's own.

    A client's `traceparent` is the span's parent. Prompts and answers are no part of a span.
    """

    def __init__(self, app: ASGIApp, *, tracer_provider: TracerProvider | None = None) -> None:
        self.app = app
        self._tracer = trace.get_tracer("ccr_asgi", __version__, tracer_provider)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["method"] != "POST" or raw_path(scope) != MESSAGES_PATH:
            await self.app(scope, receive, send)
            return
        await with_exchange(self._trace, scope, receive, send)

    async def _trace(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span("chat", propagate.extract(sent), SpanKind.CLIENT)
        try:
            with trace.use_span(span):
                exchange.trace_headers = _trace_headers()
                names = {name for name, _ in exchange.trace_headers}
                kept = [(name, value) for name, value in scope["headers"] if name not in names]
                await self.app(with_headers(scope, [*kept, *exchange.trace_headers]), receive, send)
        finally:
            if exchange.usage is not None:
                _tell(span, exchange, exchange.usage)
            span.end()


def _trace_headers() -> Headers:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in carrier.items()]


def _tell(span: Span, exchange: Exchange, row: UsageRecord) -> None:
    tokens = row.tokens
    parts = (tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h)
    told: dict[str, Any] = {
        gen_ai.GEN_AI_OPERATION_NAME: "chat",
        gen_ai.GEN_AI_REQUEST_MODEL: row.routed_model or row.requested_model,
        gen_ai.GEN_AI_REQUEST_STREAM: row.streamed,
        gen_ai.GEN_AI_RESPONSE_MODEL: row.model,
        gen_ai.GEN_AI_RESPONSE_ID: row.upstream_request_id,
        gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: [row.stop_reason] if row.stop_reason else None,
        # The convention's input holds the cached tokens, too.
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: None if tokens.input is None else sum(part or 0 for part in parts),
        gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: tokens.cache_read,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: tokens.output,
        gen_ai.GEN_AI_CONVERSATION_ID: row.session_id,
        gen_ai.GEN_AI_AGENT_ID: row.agent_id,
        error_attributes.ERROR_TYPE: row.error_type or (None if row.outcome == "ok" else row.outcome),
        "http.response.status_code": row.status,
        "ccr_asgi.request_id": row.id,
        "ccr_asgi.provider": row.provider,
        "ccr_asgi.route_reason": row.route_reason,
        "ccr_asgi.attempts": row.attempts,
        "ccr_asgi.outcome": row.outcome,
    }
    if exchange.route is not None:
        told[gen_ai.GEN_AI_PROVIDER_NAME] = KINDS[exchange.route.provider.kind]
        told[server_attributes.SERVER_ADDRESS] = exchange.route.provider.host
    span.set_attributes({name: value for name, value in told.items() if value is not None})
    span.update_name(f"chat {row.routed_model or row.requested_model or ''}".strip())
    if row.outcome != "ok":
        span.set_status(Status(StatusCode.ERROR, row.error_type or row.outcome))
