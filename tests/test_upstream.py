"""The forwarder alone, over a transport that plays every upstream: what goes out, what comes back, what is raised."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from ccr_asgi import upstream
from ccr_asgi.errors import UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from ccr_asgi.exchange import SCOPE_KEY, Exchange, get_exchange
from ccr_asgi.middleware.guard import GuardMiddleware
from ccr_asgi.transport import Http11Transport
from ccr_asgi.upstream import ERROR_BODY_BYTES, MAX_SENDS, UpstreamApp
from tests.middleware.apps import passes_other_scopes_on
from tests.support import asgi
from tests.support.answers import Answer
from tests.support.fake_upstream import FakeUpstream

SENT = [
    ("Host", "127.0.0.1:3456"),
    ("Authorization", "Bearer clients"),
    ("Connection", "keep-alive, x-hop"),
    ("X-Hop", "1"),
    ("TE", "trailers"),
    ("Expect", "100-continue"),
    ("X-CCR-Key", "k"),
    ("Accept-Encoding", "gzip, br"),
    ("Content-Length", "3"),
]


class Body(httpx.AsyncByteStream):
    """An answer's body: bytes, errors, and events that it waits for; a read that is given up can be taken up again."""

    def __init__(self, *script: bytes | Exception | asyncio.Event) -> None:
        self._script = list(script)
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._script:
            step = self._script[0]
            if isinstance(step, asyncio.Event):
                await step.wait()
                self._script.pop(0)
                continue
            self._script.pop(0)
            if isinstance(step, Exception):
                raise step
            return step
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


class Transport(httpx.AsyncBaseTransport):
    """Gives the next of its answers, the last one again and again; an exception is raised, an event waited for."""

    def __init__(self, *answers: httpx.Response | Exception | asyncio.Event) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer


def answer(*script: bytes | Exception | asyncio.Event, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=Body(*script))


def closed(response: httpx.Response) -> bool:
    assert isinstance(response.stream, Body)
    return response.stream.closed


