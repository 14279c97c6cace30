"""Prometheus' metrics of the requests, counted when each is over.

Labels are bounded: providers are those of the configuration, outcomes are four. What grows with use (models, agents,
sessions) is in the usage database, which SQL can ask.

Several workers count into one folder of files if `PROMETHEUS_MULTIPROC_DIR` names it when they start, as
`prometheus_client` has it; `ccr-asgi serve --workers` sees to that.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ccr_asgi.errors import ConfigError
from ccr_asgi.usage.record import UsageRecord

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
NO_PROVIDER = "none"
"""The label of a request that no provider was asked for."""

DURATION_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
FIRST_TOKEN_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60)
"""The bounds of the histograms' buckets, in seconds."""


class Metrics:
    """Counts requests; `text` is what Prometheus reads.

    Args:
        knows: Whether a provider of this name is configured; all others are counted as one.

    Raises:
        ConfigError: prometheus_client is not installed.
    """

    def __init__(self, knows: Callable[[str], bool]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError:
            raise ConfigError("metrics: needs prometheus-client: pip install 'ccr-asgi[metrics]'.") from None

        self._knows = knows
        self._registry = CollectorRegistry()

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"ccr_asgi_{name}", told, labels, registry=self._registry)

        def histogram(name: str, told: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"ccr_asgi_{name}", told, ["provider"], buckets=buckets, registry=self._registry)

        self._requests = counter("requests", "Messages requests that are over.", "provider", "outcome")
        self._tokens = counter("tokens", "Tokens, as the providers tell them.", "provider", "kind")
        self._fallbacks = counter("fallbacks", "Requests that a later link of a chain answered.", "provider")
        self._resends = counter("resends", "Times that a request was sent again to its provider.", "provider")
        self._lost = counter("usage_rows_lost", "Requests that the usage database will not have.")
        self._duration = histogram("request_duration_seconds", "From request to last byte.", DURATION_S)
        self._first = histogram("time_to_first_token_seconds", "From request to first content.", FIRST_TOKEN_S)
        self._lost_so_far = 0

    def count(self, row: UsageRecord, rows_lost: int) -> None:
        """Count one request that is over; `rows_lost` is how many rows have been lost in all by now."""
        provider = row.provider if row.provider is not None and self._knows(row.provider) else NO_PROVIDER
        self._requests.labels(provider, row.outcome).inc()
        for kind in ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output"):
            if told := getattr(row.tokens, kind):
                self._tokens.labels(provider, kind).inc(max(told, 0))
        if row.attempts > 1:
            self._fallbacks.labels(provider).inc()
        if row.resends:
            self._resends.labels(provider).inc(row.resends)
        if row.duration_ms is not None:
            self._duration.labels(provider).observe(row.duration_ms / 1000)
        if row.ttft_ms is not None:
            self._first.labels(provider).observe(row.ttft_ms / 1000)
        self._lost.inc(rows_lost - self._lost_so_far)
        self._lost_so_far = rows_lost

    def text(self) -> bytes:
        """All of it in Prometheus' text format, summed over the workers."""
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)


@contextmanager
def counted_together(workers: int) -> Iterator[None]:
    """While the block runs, worker processes that start count into one folder; their own if there is one of them."""
    if workers == 1 or FOLDER in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ccr-asgi-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]
