"""Tag extraction alone: what it reads out of bodies as Claude Code sends them, and which it refuses."""

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from ccr_asgi.exchange import Exchange
from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware, read_body_fields
from tests.middleware.apps import Below, alone, passes_other_scopes_on
from tests.support import asgi

TAG = "<CCR-SUBAGENT-MODEL>cerebras,gpt-oss-120b</CCR-SUBAGENT-MODEL>"
SESSION = "0b8fcd19-3a0b-4b5c-9a0e-2f6f1d2f5a10"
PATHS = ["/v1/messages", "/v1/messages/count_tokens"]


def messages_body(**changes: Any) -> dict[str, Any]:
    """A subagent's request, real in its structure and invented in its text."""
    body = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 32_000,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cc_entrypoint=cli;"},
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
            {
                "type": "text",
                "text": f"{TAG}\nYou review code.\n\nNotes: \U0001f600",
                "cache_control": {"type": "ephemeral"},
            },
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": f"CLAUDE.md says {TAG}"}]},
            {"role": "system", "content": TAG},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": TAG}]},
        ],
        "tools": [{"name": "Task", "description": TAG, "input_schema": {"type": "object"}}],
        "metadata": {"user_id": json.dumps({"device_id": "d", "account_uuid": "a", "session_id": SESSION})},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "medium"},
        "stream": True,
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not ...}


async def extracted(
    body: dict[str, Any] | bytes, *headers: tuple[str, str], path: str = "/v1/messages"
) -> tuple[Exchange, bytes]:
    """The exchange and the body as they are seen below."""
    below = Below()
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    app = alone(TagExtractionMiddleware, below)
    response = await asgi.request(app, "POST", path, query=b"beta=true", headers=headers, body=data)
    assert response.status == 200, response.body
    assert below.bodies == [data]
    return below.exchange, below.bodies[0]


async def refused(body: bytes) -> str:
    below = Below()
    response = await asgi.request(alone(TagExtractionMiddleware, below), "POST", "/v1/messages", body=body)
    error = json.loads(response.body)["error"]
    assert (response.status, error["type"], below.scopes) == (400, "invalid_request_error", [])
    return str(error["message"])


@pytest.mark.parametrize("path", PATHS)
async def test_a_request_is_read(path: str) -> None:
    exchange, _ = await extracted(messages_body(), path=path)
    assert (exchange.requested_model, exchange.streamed, exchange.session_id) == ("claude-sonnet-4-5", True, SESSION)
    assert exchange.tag is not None
    assert exchange.tag.content == "cerebras,gpt-oss-120b"


@pytest.mark.parametrize(
    "system",
    [
        ...,
        None,
        7,
        "",
        "You review code.",
        [],
        [{"type": "text", "text": "You review code."}],
        {"type": "text", "text": TAG},
    ],
    ids=str,
)
async def test_a_tag_elsewhere_in_the_body_does_not_route(system: object) -> None:
    exchange, _ = await extracted(messages_body(system=system))
    assert exchange.tag is None


async def test_a_system_string_is_read() -> None:
    exchange, _ = await extracted(messages_body(system=f"You review code.\n{TAG}\n"))
    assert exchange.tag is not None


async def test_a_body_without_any_tag_is_read_without_its_system() -> None:
    exchange, _ = await extracted({"model": "m", "system": {"odd": [1, 2]}, "messages": []})
    assert (exchange.requested_model, exchange.tag) == ("m", None)


@pytest.mark.parametrize(
    ("stream", "streamed"), [(True, True), (False, False), (..., False), (None, False), (1, False), ("true", False)]
)
async def test_only_true_asks_for_a_stream(stream: object, streamed: bool) -> None:
    assert (await extracted(messages_body(stream=stream)))[0].streamed is streamed


# the session


