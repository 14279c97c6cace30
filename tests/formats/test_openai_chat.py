"""Chat Completions as a format: the request, the machine for its answer, and its errors."""

import json
import logging
from typing import Any

import pytest

from ccr_asgi.errors import CcrError, RequestError
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import Conversion, ConversionContext, Format
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.formats.openai_chat import FORMAT
from ccr_asgi.quirks import Quirks
from tests.formats.requests import body, route, text, tool, user

CONTEXT = ConversionContext("msg_1", "session-1")
LONG = "mcp__server__" + "x" * 60


def begin(request: dict[str, Any] | None = None, quirks: Quirks | None = None, **provider: Any) -> Conversion:
    found: Conversion = FORMAT.begin(request or body(), route(quirks=quirks, **provider), CONTEXT)
    return found


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]}


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(entry).encode() + b"\n\n" for entry in chunks) + b"data: [DONE]\n\n"


def test_it_is_the_format_of_its_kind() -> None:
    registered: Format = FORMATS["openai-chat"]
    assert registered is FORMAT
    assert {kind: entry.kind for kind, entry in FORMATS.items()} == {kind: kind for kind in FORMATS}


def test_the_request_is_json() -> None:
    found = begin(body(user("é"), stream=True)).request
    assert json.loads(found.body)["messages"] == [{"role": "user", "content": "é"}]
    assert found.headers == ()


def test_a_provider_s_quirks_may_add_headers() -> None:
    assert begin(quirks=Quirks(headers={"X-Title": "mine"})).request.headers == ((b"x-title", b"mine"),)


def test_what_was_left_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ccr_asgi"):
        begin(body(tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    assert caplog.messages == ["plain,m: server tools left out: web_search_20250305"]


def test_a_stream_comes_back_with_the_client_s_names() -> None:
    conversion = begin(body(tools=[tool(LONG)], stream=True))
    name = json.loads(conversion.request.body)["tools"][0]["function"]["name"]
    machine = conversion.stream("text/event-stream")
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": usage}
    out = machine.feed(sse(chunk(tool_calls=[call]), end)) + machine.close()
    events = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
    started = next(event for event in events if event["type"] == "message_start")["message"]
    assert (started["id"], started["model"]) == ("msg_1", "m")
    assert next(event for event in events if event["type"] == "content_block_start")["content_block"]["name"] == LONG
    assert events[-1] == {"type": "message_stop"}


def test_an_answer_without_usage_is_estimated() -> None:
    request = body(user("hello there"))
    conversion = begin(request)
    machine = conversion.stream("application/json")
    message = {"role": "assistant", "content": "hi"}
    answer = {"id": "c", "model": "m-2", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    found = json.loads(machine.feed(json.dumps(answer).encode()) + machine.close())
    assert found["content"] == [{"type": "text", "text": "hi"}]
    assert found["usage"]["input_tokens"] == count_request(request)
    assert conversion.extra.estimated
    assert conversion.extra.served_model == "m-2"


@pytest.mark.parametrize(
    ("provider", "hidden"),
    [
        ({"api_key": "secret-key-1"}, "secret-key-1"),
        ({"headers": (("api-key", "secret-key-2"),)}, "secret-key-2"),
        ({"quirks": Quirks(headers={"X-Key": "secret-key-3"})}, "secret-key-3"),
    ],
)
def test_an_error_names_the_provider_and_shows_no_secret(provider: dict[str, Any], hidden: str) -> None:
    answer = json.dumps({"error": {"message": f"Incorrect API key provided: {hidden}"}}).encode()
    error = begin(**provider).error(401, [(b"content-type", b"application/json")], answer)
    assert isinstance(error, CcrError)
    assert (error.status, error.error_type) == (401, "authentication_error")
    assert "plain" in error.message
    assert hidden not in error.message


def test_a_short_key_is_no_secret() -> None:
    error = begin(api_key="a").error(400, [], b'{"error": {"message": "a bad request"}}')
    assert "a bad request" in error.message


def test_there_is_nothing_to_retry_with() -> None:
    assert begin().retry(CcrError("no")) is None


def test_tokens_are_counted() -> None:
    assert FORMAT.count_tokens(body(), route()) == count_request(body())


@pytest.mark.parametrize("refused", [{}, {"messages": 5}])
def test_what_is_no_request_is_refused(refused: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="accepted: "):
        FORMAT.begin(refused, route(), CONTEXT)
    with pytest.raises(RequestError, match="accepted: "):
        FORMAT.count_tokens(refused, route())


def test_a_body_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    request = body(tools=[{"name": "T", "input_schema": deep}], system=[text("a")])
    with pytest.raises(RequestError, match=r"^body: found JSON nested too deeply; accepted: "):
        FORMAT.begin(request, route(), CONTEXT)
    with pytest.raises(RequestError, match=r"^body: found JSON nested too deeply; accepted: "):
        FORMAT.count_tokens(request, route())
    while deep:  # taken apart by hand, or its deallocation would recurse as deep
        deep = deep["a"]