def converted(app: asgi.App, **fields: Any) -> asgi.App:
    """The leg of a conversion: whatever is raised comes out."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange()
        exchange.conversion = object()  # type: ignore[assignment]  # only its being there matters
        for name, value in fields.items():
            setattr(exchange, name, value)
        try:
            await app({**scope, SCOPE_KEY: exchange}, receive, send)
        finally:
            exchange.end()

    return outer


async def asked(app: asgi.App, path: str = "/v1/messages", **options: Any) -> asgi.Response:
    return await asgi.request(app, "POST", path, headers=SENT, body=b"abc", **options)


# passthrough


async def test_the_request_goes_out_as_it_came_but_for_one_connections_fields() -> None:
    transport = Transport(answer(b"x"))
    app = UpstreamApp(base_url="https://h:8443/prefix/", transport=transport)
    await asked(app, "/v1/messages%20", query=b"beta=true&a=%2f")
    (request,) = transport.requests
    assert (request.method, transport.bodies) == ("POST", [b"abc"])
    assert (request.url.scheme, request.url.host, request.url.port) == ("https", "h", 8443)
    assert request.extensions["target"] == b"/prefix/v1/messages%20?beta=true&a=%2f"
    names = {name.lower() for name, _ in request.headers.raw} - {b"host"}
    assert names == {b"authorization", b"accept-encoding", b"content-length"}


async def test_the_answer_comes_back_as_it_is_with_names_in_lower_case() -> None:
    script = answer(b"a", b"b", status=429, **{"Retry-After": "7", "Connection": "close", "Set-Cookie": "a"})
    response = await asked(UpstreamApp(base_url="http://h", transport=Transport(script)))
    assert (response.status, response.pieces) == (429, [b"a", b"b"])
    assert response.headers == [(b"retry-after", b"7"), (b"set-cookie", b"a")]
    assert response.complete
    assert closed(script)


async def test_url_and_transport_may_be_chosen_for_each_request() -> None:
    transport = Transport(answer(b"x"))
    exchanges: list[Exchange] = []

    def url(exchange: Exchange) -> str:
        exchanges.append(exchange)
        return "http://chosen"

    await asked(UpstreamApp(base_url=url, transport=lambda: transport))
    assert transport.requests[0].url.host == "chosen"
    assert len(exchanges) == 1


def test_it_has_a_transport_of_its_own() -> None:
    assert isinstance(UpstreamApp(base_url="http://h")._transport, Http11Transport)


@pytest.mark.parametrize("pieces", [[b"a", b"", b"b"], [b"", b"ab"]])
async def test_a_body_is_streamed_as_it_comes(pieces: list[bytes]) -> None:
    got: list[bytes] = []

    class Reading(Transport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            got.extend([part async for part in request.stream])
            return answer(b"x")

    app = UpstreamApp(base_url="http://h", transport=Reading(answer()))
    assert (await asgi.request(app, "POST", "/v1/files", body=pieces)).body == b"x"
    assert got == [piece for piece in pieces if piece]


async def test_only_http_is_forwarded() -> None:
    with pytest.raises(RuntimeError, match="'lifespan'"):
        await passes_other_scopes_on(lambda below: UpstreamApp(base_url="http://h"))


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (httpx.ConnectError("x"), 502, "Could not connect to h."),
        (httpx.ConnectTimeout("x"), 504, "Could not connect to h in time."),
        (httpx.ReadTimeout("x"), 504, "h was silent for too long."),
        (httpx.ReadError("x"), 502, "h closed the connection without an answer"),
        (httpx.RemoteProtocolError("x"), 502, "h closed the connection without an answer"),
    ],
)
async def test_no_answer_is_told_by_its_cause(error: Exception, status: int, words: str) -> None:
    response = await asked(UpstreamApp(base_url="http://h", transport=Transport(error)))
    assert response.status == status
    assert words in json.loads(response.body)["error"]["message"]


@pytest.mark.parametrize(
    ("error", "kind"), [(httpx.ReadError("x"), UpstreamCut), (httpx.ReadTimeout("x"), UpstreamTimeout)]
)
async def test_an_answer_that_breaks_off_is_never_ended_well(error: Exception, kind: type[Exception]) -> None:
    script = answer(b"a", error)
    call = asgi.start(UpstreamApp(base_url="http://h", transport=Transport(script)), "POST", "/v1/messages")
    with pytest.raises(kind):
        await call.end()
    assert call.response.pieces == [b"a"]
    assert not call.response.complete
    assert closed(script)


# sent again


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadError("x"), httpx.WriteError("x")])
async def test_what_nobody_answered_is_sent_again(error: Exception) -> None:
    transport = Transport(error, error, answer(b"x"))
    exchanges: list[Exchange] = []

    def url(exchange: Exchange) -> str:
        exchanges.append(exchange)
        return "http://h"

    assert (await asked(UpstreamApp(base_url=url, transport=transport))).body == b"x"
    assert transport.bodies == [b"abc"] * 3
    assert exchanges[0].resends == 2


@pytest.mark.parametrize(
    ("error", "sends"),
    [(httpx.ConnectError("x"), MAX_SENDS), (httpx.ReadTimeout("x"), 1), (httpx.RemoteProtocolError("x"), 1)],
)
async def test_it_is_sent_three_times_at_most_and_never_when_it_may_have_been_taken(
    error: Exception, sends: int
) -> None:
    transport = Transport(error)
    await asked(UpstreamApp(base_url="http://h", transport=transport))
    assert len(transport.requests) == sends


async def test_a_body_that_is_spent_cannot_be_sent_again() -> None:
    transport = Transport(httpx.ReadError("x"))
    app = UpstreamApp(base_url="http://h", transport=transport)
    assert (await asgi.request(app, "POST", "/v1/files", body=[b"a", b"b"])).status == 502
    assert len(transport.requests) == 1


# converted legs


async def test_a_converted_leg_has_the_endpoints_own_target() -> None:
    for url, target in (("http://h/v1/chat?a=b", b"/v1/chat?a=b"), ("http://h", b"/")):
        transport = Transport(answer(b"x"))
        await asked(converted(UpstreamApp(base_url=url, transport=transport)), query=b"beta=true")
        assert transport.requests[0].extensions["target"] == target


@pytest.mark.parametrize("status", [301, 400, 500])
async def test_a_refusal_of_a_converted_leg_is_raised_with_what_was_said(status: int) -> None:
    script = answer(b"a", b"b", httpx.ReadError("x"), status=status, **{"retry-after": "7"})
    with pytest.raises(UpstreamError) as raised:
        await asked(converted(UpstreamApp(base_url="http://h/v1", transport=Transport(script))))
    assert (raised.value.upstream_status, raised.value.body) == (status, b"ab")
    assert (b"retry-after", b"7") in raised.value.headers
    assert closed(script)


async def test_of_a_long_refusal_the_beginning_is_read() -> None:
    script = answer(*[b"x" * 10_000] * 20, status=500)
    with pytest.raises(UpstreamError) as raised:
        await asked(converted(UpstreamApp(base_url="http://h/v1", transport=Transport(script))))
    assert len(raised.value.body) == ERROR_BODY_BYTES


async def test_a_failure_of_a_converted_leg_is_raised() -> None:
    with pytest.raises(UpstreamUnreachable):
        await asked(converted(UpstreamApp(base_url="http://h/v1", transport=Transport(httpx.ConnectError("x")))))


def noting(app: asgi.App, until: Callable[[list[Any]], bool], event: asyncio.Event) -> tuple[asgi.App, list[Any]]:
    """Notes what is sent, even before the start, and sets `event` when it has seen enough."""
    seen: list[Any] = []

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Any) -> None:
            seen.append(message)
            if until(seen):
                event.set()
            if seen[0]["type"] == "http.response.start":
                await send(message)

        await app(scope, receive, note)

    return outer, seen


async def test_silence_before_the_answer_is_told() -> None:
    event = asyncio.Event()
    app = UpstreamApp(base_url="http://h/v1", transport=Transport(event, answer(b"x")), silence_s=0.001)
    outer, seen = noting(app, lambda seen: seen.count(upstream.IDLE) >= 2, event)
    await asked(converted(outer))
    assert seen[:2] == [upstream.IDLE] * 2
    assert [message["body"] for message in seen if message.get("body")] == [b"x"]


async def test_silence_within_the_answer_is_told() -> None:
    event = asyncio.Event()
    app = UpstreamApp(base_url="http://h/v1", transport=Transport(answer(b"a", event, b"b")), silence_s=0.001)
    outer, seen = noting(app, lambda seen: upstream.IDLE in seen, event)
    response = await asked(converted(outer))
    assert response.body == b"ab"
    assert upstream.IDLE in seen


async def test_an_answer_that_is_complete_is_drained_and_not_sent_on() -> None:
    script = answer(b"a", b"b", httpx.ReadError("x"))
    app = UpstreamApp(base_url="http://h/v1", transport=Transport(script))

    async def satisfied(scope: Scope, receive: Receive, send: Send) -> None:
        async def once(message: Any) -> None:
            if message.get("body"):
                get_exchange(scope).answered = True
                message = {**message, "more_body": False}
            await send(message)

        await app(scope, receive, once)

    response = await asked(converted(satisfied))
    assert (response.pieces, response.complete) == ([b"a"], True)
    assert closed(script)


async def test_an_upstream_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "DRAIN_S", 0)
    script = answer(b"a", asyncio.Event())
    app = converted(UpstreamApp(base_url="http://h/v1", transport=Transport(script)), answered=True)
    await asked(app)
    assert closed(script)


# the client leaves


async def test_a_client_that_leaves_ends_the_upstreams_answer() -> None:
    script = answer(b"a", asyncio.Event())
    call = asgi.start(
        UpstreamApp(base_url="http://h", transport=Transport(script)), "POST", "/v1/messages", body=b"abc"
    )
    await call.until(lambda response: response.pieces == [b"a"])
    call.leave()
    await call.end()
    assert closed(script)


@pytest.mark.parametrize("convert", [False, True])
async def test_a_client_that_leaves_before_the_answer_ends_the_request(convert: bool) -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    class Stalling(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

    app: asgi.App = UpstreamApp(base_url="http://h", transport=Stalling())
    call = asgi.start(converted(app) if convert else app, "POST", "/v1/messages", body=b"abc")
    await reached.wait()
    call.leave()
    assert not (await call.end()).started
    assert cancelled.is_set()


@pytest.mark.parametrize("body", [[], [b"a"]])
async def test_a_client_that_leaves_within_its_body_is_told_nothing(body: list[bytes]) -> None:
    transport = Transport(answer(b"x"))
    app = UpstreamApp(base_url="http://h", transport=transport)
    call = asgi.start(app, "POST", "/v1/files", body=body, more_to_come=True)
    call.leave()
    assert not (await call.end()).started
    assert transport.bodies == []


async def test_a_server_that_stops_ends_the_upstreams_answer() -> None:
    script = answer(b"a", asyncio.Event())
    call = asgi.start(
        UpstreamApp(base_url="http://h", transport=Transport(script)), "POST", "/v1/messages", body=b"abc"
    )
    await call.until(lambda response: response.pieces == [b"a"])
    await call.cancel()
    assert closed(script)


class Unread(httpx.AsyncBaseTransport):
    """An upstream that takes nothing of the request, and says nothing."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_client_that_leaves_in_the_middle_of_an_upload_that_nobody_reads_is_seen() -> None:
    call = asgi.start(
        UpstreamApp(base_url="http://h", transport=Unread()), "POST", "/v1/files", body=[b"a", b"b"], more_to_come=True
    )
    call.leave()
    assert not (await call.end()).started


async def test_a_refusal_in_the_middle_of_an_upload_reaches_its_reader() -> None:
    class Reading(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for _ in request.stream:
                pass
            raise AssertionError

    guarded = GuardMiddleware(
        UpstreamApp(base_url="http://h", transport=Reading()), allowed_hosts=["*"], max_body_bytes=3
    )
    call = asgi.start(guarded, "POST", "/v1/files", body=[b"ab", b"cd"], more_to_come=True)
    assert (await call.end()).status == 413


@pytest.mark.parametrize("status", [204, 304])
async def test_what_has_no_body_tells_no_length_of_one(status: int) -> None:
    with FakeUpstream() as fake:
        fake.on("/v1/x", Answer(b"", status, [("Content-Length", "1234"), ("ETag", "x")]))
        response = await asgi.request(UpstreamApp(base_url=fake.url), path="/v1/x")
    assert (response.status, response.headers, response.body) == (status, [(b"etag", b"x")], b"")
