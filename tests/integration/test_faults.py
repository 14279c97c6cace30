"""Providers that fail: the client is told the truth in Anthropic's form, and nothing broken is called whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest

import ccr_asgi
from tests.integration.claude import (
    TARGET,
    World,
    body,
    chunks_until,
    events,
    headers,
    new_session,
    row_of,
    tagged,
    world_in_a_process,
)
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Fault,
    Gate,
    Piece,
    anthropic_message,
    anthropic_sse,
    chat_completion,
    chat_error,
    chat_sse,
    json_answer,
    refused_url,
    sse_answer,
)
from tests.support.raw_http import RawClient, RawResponse
from tests.support.server import serve_app

SERVERS: dict[str, dict[str, Any]] = {
    "httptools": {"server": "uvicorn", "http": "httptools"},
    "h11": {"server": "uvicorn", "http": "h11"},
    "granian": {"server": "granian"},
}


@pytest.fixture(params=["passthrough", "converted"])
def upstream(world: World, request: pytest.FixtureRequest) -> FakeUpstream:
    """The provider of each of the two ways; `request_of` knows what leads there."""
    return world.chat if request.param == "converted" else world.anthropic


DELTA_END = b'"}}\n\n'
"""How a text delta ends on the wire."""


def request_of(world: World, upstream: FakeUpstream, *, stream: bool = True) -> bytes:
    return tagged(stream=stream) if upstream is world.chat else body(stream=stream)


def assert_error(response: RawResponse, status: int, kind: str) -> str:
    """The response is an error in Anthropic's form; its message."""
    assert response.status == status, response.body
    error = response.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == kind
    assert response.header("content-type") == b"application/json"
    assert response.header("request-id") == error["request_id"].encode()
    message: str = error["error"]["message"]
    assert "Traceback" not in message
    return message


# No answer


@pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])
def test_a_refused_connection_is_a_502(tmp_path: Path, converted: bool) -> None:
    database, session = tmp_path / "usage.db", new_session()
    with refused_url() as url:
        config = {
            "providers": {
                "anthropic": {"baseUrl": url},
                "cerebras": {"baseUrl": f"{url}/v1/chat/completions", "apiKey": "any"},
            },
            "usage": {"database": str(database)},
        }
        with serve_app(ccr_asgi.create_app(config)) as served, RawClient(served.url) as client:
            response = client.request("POST", TARGET, headers(session), tagged() if converted else body())
            assert client.request("GET", "/healthz").status == 200
    assert "Could not connect to 127.0.0.1" in assert_error(response, 502, "api_error")
    row = row_of(database, session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", 502, "api_error")
    assert (row["attempts"], row["resends"]) == (1, 2)  # three tries at most, all of one link
    assert row["output_tokens"] is None


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    "pieces",
    [
        (Fault.CLOSE,),
        (Fault.RESET,),
        (b"HTTP/1.1 200", Fault.CLOSE),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Fault.RESET),
        (b"this is no HTTP at all\r\n\r\n", Fault.CLOSE),
    ],
    ids=["closed", "reset", "cut in the status line", "reset in the head", "not HTTP"],
)
def test_no_answer_is_a_502(world: World, upstream: FakeUpstream, pieces: tuple[Piece, ...], stream: bool) -> None:
    session = new_session()
    upstream.on(lambda request: True, Answer.raw(*pieces))
    response = world.post(request_of(world, upstream, stream=stream), session=session)
    assert "127.0.0.1" in assert_error(response, 502, "api_error")
    assert len(upstream.requests) <= 3
    row = world.row(session)
    assert (row["outcome"], row["status"]) == ("error", 502)
    world.forget()
    assert world.post(request_of(world, upstream, stream=stream)).status == 200  # the next request is served


def test_a_connection_that_closes_before_it_answers_is_tried_again(world: World, upstream: FakeUpstream) -> None:
    session = new_session()
    upstream.script(Answer.raw(Fault.CLOSE), Answer.raw(Fault.RESET))
    assert world.post(request_of(world, upstream), session=session).status == 200
    assert len(upstream.requests) == 3
    assert {request.body for request in upstream.requests} == {upstream.requests[0].body}
    row = world.row(session)
    assert (row["outcome"], row["resends"], row["attempts"]) == ("ok", 2, 1)


