"""Who is asked, what they are told, and what they are never told."""

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, MessageParam, ToolParam, ToolResultBlockParam

from tests.integration.claude import (
    CHAT_KEY,
    CHAT_MODEL,
    MODEL,
    TAG,
    THIRD_KEY,
    THIRD_MODEL,
    World,
    body,
    events,
    new_session,
    tag,
    tagged,
)
from tests.support.fake_upstream import (
    FakeUpstream,
    ToolCall,
    anthropic_message,
    anthropic_sse,
    chat_completion,
    chat_sse,
    json_answer,
)
from tests.support.raw_http import RawClient

IDENTITY = {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=planted-billing; cc_entrypoint=cli;"}
CHAT_USAGE = {
    "prompt_tokens": 900,
    "prompt_tokens_details": {"cached_tokens": 300},
    "completion_tokens": 50,
    "completion_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 950,
}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


NOT_ROUTING: dict[str, dict[str, Any]] = {
    "in a message": {"messages": [user(TAG)]},
    "in a message's block": {"messages": [user([text(f"{TAG}\nDo it.")])]},
    "in a first message like CLAUDE.md": {
        "messages": [user([text(f"<system-reminder>\n# claudeMd\n{TAG}\n</system-reminder>"), text("hi")])]
    },
    "in a tool result": {
        "messages": [
            user("read it"),
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {}}]},
            user([{"type": "tool_result", "tool_use_id": "t1", "content": f"{TAG}\n"}]),
        ]
    },
    "in a tool's input": {
        "messages": [
            user("write it"),
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Write", "input": {"c": TAG}}]},
            user([{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]),
        ]
    },
    "in an agent's description, as a system message": {
        "messages": [user("hi"), {"role": "system", "content": f"{TAG}\nAvailable agents: fast-dev"}]
    },
    "in an agent's description, as a tool's": {
        "tools": [{"name": "Task", "description": f"{TAG}\nfast-dev: …", "input_schema": {"type": "object"}}]
    },
    "in the middle of a line": {"system": [IDENTITY, text(f"You write code. {TAG} Do it well.")]},
    "at the end of a line": {"system": f"Agents begin with {TAG}\nand go on."},
    "below the tenth line": {"system": [text("\n".join(["a line"] * 10 + [TAG]))]},
    "in a code fence": {"system": [text(f"Write agents so:\n```\n{TAG}\n```\n")]},
    "in a system block of another type": {"system": [{"type": "other", "text": TAG}]},
    "in metadata": {"metadata": {"user_id": TAG}},
}

ROUTING: dict[str, dict[str, Any]] = {
    "at the start of a string": {"system": f"{TAG}\nYou write code."},
    "at the start of a string, with more on its line": {"system": f"{TAG} You write code."},
    "after white space": {"system": f"\n\n  {TAG}\nYou write code."},
    "at the start of the last block": {"system": [IDENTITY, text(f"{TAG}\n\nYou write code.")]},
    "alone on a line": {"system": [IDENTITY, text(f"You write code.\n{TAG}\nGo.")]},
    "on the tenth line": {"system": [text("\n".join(["a line"] * 9 + [TAG]))]},
    "alone in its block": {"system": [text(TAG), text("You write code.")]},
    "with a slash": {"system": tag(f"cerebras/{CHAT_MODEL}")},
    "as a model's name": {"system": tag(CHAT_MODEL)},
    "with spaces": {"system": tag(f" cerebras , {CHAT_MODEL} ")},
    "over a model that would go elsewhere": {"system": TAG, "model": f"moonshot,{THIRD_MODEL}"},
    "without one, by the pair as the model": {"model": f"cerebras,{CHAT_MODEL}"},
    "without one, by a listed model": {"model": CHAT_MODEL},
    "without one, by a listed model with a suffix": {"model": f"{CHAT_MODEL}[1m]"},
}


