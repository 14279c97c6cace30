"""Format conversion alone, over an application that plays the provider: what it sends, holds back, pings and fails."""

import gzip
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import brotli
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from ccr_asgi.config import Kind, Provider
from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut, UpstreamError, UpstreamTimeout
from ccr_asgi.exchange import Exchange, get_exchange
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import Conversion, ConversionContext, UpstreamRequest
from ccr_asgi.middleware import format_conversion
from ccr_asgi.middleware.errors import ErrorMiddleware
from ccr_asgi.middleware.format_conversion import HOLD_S, PING_S, FormatConversionMiddleware
from ccr_asgi.middleware.routing import RoutingMiddleware
from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware
from ccr_asgi.routing import Route, RoutingTable
from ccr_asgi.upstream import IDLE
from tests.middleware.apps import Answer, Below, alone, answering, passes_other_scopes_on, raising
from tests.support import asgi
from tests.support.provider_answers import chat_completion, chat_error, chat_sse

TAG = "<CCR-SUBAGENT-MODEL>cerebras,gpt-oss-120b</CCR-SUBAGENT-MODEL>"
CLIENT_HEADERS = [
    ("authorization", "Bearer clients-secret"),
    ("x-claude-code-session-id", "clients-session"),
    ("anthropic-beta", "a"),
    ("user-agent", "claude-cli/2.1"),
    ("cookie", "clients-secret"),
]
CHUNKS = [piece for piece in chat_sse("Hello there.").pieces if isinstance(piece, bytes)]
SAID = 2
"""How many of the chunks it takes until something has been said."""
COMPLETION = chat_completion("Hello there.").content
SSE = b"text/event-stream"


class Clock:
    """Stands for `time` in the module, so that no test waits."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(format_conversion, "time", clock)
    return clock


def request_body(*, stream: bool | None = True, **changes: Any) -> bytes:
    body: dict[str, Any] = {"model": "gpt-oss-120b", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
    if stream is not None:
        body["stream"] = stream
    return json.dumps({**body, **changes}).encode()


def converting(below: Answer, kind: Any = "openai-chat") -> Starlette:
    return alone(FormatConversionMiddleware, below, kind=kind)


async def asked(app: asgi.App, body: bytes, path: str = "/v1/messages") -> asgi.Response:
    return await asgi.request(app, "POST", path, headers=CLIENT_HEADERS, body=body)


def events_of(body: bytes) -> list[tuple[str, Any]]:
    """The events of a stream: their names and data."""
    found = []
    for event in body.split(b"\n\n")[:-1]:
        name, _, data = event.partition(b"\ndata: ")
        found.append((name.removeprefix(b"event: ").decode(), json.loads(data)))
    return found


def names_of(body: bytes) -> list[str]:
    return [name for name, _ in events_of(body)]


Step = Callable[[Send], Awaitable[None]]


def steps(*script: Step) -> Answer:
    """A provider whose answer is made of these steps."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        for step in script:
            await step(send)

    return answer


def start(content_type: bytes = SSE) -> Step:
    headers = [(b"content-type", content_type)]
    return lambda send: send({"type": "http.response.start", "status": 200, "headers": headers})


def chunk(*chunks: bytes, more: bool = True) -> Step:
    return lambda send: send({"type": "http.response.body", "body": b"".join(chunks), "more_body": more})


def silence(clock: Clock, seconds: float) -> Step:
    """The upstream says nothing for a while, and the layer below says so."""

    async def step(send: Send) -> None:
        clock.now_s += seconds
        await send(IDLE)

    return step


def breaks(error: Exception) -> Step:
    async def step(send: Send) -> None:
        raise error

    return step


# requests


async def test_a_request_is_converted_and_carries_nothing_of_the_clients() -> None:
    below = Below(answering(*CHUNKS, content_type=SSE))
    metadata = {"user_id": "clients-id"}
    system = [{"type": "text", "text": "x-anthropic-billing-header: clients"}, {"type": "text", "text": "Be brief."}]
    response = await asked(converting(below), request_body(metadata=metadata, system=system))
    assert response.status == 200
    body = json.loads(below.bodies[0])
    assert (body["model"], body["stream"]) == ("gpt-oss-120b", True)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert dict(below.headers) == {
        b"content-type": b"application/json",
        b"accept": b"text/event-stream",
        b"accept-encoding": b"identity",
        b"user-agent": b"ccr-asgi",
        b"content-length": b"%d" % len(below.bodies[0]),
    }
    for secret in (b"clients", b"anthropic"):
        assert secret not in below.bodies[0]
    assert below.exchange.conversion is not None
    assert below.exchange.conversion.request.body == b"", "whoever may have to send it again holds it, nobody else"


