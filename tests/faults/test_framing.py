"""Requests that no HTTP client writes: smuggling, forged heads, too much head, slow heads, several at once."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.faults.measures import HELD_UP_S
from tests.faults.test_bad_input import refused
from tests.integration.claude import (
    BEARER,
    CHAT_KEY,
    TARGET,
    World,
    body,
    headers,
    new_session,
    tagged,
    world_in_a_process,
)
from tests.support.fake_upstream import FakeUpstream, Gate, anthropic_sse, chat_sse
from tests.support.raw_http import RawClient
from tests.support.server import running_server

SMUGGLED = b"POST /v1/messages HTTP/1.1\r\nHost: @HOST\r\nContent-Length: 2\r\nX-Smuggled: yes\r\n\r\n{}"


def conversation(world: World, *pieces: bytes, host: bytes = b"") -> tuple[list[int], bool]:
    """What comes of these bytes: the statuses of all answers, and whether the server closed after them."""
    statuses: list[int] = []
    with RawClient(world.url) as client:
        client._socket.settimeout(3.0)
        try:
            for piece in pieces:
                client.send(piece.replace(b"@HOST", host or client.host.encode()))
            while True:
                statuses.append(client.read_response().status)
                client._socket.settimeout(0.5)
        except (EOFError, ConnectionError):
            return statuses, True
        except TimeoutError:
            return statuses, False


def nothing_smuggled(world: World) -> None:
    """No upstream was reached by what stood inside of a body."""
    for upstream in (world.anthropic, world.chat, world.third):
        assert not any(request.header("x-smuggled") for request in upstream.arriving)


ATTACKS: dict[str, bytes] = {
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "one length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "a negative length": b"Content-Length: -1\r\n\r\n{}",
    "a length in hex": b"Content-Length: 0x2\r\n\r\n{}",
    "a length with an underscore": b"Content-Length: 0_2\r\n\r\n{}",
    "an empty length": b"Content-Length: \r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding and identity": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding in disguise": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a compressed coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a coding after a space": b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a second host": b"Host: evil.example\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk with a bad size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk with a signed size": b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "a field without a name": b": x\r\nContent-Length: 2\r\n\r\n{}",
    "a NUL in a field": b"X-A: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a bare CR in a field": b"X-A: a\rX-Smuggled: yes\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.fault("framing attacks")
@pytest.mark.parametrize("rest", ATTACKS.values(), ids=ATTACKS)
def test_a_request_that_two_servers_could_read_differently(world: World, rest: bytes) -> None:
    statuses, _ = conversation(world, b"POST /v1/messages HTTP/1.1\r\nHost: @HOST\r\n" + rest)
    nothing_smuggled(world)
    assert statuses[:1] in ([400], [413], []), statuses
    assert len(statuses) <= 1, "the connection went on after an unclear request"
    assert world.contacts == 0


@pytest.mark.fault("framing attacks")
def test_chunks_in_an_old_version(world: World) -> None:
    """A proxy of HTTP/1.0 does not know of chunks (RFC 9112, 6.1), and would read on where the head ends."""
    head = b"POST /v1/messages HTTP/1.0\r\nHost: @HOST\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert conversation(world, head + b"2\r\n{}\r\n0\r\n\r\n") == ([400], True)
    assert world.contacts == 0


HEADS: dict[str, bytes] = {
    "no host": b"GET /dashboard HTTP/1.1\r\n\r\n",
    "an empty host": b"GET /dashboard HTTP/1.1\r\nHost: \r\n\r\n",
    "HTTP/1.0 without host": b"GET /dashboard HTTP/1.0\r\n\r\n",
    "no version": b"GET /dashboard\r\n\r\n",
    "a space in the target": b"GET /dash board HTTP/1.1\r\nHost: @HOST\r\n\r\n",
    "a method of symbols": b"G@T /dashboard HTTP/1.1\r\nHost: @HOST\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: @HOST\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.fault("framing attacks")
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_that_is_none(world: World, head: bytes) -> None:
    statuses, _ = conversation(world, head)
    assert all(status >= 400 for status in statuses), statuses
    assert world.contacts == 0
    assert world.post(body()).status == 200


@pytest.mark.fault("framing attacks")
@pytest.mark.parametrize("other", ["http://evil.example/v1/messages", "https://127.0.0.1:1/v1/messages"])
def test_an_absolute_target_steers_nothing(world: World, other: str) -> None:
    """The Host field counts for us as for everybody (RFC 9112, 3.2.2 lets the target win: then it is a foreign one)."""
    request = f"POST {other} HTTP/1.1\r\nHost: @HOST\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    statuses, _ = conversation(world, request)
    assert all(status >= 400 for status in statuses)
    assert world.contacts == 0


# Too much head


@pytest.mark.fault("1 MB of headers")
@pytest.mark.parametrize("shape", ["one field", "many fields", "long target", "long name"])
def test_a_megabyte_of_head(world: World, shape: str) -> None:
    size = 1024 * 1024
    filling = {
        "one field": b" HTTP/1.1\r\nHost: @HOST\r\nX-Big: " + b"a" * size,
        "many fields": b" HTTP/1.1\r\nHost: @HOST" + b"".join(b"\r\nX-%d: aaaaaaaa" % n for n in range(size // 20)),
        "long target": b"?" + b"a" * size + b" HTTP/1.1\r\nHost: @HOST",
        "long name": b" HTTP/1.1\r\nHost: @HOST\r\n" + b"a" * size + b": x",
    }[shape]
    began_s = monotonic()
    statuses, _ = conversation(world, b"GET /v1/models" + filling + b"\r\n\r\n")
    assert statuses in ([431], [400], [414], []), statuses
    assert monotonic() - began_s < HELD_UP_S
    assert world.contacts == 0
    assert world.post(body()).status == 200


@pytest.mark.fault("1 MB of headers")
@pytest.mark.parametrize("count", [1, 60])
def test_a_little_more_head_than_is_taken(world: World, count: int) -> None:
    """Servers have other limits of their own; ours is the one that is told."""
    fields = b"".join(b"X-%d: %b\r\n" % (n, b"a" * (66_000 // count)) for n in range(count))
    with RawClient(world.url) as client:
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: %b\r\n" % client.host.encode() + fields + b"\r\n")
        response = client.read_response()
    assert response.status in (431, 400), response.status
    assert world.contacts == 0


@pytest.mark.fault("1 MB of headers")
def test_serve_has_our_own_limit_with_h11_too(tmp_path: Path) -> None:
    with world_in_a_process(tmp_path, server="serve", http="h11") as world, RawClient(world.url) as client:
        response = client.request("GET", "/v1/models", [("X-Big", "a" * 1024 * 1024)])
    refused(response, 431, "invalid_request_error")


@pytest.mark.fault("1 MB of headers")
def test_a_little_less_head_goes_through(world: World) -> None:
    with RawClient(world.url) as client:
        fields = [(f"X-{n}", "a" * 1000) for n in range(48)]
        assert client.request("GET", "/v1/models", fields).status == 200


# Forged by what we forward


FORGERIES = {
    "encoded line end": "x%0d%0aX-Smuggled:%20yes",
    "encoded NUL": "x%00",
    "encoded end of head": "x%0d%0a%0d%0aGET%20/%20HTTP/1.1",
}


@pytest.mark.fault("CRLF in model or query")
@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("where", ["query", "path"])
def test_an_encoded_line_end_stays_encoded(world: World, forgery: str, where: str) -> None:
    target = f"/v1/files/{forgery}" if where == "path" else f"/v1/files?after={forgery}"
    with RawClient(world.url) as client:
        status = client.request("GET", target).status
    nothing_smuggled(world)
    if world.contacts:
        assert [request.target for request in world.anthropic.requests] == [target.encode()]
    else:
        assert status in (400, 404)


@pytest.mark.fault("CRLF in model or query")
@pytest.mark.parametrize(
    "model", ["a\r\nX-Smuggled: yes", "a\n\nb", "\x00", "cerebras,a\r\nX-Smuggled: yes", "\u2028é"]
)
@pytest.mark.parametrize("by", ["model", "tag"])
def test_a_line_end_in_a_model(world: World, model: str, by: str) -> None:
    """The model stands in `x-ccr-model` of a converted answer, and in our errors."""
    response = world.post(
        body(model=model) if by == "model" else tagged(f"cerebras,{model.partition(',')[2] or model}")
    )
    assert response.header("x-smuggled") is None
    assert b"\r\nX-Smuggled" not in response.head.raw
    assert response.status in (200, 400)
    nothing_smuggled(world)


@pytest.mark.fault("CRLF in model or query")
def test_a_line_end_in_what_an_upstream_says_of_itself(world: World) -> None:
    """A provider's header fields cannot hold one; its model name and its errors can."""
    world.chat.script(chat_sse("hi", model="m\r\nX-Smuggled: yes"))
    response = world.post(tagged())
    assert response.status == 200
    assert response.header("x-smuggled") is None


