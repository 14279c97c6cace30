"""What a client may send that nobody can use: each gets its answer, under every server, and no provider is asked."""

import json
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.claude import CHAT_MODEL, MODEL, TARGET, World, body, headers, new_session, tagged
from tests.support.fake_upstream import sse_answer
from tests.support.raw_http import RawClient, RawResponse

MB = 1024 * 1024


def refused(response: RawResponse, status: int, kind: str) -> str:
    """The message of an error in Anthropic's form, with this status and type."""
    assert response.status == status, (response.status, response.body[:500])
    error = response.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == kind
    assert response.header("content-type") == b"application/json"
    assert response.header("request-id") == error["request_id"].encode()
    message: str = error["error"]["message"]
    assert "Traceback" not in message
    assert len(message) < 2000
    return message


def still_serves(world: World) -> None:
    """The next request is served."""
    world.forget()
    assert world.post(body()).status == 200


DEEP = 100_000
UNUSABLE: dict[str, bytes] = {
    "empty": b"",
    "a space": b" ",
    "an open brace": b"{",
    "a list": b"[1]",
    "a string": b'"hi"',
    "a number": b"7",
    "null": b"null",
    "true": b"true",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "UTF-16": json.dumps({"model": MODEL}).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{",
    "NUL bytes": b"\x00" * 100,
    "NaN": b'{"model": "m", "max_tokens": NaN, "messages": []}',
    "a trailing comma": b'{"model": "m",}',
    "two values": b'{"model": "m"}{"model": "m"}',
    "single quotes": b"{'model': 'm'}",
    "a deep list": b"[" * DEEP,
    "a deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a form": b"model=m&messages=hi",
}
assert len(UNUSABLE) == 19


@pytest.mark.fault("19 unusable bodies")
@pytest.mark.parametrize("target", [TARGET, "/v1/messages/count_tokens"], ids=["messages", "count"])
@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_a_body_that_cannot_be_used(world: World, content: bytes, target: str) -> None:
    session = new_session()
    refused(world.post(content, session=session, target=target), 400, "invalid_request_error")
    assert world.contacts == 0
    if target == TARGET:
        row = world.row(session)
        assert (row["outcome"], row["status"], row["error_type"]) == ("error", 400, "invalid_request_error")


def messages(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "model, a number": ({"model": 7}, "model"),
    "model, empty": ({"model": ""}, "model"),
    "model, null": ({"model": None}, "model"),
    "model, a list": ({"model": [CHAT_MODEL]}, "model"),
    "messages, a string": ({"messages": "hi"}, "messages"),
    "messages, empty": ({"messages": []}, "messages"),
    "messages, null": ({"messages": None}, "messages"),
    "messages, an object": ({"messages": {"role": "user"}}, "messages"),
    "a message, a string": ({"messages": ["hi"]}, "messages"),
    "a role, a number": ({"messages": [{"role": 7, "content": "hi"}]}, "role"),
    "a role, unknown": ({"messages": [{"role": "wizard", "content": "hi"}]}, "role"),
    "content, a number": (messages(7), "content"),
    "content, null": (messages(None), "content"),
    "a block, a string": (messages(["hi"]), "content"),
    "a block, without type": (messages([{"text": "hi"}]), "type"),
    "a text, a number": (messages([{"type": "text", "text": 7}]), "text"),
    "an image, without source": (messages([{"type": "image"}]), "source"),
    "system, a number": ({"system": 7}, "system"),
    "tools, an object": ({"tools": {"name": "f"}}, "tools"),
    "max_tokens, a string": ({"max_tokens": "many"}, "max_tokens"),
}
assert len(WRONG) == 20


@pytest.mark.fault("20 wrongly typed fields")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("fields", "named"), WRONG.values(), ids=WRONG)
def test_a_field_of_a_wrong_type(world: World, fields: dict[str, Any], named: str, stream: bool) -> None:
    document = {**json.loads(body(model=CHAT_MODEL, stream=stream)), **fields}
    response = world.post(json.dumps(document).encode())
    assert named in refused(response, 400, "invalid_request_error")
    assert world.contacts == 0


@pytest.mark.fault("20 wrongly typed fields")
def test_no_model_at_all(world: World) -> None:
    document = json.loads(body())
    del document["model"]
    assert "model" in refused(world.post(json.dumps(document).encode()), 400, "invalid_request_error")
    assert world.contacts == 0