async def test_an_answer_that_is_no_stream_is_asked_for_as_one() -> None:
    below = Below(answering(COMPLETION))
    await asked(converting(below), request_body(stream=False))
    assert below.header(b"accept") == b"application/json"
    assert json.loads(below.bodies[0]).get("stream", False) is False


async def test_with_the_layers_above_the_route_and_its_quirks_are_used() -> None:
    below = Below(answering(*CHUNKS, content_type=SSE))
    cerebras = Provider("cerebras", "openai-chat", "http://c", api_key="k", models=("gpt-oss-120b",))
    table = RoutingTable(
        {"anthropic": Provider("anthropic", "anthropic", "http://a", passthrough=True), "cerebras": cerebras}
    )

    def kind(exchange: Exchange) -> Kind:
        assert exchange.route is not None
        return exchange.route.provider.kind

    app = Starlette(
        routes=[Mount("/", app=below)],
        middleware=[
            Middleware(TagExtractionMiddleware),
            Middleware(RoutingMiddleware, table=table),
            Middleware(FormatConversionMiddleware, kind=kind),
        ],
    )
    await asked(app, request_body(model="claude-haiku-4-5", system=f"{TAG}\nBe brief."))
    assert json.loads(below.bodies[-1])["model"] == "gpt-oss-120b"
    assert b"CCR-SUBAGENT-MODEL" not in below.bodies[-1]
    untouched = request_body(model="claude-haiku-4-5", system="Be brief.")
    await asked(app, untouched)
    assert below.bodies[-1] == untouched
    assert below.header(b"authorization") == b"Bearer clients-secret"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[1]", "an array"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{}", "`model` is missing"),
        (b'{"model": 7}', "`model` is missing"),
        (b'{"model": ""}', "`model` is missing"),
        (b'{"model": "m", "messages": 7}', "messages"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_a_body_of_no_use_is_a_400_before_the_provider_is_asked(path: str, body: bytes, words: str) -> None:
    below = Below()
    response = await asked(converting(below), body, path)
    error = json.loads(response.body)["error"]
    assert (response.status, error["type"], below.scopes) == (400, "invalid_request_error", [])
    assert words in error["message"]


async def test_a_kind_that_this_version_cannot_convert_is_named() -> None:
    below = Below()
    response = await asked(converting(below, cast(Kind, "smoke-signals")), request_body())
    assert (response.status, below.scopes) == (400, [])
    assert "'smoke-signals'" in json.loads(response.body)["error"]["message"]
    assert "'openai-chat'" in json.loads(response.body)["error"]["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/other"), ("GET", "/v1/messages")])
@pytest.mark.parametrize("kind", ["openai-chat", "openai-responses", "anthropic"])
async def test_other_requests_pass(kind: Kind, method: str, path: str) -> None:
    below = Below(answering(b"a", b"b"))
    response = await asgi.request(converting(below, kind), method, path, headers=CLIENT_HEADERS, body=b"x")
    assert (response.pieces, below.bodies) == ([b"a", b"b"], [b"x"])
    assert below.header(b"cookie") == b"clients-secret"


# Anthropic's own format


async def test_anthropics_format_alone_changes_nothing() -> None:
    below = Below(answering(b"a", b"b"))
    body = b' {"model" : "claude-haiku-4-5"}'
    response = await asked(converting(below, "anthropic"), body)
    assert (response.pieces, below.bodies) == ([b"a", b"b"], [body])
    assert below.header(b"authorization") == b"Bearer clients-secret"


def routed(below: Answer, provider: Provider, model: str | None) -> asgi.App:
    """Anthropic's format below something that has chosen a route."""
    converted = FormatConversionMiddleware(below, kind=lambda exchange: exchange.route.provider.kind)  # type: ignore[union-attr]  # the route is set below

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        get_exchange(scope).route = Route(provider, model, "tag")
        await converted(scope, receive, send)

    return ErrorMiddleware(route)


