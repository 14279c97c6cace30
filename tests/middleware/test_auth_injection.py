"""Credentials alone: the client's stay where they belong, the provider's go where they are wanted."""

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from ccr_asgi.asgi import Headers
from ccr_asgi.credentials.static import StaticKey
from ccr_asgi.errors import AuthenticationError, UpstreamError
from ccr_asgi.exchange import SCOPE_KEY, Exchange
from ccr_asgi.middleware import auth_injection
from ccr_asgi.middleware.auth_injection import AuthInjectionMiddleware
from tests.middleware.apps import Below, alone, answering, passes_other_scopes_on, raising
from tests.support import asgi

CLIENT: Headers = [
    (b"host", b"127.0.0.1:3456"),
    (b"authorization", b"Bearer clients-secret"),
    (b"x-api-key", b"clients-secret"),
    (b"cookie", b"session=clients-secret"),
    (b"x-claude-code-session-id", b"clients-session"),
    (b"x-stainless-os", b"Linux"),
    (b"x-my-company", b"clients-secret"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, br"),
    (b"anthropic-beta", b"a,b"),
    (b"anthropic-version", b"2023-06-01"),
    (b"content-type", b"application/json"),
    (b"content-length", b"3"),
    (b"user-agent", b"claude-cli/2.1"),
]
KEPT = [b"host", b"accept", b"anthropic-beta", b"anthropic-version", b"content-type"]
KEPT += [b"content-length", b"user-agent"]
REFUSED = UpstreamError("no", upstream_status=401)


class Refreshable:
    """Credentials that are others when they were refused, until there are no more."""

    refreshable = True

    def __init__(self, tokens: int = 9) -> None:
        self.tokens = tokens
        self.refused: list[Headers | None] = []

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        self.refused.append(refused)
        number = 1 + sum(told is not None for told in self.refused)
        if number > self.tokens:
            raise AuthenticationError("run `codex login`")
        return bearer(number)


class Slow(Refreshable):
    """Credentials that somebody is refreshing."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = asyncio.Event()

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return await super().headers(refused=refused)


def bearer(number: int) -> Headers:
    return [(b"authorization", b"Bearer token-%d" % number)]


async def sent_through(below: Below, **options: Any) -> asgi.Response:
    app = alone(AuthInjectionMiddleware, below, **options)
    return await asgi.request(app, "POST", "/v1/messages", headers=CLIENT, body=b"abc")


async def test_only_listed_headers_reach_another_party() -> None:
    below = Below()
    await sent_through(below, credentials=StaticKey("providers-key", kind="anthropic", extra=(("X-Title", "t"),)))
    assert [name for name, _ in below.headers] == [*KEPT, b"x-title", b"x-api-key"]
    assert below.header(b"x-api-key") == b"providers-key"
    assert not [value for _, value in below.headers if b"clients" in value]
    assert below.bodies == [b"abc"]


async def test_names_are_known_whatever_their_case() -> None:
    below = Below()
    scope: dict[str, Any] = {"type": "http", "headers": [(b"Cookie", b"c"), (b"Accept", b"a"), (b"X-Api-Key", b"k")]}
    exchange = Exchange()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    layer = AuthInjectionMiddleware(below, credentials=StaticKey("k2"))
    await layer({**scope, SCOPE_KEY: exchange}, exchange.replay(b""), send)
    assert below.headers == [(b"Accept", b"a"), (b"authorization", b"Bearer k2")]


async def test_a_field_of_the_providers_replaces_the_clients() -> None:
    below = Below()
    await sent_through(below, credentials=StaticKey(None, extra=(("User-Agent", "ours"), ("anthropic-beta", "c"))))
    values = {
        name: [value for key, value in below.headers if key == name] for name in (b"user-agent", b"anthropic-beta")
    }
    assert values == {b"user-agent": [b"ours"], b"anthropic-beta": [b"c"]}


@pytest.mark.parametrize(
    "options",
    [{}, {"credentials": None}, {"credentials": lambda exchange: None}],
    ids=["by default", "by None", "by a callable"],
)
async def test_without_credentials_a_request_is_left_as_it_is(options: dict[str, Any]) -> None:
    below = Below()
    await sent_through(below, **options)
    assert below.headers == CLIENT
    assert below.bodies == [b"abc"]


async def test_credentials_may_depend_on_the_exchange() -> None:
    seen: list[Exchange] = []

    def choose(exchange: Exchange) -> StaticKey:
        seen.append(exchange)
        return StaticKey("chosen")

    below = Below()
    await sent_through(below, credentials=choose)
    assert below.header(b"authorization") == b"Bearer chosen"
    assert seen == [below.exchange]


async def test_a_converted_leg_keeps_the_headers_of_its_conversion() -> None:
    async def convert(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange()
        exchange.conversion = object()  # type: ignore[assignment]  # only its being there matters
        own = [(b"content-type", b"application/json"), (b"session_id", b"s"), (b"authorization", b"old")]
        await injecting({**scope, "headers": own, SCOPE_KEY: exchange}, receive, send)

    below = Below()
    injecting = AuthInjectionMiddleware(below, credentials=StaticKey("key"))
    await asgi.request(convert, "POST", body=b"abc")
    assert below.headers == [
        (b"content-type", b"application/json"),
        (b"session_id", b"s"),
        (b"authorization", b"Bearer key"),
    ]


# refused


async def test_a_refusal_is_answered_with_other_credentials_and_a_resend() -> None:
    below, credentials = Below(raising(REFUSED), answering(b"ok")), Refreshable()
    response = await sent_through(below, credentials=credentials)
    assert (response.status, response.body) == (200, b"ok")
    assert credentials.refused == [None, bearer(1)]
    assert below.bodies == [b"abc", b"abc"]
    assert [dict(scope["headers"])[b"authorization"] for scope in below.scopes] == [
        b"Bearer token-1",
        b"Bearer token-2",
    ]
    assert below.exchange.resends == 1


async def test_a_second_refusal_is_answered_once_more() -> None:
    below, credentials = Below(raising(REFUSED), raising(REFUSED), answering(b"ok")), Refreshable()
    response = await sent_through(below, credentials=credentials)
    assert (response.status, response.body) == (200, b"ok")
    assert credentials.refused == [None, bearer(1), bearer(2)]
    assert below.bodies == [b"abc"] * 3
    assert below.exchange.resends == 2


async def test_a_third_refusal_is_the_answer() -> None:
    below, credentials = Below(raising(REFUSED)), Refreshable()
    response = await sent_through(below, credentials=credentials)
    assert response.status == 502  # alone, nothing says what the refusal means
    assert credentials.refused == [None, bearer(1), bearer(2)]
    assert len(below.scopes) == 3


async def test_when_there_are_no_others_that_is_the_answer() -> None:
    below, credentials = Below(raising(REFUSED)), Refreshable(tokens=1)
    response = await sent_through(below, credentials=credentials)
    assert json.loads(response.body)["error"]["message"] == "run `codex login`"
    assert (response.status, len(below.scopes), below.exchange.resends) == (401, 1, 0)


@pytest.mark.parametrize("status", [400, 403, 429, 500, None])
async def test_other_refusals_are_no_matter_of_credentials(status: int | None) -> None:
    below, credentials = Below(raising(UpstreamError("no", upstream_status=status))), Refreshable()
    await sent_through(below, credentials=credentials)
    assert (credentials.refused, len(below.scopes)) == ([None], 1)
    assert below.exchange.resends == 0


async def test_a_key_that_cannot_change_is_not_tried_twice() -> None:
    below = Below(raising(REFUSED))
    await sent_through(below, credentials=StaticKey("k"))
    assert len(below.scopes) == 1


async def test_a_missing_login_is_told_and_nobody_is_asked() -> None:
    below = Below()
    response = await sent_through(below, credentials=Refreshable(tokens=0))
    error = json.loads(response.body)["error"]
    assert (response.status, response.header("x-should-retry")) == (401, b"false")
    assert error == {"type": "authentication_error", "message": "run `codex login`"}
    assert below.scopes == []


async def test_the_resend_sees_the_client_leave() -> None:
    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(b"1", end=False)(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    app = alone(AuthInjectionMiddleware, Below(raising(REFUSED), waits), credentials=Refreshable())
    call = asgi.start(app, "POST", body=b"abc")
    await call.until(lambda response: response.pieces == [b"1"])
    call.leave()
    await call.end()


async def test_a_client_that_leaves_during_a_refresh_is_not_kept() -> None:
    below, credentials = Below(), Slow()
    call = asgi.start(alone(AuthInjectionMiddleware, below, credentials=credentials), "POST", body=b"abc")
    await asyncio.sleep(0)
    call.leave()
    assert not (await call.end()).started
    await credentials.cancelled.wait()
    assert below.scopes == []


async def test_a_client_that_leaves_within_its_body_is_told_nothing() -> None:
    below = Below()
    call = asgi.start(
        alone(AuthInjectionMiddleware, below, credentials=Refreshable()), "POST", body=b"a", more_to_come=True
    )
    call.leave()
    assert not (await call.end()).started
    assert below.scopes == []


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(AuthInjectionMiddleware, credentials=StaticKey("k"))


KEY = "providers-own-key"


def echoing(status: int, headers: Headers, body: bytes) -> asgi.App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in (body[:20], body[20:]):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_an_error_that_echoes_the_key_is_blanked(encoding: str) -> None:
    told = f'{{"error": "invalid x-api-key {KEY}"}}'.encode()
    body = gzip.compress(told) if encoding else told
    headers = [(b"x-echo", KEY.encode()), (b"content-length", b"%d" % len(body))]
    if encoding:
        headers.append((b"content-encoding", b"gzip"))
    app = alone(AuthInjectionMiddleware, echoing(401, headers, body), credentials=StaticKey(KEY, kind="anthropic"))
    response = await asgi.request(app, "POST", "/v1/messages", headers=CLIENT, body=b"abc")
    assert response.status == 401
    assert response.body == b'{"error": "invalid x-api-key ***"}'
    assert response.headers == [(b"x-echo", b"***"), (b"content-length", b"%d" % len(response.body))]


@pytest.mark.parametrize("encoding", [b"gzip", b"identity", b"snappy"])
async def test_an_error_that_echoes_nothing_is_left_as_it_is(encoding: bytes) -> None:
    body = b'{"error": "overloaded, and not what its encoding says"}'
    headers = [(b"content-encoding", encoding), (b"x-a", b"1")]
    app = alone(AuthInjectionMiddleware, echoing(529, headers, body), credentials=StaticKey(KEY, kind="anthropic"))
    response = await asgi.request(app, "POST", "/v1/messages", headers=CLIENT, body=b"abc")
    assert (response.status, response.headers, response.body) == (529, headers, body)


async def test_an_endless_error_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_injection, "ERROR_BYTES", 30)
    body = b"x" * 100
    app = alone(AuthInjectionMiddleware, echoing(500, [], body), credentials=StaticKey(KEY, kind="anthropic"))
    response = await asgi.request(app, "POST", "/v1/messages", headers=CLIENT, body=b"abc")
    assert (response.body, response.header("content-length")) == (b"x" * 30, b"30")


async def test_an_error_that_unfolds_is_cut() -> None:
    body = gzip.compress(b"x" * (50 * auth_injection.ERROR_BYTES))
    headers = [(b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(body))]
    app = alone(AuthInjectionMiddleware, echoing(500, headers, body), credentials=StaticKey(KEY, kind="anthropic"))
    tracemalloc.start()
    response = await asgi.request(app, "POST", "/v1/messages", headers=CLIENT, body=b"abc")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert response.body == b"x" * auth_injection.ERROR_BYTES
    assert response.headers == [(b"content-length", b"%d" % auth_injection.ERROR_BYTES)]
    assert peak_bytes < 8 * auth_injection.ERROR_BYTES


@pytest.mark.parametrize("end", range(30, 30 + len(KEY)))
async def test_a_key_that_stands_where_an_error_is_cut_is_blanked(end: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_injection, "ERROR_BYTES", end - 1)
    body = (b"x" * 30 + KEY.encode())[:end]
    app = alone(AuthInjectionMiddleware, echoing(500, [], body), credentials=StaticKey(KEY, kind="anthropic"))
    response = await asgi.request(app, "POST", "/v1/messages", headers=CLIENT, body=b"abc")
    assert response.body.replace(b"*", b"") == b"x" * min(30, end - 1)


@pytest.mark.parametrize("cut", range(1, 30, 3))
async def test_an_answer_that_echoes_the_key_is_blanked_wherever_it_is_cut(cut: int) -> None:
    body = b"event: x " + KEY.encode() + b" and " + KEY.encode()[:5]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        head = [(b"x-echo", KEY.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body[:cut], "more_body": True})
        await send({"type": "http.response.body", "body": body[cut:], "more_body": False})

    app = alone(AuthInjectionMiddleware, answer, credentials=StaticKey(KEY, kind="anthropic"))
    response = await asgi.request(app, "POST", "/v1/messages", body=b"{}")
    assert response.body == body.replace(KEY.encode(), b"*" * len(KEY))
    assert response.headers == [(b"x-echo", b"***"), (b"content-length", b"%d" % len(body))]