def test_a_stale_connection_is_never_the_client_s_trouble(world: World, upstream: FakeUpstream) -> None:
    """The upstream closes each connection after its answer without saying so, and the next request may meet that."""

    def stale(request: Any) -> Answer:
        answer = chat_sse() if upstream is world.chat else anthropic_sse()
        return Answer(answer.content, headers=answer.headers, then_close=True)

    upstream.script(*[stale] * 30)
    with RawClient(world.url) as client:
        for _ in range(30):
            response = client.request("POST", TARGET, headers(new_session()), request_of(world, upstream))
            assert response.status == 200
            assert events(response.body)[-1]["type"] == "message_stop"


# An answer that breaks off


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The product under each server: what a broken answer looks like is theirs to write."""
    with world_in_a_process(tmp_path_factory.mktemp("world"), **SERVERS[request.param]) as world:
        yield world


@pytest.fixture
def each_world(served: World) -> World:
    """The world under each server, whose providers have not been asked anything yet."""
    served.forget()
    return served


class Breaking:
    """An answer that breaks off in the middle, once the client holds all that came before.

    Without the wait a reset may overtake the bytes before it: TCP then throws them away.
    """

    def __init__(self, answer: Answer, at: int, fault: Fault, *, part: bytes = b"") -> None:
        self.gate = Gate()
        pieces = [part] if part else []
        self.answer = answer.inserting(at, *pieces, self.gate, fault)
        self.before = [piece for piece in [*answer.pieces[:at], *pieces] if isinstance(piece, bytes)]

    def read(self, world: World, content: bytes, session: str, held: bytes | None = None) -> tuple[bytes, bool]:
        """What the client gets, and whether it ended cleanly; the answer breaks when `held` has come."""
        with RawClient(world.url) as client:
            client.send_request("POST", TARGET, headers(session), content)
            head = client.read_head()
            assert head.status == 200
            if head.header("transfer-encoding") is None:
                seen = client.read_exactly(sum(map(len, self.before)))
            else:
                seen = chunks_until(client, self.before[-1] if held is None else held)
            self.gate.open()
            try:
                while chunk := client.read_chunk() if head.header("transfer-encoding") else client.read_exactly(1):
                    seen += chunk
            except (EOFError, ConnectionError):
                return seen, False
            return seen, True


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET], ids=["closed", "reset"])
def test_a_passthrough_cut_between_two_events_ends_in_an_error_event(each_world: World, fault: Fault) -> None:
    session = new_session()
    breaking = Breaking(anthropic_sse("Hello there."), 3, fault)
    each_world.anthropic.script(breaking.answer)
    seen, ended = breaking.read(each_world, body(), session)
    assert ended
    assert seen.startswith(b"".join(breaking.before))
    *_, last = events(seen)
    assert last["type"] == "error"
    assert last["error"]["type"] == "api_error"
    assert seen.count(b"event: error") == 1
    row = each_world.row(session)
    assert (row["outcome"], row["error_type"], row["status"]) == ("error", "api_error", 200)
    assert (row["input_tokens"], row["output_tokens"]) == (11, 1)


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET], ids=["closed", "reset"])
def test_a_passthrough_cut_inside_an_event_is_cut(each_world: World, fault: Fault) -> None:
    """No event fits in there: the client sees what the upstream did."""
    session = new_session()
    answer = anthropic_sse("Hello there.")
    third = answer.pieces[2]
    assert isinstance(third, bytes)
    breaking = Breaking(answer, 2, fault, part=third[:20])
    each_world.anthropic.script(breaking.answer)
    seen, ended = breaking.read(each_world, body(), session)
    assert not ended
    assert seen == b"".join(breaking.before)
    row = each_world.row(session)
    assert (row["outcome"], row["input_tokens"]) == ("truncated", 11)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_compressed_passthrough_that_is_cut_is_cut(each_world: World, encoding: Any) -> None:
    """An event in plain text would be garbage to a client that unpacks."""
    session = new_session()
    breaking = Breaking(anthropic_sse("Hello there.").compressed(encoding), 3, Fault.CLOSE)
    each_world.anthropic.script(breaking.answer)
    seen, ended = breaking.read(each_world, body(), session)
    assert not ended
    assert seen == b"".join(breaking.before)
    row = each_world.row(session)
    assert (row["outcome"], row["input_tokens"]) == ("truncated", 11)


def test_a_whole_answer_that_is_cut_is_cut(each_world: World) -> None:
    session = new_session()
    answer = anthropic_message()
    halves = Answer([answer.content[:50], answer.content[50:]], headers=answer.headers)
    breaking = Breaking(halves, 1, Fault.CLOSE)
    each_world.anthropic.script(breaking.answer)
    assert breaking.read(each_world, body(stream=False), session) == (answer.content[:50], False)
    assert each_world.row(session)["outcome"] == "truncated"


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET], ids=["closed", "reset"])
def test_a_conversion_that_is_cut_closes_its_block_and_says_so(each_world: World, fault: Fault) -> None:
    session = new_session()
    breaking = Breaking(chat_sse("Hello there."), 2, fault)
    each_world.chat.script(breaking.answer)
    seen, ended = breaking.read(each_world, tagged(), session, held=DELTA_END)
    assert ended
    found = events(seen)
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "error",
    ]
    assert found[-1]["error"]["type"] == "api_error"
    row = each_world.row(session)
    assert (row["outcome"], row["error_type"], row["provider"]) == ("error", "api_error", "cerebras")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_conversion_that_is_cut_before_its_first_event_is_a_502(world: World, stream: bool) -> None:
    session = new_session()
    world.chat.on(lambda request: True, chat_sse().inserting(0, Fault.RESET))
    assert_error(world.post(tagged(stream=stream), session=session), 502, "api_error")
    assert world.row(session)["error_type"] == "api_error"


def test_a_conversion_into_a_whole_answer_that_is_cut_is_a_502(world: World) -> None:
    whole = chat_completion()
    world.chat.script(
        chat_sse("Hello there.").inserting(2, Fault.CLOSE),
        Answer([whole.content[:50], Fault.CLOSE, whole.content[50:]], headers=whole.headers),
    )
    for _ in range(2):
        assert_error(world.post(tagged(stream=False)), 502, "api_error")


# Refusals of a converted provider


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("status", "shown", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (402, 402, "billing_error"),
        (403, 403, "permission_error"),
        (404, 404, "not_found_error"),
        (413, 413, "request_too_large"),
        (422, 400, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (500, 502, "api_error"),
        (503, 529, "overloaded_error"),
        (504, 504, "timeout_error"),
    ],
)
def test_a_refusal_keeps_its_status(world: World, status: int, shown: int, kind: str, stream: bool) -> None:
    session = new_session()
    world.chat.script(chat_error(status, "the provider's own words"))
    assert "the provider's own words" in assert_error(world.post(tagged(stream=stream), session=session), shown, kind)
    assert len(world.chat.requests) == 1  # the client is the one to retry
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"], row["attempts"]) == ("error", shown, kind, 1)


def test_429_goes_out_at_once_with_its_retry_after(world: World) -> None:
    world.chat.script(chat_error(429, "slow down", headers=[("Retry-After", "17")]))
    response = world.post(tagged())
    assert_error(response, 429, "rate_limit_error")
    assert response.header("retry-after") == b"17"


def test_an_overflowing_context_is_said_in_anthropic_s_words(world: World) -> None:
    world.chat.script(
        chat_error(
            400,
            "This model's maximum context length is 131072 tokens. However, your messages resulted in 140000 tokens.",
            code="context_length_exceeded",
        )
    )
    message = assert_error(world.post(tagged()), 400, "invalid_request_error")
    assert message.startswith("prompt is too long: 140000 tokens > 131072 maximum")


PAGE = b"<!doctype html><html><head><title>502</title></head><body><script>alert(1)</script>Bad gateway</body></html>"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("status", "shown", "kind"),
    [
        (200, 502, "api_error"),
        (404, 404, "not_found_error"),
        (502, 502, "api_error"),
        (503, 529, "overloaded_error"),
    ],
)
def test_a_page_is_never_shown(world: World, status: int, shown: int, kind: str, stream: bool) -> None:
    world.chat.script(Answer(PAGE, status, [("content-type", "text/html")]))
    response = world.post(tagged(stream=stream))
    assert_error(response, shown, kind)
    assert b"<" not in response.body
    assert b"script" not in response.body


@pytest.mark.parametrize("location", ["http://127.0.0.1:9/elsewhere", "/v1/elsewhere"])
def test_a_redirect_is_not_followed_by_a_conversion(world: World, location: str) -> None:
    world.chat.script(Answer(b"moved", 308, [("Location", location)]))
    response = world.post(tagged())
    assert response.status >= 400
    assert response.json()["type"] == "error"
    assert len(world.chat.requests) == 1


# Answers that cannot be understood


def chunk(delta: dict[str, Any], **fields: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, **fields}]}).encode() + b"\n\n"


def said_after_hello(world: World, session: str, *pieces: bytes) -> list[dict[str, Any]]:
    """The events that a client gets when the provider says more once "Hello" has arrived."""
    gate = Gate()
    world.chat.script(sse_answer([chunk({"content": "Hello"}), gate, *pieces]))
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, headers(session), tagged())
        head = client.read_head()
        seen = chunks_until(client, DELTA_END)
        gate.open()
        return events(seen + client.read_body(head))


ERROR_EVENT = b'data: {"error": {"message": "the provider broke", "type": "server_error", "code": 500}}\n\n'


def test_an_error_object_in_a_stream_is_an_error_event(world: World) -> None:
    session = new_session()
    found = said_after_hello(world, session, ERROR_EVENT, b"data: [DONE]\n\n")
    assert [event["type"] for event in found[-2:]] == ["content_block_stop", "error"]
    assert "the provider broke" in found[-1]["error"]["message"]
    assert world.row(session)["outcome"] == "error"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_an_error_object_at_once_is_an_error_status(world: World, stream: bool) -> None:
    world.chat.script(sse_answer([ERROR_EVENT]), json_answer(json.loads(ERROR_EVENT.removeprefix(b"data: "))))
    for _ in range(2):
        response = world.post(tagged(stream=stream))
        assert response.status >= 500
        assert "the provider broke" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n",
        b"no events at all",
        b"data: not JSON\n\ndata: [1, 2]\n\n",
        b"\x00\xff\xfe\x00" * 100,
        b": comment\n\n: comment\n\n",
        b'data: {"choices": []}\n\n',
        b"{",
        b"[]",
        b"null",
    ],
)
def test_an_answer_without_a_message_is_a_502(world: World, content: bytes, stream: bool) -> None:
    world.chat.script(Answer(content, headers=[("content-type", "text/event-stream")]))
    assert_error(world.post(tagged(stream=stream)), 502, "api_error")


def test_garbage_between_good_events_is_passed_over(world: World) -> None:
    world.chat.script(
        sse_answer(
            [
                b"data: not JSON\n\n",
                chunk({"content": "Hel"}),
                b"\xff\xfe: \x00\ndata: {broken\n\n",
                b": keep-alive\n\n",
                b"event: strange\ndata: 42\n\n",
                chunk({"content": "lo"}, finish_reason="stop"),
                b"data: [DONE]\n\n",
                b"data: after the end\n\n",
            ]
        )
    )
    with anthropic.Anthropic(api_key="planted", base_url=world.url, max_retries=0) as client:
        message = client.messages.create(
            model="cerebras,gpt-oss-120b", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        )
    assert [block.text for block in message.content if block.type == "text"] == ["Hello"]


def test_a_broken_tool_call_is_an_error(world: World) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "run", "arguments": '{"a": '}}
    ending = chunk({}, finish_reason="tool_calls"), b"data: [DONE]\n\n"
    found = said_after_hello(world, new_session(), chunk({"tool_calls": [call]}), *ending)
    assert found[-1]["type"] == "error"
    assert "run" in found[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[1]", "object"),
        (b"\xff\xfe", "JSON"),
        (b"{}", "model"),
        (b'{"model": 7}', "model"),
        (b'{"model": ""}', "model"),
        (b"[" * 100_000, "JSON"),
        (b'{"model": "gpt-oss-120b", "messages": 7}', "messages"),
        (b'{"model": "gpt-oss-120b", "messages": []}', "messages"),
    ],
)
def test_a_request_that_cannot_be_used_is_a_400(world: World, content: bytes, said: str) -> None:
    session = new_session()
    assert said in assert_error(world.post(content, session=session), 400, "invalid_request_error")
    assert world.contacts == 0
    row = world.row(session)
    assert (row["outcome"], row["status"], row["session_id"]) == ("error", 400, session)


@pytest.mark.parametrize(
    "how", [lambda data: data, lambda data: data.replace(b"hi", b"\\ud800")], ids=["plain", "lone"]
)
def test_odd_text_goes_both_ways(world: World, how: Callable[[bytes], bytes]) -> None:
    """Half a character and controls crash nothing."""
    world.chat.script(sse_answer([chunk({"content": "\ud800 \u0000 é"}, finish_reason="stop"), b"data: [DONE]\n\n"]))
    response = world.post(how(tagged()))
    assert response.status == 200
    assert events(response.body)[-1]["type"] == "message_stop"