@pytest.mark.parametrize(
    ("passthrough", "kept"), [(True, {"model", "system", "metadata"}), (False, {"model", "system"})]
)
async def test_a_routed_request_gets_its_model_and_loses_its_tag(passthrough: bool, kept: set[str]) -> None:
    below = Below()
    provider = Provider("x", "anthropic", "http://a", passthrough=passthrough, api_key=None if passthrough else "k")
    body = {"model": "claude-opus", "system": f"{TAG}\nBe brief.", "metadata": {"user_id": "u"}}
    app = routed(below, provider, "claude-haiku-4-5[1m]")
    headers = [("content-length", "7"), ("x-api-key", "k")]
    assert (
        await asgi.request(app, "POST", "/v1/messages", headers=headers, body=json.dumps(body).encode())
    ).status == 200
    sent = json.loads(below.bodies[0])
    assert (sent["model"], sent["system"], set(sent)) == ("claude-haiku-4-5", "Be brief.", kept)
    assert below.headers == [
        (b"host", b"127.0.0.1:3456"),
        (b"content-length", b"%d" % len(below.bodies[0])),
        (b"x-api-key", b"k"),
    ]


async def test_a_request_that_was_routed_by_default_is_left_as_it_is() -> None:
    below = Below()
    body = b' {"model" : "claude-opus"}'
    provider = Provider("x", "anthropic", "http://a", passthrough=True)
    await asgi.request(routed(below, provider, None), "POST", "/v1/messages", body=body)
    assert below.bodies == [body]


async def test_a_default_provider_with_a_key_of_its_own_sees_nothing_of_the_clients_account() -> None:
    below = Below()
    body = b'{"model":"claude-opus","metadata":{"user_id":"u"},"safeguards":{"paths":["/home"]},"max_tokens":1}'
    await asgi.request(routed(below, Provider("x", "anthropic", "http://a"), None), "POST", "/v1/messages", body=body)
    assert below.bodies == [b'{"model":"claude-opus","max_tokens":1}']


async def test_a_routed_body_that_is_not_json_is_a_400() -> None:
    below = Below()
    app = routed(below, Provider("x", "anthropic", "http://a"), "m")
    assert (await asgi.request(app, "POST", "/v1/messages", body=b"{")).status == 400
    assert below.scopes == []


# answers


async def test_a_stream_comes_out_event_by_event() -> None:
    below = Below(answering(*CHUNKS, content_type=SSE))
    response = await asked(converting(below), request_body())
    assert response.status == 200
    assert response.header("content-type") == b"text/event-stream; charset=utf-8"
    assert response.header("cache-control") == b"no-cache"
    assert response.header("request-id") == below.exchange.request_id.encode()
    assert response.header("content-length") is None
    names = names_of(response.body)
    assert (names[0], names[-1]) == ("message_start", "message_stop")
    assert len(response.pieces) > 2
    assert below.exchange.answered
    assert below.exchange.error is None
    assert below.exchange.usage_extra.served_model == "gpt-oss-120b"


async def test_a_message_comes_out_whole() -> None:
    response = await asked(converting(Below(answering(COMPLETION[:9], COMPLETION[9:]))), request_body(stream=False))
    message = json.loads(response.body)
    assert message["content"] == [{"type": "text", "text": "Hello there."}]
    assert (message["type"], message["stop_reason"]) == ("message", "end_turn")
    assert response.header("content-type") == b"application/json"
    assert response.header("content-length") == b"%d" % len(response.body)
    assert len(response.pieces) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("answer", [answering(*CHUNKS, content_type=SSE), answering(COMPLETION)], ids=["sse", "json"])
async def test_the_client_gets_the_form_that_it_asked_for(stream: bool, answer: Answer) -> None:
    response = await asked(converting(Below(answer)), request_body(stream=stream))
    if stream:
        assert names_of(response.body)[-1] == "message_stop"
    else:
        assert json.loads(response.body)["content"][0]["text"] == "Hello there."