ODD_TEXT = {
    "a lone surrogate": b'"\\ud800"',
    "a reversed pair": b'"\\udc00\\ud800"',
    "controls": b'"\\u0000\\u0001\\u001b[31m\\u007f\\u0085\\u2028\\u2029"',
    "an event's end": b'"\\n\\nevent: error\\ndata: {}\\n\\n"',
    "beyond Unicode's first plane": '"🚀\U0010ffff"'.encode(),
    "a key of controls": b'"x", "\\u0000": "y"',
}


@pytest.mark.fault("surrogates and controls")
@pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])
@pytest.mark.parametrize("text", ODD_TEXT.values(), ids=ODD_TEXT)
def test_odd_text_in_a_request(world: World, text: bytes, converted: bool) -> None:
    content = (tagged if converted else body)("@").replace(b'"@"', text)
    response = world.post(content)
    assert response.status in ((200, 400) if converted else (200,))
    if not converted:
        assert world.anthropic.requests[0].body == content
    elif response.status == 200:
        json.loads(world.chat.requests[0].body.decode("utf-8"))
    still_serves(world)


@pytest.mark.fault("surrogates and controls")
@pytest.mark.parametrize("text", ODD_TEXT.values(), ids=ODD_TEXT)
@pytest.mark.parametrize("place", ["model", "session", "tag"])
def test_odd_text_where_we_read(world: World, text: bytes, place: str) -> None:
    if place == "tag":
        content = tagged("@").replace(b"@", text.strip(b'"').partition(b'"')[0])
    elif place == "model":
        content = body(model="@").replace(b'"@"', text)
    else:
        content = body(metadata={"user_id": "@"}).replace(b'"@"', text)
    response = world.post(content)
    assert response.status in (200, 400), response.body
    assert response.status == 200 or response.json()["type"] == "error"
    still_serves(world)


@pytest.mark.fault("surrogates and controls")
@pytest.mark.parametrize("text", ODD_TEXT.values(), ids=ODD_TEXT)
def test_odd_text_in_an_answer(world: World, text: bytes) -> None:
    delta = b'data: {"choices": [{"index": 0, "delta": {"content": %b}, "finish_reason": "stop"}]}\n\n' % text
    world.chat.script(sse_answer([delta, b"data: [DONE]\n\n"]))
    response = world.post(tagged())
    assert response.status == 200
    for block in response.body.decode("utf-8").split("\n\n")[:-1]:
        _, data = block.split("\n")
        json.loads(data.removeprefix("data: "))
    still_serves(world)


# Names that lead nowhere


NOWHERE = {
    "an unknown provider": tagged("nobody,m"),
    "a tag without a model": tagged("cerebras"),
    "an empty tag": tagged(""),
    "a model of an unknown provider": body(model="nobody,m"),
}


@pytest.mark.fault("a name that leads nowhere")
@pytest.mark.parametrize("content", NOWHERE.values(), ids=NOWHERE)
def test_a_name_that_leads_nowhere(world: World, content: bytes) -> None:
    session = new_session()
    message = refused(world.post(content, session=session), 400, "invalid_request_error")
    for provider in ("anthropic", "cerebras", "moonshot"):
        assert provider in message
    assert world.contacts == 0
    assert world.row(session)["status"] == 400


# Too large, or compressed


def answer_during_upload(world: World, head: list[tuple[str, str]], pieces: list[bytes]) -> RawResponse:
    """Send a request in pieces until the server answers or closes; its answer."""
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, [*headers(new_session()), *head])
        try:
            for piece in pieces:
                client.send(piece)
        except (ConnectionError, TimeoutError):
            pass  # it does not want the rest
        return client.read_response("POST")


@pytest.mark.fault("50 MB body")
def test_a_declared_length_over_the_limit_is_refused_before_a_byte_of_it(world: World) -> None:
    response = answer_during_upload(world, [("Content-Length", str(50 * MB))], [])
    assert "33554432" in refused(response, 413, "request_too_large")
    assert world.contacts == 0
    still_serves(world)


@pytest.mark.fault("50 MB body")
def test_a_length_beyond_all_numbers(world: World) -> None:
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, [*headers(new_session()), ("Content-Length", "9" * 30)])
        assert client.read_response("POST").status in (400, 413)
    still_serves(world)