@pytest.mark.parametrize(
    ("metadata", "session_id"),
    [
        ({"user_id": json.dumps({"device_id": "d", "session_id": SESSION})}, SESSION),
        ({"user_id": f"user_{'0' * 64}_account__session_{SESSION}"}, SESSION),
        ({"user_id": f"user_x_account_{SESSION}_session_{SESSION}"}, SESSION),
        ({"user_id": f"user_x_session_{SESSION}_more"}, None),
        ({"user_id": "user_x_session_short"}, None),
        ({"user_id": "[1]"}, None),
        ({"user_id": "7"}, None),
        ({"user_id": "{"}, None),
        ({"user_id": ""}, None),
        ({"user_id": json.dumps({"session_id": 7})}, None),
        ({"user_id": json.dumps({"device_id": "d"})}, None),
        ({"user_id": 7}, None),
        ({"user_id": None}, None),
        ({}, None),
        (None, None),
        ("user", None),
        ([SESSION], None),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_the_session_is_read_from_the_metadata(metadata: object, session_id: str | None) -> None:
    assert (await extracted(messages_body(metadata=metadata)))[0].session_id == session_id


async def test_the_sessions_header_comes_first() -> None:
    headers = ("X-Claude-Code-Session-Id", "from-the-header")
    assert (await extracted(messages_body(), headers))[0].session_id == "from-the-header"


async def test_a_user_id_with_a_lone_surrogate_names_no_session() -> None:
    body = b'{"model": "m", "metadata": {"user_id": "\\ud83d"}}'
    assert (await extracted(body))[0].session_id is None


# bodies that other parsers take


@pytest.mark.parametrize("system", ["", f', "system": "{TAG}"'])
async def test_lone_surrogates_are_taken_as_claude_code_sends_them(system: str) -> None:
    body = f'{{"model": "m", "stream": true, "messages": [{{"content": "cut \\ud83d"}}]{system}}}'.encode()
    exchange, _ = await extracted(body)
    assert (exchange.requested_model, exchange.streamed) == ("m", True)
    assert (exchange.tag is not None) is bool(system)


async def test_a_surrogate_in_what_is_read_is_taken_too() -> None:
    exchange, _ = await extracted(b'{"model": "m\\ud83d", "metadata": {"user_id": "x"}}')
    assert exchange.requested_model == "m\ud83d"


async def test_the_bodys_bytes_go_on_as_they_were_written() -> None:
    body = b' {\n "messages" : [ 1.0e2, "\\u0041" ],\t"model":"m", "model" : "n" } \r\n'
    assert (await extracted(body))[1] == body


# bodies that are of no use


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"model=m", "not JSON"),
        (b'{"model": "m"', "not JSON"),
        (b'{"model": "m"} x', "not JSON"),
        (b'{"model": "m", "max_tokens": NaN}', "NaN"),
        (b'\xff\xfe{\x00"\x00', "not JSON"),
        (b'{"model": "\xff"}', "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"[]", "an array; it must be a JSON object"),
        (b'"text"', "the string 'text'"),
        (b"7", "the number 7"),
        (b"null", "null"),
        (b"{}", "`model` is missing"),
        (b'{"model": null}', "`model` is missing"),
        (b'{"model": ""}', "`model` is ''"),
        (b'{"model": 7}', "`model` is 7"),
        (b'{"model": ["m"]}', "`model` is ['m']"),
        (b'{"model": {"a": "\\ud83d"}}', "`model` is {'a'"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_of_no_use_is_a_400_before_anyone_is_asked(body: bytes, words: str) -> None:
    assert words in await refused(body)


async def test_a_refusal_shows_a_long_value_in_part() -> None:
    assert len(await refused(json.dumps({"model": ["x" * 10_000]}).encode())) < 300


async def test_what_was_read_before_the_refusal_is_kept_for_the_row() -> None:
    exchange = Exchange()
    with pytest.raises(Exception, match="must be a non-empty string"):
        read_body_fields(b'{"stream": true, "metadata": {"user_id": "{\\"session_id\\": \\"s\\"}"}}', exchange)
    assert (exchange.streamed, exchange.session_id, exchange.requested_model) == (True, "s", None)


# what is not read


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/v1/messages"), ("POST", "/v1/messages/"), ("POST", "/v1/messages/batches"), ("POST", "/v1/files")),
        *(("POST", "/v1//messages"), ("POST", "/v1/message%73"), ("PUT", "/v1/messages"), ("POST", "/api/v1/messages")),
    ],
)
async def test_other_requests_stream_through_unread(method: str, path: str) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    call = asgi.start(alone(TagExtractionMiddleware, echo), method, path, body=b"not", more_to_come=True)
    await call.until(lambda response: response.pieces == [b"not"])
    call.feed(b"JSON", last=True)
    assert (await call.end()).pieces == [b"not", b"JSON"]


async def test_a_body_that_comes_in_pieces_is_put_together() -> None:
    below = Below()
    call = asgi.start(alone(TagExtractionMiddleware, below), "POST", "/v1/messages", body=b'{"mod', more_to_come=True)
    call.feed(b'el": "m"}', last=True)
    await call.end()
    assert below.bodies == [b'{"model": "m"}']


async def test_a_client_that_leaves_within_its_body_is_told_nothing() -> None:
    below = Below()
    call = asgi.start(alone(TagExtractionMiddleware, below), "POST", "/v1/messages", body=b"{", more_to_come=True)
    call.leave()
    assert not (await call.end()).started
    assert below.scopes == []


async def test_mounted_under_a_prefix_it_knows_its_paths() -> None:
    below = Below()
    app = alone(TagExtractionMiddleware, below)
    await asgi.request(app, "POST", "/llm/v1/messages", root_path="/llm", body=b'{"model": "m"}')
    assert below.exchange.requested_model == "m"


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(TagExtractionMiddleware)


# the project

FOLDER = "# Environment\n - Primary working directory: /home/me/orchard\n - Is a git repository: yes"
OLD_FOLDER = "You are an agent.\n<env>\nWorking directory: C:\\work\\orchard\\\nPlatform: win32\n</env>"


def project_of(*, note: bool = True, **fields: Any) -> str | None:
    exchange = Exchange()
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    read_body_fields(json.dumps(body).encode(), exchange, project=note)
    return exchange.project


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "system", "content": FOLDER}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": FOLDER}]}]},
        {"system": OLD_FOLDER},
        {"system": [{"type": "text", "text": "x"}, {"type": "text", "text": OLD_FOLDER}]},
    ],
    ids=["a system message", "its blocks", "the prompt", "its blocks"],
)
def test_the_project_is_the_name_of_the_client_s_folder(fields: dict[str, Any]) -> None:
    assert project_of(**fields) == "orchard"
    assert project_of(note=False, **fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": [{"role": "user", "content": FOLDER}]},
        {"messages": [{"role": "user", "content": "hi"}] * 4 + [{"role": "system", "content": FOLDER}]},
        {"messages": [{"role": "system", "content": "I like my Primary working directory: /home/me/orchard"}]},
        {"system": "Working directory: /"},
        {"system": "Working directory: ", "messages": FOLDER},
        {"messages": {"a": FOLDER}},
        {"messages": [7, None, FOLDER]},
    ],
)
def test_nobody_else_s_words_name_a_project(fields: dict[str, Any]) -> None:
    assert project_of(**fields) is None


@pytest.mark.parametrize(
    "text",
    ["\n" * 1_000_000 + "x orking directory: y", "Working directory: a" + " " * 1_000_000 + "b"],
    ids=["blank lines", "spaces in a name"],
)
def test_a_million_blanks_beside_a_folder_hold_up_nobody(text: str) -> None:
    """Where each could be read in two ways this would not end within the test's time."""
    assert project_of(system=text) == ("a" + " " * 1_000_000 + "b" if text.endswith("b") else None)
