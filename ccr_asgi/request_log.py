"""A line in the log for each request that is over, where somebody wants that (`serve --log-format json`)."""

import logging

from ccr_asgi.logs import REQUESTS
from ccr_asgi.usage.record import UsageRecord

logger = logging.getLogger(REQUESTS)
if logger.level == logging.NOTSET:
    logger.setLevel(logging.WARNING)


def log_request(row: UsageRecord) -> None:
    """Tell who answered what, how it ended and how long it took; nothing that was said."""
    if not logger.isEnabledFor(logging.INFO):
        return
    tokens = row.tokens
    fields = {
        "request_id": row.id,
        "upstream_request_id": row.upstream_request_id,
        "provider": row.provider,
        "requested_model": row.requested_model,
        "model": row.model,
        "route_reason": row.route_reason,
        "session_id": row.session_id,
        "agent_id": row.agent_id,
        "proxy_key": row.proxy_key,
        "status": row.status,
        "outcome": row.outcome,
        "error_type": row.error_type,
        "streamed": row.streamed,
        "ttft_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
        "attempts": row.attempts,
        "resends": row.resends,
        "input_tokens": tokens.input,
        "cache_read_tokens": tokens.cache_read,
        "output_tokens": tokens.output,
    }
    logger.info(
        "%s: %s from %s in %.0f ms", row.id, row.outcome, row.provider, row.duration_ms or 0, extra={"fields": fields}
    )