async def test_a_compressed_answer_is_read() -> None:
    data = gzip.compress(b"".join(CHUNKS))
    headers = [(b"content-encoding", b"gzip")]
    below = Below(answering(data[:30], data[30:], content_type=SSE, headers=headers))
    assert names_of((await asked(converting(below), request_body())).body)[-1] == "message_stop"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [(gzip.compress(b"".join(CHUNKS), mtime=0)[:40], b"gzip"), (b"plain", b"gzip"), (b"plain", b"compress")],
    ids=["cut", "not compressed", "unknown"],
)
async def test_an_answer_that_cannot_be_unfolded_is_a_502(data: bytes, encoding: bytes) -> None:
    below = Below(answering(data, content_type=SSE, headers=[(b"content-encoding", encoding)]))
    response = await asked(converting(below), request_body())
    assert (response.status, json.loads(response.body)["error"]["type"]) == (502, "api_error")


async def test_the_200_is_held_until_something_was_said() -> None:
    states: list[bool] = []
    calls: list[asgi.Call] = []

    async def note(send: Send) -> None:
        states.append(calls[0].response.started)

    answer = steps(note, start(), note, chunk(CHUNKS[0]), note, chunk(CHUNKS[1]), note, chunk(*CHUNKS[2:], more=False))
    calls.append(asgi.start(converting(Below(answer)), "POST", "/v1/messages", body=request_body()))
    await calls[0].end()
    assert states == [False, False, False, True]


async def test_what_comes_after_the_end_is_left_alone() -> None:
    answer = steps(start(), chunk(*CHUNKS), chunk(b"data: late\n\n"), chunk(b"", more=False))
    below = Below(answer)
    response = await asked(converting(below), request_body())
    assert response.complete
    assert names_of(response.body).count("message_stop") == 1


async def test_a_failure_after_the_end_is_nobodys_business() -> None:
    below = Below(steps(start(), chunk(*CHUNKS), breaks(UpstreamCut("late"))))
    response = await asked(converting(below), request_body())
    assert names_of(response.body)[-1] == "message_stop"
    assert below.exchange.error is None


# failures before the start are statuses


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("refused", "status", "error_type"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (429, 429, "rate_limit_error"),
        (500, 502, "api_error"),
    ],
)
async def test_a_refusal_is_told_with_its_status(refused: int, status: int, error_type: str, stream: bool) -> None:
    body = chat_error(refused, "what the provider says").content
    below = Below(raising(UpstreamError("no", upstream_status=refused, headers=[(b"retry-after", b"7")], body=body)))
    response = await asked(converting(below), request_body(stream=stream))
    error = json.loads(response.body)["error"]
    assert (response.status, error["type"]) == (status, error_type)
    assert "what the provider says" in error["message"]
    assert response.header("retry-after") == (b"7" if status == 429 else None)
    assert len(below.scopes) == 1


@pytest.mark.parametrize(
    ("fold", "encoding", "told"),
    [
        (gzip.compress, b"gzip", "openai-chat: what the provider says"),
        (brotli.compress, b"br", "openai-chat: what the provider says"),
        (bytes, b"gzip", "openai-chat: The provider answered with status 400."),
        (bytes, b"snappy", "openai-chat: The provider answered with status 400."),
    ],
)
async def test_a_compressed_refusal_is_read(fold: Callable[[bytes], bytes], encoding: bytes, told: str) -> None:
    body = fold(chat_error(400, "what the provider says").content)
    refusal = UpstreamError("no", upstream_status=400, headers=[(b"Content-Encoding", encoding)], body=body)
    response = await asked(converting(Below(raising(refusal))), request_body())
    assert (response.status, json.loads(response.body)["error"]["message"]) == (400, told)


@pytest.mark.parametrize(
    ("error", "status"),
    [(UpstreamTimeout("silent"), 504), (UpstreamCut("cut"), 502), (ProviderError("busy", status=529), 529)],
)
async def test_no_answer_at_all_is_told_as_it_is(error: CcrError, status: int) -> None:
    for answer in (raising(error), steps(start(), breaks(error)), steps(start(), chunk(CHUNKS[0]), breaks(error))):
        response = await asked(converting(Below(answer)), request_body())
        assert response.status == status
        assert json.loads(response.body)["error"]["message"] == error.message


async def test_an_error_in_a_200_before_anything_was_said_is_a_status() -> None:
    event = b'data: {"error": {"message": "what the provider says", "type": "server_error"}}\n\n'
    response = await asked(converting(Below(answering(event, content_type=SSE))), request_body())
    assert response.status >= 400
    assert "what the provider says" in json.loads(response.body)["error"]["message"]


