"""One client request as it is stored: the row of the `requests` table before it is one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ccr_asgi.usage.quota import QuotaWindow

Outcome = Literal["ok", "error", "cancelled", "truncated"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts in true units: the parts are disjoint, so their sum is what was processed.

    `input` counts only tokens that were neither read from nor written to a cache. `reasoning` is part of `output`.
    None means that nothing was told, which is not the same as 0.
    """

    input: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One link of a fallback chain that was tried.

    Attributes:
        provider, model: What was asked.
        status: Its HTTP status; None if no answer came.
        error_type: Anthropic's error type, when it failed.
        started_ms: Milliseconds from the request's start to the try's.
        duration_ms: Milliseconds that it took.
    """

    provider: str
    model: str | None
    status: int | None
    error_type: str | None
    started_ms: float
    duration_ms: float


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One row: what was asked, who answered, what it took, how it ended.

    Attributes:
        id: Our request id; unique. Our own answers carry it in `request-id`, passed-through ones keep the upstream's.
        started_at: When the request line was received; UTC, aware.
        provider: The provider that answered; None if none was asked.
        requested_model: The model the client named; None if the body was unusable.
        model: The model that answered, as the provider names it; else the one that was asked for upstream.
        route_reason: Why this provider (`ccr_asgi.routing.Reason`); None if none was asked.
        agent_id, parent_agent_id, session_id: Claude Code's ids from its headers.
        project: The project's folder name or label.
        streamed: The client asked for `stream: true`; None if that was not told.
        status: The HTTP status the client got; None if it left before any.
        outcome: ok, error, cancelled (the client left), truncated (the answer broke off or its end never came).
        stop_reason: Anthropic's stop_reason.
        error_type: Anthropic's error type, when the outcome is an error.
        ttft_ms: Milliseconds to the first content; None if none came.
        duration_ms: Milliseconds to the last byte; None if that was not told.
        attempts: Links of the fallback chain that were tried (1 = no fallback; 0 = no upstream contact).
        resends: Times the request was sent again within a link.
        estimated: The token counts are our own estimate.
        subscription: The client's credential is a subscription's (billed 0).
        attempt_log: The links that were tried, in their order; empty where one answered at once.
        quota: The limits that the provider's answer told; no part of the row.
        proxy_key: The name of the proxy key that the client gave.
        upstream_request_id: The provider's own id of the request, as its answer's header tells it.
        routed_model: The model that was asked for upstream; tells the price where the one that answered has none. No
            part of the row.
    """

    id: str
    started_at: datetime
    provider: str | None
    requested_model: str | None
    model: str | None
    route_reason: str | None
    agent_id: str | None
    parent_agent_id: str | None
    session_id: str | None
    project: str | None
    streamed: bool | None
    status: int | None
    outcome: Outcome
    stop_reason: str | None
    error_type: str | None
    tokens: Tokens
    ttft_ms: float | None
    duration_ms: float | None
    attempts: int
    resends: int
    estimated: bool
    subscription: bool
    attempt_log: tuple[Attempt, ...] = ()
    quota: tuple[QuotaWindow, ...] = ()
    proxy_key: str | None = None
    upstream_request_id: str | None = None
    routed_model: str | None = None
