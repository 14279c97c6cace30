"""Where spans go if nobody else in this process has said so: by OTLP to what the `OTEL_…` variables name."""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ccr_asgi import __version__


def export_spans() -> TracerProvider | None:
    """Set the process's tracer provider; None if a host application, or an agent, has set one already.

    Whoever gets one shuts it down, which sends the last spans.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    ours = Resource({SERVICE_NAME: "ccr-asgi", "service.version": __version__})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
