"""Responses as a format: the request and its headers, the machine for its answer, and its errors."""

import json
import logging
from typing import Any

import pytest

from ccr_asgi import __version__
from ccr_asgi.errors import ProviderError, RequestError
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import Format
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.formats.openai_responses import FORMAT
from ccr_asgi.quirks import Quirks
from tests.formats.requests import assistant, body, tool, user
from tests.formats.responses_answers import call, completed, failed, message_item, sse
from tests.formats.responses_requests import begin, refused, route

LONG = "mcp__server__" + "x" * 60
SESSION_HEADERS = (b"session-id", b"thread-id", b"x-client-request-id")


# The request


def test_it_is_the_format_of_its_kind() -> None:
    registered: Format = FORMATS["openai-responses"]
    assert registered is FORMAT
    assert FORMAT.kind == "openai-responses"


def test_the_request_is_json() -> None:
    request = begin(body(user("é"))).request
    assert json.loads(request.body)["input"][0]["content"] == [{"type": "input_text", "text": "é"}]


def test_the_backend_is_told_what_the_cli_tells_it() -> None:
    request = begin().request
    headers = dict(request.headers)
    session = json.loads(request.body)["prompt_cache_key"].encode()
    assert headers == {
        b"accept": b"text/event-stream",
        b"originator": b"ccr_asgi",
        b"user-agent": b"ccr_asgi/" + __version__.encode(),
        b"version": b"0.169.0",
        **dict.fromkeys(SESSION_HEADERS, session),
    }
    assert b"session-1" not in request.body + b"".join(headers.values())


def test_the_public_api_is_told_less() -> None:
    quirks = Quirks(headers={"OpenAI-Project": "mine"})
    request = begin(quirks=quirks, login=False).request
    assert request.headers == ((b"accept", b"text/event-stream"), (b"openai-project", b"mine"))


def test_what_was_left_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ccr_asgi"):
        begin(body(tools=[{"type": "computer_20250124", "name": "c"}], stop_sequences=["x"]))
    assert caplog.messages == [
        "p,gpt-6-sol: server tools left out: computer_20250124",
        "p,gpt-6-sol: stop sequences left out: 1",
    ]


def test_tokens_are_counted() -> None:
    assert FORMAT.count_tokens(body(), route()) == count_request(body())


@pytest.mark.parametrize("request_body", [{}, {"messages": 5}])
def test_what_is_no_request_is_refused(request_body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="accepted: "):
        begin(request_body or {"messages": None})
    with pytest.raises(RequestError, match="accepted: "):
        FORMAT.count_tokens(request_body, route())


def test_a_body_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    request = body(user("q"), assistant({"type": "tool_use", "id": "1", "name": "T", "input": deep}))
    with pytest.raises(RequestError, match=r"^body: found JSON nested too deeply; accepted: "):
        begin(request)
    with pytest.raises(RequestError, match=r"^body: found JSON nested too deeply; accepted: "):
        FORMAT.count_tokens(request, route())
    while deep:  # taken apart by hand, or its deallocation would recurse as deep
        deep = deep["a"]


# The answer


def test_a_stream_comes_back_with_the_client_s_names() -> None:
    conversion = begin(body(tools=[tool(LONG)], stream=True))
    name = json.loads(conversion.request.body)["tools"][0]["name"]
    machine = conversion.stream("text/event-stream")
    out = machine.feed(sse(*call(0, "call_1", name, "{}"), completed()))
    events = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
    assert (events[0]["message"]["id"], events[0]["message"]["model"]) == ("msg_1", "gpt-6-sol")
    assert events[1]["content_block"]["name"] == LONG
    assert events[-1] == {"type": "message_stop"}


def test_a_call_id_of_the_conversation_is_not_given_again() -> None:
    earlier = assistant({"type": "tool_use", "id": "call_1", "name": "T", "input": {}})
    machine = begin(body(user("q"), earlier)).stream("text/event-stream")
    found = json.loads(machine.feed(sse(*call(0, "call_1", "T", "{}"), completed())))
    assert found["content"][0]["id"] == "toolu_1_0"


def test_an_answer_without_usage_is_estimated() -> None:
    request = body(user("hello there"))
    conversion = begin(request)
    machine = conversion.stream("application/json")
    answer = {"status": "completed", "output": [message_item("hi")], "model": "m-2"}
    found = json.loads(machine.feed(json.dumps(answer).encode()) + machine.close())
    assert found["usage"]["input_tokens"] == count_request(request)
    assert conversion.extra.estimated
    assert conversion.extra.served_model == "m-2"


def test_the_header_tells_the_model_that_answers() -> None:
    conversion = begin()
    headers = [(b"date", b"x"), (b"x-request-id", b"y"), (b"OpenAI-Model", b"gpt-6-sol-0901")]
    machine = conversion.stream("text/event-stream", headers)
    machine.feed(sse(completed(model="gpt-6-sol")))
    assert conversion.extra.served_model == "gpt-6-sol-0901"


@pytest.mark.parametrize(
    ("provider", "hidden"),
    [
        ({"login": False}, "key-invented"),
        ({"headers": (("api-key", "secret-key-2"),)}, "secret-key-2"),
        ({"quirks": Quirks(headers={"X-Key": "secret-key-3"})}, "secret-key-3"),
    ],
)
def test_an_error_names_the_provider_and_shows_no_secret(provider: dict[str, Any], hidden: str) -> None:
    conversion = begin(**provider)
    machine = conversion.stream("text/event-stream")
    with pytest.raises(ProviderError) as caught:
        machine.feed(sse(failed("server_error", f"bad {hidden}")))
    for error in (caught.value, refused(conversion, (401, {"error": {"message": f"bad {hidden}"}}))):
        assert error.message.startswith("p: bad ***")


def test_the_login_is_told_to_log_in() -> None:
    hint = "Run `codex login`"
    assert hint in refused(begin(), (401, {"detail": "Unauthorized"})).message
    assert hint not in refused(begin(login=False), (401, {"detail": "Unauthorized"})).message


def test_a_prompt_that_is_too_long_is_counted() -> None:
    conversion = begin()
    tokens = count_request(body())
    error = refused(conversion, (400, {"error": {"code": "context_length_exceeded", "message": "Too long."}}))
    assert error.message == f"prompt is too long: {tokens} tokens > {tokens - 1} maximum"