# Whom we ask

STEERING = [
    ("Host-Override", "evil.example"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "host=evil.example;proto=https"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("x-ccr-provider", "moonshot"),
    ("x-ccr-base-url", "http://evil.example"),
]


@pytest.mark.fault("upstream steering")
@pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])
def test_no_field_and_no_key_of_the_body_decides_whom_we_ask(world: World, converted: bool) -> None:
    elsewhere = "http://127.0.0.1:1"
    steering: dict[str, Any] = {"base_url": elsewhere, "api_base": elsewhere, "url": elsewhere, "provider": "moonshot"}
    content = (tagged if converted else body)(**steering)
    assert world.post(content, *STEERING).status == 200
    (request,) = (world.chat if converted else world.anthropic).requests
    assert world.contacts == 1
    assert request.method == "POST"
    assert request.target == (b"/v1/chat/completions" if converted else TARGET.encode())
    assert request.header("host") == (world.chat if converted else world.anthropic).url.encode()[7:]


@pytest.mark.fault("upstream steering")
@pytest.mark.parametrize("name", ["http://evil.example", "../moonshot", "anthropic@evil.example", "evil.example:80"])
def test_a_tag_names_a_provider_and_nothing_else(world: World, name: str) -> None:
    assert world.post(tagged(f"{name},m")).status == 400
    assert world.contacts == 0


