"""Whatever asks for no other provider reaches Anthropic as it was sent, and comes back as it was answered."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.claude import (
    BEARER,
    TARGET,
    World,
    body,
    events,
    headers,
    new_session,
    tagged,
    world_in_a_process,
)
from tests.support.fake_upstream import (
    Answer,
    Encoding,
    RecordedRequest,
    anthropic_error,
    anthropic_message,
    anthropic_sse,
    json_answer,
)
from tests.support.raw_http import RawClient, RawResponse

SERVERS: dict[str, dict[str, Any]] = {
    "httptools": {"http": "httptools"},
    "h11": {"http": "h11"},
    "granian": {"arguments": ("--server", "granian")},
}
ENCODINGS: tuple[Encoding, ...] = ("gzip", "br", "zstd", "deflate")
USAGE = {
    "input_tokens": 1234,
    "cache_read_input_tokens": 50_000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 77,
}
TOKENS = {
    "input_tokens": 1234,
    "cache_read_tokens": 50_000,
    "cache_write_5m_tokens": 100,
    "cache_write_1h_tokens": 200,
    "output_tokens": 77,
}
ANTHROPICS = [("Date", "Sun, 22 Nov 2026 01:02:03 GMT"), ("Server", "cloudflare")]
"""Fields that a server adds when an answer has none; Anthropic's answers have them."""
NOT_COMPARED = {b"host", b"connection", b"transfer-encoding"}


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """`ccr-asgi serve` with each of its servers."""
    with world_in_a_process(tmp_path_factory.mktemp("world"), server="serve", **SERVERS[request.param]) as world:
        yield world


@pytest.fixture
def world(served: World) -> World:
    """The module's world, whose providers have not been asked anything yet."""
    served.forget()
    return served


def fields(message: RecordedRequest | RawResponse) -> list[tuple[bytes, bytes]]:
    """The header fields but for Host and framing, names without case, in their order."""
    return [(name.lower(), value) for name, value in message.headers if name.lower() not in NOT_COMPARED]


def sent(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]


# Requests


