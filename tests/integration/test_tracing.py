"""Spans leave a real server by OTLP, and the context reaches the provider."""

import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from ccr_asgi import application
from ccr_asgi.errors import ConfigError
from ccr_asgi.span_export import export_spans
from tests.integration.claude import BEARER, TARGET, body, headers, new_session
from tests.support.fake_upstream import Answer, FakeUpstream
from tests.support.raw_http import RawClient
from tests.support.server import running_server


def test_a_server_sends_its_spans(fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path) -> None:
    collector = second_upstream
    collector.on("/v1/traces", Answer([b""], headers=[("content-type", "application/x-protobuf")]))
    session = new_session()
    config = {"providers": {"anthropic": {"baseUrl": fake_upstream.url}}, "tracing": True}
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    with running_server(config, tmp_path=tmp_path, server="serve", env=environment) as server:
        with RawClient(server.url) as client:
            assert client.request("POST", TARGET, headers(session), body("planted prompt")).status == 200
        server.terminate()
    spans = [
        span
        for request in collector.requests
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (span,) = spans
    told = {attribute.key: attribute.value.string_value for attribute in span.attributes}
    assert told["gen_ai.conversation.id"] == session
    (request,) = fake_upstream.requests
    sent = (request.header("traceparent") or b"").decode()
    assert sent.startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-")
    everything = b"".join(request.body for request in collector.requests)
    assert b"planted" not in everything
    assert BEARER.encode() not in everything


def test_a_provider_that_is_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert export_spans() is None


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccr_asgi.middleware.tracing", None)
    with pytest.raises(ConfigError, match=r"pip install 'ccr-asgi\[tracing\]'"):
        application.create_app({"tracing": True})
