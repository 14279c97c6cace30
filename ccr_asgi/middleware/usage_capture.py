"""One row for every Messages request, whatever becomes of it."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi.asgi import header, raw_path
from ccr_asgi.errors import ERROR_TYPES
from ccr_asgi.exchange import MESSAGES_PATH, Exchange, ensure_exchange, render_errors, with_exchange
from ccr_asgi.usage.accumulator import UsageAccumulator
from ccr_asgi.usage.quota import QuotaWindow, parse_quota
from ccr_asgi.usage.record import Outcome, Tokens, UsageRecord

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,79}")
"""Longer ones are none: Anthropic's have 28 characters, OpenAI's 36."""

SECRET_BYTES = 8
"""What is shorter is no secret, and may well stand in an id."""

Sink = Callable[[UsageRecord], None]


class UsageCaptureMiddleware:
    """Reads usage out of what the client is sent, and hands one `UsageRecord` to `sink` at the end.

    Args:
        app: The layers below.
        sink: Takes the record; called once for each POST to /v1/messages, synchronously and without a wait. It must
            not block; whatever it raises is logged and disturbs nothing.
        provider: Who answers, where no `RoutingMiddleware` stands below to say so: the rows' provider, by whose prices
            they are valued.

    Bytes are forwarded first and looked at afterwards, and never changed; no answer is buffered for this but one JSON
    message (up to 16 MB).
    """

    def __init__(self, app: ASGIApp, *, sink: Sink, provider: str | None = None) -> None:
        self.app = app
        self._sink = sink
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] != "POST" or raw_path(scope) != MESSAGES_PATH:
            await with_exchange(self._forward, scope, receive, send)
            return
        scope, exchange, made = ensure_exchange(scope)
        observer = _Observer(send, exchange)
        try:
            # Errors are rendered on this side of the observer, so that the row has what the client was shown.
            await render_errors(self._forward, scope, _noting_leaving(receive, exchange), observer.send, exchange)
        finally:
            try:
                exchange.usage = observer.record(scope, self._provider)
                self._sink(exchange.usage)
            except Exception:
                logger.exception("The usage of request %s was lost", exchange.request_id)
            if made:
                exchange.end()

    async def _forward(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        await self.app(scope, receive, send)


def _noting_leaving(receive: Receive, exchange: Exchange) -> Receive:
    """`receive`, which notes the client's leaving whoever below asks it."""

    async def noting() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.left()
        return message

    return noting