@pytest.mark.parametrize("credential", [("Authorization", BEARER), ("x-api-key", "planted-api-key")])
def test_a_request_arrives_as_it_was_sent(world: World, credential: tuple[str, str]) -> None:
    content = b'{ "stream":true,\t"model": "claude-x" , "system":"caf\\u00e9 \xc3\xa9", "messages":[] }\n'
    given = [
        credential,
        ("Content-Type", "application/json"),
        ("X-Stainless-Lang", "js"),
        ("x-custom", "one"),
        ("X-Custom", "two"),
        ("X-Empty", ""),
        ("X-Latin", "caf\xe9"),
        ("anthropic-beta", "a-2025-01-01,b-2025-01-01"),
        ("anthropic-beta", "c-2025-01-01"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ]
    with RawClient(world.url) as client:
        assert client.request("POST", TARGET, given, content).status == 200
    (request,) = world.anthropic.requests
    assert request.method == "POST"
    assert request.target == TARGET.encode()
    assert request.body == content
    assert fields(request) == [*sent(given), (b"content-length", str(len(content)).encode())]
    assert [value for name, value in request.headers if name.lower() == b"host"] == [
        world.anthropic.url.removeprefix("http://").encode()
    ]


def test_nothing_is_added_to_a_request_but_host(world: World) -> None:
    with RawClient(world.url) as client:
        client.request("GET", "/v1/skills")
        client.request("POST", "/v1/files", [], b"x")
    get, post = world.anthropic.requests
    assert [name.lower() for name, _ in get.headers] == [b"host"]
    assert sorted(name.lower() for name, _ in post.headers) == [b"content-length", b"host"]


def test_hop_by_hop_fields_stay_here(world: World) -> None:
    hops = [
        ("Connection", "keep-alive, X-Private"),
        ("X-Private", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("x-ccr-key", "anything"),
    ]
    world.anthropic.on("/v1/skills", Answer())
    with RawClient(world.url) as client:
        assert client.request("GET", "/v1/skills", [*hops, ("X-Kept", "1")]).status == 200
    (request,) = world.anthropic.requests
    assert fields(request) == [(b"x-kept", b"1")]
    assert request.header("connection") is None


@pytest.mark.parametrize(
    "target",
    [
        "/v1/messages/batches?beta=true&limit=20&limit=30",
        "/v1/files/a%2Fb",
        "/v1/files/%7Etilde/~tilde",
        "/v1/files//double//slash/",
        "/v1/files/x?q=a%20b+c&q=%C3%A9&empty=&flag&path=/../x",
        "/v1/files/%e2%82%ac;v=1,2:3@!$&'()*+",
        "/v1/files/a.b/..c/.../d.",
        "/v1/files?a=1?b=2",
        "/v1/files/%25%32%65",
        "/api/hello",
        "/api/oauth/usage?x=%2e%2e%2f",
        "/api/event_logging/batch",
    ],
)
def test_a_target_arrives_byte_for_byte(world: World, target: str) -> None:
    with RawClient(world.url) as client:
        client.request("GET", target)
    assert [request.target for request in world.anthropic.requests] == [target.encode()]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/files/1", "/api/hello"])
def test_every_method_goes_through(world: World, method: str, path: str) -> None:
    content = b"" if method in ("GET", "HEAD") else b"some bytes"
    world.anthropic.script(Answer(b"answered", 207, [("X-A", "1")]), where=lambda request: True)
    with RawClient(world.url) as client:
        response = client.request(method, path, [], content)
    (request,) = world.anthropic.requests
    assert (request.method, request.body) == (method, content)
    assert response.status == 207
    assert response.header("x-a") == b"1"
    assert response.body == (b"" if method == "HEAD" else b"answered")


def test_a_chunked_request_goes_through_as_it_comes(world: World) -> None:
    with RawClient(world.url) as client:
        client.send_request("POST", "/v1/files", [("Transfer-Encoding", "chunked")])
        client.send(b"5\r\nfirst\r\n")
        (arriving,) = world.anthropic.wait_for_arriving(1)
        assert world.anthropic.wait_for_body(arriving, 5) == b"first"  # while the rest has not even been sent
        client.send(b"6\r\nsecond\r\n0\r\n\r\n")
        client.read_response("POST")
    (request,) = world.anthropic.requests
    assert request.body == b"firstsecond"
    assert request.header("transfer-encoding") == b"chunked"
    assert request.header("content-length") is None


def test_a_chunked_messages_request_is_taken(world: World) -> None:
    content = body(stream=False)
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, [("Transfer-Encoding", "chunked")])
        client.send(b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, content[:10], len(content) - 10, content[10:]))
        assert client.read_response("POST").status == 200
    assert [request.body for request in world.anthropic.requests] == [content]


def test_expect_100_continue(world: World) -> None:
    content = body(stream=False)
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, [("Expect", "100-continue"), ("Content-Length", str(len(content)))])
        interim = client.read_head()
        assert interim.status == 100
        client.send(content)
        assert client.read_response("POST").status == 200
    (request,) = world.anthropic.requests
    assert request.body == content
    assert request.header("expect") is None


def test_big_bodies_both_ways(world: World) -> None:
    answer = os.urandom(3_000_000)
    content = body("x" * 3_000_000, stream=False)
    world.anthropic.script(Answer(answer, headers=[("content-type", "application/octet-stream")]))
    response = world.post(content)
    assert response.body == answer
    assert world.anthropic.requests[0].body == content


def test_connections_are_reused_on_both_sides(world: World) -> None:
    with RawClient(world.url) as client:
        for _ in range(5):
            assert client.request("POST", TARGET, headers(new_session()), body()).status == 200
    connections = {request.connection for request in world.anthropic.requests}
    assert len(world.anthropic.requests) == 5
    assert len(connections) == 1