@pytest.mark.parametrize(
    "pieces",
    [[], [b"<html>"], [b"hello"], CHUNKS[:1], [COMPLETION[:20]]],
    ids=["nothing", "a page", "text", "one empty chunk", "the start of a document"],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_says_nothing_is_a_502(pieces: list[bytes], stream: bool) -> None:
    response = await asked(converting(Below(answering(*pieces, content_type=b""))), request_body(stream=stream))
    assert (response.status, json.loads(response.body)["error"]["type"]) == (502, "api_error")


async def test_a_message_that_was_cut_is_never_shown_in_part() -> None:
    below = Below(steps(start(b"application/json"), chunk(COMPLETION[:50]), breaks(UpstreamCut("cut"))))
    response = await asked(converting(below), request_body(stream=False))
    assert (response.status, json.loads(response.body)["error"]["message"]) == (502, "cut")


# failures after the start are events


@pytest.mark.parametrize(
    "ending",
    [
        [breaks(UpstreamCut("cut"))],
        [chunk(b'data: {"error": {"message": "cut"}}\n\n', more=False)],
    ],
    ids=["raised", "said"],
)
async def test_a_stream_that_breaks_off_ends_in_an_error_event(ending: list[Step]) -> None:
    below = Below(steps(start(), chunk(*CHUNKS[:SAID]), *ending))
    response = await asked(converting(below), request_body())
    assert (response.status, response.complete) == (200, True)
    events = events_of(response.body)
    assert [name for name, _ in events[-2:]] == ["content_block_stop", "error"]
    assert "cut" in events[-1][1]["error"]["message"]
    assert below.exchange.error is not None
    assert below.exchange.usage_extra.unsent is not None
    assert len(below.scopes) == 1


async def test_a_client_that_left_leaves_what_was_used() -> None:
    below = Below(steps(start(), chunk(*CHUNKS[:SAID])))  # and then UpstreamApp returns
    await asked(converting(below), request_body())
    assert below.exchange.usage_extra.unsent is not None
    assert not below.exchange.answered


async def test_a_client_that_left_before_the_answer_leaves_nothing() -> None:
    below = Below(steps())
    response = await asked(converting(below), request_body())
    assert not response.started
    assert below.exchange.usage_extra.unsent is None


# silence


@pytest.mark.parametrize("early_s", [0.0, 0.01], ids=["in time", "early"])
async def test_a_silent_provider_is_waited_for_and_then_pinged(clock: Clock, early_s: float) -> None:
    pings: list[int] = []
    calls: list[asgi.Call] = []

    async def note(send: Send) -> None:
        pings.append(names_of(calls[0].response.body).count("ping"))

    idle = silence(clock, PING_S - early_s)
    held = [idle] * round(HOLD_S / PING_S - 1)
    answer = steps(*held, note, idle, note, idle, note, start(), idle, note, chunk(*CHUNKS, more=False))
    calls.append(asgi.start(converting(Below(answer)), "POST", "/v1/messages", body=request_body()))
    response = await calls[0].end()
    assert pings == [0, 1, 2, 3]
    names = names_of(response.body)
    assert next(name for name in names if name != "ping") == "message_start"
    assert names[-1] == "message_stop"
    assert response.status == 200


async def test_a_silence_that_is_short_is_no_ping(clock: Clock) -> None:
    short = silence(clock, PING_S * 0.9)
    below = Below(
        steps(start(), chunk(*CHUNKS[:SAID]), short, chunk(CHUNKS[SAID]), short, chunk(*CHUNKS[SAID + 1 :], more=False))
    )
    assert "ping" not in names_of((await asked(converting(below), request_body())).body)


async def test_between_two_words_a_silence_is_a_ping(clock: Clock) -> None:
    idle = silence(clock, PING_S)
    below = Below(steps(start(), chunk(*CHUNKS[:SAID]), idle, idle, chunk(*CHUNKS[SAID:], more=False)))
    names = names_of((await asked(converting(below), request_body())).body)
    assert names.count("ping") >= 2
    assert names[-1] == "message_stop"


async def test_bytes_that_say_nothing_are_a_silence(clock: Clock) -> None:
    async def keepalive(send: Send) -> None:
        clock.now_s += HOLD_S
        await send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})

    below = Below(steps(start(), keepalive, chunk(*CHUNKS, more=False)))
    assert names_of((await asked(converting(below), request_body())).body)[:2] in (
        ["ping", "message_start"],
        ["message_start", "ping"],
    )