@pytest.mark.parametrize("fields", NOT_ROUTING.values(), ids=NOT_ROUTING)
def test_a_tag_elsewhere_does_not_route(world: World, fields: dict[str, Any]) -> None:
    content = body(**fields)
    assert world.post(content).status == 200
    (request,) = world.anthropic.requests
    assert request.body == content
    assert world.contacts == 1


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fields", ROUTING.values(), ids=ROUTING)
def test_what_routes(world: World, fields: dict[str, Any], streamed: bool) -> None:
    session = new_session()
    world.chat.script(chat_sse(usage=CHAT_USAGE) if streamed else chat_completion(usage=CHAT_USAGE))
    response = world.post(body(stream=streamed, **fields), session=session)
    assert response.status == 200, response.body
    (request,) = world.chat.requests
    assert request.target == b"/v1/chat/completions"
    assert request.json()["model"] == CHAT_MODEL
    assert b"CCR-SUBAGENT-MODEL" not in request.body
    assert world.contacts == 1
    if streamed:
        assert [event["type"] for event in events(response.body)][-1] == "message_stop"
    else:
        assert response.json()["content"] == [{"type": "text", "text": "Hello from the fake upstream."}]
    row = world.row(session)
    expected = {
        "provider": "cerebras",
        "model": CHAT_MODEL,
        "requested_model": fields.get("model", MODEL),
        "streamed": int(streamed),
        "outcome": "ok",
        "status": 200,
        "stop_reason": "end_turn",
        "input_tokens": 600,
        "cache_read_tokens": 300,
        "output_tokens": 50,
        "reasoning_tokens": 20,
        "estimated": 0,
        "attempts": 1,
    }
    assert {name: row[name] for name in expected} == expected


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown provider in the tag": ({"system": tag("nobody,some-model")}, "nobody"),
    "an unknown provider with a slash": ({"system": tag("nobody/some-model")}, "nobody"),
    "an unknown provider in the model": ({"model": "nobody,some-model"}, "nobody"),
    "an empty tag": ({"system": tag("")}, "empty"),
    "a tag without a model": ({"system": tag("cerebras,")}, "cerebras,"),
    "a tag that names nothing known": ({"system": tag("some-model")}, "some-model"),
    "a tag that is not closed": ({"system": f"<CCR-SUBAGENT-MODEL>cerebras,{CHAT_MODEL}\nGo."}, "not closed"),
}


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("fields", "said"), REFUSED.values(), ids=REFUSED)
def test_what_leads_nowhere_is_refused(world: World, fields: dict[str, Any], said: str, streamed: bool) -> None:
    session = new_session()
    response = world.post(body(stream=streamed, **fields), session=session)
    assert response.status == 400
    error = response.json()
    assert error["error"]["type"] == "invalid_request_error"
    assert response.header("request-id") == error["request_id"].encode()
    for word in (said, "anthropic", "cerebras", CHAT_MODEL, "moonshot", THIRD_MODEL):
        assert word in error["error"]["message"]
    assert world.contacts == 0
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", 400, "invalid_request_error")
    assert (row["provider"], row["attempts"], row["id"]) == (None, 0, error["request_id"])


# What a provider gets to see

PLANTED = [
    ("Authorization", "Bearer planted-oauth"),
    ("x-api-key", "planted-key"),
    ("Cookie", "planted=cookie"),
    ("Proxy-Authorization", "Basic planted"),
    ("X-Claude-Code-Session-Id", "planted-session"),
    ("x-claude-code-agent-id", "planted-agent"),
    ("x-claude-code-parent-agent-id", "planted-parent"),
    ("X-My-Own-Secret", "planted-custom"),
    ("anthropic-beta", "planted-beta"),
    ("User-Agent", "claude-cli/planted"),
    ("X-Real-IP", "planted-address"),
    ("x-ccr-key", "planted-proxy-key"),
]


def planted_body(model: str = MODEL, system_tag: str = TAG, stream: bool = True) -> bytes:
    return body(
        model=model,
        stream=stream,
        system=[BILLING, IDENTITY, text(f"{system_tag}\nYou write code.")],
        metadata={"user_id": json.dumps({"device_id": "planted-device", "account_uuid": "planted-account"})},
        safeguards={"paths": ["/planted/safeguard"]},
        context_management={"edits": []},
    )