def config_of(upstream: FakeUpstream) -> dict[str, Any]:
    return {"providers": {"anthropic": {"baseUrl": upstream.url}}}


@pytest.mark.fault("upstream steering")
def test_the_environments_proxies_and_netrc_are_not_used(tmp_path: Path, second_upstream: FakeUpstream) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login planted password planted-netrc\n")
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    environment = dict.fromkeys(names, second_upstream.url)
    with (
        FakeUpstream() as upstream,
        running_server(config_of(upstream), tmp_path=tmp_path, env=environment) as server,
        RawClient(server.url) as client,
    ):
        assert client.request("POST", TARGET, [], body()).status == 200
        assert client.request("GET", "/v1/models").status == 200
        assert len(upstream.requests) == 2
        assert all(request.header("authorization") is None for request in upstream.requests)
    assert second_upstream.arriving == []


# Slow and several


@pytest.mark.fault("60 slowloris connections")
def test_unfinished_heads_and_bodies_hold_up_nobody(world: World, seen: Callable[[str], None]) -> None:
    with ExitStack() as slow:
        for number in range(60):
            client = slow.enter_context(RawClient(world.url))
            if number % 2:
                client.send(b"POST /v1/messages HTTP/1.1\r\nHost: %b\r\nX-A: " % client.host.encode())
            else:
                client.send_request("POST", TARGET, [*headers(new_session()), ("Content-Length", "1000")])
                client.send(b'{"model": ')
        slowest_s = 0.0
        for content in (body(), tagged(), body(stream=False)) * 3:
            began_s = monotonic()
            assert world.post(content).status == 200
            slowest_s = max(slowest_s, monotonic() - began_s)
    assert slowest_s < HELD_UP_S
    seen(f"the slowest other request took {slowest_s * 1000:.0f} ms")


@pytest.mark.fault("pipelining")
@pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])
def test_requests_sent_at_once_are_answered_in_order(world: World, converted: bool) -> None:
    sessions = [new_session() for _ in range(3)]
    with RawClient(world.url) as client:
        for number, session in enumerate(sessions):
            prompt, stream = f"number {number}", number != 1
            content = tagged(prompt=prompt, stream=stream) if converted else body(prompt, stream=stream)
            client.send_request("POST", TARGET, headers(session), content)
        client.send_request("GET", "/healthz")
        answers = [client.read_response("POST") for _ in sessions]
        assert client.read_response().body == b"ok\n"
    assert [answer.status for answer in answers] == [200] * 3
    kinds = [(answer.header("content-type") or b"").partition(b";")[0] for answer in answers]
    assert kinds == [b"text/event-stream", b"application/json", b"text/event-stream"]
    assert [world.row(session)["outcome"] for session in sessions] == ["ok"] * 3


@pytest.mark.fault("pipelining")
def test_a_second_request_does_not_look_like_a_client_that_left(world: World) -> None:
    gate, session = Gate(), new_session()
    answer = anthropic_sse()
    world.anthropic.script(answer.inserting(2, gate))
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, headers(session), body())
        assert gate.reached.wait()
        client.send_request("GET", "/healthz")
        assert not world.anthropic.requests[0].disconnected.wait(0.3)
        gate.open()
        assert client.read_response("POST").body == answer.content
        assert client.read_response().status == 200
    assert world.row(session)["outcome"] == "ok"


@pytest.mark.fault("framing attacks")
def test_the_credentials_of_one_request_are_not_the_next_one_s(world: World) -> None:
    with RawClient(world.url) as client:
        client.request("POST", TARGET, headers(new_session()), body())
        client.request("POST", TARGET, [], body())
        client.request("POST", TARGET, headers(new_session()), tagged())
    first, second = world.anthropic.requests
    assert first.header("authorization") == BEARER.encode()
    assert second.header("authorization") is None
    assert world.chat.requests[0].header("authorization") == f"Bearer {CHAT_KEY}".encode()