# Answers


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b'{"a": 1}', 200, [*ANTHROPICS, ("Content-Type", "application/json")]),
        Answer(
            b"two of a kind",
            201,
            [
                *ANTHROPICS,
                ("X-Two", "a"),
                ("x-two", "b"),
                ("X-Empty", ""),
                ("anthropic-ratelimit-unified-status", "ok"),
            ],
        ),
        Answer([b"in ", b"chunks"], 200, ANTHROPICS, framing="chunked"),
        Answer([b"until ", b"close"], 200, ANTHROPICS, framing="until-close"),
        Answer(b"", 200, ANTHROPICS),
        Answer(b"", 204, ANTHROPICS),
        Answer(b"", 204, [*ANTHROPICS, ("Content-Length", "1234")]),
        Answer(b"", 304, [*ANTHROPICS, ("ETag", '"x"')]),
        Answer(b"", 304, [*ANTHROPICS, ("Content-Length", "1234")]),
        Answer(b"moved", 302, [*ANTHROPICS, ("Location", "http://127.0.0.1:9/elsewhere")]),
        Answer(b"moved", 308, [*ANTHROPICS, ("Location", "/v1/elsewhere")]),
        Answer(b"cookie", 200, [*ANTHROPICS, ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")]),
    ],
    ids=lambda answer: f"{answer.status}-{answer.framing}",
)
def test_an_answer_comes_back_as_it_was_given(world: World, answer: Answer) -> None:
    world.anthropic.script(answer)
    response = world.post(body())
    assert response.status == answer.status
    assert response.body == (b"" if answer.status in (204, 304) else answer.content)
    # A length that a 204 or 304 tells is not that of its own body, which servers take it for.
    told = [pair for pair in answer.headers if not (answer.status in (204, 304) and pair[0] == "Content-Length")]
    expected = sent([(str(name), str(value)) for name, value in told])
    if answer.framing == "content-length" and answer.status not in (204, 304):
        expected.append((b"content-length", str(len(answer.content)).encode()))
    assert sorted(fields(response)) == sorted(expected)
    assert len(world.anthropic.requests) == 1


def test_a_cookie_is_not_kept(world: World) -> None:
    world.anthropic.script(Answer(b"{}", 200, [("Set-Cookie", "planted=1; Path=/")]))
    world.post(body())
    world.post(body())
    assert world.anthropic.requests[1].header("cookie") is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503, 529])
def test_an_error_comes_back_untouched(world: World, status: int) -> None:
    session = new_session()
    answer = anthropic_error(
        status, "prompt is too long: 200001 tokens > 200000 maximum", "some_error", [("Retry-After", "17"), *ANTHROPICS]
    )
    world.anthropic.script(answer)
    response = world.post(body(), session=session)
    assert (response.status, response.body) == (status, answer.content)
    assert response.header("retry-after") == b"17"
    assert response.header("request-id") == dict(answer.headers)["request-id"].encode()  # type: ignore[union-attr]  # a str
    assert len(world.anthropic.requests) == 1  # no retry of ours: the client has its own
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", status, "some_error")