class _Observer:
    """Watches one answer go by."""

    def __init__(self, send: Send, exchange: Exchange) -> None:
        self._send = send
        self._exchange = exchange
        self._accumulator: UsageAccumulator | None = None
        self._status: int | None = None
        self._streamed: bool | None = None
        self._complete = False
        self._first_content_s: float | None = None

    async def send(self, message: Message) -> None:
        await self._send(message)
        try:
            self._observe(message)
        except Exception:
            logger.exception("The answer to request %s could not be read for its usage", self._exchange.request_id)
            self._accumulator = None

    def _observe(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if self._accumulator is not None and (body := message.get("body", b"")):
                self._accumulator.feed(body)
                if self._first_content_s is None and self._accumulator.content_seen:
                    self._first_content_s = time.perf_counter()
            self._complete = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            self._status = message["status"]
            headers = {name.lower(): str(value, "latin-1") for name, value in message.get("headers", ())}
            content_type = headers.get(b"content-type", "")
            self._accumulator = UsageAccumulator(content_type, headers.get(b"content-encoding"))
            if self._status < 400:  # an error is JSON, whatever was asked for
                self._streamed = content_type.lower().startswith("text/event-stream")

    def record(self, scope: Scope, unrouted: str | None) -> UsageRecord:
        exchange, usage = self._exchange, self._accumulator
        if usage is not None:
            usage.close()
        route, extra = exchange.route, exchange.usage_extra
        tokens = usage.tokens if usage is not None else Tokens()
        if extra.unsent is not None:
            tokens = Tokens(
                input=extra.unsent["input_tokens"],
                cache_read=extra.unsent["cache_read_input_tokens"],
                output=extra.unsent["output_tokens"],
            )
        if extra.reasoning_tokens is not None:
            tokens = replace(tokens, reasoning=extra.reasoning_tokens)
        outcome = self._outcome()
        asked = (route.model or exchange.requested_model) if route else None
        return UsageRecord(
            id=exchange.request_id,
            started_at=exchange.started_at,
            provider=route.provider.name if route else unrouted,
            requested_model=exchange.requested_model,
            model=_served_model(extra.served_model or (usage.model if usage else None), exchange) or asked,
            route_reason=route.reason if route else None,
            agent_id=header(scope, b"x-claude-code-agent-id"),
            parent_agent_id=header(scope, b"x-claude-code-parent-agent-id"),
            session_id=exchange.session_id,
            project=header(scope, b"x-ccr-project") or exchange.project,
            streamed=self._streamed if exchange.streamed is None else exchange.streamed,
            status=self._status,
            outcome=outcome,
            stop_reason=usage.stop_reason if usage else None,
            error_type=self._error_type() if outcome == "error" else None,
            tokens=tokens,
            ttft_ms=self._ms(self._first_content_s) if self._first_content_s is not None else None,
            duration_ms=self._ms(time.perf_counter()),
            attempts=exchange.attempts,
            resends=exchange.resends,
            estimated=extra.estimated,
            subscription=_by_subscription(scope, exchange),
            attempt_log=tuple(exchange.attempt_log) if len(exchange.attempt_log) > 1 else (),
            quota=self._quota(),
            proxy_key=exchange.proxy_key,
            upstream_request_id=_upstream_request_id(exchange, scope),
            routed_model=asked,
        )

    def _quota(self) -> tuple[QuotaWindow, ...]:
        """What each link's answer told, those that failed included: a refusal says most clearly what is used up."""
        exchange = self._exchange
        told = list(exchange.former_headers)
        if exchange.route is not None:
            told_at = exchange.upstream_headers_at or exchange.started_at
            told.append((exchange.route.provider.name, exchange.upstream_headers, told_at))
        return tuple(window for answer in told for window in parse_quota(*answer))

    def _outcome(self) -> Outcome:
        usage = self._accumulator
        if self._status is not None and (self._complete or (usage is not None and usage.complete)):
            if self._status >= 400 or (usage is not None and usage.error_type):
                return "error"
            return "ok" if usage is None or usage.complete or not usage.readable else "truncated"
        if self._exchange.disconnected.is_set():
            return "cancelled"
        return "truncated" if self._status is not None else "error"

    def _error_type(self) -> str | None:
        if self._exchange.error is not None:
            return self._exchange.error.error_type
        told = self._accumulator.error_type if self._accumulator is not None else None
        return told or ERROR_TYPES.get(self._status or 0, "api_error")

    def _ms(self, at_s: float) -> float:
        return (at_s - self._exchange.started_s) * 1000


def _served_model(told: str | None, exchange: Exchange) -> str | None:
    """The model that an answer names; None if the name holds a secret that the provider was given."""
    words = (word for _, value in exchange.credentials_sent for word in value.split() if len(word) >= SECRET_BYTES)
    return None if told is None or any(str(word, "latin-1") in told for word in words) else told


def _upstream_request_id(exchange: Exchange, scope: Scope) -> str | None:
    """The id that the provider gave the request: Anthropic's `request-id`, others' `x-request-id`.

    None if it is not like one, or an echo of what was sent, which may be a secret.
    """
    found = {name.lower(): value for name, value in exchange.upstream_headers}
    told = found.get(b"request-id") or found.get(b"x-request-id") or b""
    if not _REQUEST_ID.fullmatch(told):
        return None
    sent = [value for _, value in (*scope["headers"], *exchange.credentials_sent)]
    words = [word for value in sent for word in value.split() if len(word) >= SECRET_BYTES]
    return None if any(told in value for value in sent) or any(word in told for word in words) else told.decode("ascii")


def _by_subscription(scope: Scope, exchange: Exchange) -> bool:
    """Whether nothing is billed by the token: a Claude login's bearer, or a ChatGPT login."""
    if exchange.route is None:
        return False
    provider = exchange.route.provider
    if provider.passthrough:
        return header(scope, b"x-api-key") is None and header(scope, b"authorization") is not None
    return provider.auth_file is not None and provider.api_key is None
