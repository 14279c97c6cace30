"""A span for each Messages request: the conventions' names, the right parent, and nothing of what was said."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode
from starlette.types import ASGIApp

from ccr_asgi.config import Kind, Provider
from ccr_asgi.credentials.static import StaticKey
from ccr_asgi.errors import ProviderError
from ccr_asgi.middleware.auth_injection import AuthInjectionMiddleware
from ccr_asgi.middleware.format_conversion import FormatConversionMiddleware
from ccr_asgi.middleware.routing import RoutingMiddleware
from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware
from ccr_asgi.middleware.tracing import TracingMiddleware
from ccr_asgi.middleware.usage_capture import UsageCaptureMiddleware
from ccr_asgi.routing import RoutingTable
from tests.integration.claude import body
from tests.middleware.apps import Answer, Below, answering, passes_other_scopes_on, raising
from tests.support import asgi
from tests.support.provider_answers import anthropic_message, chat_completion

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = ("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01")
USAGE = {"input_tokens": 11, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 7}
MESSAGE = anthropic_message("planted answer", usage=USAGE, model="claude-x").content


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(spans))
    yield made
    made.shutdown()


def stack(
    below: ASGIApp,
    provider: TracerProvider | NoOpTracerProvider,
    kind: Kind = "anthropic",
    *,
    passthrough: bool = False,
) -> ASGIApp:
    name = "anthropic" if kind == "anthropic" else "chat"
    key = None if passthrough else "k"
    chosen = Provider(name, kind, "https://p.example/v1", key, passthrough=passthrough)
    app: ASGIApp = AuthInjectionMiddleware(below, credentials=None if chosen.passthrough else StaticKey("k"))
    app = FormatConversionMiddleware(app, kind=kind)
    app = RoutingMiddleware(app, table=RoutingTable({name: chosen}, default=name))
    app = UsageCaptureMiddleware(TagExtractionMiddleware(app), sink=lambda row: None)
    return TracingMiddleware(app, tracer_provider=provider)


async def ask(app: ASGIApp, *headers: tuple[str, str]) -> asgi.Response:
    content = body("planted prompt", stream=False)
    return await asgi.request(app, "POST", "/v1/messages", headers=headers, body=content)


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


async def test_a_span_tells_what_the_conventions_name(spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    below = Below(answering(MESSAGE))
    headers = [PARENT, ("x-claude-code-session-id", "s-1"), ("x-claude-code-agent-id", "a-1")]
    response = await ask(stack(below, provider, passthrough=True), *headers)
    assert response.body == MESSAGE
    span = only(spans)
    assert (span.name, span.kind, span.status.status_code) == (
        "chat claude-haiku-4-5",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    assert span.attributes is not None
    told = dict(span.attributes)
    assert str(told.pop("ccr_asgi.request_id")).startswith("req_ccr_")
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-haiku-4-5",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "claude-x",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 18,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.conversation.id": "s-1",
        "gen_ai.agent.id": "a-1",
        "http.response.status_code": 200,
        "server.address": "p.example",
        "ccr_asgi.provider": "anthropic",
        "ccr_asgi.route_reason": "default",
        "ccr_asgi.attempts": 1,
        "ccr_asgi.outcome": "ok",
    }
    assert "planted" not in span.to_json()


COMPLETION = chat_completion("Hello.").content


@pytest.mark.parametrize(
    ("kind", "passthrough", "answer"),
    [
        ("anthropic", True, MESSAGE),
        ("anthropic", False, MESSAGE),
        ("openai-chat", False, COMPLETION),
    ],
)
async def test_the_context_is_handed_on_whoever_is_asked(
    spans: InMemorySpanExporter, provider: TracerProvider, kind: Kind, passthrough: bool, answer: bytes
) -> None:
    below = Below(answering(answer))
    await ask(stack(below, provider, kind, passthrough=passthrough), PARENT, ("tracestate", "x=1"))
    span = only(spans)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    sent = [(name, value) for name, value in below.headers if name in (b"traceparent", b"tracestate")]
    assert span.context is not None
    own = f"00-{TRACE_ID}-{span.context.span_id:016x}-01"
    assert sorted(sent) == [(b"traceparent", own.encode()), (b"tracestate", b"x=1")]


async def test_without_a_parent_a_trace_begins(spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    await ask(stack(answering(MESSAGE), provider, passthrough=True))
    assert only(spans).parent is None


async def test_a_failure_is_an_error(spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    below: Answer = raising(ProviderError("busy", status=429))
    assert (await ask(stack(below, provider, passthrough=True))).status == 429
    span = only(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "rate_limit_error"


async def test_without_usage_capture_there_is_a_span_all_the_same(
    spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    await ask(TracingMiddleware(answering(MESSAGE), tracer_provider=provider))
    assert only(spans).name == "chat"


async def test_where_nothing_is_recorded_the_clients_headers_go_on_as_they_are() -> None:
    below = Below(answering(MESSAGE))
    await ask(stack(below, NoOpTracerProvider(), passthrough=True), ("traceparent", "odd"))
    assert (b"traceparent", b"odd") in below.headers


async def test_other_requests_make_no_span(spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    app = TracingMiddleware(answering(b"{}"), tracer_provider=provider)
    await asgi.request(app, "POST", "/v1/messages/count_tokens", body=b"{}")
    await asgi.request(app, "GET", "/v1/messages")
    assert spans.get_finished_spans() == ()


async def test_other_scopes_are_passed_on() -> None:
    assert await passes_other_scopes_on(TracingMiddleware)