def test_the_head_of_an_answer_to_head_comes_back(world: World) -> None:
    world.anthropic.on(
        lambda request: request.method == "HEAD",
        Answer.raw(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 1234\r\n\r\n"),
    )
    with RawClient(world.url) as client:
        for _ in range(2):  # the second tells that the first had no body
            response = client.request("HEAD", "/api/hello")
            assert (response.status, response.header("x-a")) == (200, b"1")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("streamed", [True, False], ids=["sse", "json"])
def test_a_compressed_answer_goes_through_and_is_counted(world: World, encoding: Encoding, streamed: bool) -> None:
    session = new_session()
    plain = anthropic_sse(usage=USAGE) if streamed else anthropic_message(usage=USAGE)
    world.anthropic.script(plain.compressed(encoding))
    response = world.post(body(stream=streamed), ("Accept-Encoding", "gzip, deflate, br, zstd"), session=session)
    assert response.header("content-encoding") == encoding.encode()
    assert response.body == plain.compressed(encoding).content
    row = world.row(session)
    assert {name: row[name] for name in TOKENS} == TOKENS
    assert (row["outcome"], row["status"], row["streamed"]) == ("ok", 200, int(streamed))
    assert (row["provider"], row["requested_model"], row["stop_reason"]) == (
        "anthropic",
        "claude-haiku-4-5",
        "end_turn",
    )
    assert row["attempts"] == 1
    assert row["estimated"] == 0


def test_a_plain_stream_is_counted(world: World) -> None:
    session = new_session()
    answer = anthropic_sse(usage=USAGE)
    world.anthropic.script(answer)
    response = world.post(
        body(), ("x-claude-code-agent-id", "a1"), ("x-claude-code-parent-agent-id", "p1"), session=session
    )
    assert response.body == answer.content
    assert events(response.body)[-1] == {"type": "message_stop"}
    row = world.row(session)
    assert {name: row[name] for name in TOKENS} == TOKENS
    assert (row["agent_id"], row["parent_agent_id"], row["model"]) == ("a1", "p1", "claude-haiku-4-5")
    assert row["ttft_ms"] is not None
    assert row["ttft_ms"] <= row["duration_ms"]


def test_an_answer_that_claims_a_wrong_encoding_goes_through(world: World) -> None:
    world.anthropic.script(Answer(b"not gzip at all", 200, [("Content-Encoding", "gzip")]))
    response = world.post(body())
    assert response.body == b"not gzip at all"
    assert response.header("content-encoding") == b"gzip"


def test_count_tokens_goes_to_anthropic_and_makes_no_row(world: World) -> None:
    session = new_session()
    content = body(stream=False)
    response = world.post(content, session=session, target="/v1/messages/count_tokens?beta=true")
    assert response.json() == {"input_tokens": 11}
    assert world.anthropic.requests[0].body == content
    world.post(body(stream=False), session=session)
    assert world.row(session)["status"] == 200  # one row: that of the message


def test_safeguard_results_go_through(world: World) -> None:
    safeguards = {"verdict": "ok", "rules": ["a < b & c"]}
    answer = json_answer({"type": "message", "safeguard_results": safeguards})
    world.anthropic.script(answer)
    content = body(stream=False, safeguards={"paths": ["/x"]})
    assert world.post(content).body == answer.content
    assert json.loads(world.anthropic.requests[0].body)["safeguards"] == {"paths": ["/x"]}


# What is ours or nobody's


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/healthz",
        "/dashboard",
        "/api/usage",
        "/api/usage?range=1h",
        "/api/quota",
        "/nothing",
        "/v1",
        "/v2/messages",
        "/V1/messages",
        "//v1/messages",
        "///v1/messages",
        "/%2Fv1/messages",
        "/x/../v1/messages",
        "/v1/../v1/messages",
        "/v1/./messages",
        "/v1/..",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/.%2e/admin",
        "/v1/a%2F..%2Fb",
        "/v1/a%5C..%5Cb",
        "/v1/a\\..\\b",
        "/api/../admin",
    ],
)
def test_a_path_of_ours_or_of_nobody_reaches_no_provider(world: World, target: str) -> None:
    with RawClient(world.url) as client:
        response = client.request("GET", target)
    if target in ("/", "/healthz", "/dashboard") or target.startswith(("/api/usage", "/api/quota")):
        assert response.status in (200, 302, 307)
    else:
        assert response.status == 404
        assert response.json()["error"]["type"] == "not_found_error"
        assert response.header("request-id")
    assert world.contacts == 0


def test_head_of_the_root_is_ours(world: World) -> None:
    with RawClient(world.url) as client:
        assert client.request("HEAD", "/").status == 200
    assert world.contacts == 0


def test_a_tagged_request_with_a_suffix_below_the_messages_path_is_not_read(world: World) -> None:
    world.post(tagged(), target="/v1/messages/batches")
    assert world.anthropic.requests[0].body == tagged()