async def test_who_wants_a_message_gets_no_ping(clock: Clock) -> None:
    idle = silence(clock, HOLD_S)
    below = Below(steps(idle, start(b"application/json"), idle, chunk(COMPLETION, more=False)))
    response = await asked(converting(below), request_body(stream=False))
    assert len(response.pieces) == 1
    assert json.loads(response.body)["type"] == "message"


@pytest.mark.parametrize("begun", [False, True])
async def test_after_a_ping_a_failure_is_an_event(clock: Clock, begun: bool) -> None:
    idle = silence(clock, HOLD_S)
    refusal = UpstreamError("no", upstream_status=429, body=chat_error(429, "slow down").content)
    script = [start(), idle] if begun else [idle]
    below = Below(steps(*script, breaks(refusal)))
    response = await asked(converting(below), request_body())
    assert (response.status, response.complete) == (200, True)
    name, data = events_of(response.body)[-1]
    assert (name, data["error"]["type"]) == ("error", "rate_limit_error")
    assert "slow down" in data["error"]["message"]
    assert below.exchange.error is not None


# another try


class Stubborn:
    """A format whose first request is refused and whose second is another."""

    kind = "openai-chat"

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self.failures: list[CcrError] = []

    def begin(self, body: dict[str, Any], route: Route, context: ConversionContext) -> Conversion:
        self.context = context
        conversion = FORMATS["openai-chat"].begin(body, route, context)
        return SimpleNamespace(
            request=conversion.request,
            extra=conversion.extra,
            stream=conversion.stream,
            error=conversion.error,
            retry=self._retry,
        )

    def count_tokens(self, body: dict[str, Any], route: Route) -> int:
        raise AssertionError("not asked for")

    def _retry(self, error: CcrError) -> UpstreamRequest | None:
        self.failures.append(error)
        return UpstreamRequest(b"changed", ((b"x-lane", b"2"),)) if len(self.failures) <= self._retries else None


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    stubborn = Stubborn(retries=1)
    monkeypatch.setattr(format_conversion, "FORMATS", {"openai-chat": stubborn})
    return stubborn


REFUSAL = UpstreamError("no", upstream_status=400, body=chat_error(400, "not in this form").content)


async def test_a_conversion_may_try_another_form(stubborn: Stubborn) -> None:
    below = Below(raising(REFUSAL), answering(*CHUNKS, content_type=SSE))
    response = await asked(converting(below), request_body())
    assert names_of(response.body)[-1] == "message_stop"
    assert below.bodies[1] == b"changed"
    assert below.header(b"x-lane") == b"2"
    assert below.header(b"content-length") == b"7"
    assert below.exchange.resends == 1
    assert [(type(error), "not in this form" in error.message) for error in stubborn.failures] == [
        (ProviderError, True)
    ]


async def test_when_no_form_helps_the_last_refusal_is_told(stubborn: Stubborn) -> None:
    below = Below(raising(REFUSAL))
    response = await asked(converting(below), request_body())
    assert response.status == 400
    assert len(below.scopes) == 2


async def test_once_something_was_said_there_is_no_other_try(stubborn: Stubborn) -> None:
    below = Below(steps(start(), chunk(*CHUNKS[:SAID]), breaks(UpstreamCut("cut"))))
    response = await asked(converting(below), request_body())
    assert names_of(response.body)[-1] == "error"
    assert stubborn.failures == []


async def test_each_message_has_an_id_of_its_own(stubborn: Stubborn) -> None:
    ids = set()
    for _ in range(2):
        await asked(converting(Below(answering(*CHUNKS, content_type=SSE))), request_body())
        ids.add(stubborn.context.message_id)
    assert len(ids) == 2
    assert all(message_id.startswith("msg_ccr_") for message_id in ids)


# count_tokens


async def test_tokens_are_estimated_here() -> None:
    below = Below()
    app = converting(below)
    short = await asked(app, request_body(stream=None), "/v1/messages/count_tokens")
    long = await asked(app, request_body(stream=None, system="words " * 500), "/v1/messages/count_tokens")
    assert (short.status, long.status, below.scopes) == (200, 200, [])
    assert 0 < json.loads(short.body)["input_tokens"] < json.loads(long.body)["input_tokens"]
    assert short.header("request-id") is not None


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(FormatConversionMiddleware, kind="openai-chat")