def send_planted(world: World, content: bytes) -> None:
    with RawClient(world.url) as client:
        response = client.request("POST", "/v1/messages?planted=query", PLANTED, content)
    assert response.status == 200, response.body


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_a_chat_provider_sees_nothing_that_is_the_client_s(world: World, streamed: bool) -> None:
    send_planted(world, planted_body(stream=streamed))
    (request,) = world.chat.requests
    raw = bytes(request.raw).lower()
    for secret in (b"planted", b"ccr-subagent-model", b"billing", b"metadata", b"claude", b"anthropic", b"x-stainless"):
        assert secret not in raw
    assert request.header("authorization") == f"Bearer {CHAT_KEY}".encode()
    assert {name.lower() for name, _ in request.headers} == {
        b"host",
        b"authorization",
        b"content-type",
        b"content-length",
        b"accept",
        b"accept-encoding",
        b"user-agent",
    }
    system = [message for message in request.json()["messages"] if message["role"] == "system"]
    assert "You write code." in json.dumps(system)


def test_a_third_party_of_anthropic_s_kind_gets_its_own_key(world: World) -> None:
    session = new_session()
    content = planted_body(model="claude-sonnet-4-5", system_tag=tag(f"moonshot,{THIRD_MODEL}"))
    send_planted(world, content)
    (request,) = world.third.requests
    assert request.target.partition(b"?")[0] == b"/anthropic/v1/messages"
    assert request.header("x-api-key") == THIRD_KEY.encode()
    head = bytes(request.raw).partition(b"\r\n\r\n")[0]
    for secret in (b"oauth", b"key\r", b"cookie", b"session", b"agent-id", b"custom", b"address", b"proxy"):
        assert b"planted-" + secret not in head
    assert request.header("authorization") is None
    for secret in (b"planted-device", b"planted-account", b"planted-billing", b"CCR-SUBAGENT-MODEL"):
        assert secret not in request.body
    sent, given = request.json(), json.loads(content)
    assert sent["model"] == THIRD_MODEL
    assert sent["system"] == [IDENTITY, text("You write code.")]
    assert "metadata" not in sent
    assert (sent["messages"], sent["max_tokens"]) == (given["messages"], given["max_tokens"])
    # And its answer comes back as it is.
    answer = anthropic_sse(model=THIRD_MODEL)
    world.third.script(answer)
    response = world.post(body(model=THIRD_MODEL), session=session)
    assert response.body == answer.content
    row = world.row(session)
    assert (row["provider"], row["model"], row["input_tokens"]) == ("moonshot", THIRD_MODEL, 11)


def test_a_provider_s_key_never_comes_back(world: World) -> None:
    world.chat.script(json_answer({"error": {"message": f"the key {CHAT_KEY} is bad"}}, 401, [("x-echo", CHAT_KEY)]))
    response = world.post(tagged())
    assert response.status == 401
    assert CHAT_KEY.encode() not in response.head.raw + response.body


def test_a_tag_that_names_anthropic_replaces_the_model_only(world: World) -> None:
    session = new_session()
    given = json.loads(body(system=[IDENTITY, text(f"{tag('anthropic,claude-opus-4-5')}\nGo.")], metadata={"a": 1}))
    assert world.post(json.dumps(given).encode(), session=session).status == 200
    (request,) = world.anthropic.requests
    assert request.json() == {**given, "model": "claude-opus-4-5", "system": [IDENTITY, text("Go.")]}
    assert request.header("authorization") is not None  # the subscription stays
    assert world.row(session)["requested_model"] == MODEL


def test_count_tokens_of_a_converted_model_is_an_estimate_of_ours(world: World) -> None:
    response = world.post(body("word " * 1000, model=CHAT_MODEL, stream=False), target="/v1/messages/count_tokens")
    assert response.status == 200
    assert 700 < response.json()["input_tokens"] < 1500
    assert world.contacts == 0


# The official SDK as a client

