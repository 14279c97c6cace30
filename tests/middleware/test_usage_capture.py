"""Usage capture alone: one row for each Messages request, whatever becomes of it, and nothing in the client's way."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute
from starlette.types import Message, Receive, Scope, Send

from ccr_asgi.asgi import ClientDisconnected
from ccr_asgi.config import Provider
from ccr_asgi.errors import ProviderError, RequestError
from ccr_asgi.exchange import SCOPE_KEY, Exchange, get_exchange
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.middleware import usage_capture
from ccr_asgi.middleware.errors import ErrorMiddleware
from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware
from ccr_asgi.middleware.usage_capture import UsageCaptureMiddleware
from ccr_asgi.routing import Route
from ccr_asgi.usage.accumulator import UsageAccumulator
from ccr_asgi.usage.record import Tokens, UsageRecord
from tests.middleware.apps import Answer, Below, alone, answering, passes_other_scopes_on, raising
from tests.support import asgi
from tests.support.provider_answers import anthropic_error, anthropic_message, anthropic_sse

USAGE = {"input_tokens": 11, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 0, "output_tokens": 7}
EVENTS = [piece for piece in anthropic_sse("hi", usage=USAGE, model="claude-x").pieces if isinstance(piece, bytes)]
MESSAGE = anthropic_message("hi", usage=USAGE, model="claude-x").content
OVERLOADED = anthropic_error(529, "busy", "overloaded_error").content
SSE = b"text/event-stream; charset=utf-8"


def streaming(events: Sequence[bytes] = EVENTS, *, end: bool = True) -> Answer:
    return answering(*events, content_type=SSE, end=end)


async def captured(
    below: Answer, *headers: tuple[str, str], body: bytes = b"{}", path: str = "/v1/messages"
) -> tuple[UsageRecord, asgi.Response]:
    rows: list[UsageRecord] = []
    app = alone(UsageCaptureMiddleware, below, sink=rows.append)
    response = await asgi.request(app, "POST", path, headers=headers, body=body, query=b"beta=true")
    (row,) = rows
    return row, response


# outcomes


async def test_a_stream_is_counted_as_it_goes_by() -> None:
    below = Below(streaming())
    row, response = await captured(below)
    assert response.pieces == EVENTS
    assert (row.outcome, row.status, row.stop_reason, row.error_type) == ("ok", 200, "end_turn", None)
    assert row.tokens == Tokens(input=11, cache_read=5, cache_write_5m=0, cache_write_1h=0, output=7)
    assert (row.model, row.id, row.started_at) == ("claude-x", below.exchange.request_id, below.exchange.started_at)
    assert row.ttft_ms is not None
    assert row.duration_ms is not None
    assert 0 <= row.ttft_ms <= row.duration_ms


async def test_a_message_is_counted_at_its_end() -> None:
    row, response = await captured(answering(MESSAGE[:20], MESSAGE[20:]))
    assert response.body == MESSAGE
    assert (row.outcome, row.tokens.output, row.stop_reason) == ("ok", 7, "end_turn")


async def test_a_compressed_answer_is_counted_and_goes_on_as_it_is() -> None:
    data = gzip.compress(MESSAGE)
    row, response = await captured(answering(data, headers=[(b"content-encoding", b"gzip")]))
    assert response.body == data
    assert row.tokens.output == 7


async def test_an_error_answer_is_an_error() -> None:
    row, response = await captured(answering(OVERLOADED, status=529))
    assert (response.status, response.body) == (529, OVERLOADED)
    assert (row.outcome, row.status, row.error_type) == ("error", 529, "overloaded_error")
    assert row.ttft_ms is None


async def test_an_error_in_a_stream_is_an_error() -> None:
    event = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n'
    row, _ = await captured(streaming([*EVENTS[:3], event]))
    assert (row.outcome, row.status, row.error_type) == ("error", 200, "overloaded_error")


async def test_a_stream_without_its_end_is_truncated() -> None:
    row, _ = await captured(streaming(EVENTS[:3]))
    assert (row.outcome, row.status, row.error_type) == ("truncated", 200, None)
    assert row.tokens.input == 11


async def test_an_answer_that_breaks_off_is_truncated() -> None:
    rows: list[UsageRecord] = []
    app = alone(UsageCaptureMiddleware, streaming(EVENTS[:3], end=False), sink=rows.append)
    await asgi.request(app, "POST", "/v1/messages")
    assert [row.outcome for row in rows] == ["truncated"]


async def test_a_stream_that_was_whole_is_ok_even_if_its_connection_was_not_closed_well() -> None:
    rows: list[UsageRecord] = []
    app = alone(UsageCaptureMiddleware, streaming(end=False), sink=rows.append)
    await asgi.request(app, "POST", "/v1/messages")
    assert [row.outcome for row in rows] == ["ok"]


async def test_a_client_that_leaves_in_the_middle_has_cancelled() -> None:
    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = get_exchange(scope)
        await exchange.body(receive)
        await streaming(EVENTS[:3], end=False)(scope, receive, send)
        await exchange.disconnected.wait()

    rows: list[UsageRecord] = []
    call = asgi.start(alone(UsageCaptureMiddleware, below, sink=rows.append), "POST", "/v1/messages", body=b"{}")
    await call.until(lambda response: len(response.pieces) == 3)
    call.leave()
    await call.end()
    (row,) = rows
    assert (row.outcome, row.status, row.tokens.input) == ("cancelled", 200, 11)


async def test_alone_a_client_that_leaves_a_stream_of_the_host_has_cancelled() -> None:
    """Nobody but the host asks `receive` there."""

    async def endless() -> AsyncIterator[bytes]:
        for event in EVENTS[:3]:
            yield event
        await asyncio.Event().wait()

    async def endpoint(request: Request) -> StreamingResponse:
        await request.body()
        return StreamingResponse(endless(), media_type="text/event-stream")

    rows: list[UsageRecord] = []
    app = Starlette(
        routes=[StarletteRoute("/v1/messages", endpoint, methods=["POST"])],
        middleware=[Middleware(UsageCaptureMiddleware, sink=rows.append)],
    )
    call = asgi.start(app, "POST", "/v1/messages", body=b"{}")
    await call.until(lambda response: len(response.pieces) == 3)
    call.leave()
    await call.end()
    assert [(row.outcome, row.tokens.input) for row in rows] == [("cancelled", 11)]


@pytest.mark.parametrize(
    ("below", "streamed"),
    [
        (streaming(), True),
        (answering(MESSAGE), False),
        (answering(OVERLOADED, status=529), None),
        (raising(ClientDisconnected()), None),
    ],
)
async def test_alone_the_answer_tells_whether_it_is_a_stream(below: Answer, streamed: bool | None) -> None:
    row, _ = await captured(below)
    assert row.streamed is streamed


async def test_a_client_that_leaves_before_any_answer_has_cancelled() -> None:
    row, response = await captured(raising(ClientDisconnected()))
    assert (row.outcome, row.status, row.error_type) == ("cancelled", None, None)
    assert not response.started


async def test_a_server_that_stops_leaves_a_row() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await streaming(EVENTS[:3], end=False)(scope, receive, send)
        await Exchange().disconnected.wait()

    rows: list[UsageRecord] = []
    call = asgi.start(alone(UsageCaptureMiddleware, never, sink=rows.append), "POST", "/v1/messages")
    await call.until(lambda response: len(response.pieces) == 3)
    await call.cancel()
    assert [(row.outcome, row.tokens.input) for row in rows] == [("truncated", 11)]


# errors that are raised below


async def test_alone_a_raised_error_is_rendered_and_leaves_its_status_in_the_row() -> None:
    row, response = await captured(raising(RequestError("no")))
    assert response.status == 400
    assert (row.outcome, row.status, row.error_type) == ("error", 400, "invalid_request_error")
    assert row.id.encode() == response.header("request-id")


async def test_a_raised_error_in_a_stream_is_in_the_row() -> None:
    row, response = await captured(raising(ProviderError("no", status=529), *EVENTS[:3]))
    assert b"event: error" in response.body
    assert (row.outcome, row.status, row.error_type) == ("error", 200, "overloaded_error")


@pytest.mark.parametrize(("sent", "outcome", "status"), [((), "error", None), (EVENTS[:3], "truncated", 200)])
async def test_a_hosts_exception_goes_on_and_leaves_a_row(
    sent: Sequence[bytes], outcome: str, status: int | None
) -> None:
    error = ZeroDivisionError("the host's own")
    rows: list[UsageRecord] = []
    app = UsageCaptureMiddleware(raising(error, *sent), sink=rows.append)
    call = asgi.start(app, "POST", "/v1/messages")
    with pytest.raises(ZeroDivisionError) as raised:
        await call.end()
    assert raised.value is error
    assert call.response.pieces == list(sent)
    assert [(row.outcome, row.status) for row in rows] == [(outcome, status)]


async def test_a_hosts_own_handler_of_exceptions_is_asked() -> None:
    async def handler(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("the host's own words", status_code=500)

    rows: list[UsageRecord] = []
    app = Starlette(
        routes=[Mount("/", app=raising(ZeroDivisionError()))],
        middleware=[Middleware(UsageCaptureMiddleware, sink=rows.append)],
        exception_handlers={Exception: handler},
    )
    call = asgi.start(app, "POST", "/v1/messages")
    with pytest.raises(ZeroDivisionError):  # Starlette raises it after its handler's answer
        await call.end()
    assert (call.response.status, call.response.body) == (500, b"the host's own words")
    assert [(row.outcome, row.error_type) for row in rows] == [("error", "api_error")]


async def test_below_another_of_our_layers_a_row_is_left_too() -> None:
    rows: list[UsageRecord] = []
    app = Starlette(
        routes=[Mount("/", app=raising(RequestError("no")))],
        middleware=[Middleware(ErrorMiddleware), Middleware(UsageCaptureMiddleware, sink=rows.append)],
    )
    response = await asgi.request(app, "POST", "/v1/messages")
    assert response.status == 400
    assert [(row.outcome, row.status) for row in rows] == [("error", 400)]


async def test_who_answers_is_told_where_nobody_routes() -> None:
    rows: list[UsageRecord] = []
    app = alone(UsageCaptureMiddleware, streaming(), sink=rows.append, provider="anthropic")
    await asgi.request(app, "POST", "/v1/messages", body=b"{}")
    assert [(row.provider, row.model) for row in rows] == [("anthropic", "claude-x")]


@pytest.mark.parametrize(
    ("headers", "noted"),
    [
        ([(b"Request-Id", b"req_011C")], "req_011C"),
        ([(b"x-request-id", b"9f2b-4")], "9f2b-4"),
        ([(b"x-request-id", b"req_b"), (b"request-id", b"req_a")], "req_a"),
        ([(b"request-id", b"planted secret")], None),
        ([(b"request-id", b"x" * 81)], None),
        ([(b"request-id", b"of-client-credential-5")], None),
        ([(b"request-id", b"of-provider-key-7")], None),
        ([(b"request-id", b"planted-cookie")], None),
        ([], None),
    ],
)
async def test_the_providers_own_id_of_a_request(headers: list[tuple[bytes, bytes]], noted: str | None) -> None:
    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = get_exchange(scope)
        exchange.credentials_sent = [(b"authorization", b"Bearer provider-key")]
        exchange.upstream_headers = headers
        await answering(MESSAGE)(scope, receive, send)

    sent = [("Authorization", "Bearer client-credential"), ("cookie", "a=1; session=planted-cookie"), ("accept", "*")]
    row, _ = await captured(below, *sent)
    assert row.upstream_request_id == noted


@pytest.mark.parametrize(("told", "noted"), [("gpt-oss-120b-2", "gpt-oss-120b-2"), ("of-provider-key-7", "claude-x")])
async def test_a_model_that_is_an_echo_of_a_key_gets_into_no_row(told: str, noted: str) -> None:
    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = get_exchange(scope)
        exchange.credentials_sent = [(b"authorization", b"Bearer provider-key")]
        exchange.requested_model, exchange.route = "claude-x", Route(ANTHROPIC, None, "default")
        exchange.usage_extra = UsageExtra(served_model=told)
        await answering(MESSAGE)(scope, receive, send)

    row, _ = await captured(below)
    assert row.model == noted


async def test_an_unusable_body_leaves_a_row_that_says_what_was_read() -> None:
    rows: list[UsageRecord] = []
    app = Starlette(
        routes=[Mount("/", app=Below())],
        middleware=[Middleware(UsageCaptureMiddleware, sink=rows.append), Middleware(TagExtractionMiddleware)],
    )
    response = await asgi.request(app, "POST", "/v1/messages", body=b'{"stream": true}')
    assert response.status == 400
    (row,) = rows
    assert (row.outcome, row.status, row.streamed, row.requested_model, row.provider) == (
        "error",
        400,
        True,
        None,
        None,
    )


async def test_a_body_that_never_ends_leaves_a_row() -> None:
    rows: list[UsageRecord] = []
    app = Starlette(
        routes=[Mount("/", app=Below())],
        middleware=[Middleware(UsageCaptureMiddleware, sink=rows.append), Middleware(TagExtractionMiddleware)],
    )
    call = asgi.start(app, "POST", "/v1/messages", body=b"{", more_to_come=True)
    call.leave()
    await call.end()
    assert [(row.outcome, row.status) for row in rows] == [("cancelled", None)]


# what is in the row


ANTHROPIC = Provider("anthropic", "anthropic", "http://a", passthrough=True)
CEREBRAS = Provider("cerebras", "openai-chat", "http://c", api_key="k")
CODEX = Provider("codex", "openai-responses", "http://x", auth_file="/a")


def noting(answer: Answer = streaming(), **fields: Any) -> Answer:  # noqa: B008 -- an answer has no state
    """Stands for the layers below, which write these fields of the exchange."""

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = get_exchange(scope)
        for name, value in fields.items():
            setattr(exchange, name, value)
        await answer(scope, receive, send)

    return below


async def test_the_row_holds_what_the_layers_below_have_found() -> None:
    below = noting(
        requested_model="claude-haiku-4-5",
        streamed=True,
        session_id="s",
        route=Route(CEREBRAS, "gpt-oss-120b", "tag"),
        attempts=2,
        resends=3,
        usage_extra=UsageExtra(served_model="gpt-oss-120b-2", reasoning_tokens=4, estimated=True),
    )
    headers = [("x-claude-code-agent-id", "a1"), ("x-claude-code-parent-agent-id", "a0"), ("x-ccr-project", "ledger")]
    row, _ = await captured(below, *headers)
    assert (row.provider, row.route_reason, row.requested_model, row.model) == (
        "cerebras",
        "tag",
        "claude-haiku-4-5",
        "gpt-oss-120b-2",
    )
    assert (row.agent_id, row.parent_agent_id, row.session_id, row.project) == ("a1", "a0", "s", "ledger")
    assert (row.streamed, row.attempts, row.resends, row.estimated) == (True, 2, 3, True)
    assert row.tokens == Tokens(11, 5, 0, 0, output=7, reasoning=4)


async def test_what_the_client_was_not_sent_is_counted_all_the_same() -> None:
    unsent = {
        "input_tokens": 21,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 6,
        "output_tokens": 9,
    }
    extra = UsageExtra(unsent=unsent, reasoning_tokens=2)
    row, _ = await captured(noting(streaming(EVENTS[:3]), usage_extra=extra))
    assert row.tokens == Tokens(input=21, cache_read=6, output=9, reasoning=2)


async def test_messages_that_are_no_part_of_the_answer_are_sent_on() -> None:
    async def hinting(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug", "info": {}})
        await streaming()(scope, receive, send)

    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])

    rows: list[UsageRecord] = []
    exchange = Exchange()
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/messages", "headers": []}
    await UsageCaptureMiddleware(hinting, sink=rows.append)({**scope, SCOPE_KEY: exchange}, exchange.replay(b""), send)
    assert sent[0] == "http.response.debug"
    assert [row.outcome for row in rows] == ["ok"]


@pytest.mark.parametrize(
    ("route", "answer", "model"),
    [
        (Route(CEREBRAS, "gpt-oss-120b", "tag"), streaming(), "claude-x"),
        (Route(CEREBRAS, "gpt-oss-120b", "tag"), answering(b"{}"), "gpt-oss-120b"),
        (Route(ANTHROPIC, None, "default"), answering(b"{}"), "claude-asked"),
        (None, answering(b"{}"), None),
    ],
)
async def test_the_model_is_the_one_that_answered_else_the_one_that_was_asked(
    route: Route | None, answer: Answer, model: str | None
) -> None:
    row, _ = await captured(noting(answer, route=route, requested_model="claude-asked"))
    assert row.model == model


@pytest.mark.parametrize(
    ("provider", "headers", "subscription"),
    [
        (ANTHROPIC, [("authorization", "Bearer t")], True),
        (ANTHROPIC, [("x-api-key", "k")], False),
        (ANTHROPIC, [("authorization", "Bearer t"), ("x-api-key", "k")], False),
        (ANTHROPIC, [], False),
        (CEREBRAS, [("authorization", "Bearer t")], False),
        (CODEX, [("x-api-key", "k")], True),
        (Provider("codex", "openai-responses", "http://x", auth_file="/a", api_key="k"), [], False),
        (None, [("authorization", "Bearer t")], False),
    ],
)
async def test_a_login_is_a_subscription(
    provider: Provider | None, headers: list[tuple[str, str]], subscription: bool
) -> None:
    route = Route(provider, "m", "tag") if provider is not None else None
    row, _ = await captured(noting(route=route), *headers)
    assert row.subscription is subscription


async def test_without_any_other_layer_little_is_known() -> None:
    row, _ = await captured(answering(b"hello", content_type=b"text/plain"))
    assert (row.provider, row.requested_model, row.model, row.route_reason) == (None, None, None, None)
    assert (row.attempts, row.tokens, row.session_id) == (0, Tokens(), None)


async def test_an_answer_of_no_type_is_taken_for_what_it_looks_like() -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": MESSAGE})

    row, _ = await captured(bare)
    assert (row.outcome, row.tokens.output) == ("ok", 7)


# in nobody's way


async def test_bytes_go_on_before_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Watched(UsageAccumulator):
        def feed(self, chunk: bytes) -> None:
            order.append("seen")
            super().feed(chunk)

    async def send(message: Message) -> None:
        if message.get("body"):
            order.append("sent")

    monkeypatch.setattr(usage_capture, "UsageAccumulator", Watched)
    exchange = Exchange()
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/messages",
        "headers": [],
        SCOPE_KEY: exchange,
    }
    await UsageCaptureMiddleware(streaming(EVENTS[:2]), sink=lambda row: None)(scope, exchange.replay(b""), send)
    assert order == ["sent", "seen"] * 2


async def test_an_answer_that_cannot_be_read_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(UsageAccumulator):
        def feed(self, chunk: bytes) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(usage_capture, "UsageAccumulator", Broken)
    with caplog.at_level(logging.ERROR, "ccr_asgi"):
        row, response = await captured(streaming())
    assert response.pieces == EVENTS
    assert (row.outcome, row.tokens, row.stop_reason, row.error_type) == ("ok", Tokens(), None, None)
    assert len(caplog.records) == 1
    row, _ = await captured(answering(OVERLOADED, status=529))
    assert (row.outcome, row.error_type) == ("error", "overloaded_error")  # the status tells it


async def test_a_failing_sink_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def sink(row: UsageRecord) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "ccr_asgi"):
        response = await asgi.request(alone(UsageCaptureMiddleware, streaming(), sink=sink), "POST", "/v1/messages")
        assert response.pieces == EVENTS
        response = await asgi.request(
            alone(UsageCaptureMiddleware, raising(RequestError("no")), sink=sink), "POST", "/v1/messages"
        )
    assert json.loads(response.body)["error"]["message"] == "no"
    assert "was lost" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("POST", "/v1/messages/batches"), ("GET", "/")],
)
async def test_other_requests_leave_no_row(method: str, path: str) -> None:
    rows: list[UsageRecord] = []
    below = Below(streaming())
    response = await asgi.request(alone(UsageCaptureMiddleware, below, sink=rows.append), method, path, body=b"x")
    assert (response.pieces, below.bodies, rows) == (EVENTS, [b"x"], [])


async def test_mounted_under_a_prefix_it_knows_its_path() -> None:
    rows: list[UsageRecord] = []
    app = alone(UsageCaptureMiddleware, streaming(), sink=rows.append)
    await asgi.request(app, "POST", "/llm/v1/messages", root_path="/llm")
    assert len(rows) == 1


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(UsageCaptureMiddleware, sink=lambda row: None)


# quota


def _told_by_upstream(answer: Answer, headers: Sequence[tuple[bytes, bytes]], *, routed: bool = True) -> Answer:
    """An answer below which an upstream was asked, whose header fields were `headers`."""

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = get_exchange(scope)
        exchange.upstream_headers = headers
        if routed:
            provider = Provider("codex", "openai-responses", "https://codex.example")
            exchange.route = Route(provider, "gpt", "tag")
        await answer(scope, receive, send)

    return below


async def test_the_limits_that_the_upstream_told_go_with_the_row() -> None:
    headers = [(b"x-codex-primary-used-percent", b"25"), (b"x-codex-plan-type", b"plus")]
    row, _ = await captured(_told_by_upstream(streaming(), headers))
    (window,) = row.quota
    assert (window.provider, window.window, window.used_percent, window.plan) == ("codex", "primary", 25.0, "plus")
    assert window.observed_at >= row.started_at


async def test_a_refusal_tells_its_limits_too() -> None:
    below = _told_by_upstream(raising(RequestError("no")), [(b"x-codex-primary-used-percent", b"100")])
    row, _ = await captured(below)
    assert (row.outcome, [window.used_percent for window in row.quota]) == ("error", [100.0])


async def test_without_a_provider_there_are_no_limits() -> None:
    headers = [(b"x-codex-primary-used-percent", b"25")]
    row, _ = await captured(_told_by_upstream(streaming(), headers, routed=False))
    assert row.quota == ()