@pytest.mark.fault("50 MB body")
@pytest.mark.parametrize("target", [TARGET, "/v1/files"], ids=["read", "handed on"])
def test_a_chunked_body_over_the_limit(world: World, target: str) -> None:
    """The client reads the answer though it is still sending: no server has to take the rest in."""
    with RawClient(world.url) as client:
        client.send_request("POST", target, [*headers(new_session()), ("Transfer-Encoding", "chunked")])
        chunk = b"%x\r\n%b\r\n" % (MB, b"x" * MB)
        try:
            for _ in range(50):
                client.send(chunk)
            client.send(b"0\r\n\r\n")
        except ConnectionError:
            pass
        try:
            response = client.read_response("POST")
        except ConnectionError:
            pytest.fail("the answer was lost in a reset")
    refused(response, 413, "request_too_large")
    assert not world.anthropic.requests
    still_serves(world)


@pytest.mark.fault("50 MB body")
def test_a_body_at_the_limit_is_taken(world: World) -> None:
    content = body("x" * (32 * MB - 300), stream=False)
    assert 31 * MB < len(content) <= 32 * MB
    assert world.post(content).status == 200
    assert world.anthropic.requests[0].body == content


@pytest.mark.fault("compressed request")
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip", "x-unknown"])
@pytest.mark.parametrize("target", [TARGET, "/v1/files", "/dashboard"], ids=["messages", "files", "ours"])
def test_a_compressed_request(world: World, encoding: str, target: str) -> None:
    with RawClient(world.url) as client:
        response = client.request("POST", target, [("Content-Encoding", encoding)], b"\x1f\x8b" + b"\x00" * 100)
    refused(response, 415, "invalid_request_error")
    assert world.contacts == 0


@pytest.mark.fault("compressed request")
def test_a_coding_that_hides_behind_another(world: World) -> None:
    with RawClient(world.url) as client:
        fields = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
        response = client.request("POST", TARGET, fields, b"\x1f\x8b" + b"\x00" * 100)
    refused(response, 415, "invalid_request_error")
    assert world.contacts == 0


# Paths and methods

OUR_PAGES = ["/", "/healthz", "/readyz", "/dashboard", "/api/usage"]


@pytest.mark.fault("traversal and odd methods")
@pytest.mark.parametrize("page", OUR_PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_method_that_a_page_of_ours_has_not(world: World, page: str, method: str) -> None:
    with RawClient(world.url) as client:
        response = client.request(method, page)
    refused(response, 405, "invalid_request_error")
    assert response.header("allow")
    assert world.contacts == 0


TRAVERSAL = [
    "/../../etc/passwd",
    "/dashboard/../../../etc/passwd",
    "/dashboard/static/../../../../etc/passwd",
    "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/dashboard/static/%2e%2e/%2e%2e/config.py",
    "/dashboard/static/..%5c..%5cconfig.py",
    "/dashboard/static//etc/passwd",
    "/dashboard/static/%00",
    "/dashboard/static/%2fetc%2fpasswd",
    "/v1/../../etc/passwd",
    "/v1/%2e%2e/%2e%2e/etc/passwd",
    "/api/usage/../../v1/messages",
    "/%c0%ae%c0%ae/etc/passwd",
    "/..;/v1/messages",
]


@pytest.mark.fault("traversal and odd methods")
@pytest.mark.parametrize("target", TRAVERSAL)
def test_a_path_that_climbs(world: World, target: str) -> None:
    with RawClient(world.url) as client:
        response = client.request("GET", target)
    refused(response, 404, "not_found_error")
    assert b"root:" not in response.body
    assert world.contacts == 0


@pytest.mark.fault("traversal and odd methods")
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/anything"])
@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "BREW"])
def test_an_odd_method_is_the_providers_business(world: World, path: str, method: str) -> None:
    with RawClient(world.url) as client:
        response = client.request(method, path)
    assert response.status in (200, 400, 404, 405)
    still_serves(world)


@pytest.mark.fault("traversal and odd methods")
def test_connect_opens_no_tunnel(world: World) -> None:
    with RawClient(world.url) as client:
        client.send(f"CONNECT {client.host} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
        with suppress(EOFError, ConnectionError):  # closed without a word is as good
            assert not 200 <= client.read_head().status < 300
    assert world.contacts == 0
    still_serves(world)