TOOLS: list[ToolParam] = [
    {
        "name": "get_weather",
        "description": "The weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
CALLS = [ToolCall("get_weather", {"city": "Zürich"}), ToolCall("get_weather", {"city": "Oslo"})]


class Route:
    """One way through, and how its provider says things."""

    def __init__(self, world: World, name: str) -> None:
        self.converted = name == "converted"
        self.upstream: FakeUpstream = world.chat if self.converted else world.anthropic
        self.model = f"cerebras,{CHAT_MODEL}" if self.converted else MODEL

    def answer(self, streamed: bool, content: str | None, calls: list[ToolCall]) -> None:
        if self.converted:
            self.upstream.script(
                chat_sse(content, tool_calls=calls) if streamed else chat_completion(content, tool_calls=calls)
            )
        else:
            self.upstream.script(
                anthropic_sse(content, tool_use=calls) if streamed else anthropic_message(content, tool_use=calls)
            )


@pytest.fixture(params=["passthrough", "converted"])
def route(world: World, request: pytest.FixtureRequest) -> Route:
    """Both ways."""
    return Route(world, request.param)


def ask(world: World, route: Route, streamed: bool, messages: list[MessageParam]) -> Message:
    """One turn of a conversation with tools, as the SDK's users hold it."""
    with anthropic.Anthropic(api_key="planted", base_url=world.url, max_retries=0) as client:
        if not streamed:
            return client.messages.create(model=route.model, max_tokens=99, messages=messages, tools=TOOLS)
        with client.messages.stream(model=route.model, max_tokens=99, messages=messages, tools=TOOLS) as stream:
            return stream.get_final_message()


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_the_sdk_holds_a_conversation_with_tools(world: World, route: Route, streamed: bool) -> None:
    route.answer(streamed, "Let me look.", CALLS)
    messages: list[MessageParam] = [{"role": "user", "content": "The weather?"}]
    first = ask(world, route, streamed, messages)
    assert first.stop_reason == "tool_use"
    said, *uses = first.content
    assert said.type == "text"
    assert said.text == "Let me look."
    assert [(use.name, use.input) for use in uses if use.type == "tool_use"] == [
        (call.name, call.arguments) for call in CALLS
    ]
    assert (first.usage.input_tokens, first.usage.output_tokens) == (11, 7)
    results: list[ToolResultBlockParam] = [
        {"type": "tool_result", "tool_use_id": use.id, "content": "rain"} for use in uses if use.type == "tool_use"
    ]
    messages.append({"role": "assistant", "content": first.content})
    messages.append({"role": "user", "content": results})
    route.answer(streamed, "It rains.", [])
    last = ask(world, route, streamed, messages)
    assert [block.text for block in last.content if block.type == "text"] == ["It rains."]
    assert last.stop_reason == "end_turn"
    _, request = route.upstream.requests
    assert b"rain" in request.body
    if route.converted:
        assert [message["role"] for message in request.json()["messages"]] == ["user", "assistant", "tool", "tool"]
        ids = [message["tool_call_id"] for message in request.json()["messages"][2:]]
        assert ids == [call["id"] for call in request.json()["messages"][1]["tool_calls"]]


async def test_the_asynchronous_sdk_streams(world: World, route: Route) -> None:
    route.answer(True, "Hello there.", [])
    async with anthropic.AsyncAnthropic(auth_token="planted", base_url=world.url, max_retries=0) as client:
        stream = await client.messages.create(
            model=route.model, max_tokens=99, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        pieces = [
            event.delta.text
            async for event in stream
            if event.type == "content_block_delta" and event.delta.type == "text_delta"
        ]
    assert "".join(pieces) == "Hello there."


def test_the_sdk_raises_what_is_refused(world: World) -> None:
    with (
        anthropic.Anthropic(api_key="planted", base_url=world.url, max_retries=0) as client,
        pytest.raises(anthropic.BadRequestError, match="Unknown provider 'nobody'") as refused,
    ):
        client.messages.create(model="nobody,x", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
    assert refused.value.request_id is not None
    assert refused.value.request_id.startswith("req_ccr_")


def test_the_sdk_counts_tokens_on_both_ways(world: World, route: Route) -> None:
    with anthropic.Anthropic(api_key="planted", base_url=world.url, max_retries=0) as client:
        counted = client.messages.count_tokens(model=route.model, messages=[{"role": "user", "content": "hi there"}])
    assert counted.input_tokens > 0


def test_requests_of_every_kind_side_by_side(world: World) -> None:
    """On one keep-alive connection: nothing of one request reaches the next."""
    with RawClient(world.url) as client:
        for content, status in [(tagged(), 200), (body(), 200), (body(model="nobody,x"), 400), (tagged(), 200)]:
            assert client.request("POST", "/v1/messages", [], content).status == status
    assert (len(world.anthropic.requests), len(world.chat.requests)) == (1, 2)
