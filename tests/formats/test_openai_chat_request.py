"""Whole requests: fields, quirks, golden cases, and bodies of every sort."""

import copy
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter

from ccr_asgi.config import Provider
from ccr_asgi.errors import RequestError
from ccr_asgi.formats.openai_chat_request import ChatRequest, convert
from ccr_asgi.quirks import PRESETS, Quirks, preset_for
from ccr_asgi.routing import Route
from ccr_asgi.wire import json_codec
from tests.formats.requests import (
    assistant,
    body,
    conversation,
    converted,
    image,
    refusal,
    result,
    route,
    sent,
    system,
    text,
    tool,
    use,
    user,
)

GOLDEN = Path(__file__).parent.parent / "fixtures" / "openai-chat-requests"
ORACLE: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)
CEREBRAS_FIELDS = {
    *("model", "messages", "stream", "stream_options", "max_completion_tokens", "temperature", "top_p", "stop"),
    *("reasoning_effort", "response_format", "tools", "tool_choice"),
}


def consume(value: Any) -> None:
    """Read `value` to its leaves: pydantic checks an `Iterable` only while somebody iterates over it."""
    if isinstance(value, dict):
        for entry in value.values():
            consume(entry)
    elif not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        for entry in value:
            consume(entry)


def check_against_the_sdk(request: ChatRequest) -> None:
    """The body is one that the openai SDK's types allow, and is ordered as the API demands."""
    consume(ORACLE.validate_python(request.body))
    assert request.body["messages"]
    waiting: list[str] = []
    for message in request.body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert waiting == []
        assert message["content"] or message.get("tool_calls")
        waiting = [call["id"] for call in message.get("tool_calls", [])]
    assert waiting == []
    calls = [call for message in request.body["messages"] for call in message.get("tool_calls", [])]
    assert len({call["id"] for call in calls}) == len(calls)
    names = [call["function"]["name"] for call in calls]
    names += [entry["function"]["name"] for entry in request.body.get("tools", [])]
    assert set(names) <= set(request.tool_names)


def test_the_oracle_can_fail() -> None:
    bad = copy.deepcopy(converted(assistant(use("1"))))
    bad.body["messages"][0]["tool_calls"][0]["function"]["arguments"] = {}
    with pytest.raises(ValueError, match="arguments"):
        consume(ORACLE.validate_python(bad.body))


def test_a_plain_request() -> None:
    assert sent(user("hi")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "max_completion_tokens": 100,
    }


FIELDS: dict[str, tuple[dict[str, Any], Quirks | None, dict[str, Any]]] = {
    "stream": ({"stream": True}, None, {"stream": True, "stream_options": {"include_usage": True}}),
    "no stream": ({"stream": False}, None, {"stream": False}),
    "a null stream": ({"stream": None}, None, {"stream": False}),
    "temperature 0": ({"temperature": 0}, None, {"temperature": 0}),
    "temperature and top_p": ({"temperature": 0.5, "top_p": 1}, None, {"temperature": 0.5, "top_p": 1}),
    "max_tokens": ({"max_tokens": 64_000}, None, {"max_completion_tokens": 64_000}),
    "one of max_tokens": ({"max_tokens": 1}, None, {"max_completion_tokens": 1}),
    "max_tokens under the cap": ({"max_tokens": 5}, Quirks(max_tokens_cap=10), {"max_completion_tokens": 5}),
    "max_tokens over the cap": ({"max_tokens": 50}, Quirks(max_tokens_cap=10), {"max_completion_tokens": 10}),
    "max_tokens by its old name": ({"max_tokens": 5}, Quirks(max_tokens_field="max_tokens"), {"max_tokens": 5}),
    "stop": ({"stop_sequences": ["a", "", "b"]}, None, {"stop": ["a", "b"]}),
    "no stop": ({"stop_sequences": [""]}, None, {}),
    "set, over the client's own": (
        {"temperature": 0.5},
        Quirks(set={"temperature": 1, "seed": 7}),
        {"temperature": 1, "seed": 7},
    ),
    "rename": ({"temperature": 0.5}, Quirks(rename={"temperature": "temp", "gone": "x"}), {"temp": 0.5}),
    "drop": ({"temperature": 0.5}, Quirks(drop=("temperature", "gone")), {}),
    "rename, then set, then drop": (
        {"temperature": 0.5, "top_p": 0.5},
        Quirks(rename={"temperature": "a", "top_p": "b"}, set={"a": 9, "c": 8}, drop=("b", "c")),
        {"a": 9},
    ),
    "an output format": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"$schema": "x", "type": "array"}}}},
        None,
        {"response_format": {"type": "json_schema", "json_schema": {"name": "output", "schema": {"type": "array"}}}},
    ),
    "an output format by its older name": (
        {"output_format": {"type": "json_schema", "schema": {}}},
        Quirks(strict=True),
        {"response_format": {"type": "json_schema", "json_schema": {"name": "output", "schema": {}, "strict": True}}},
    ),
}


@pytest.mark.parametrize(("fields", "quirks", "expected"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(fields: dict[str, Any], quirks: Quirks | None, expected: dict[str, Any]) -> None:
    found = sent(quirks=quirks, **{"max_tokens": None, **fields})
    assert found == {"model": "m", "messages": found["messages"], "stream": False, **expected}


@pytest.mark.parametrize("model", ["gpt-oss-120b", "qwen-3.8-27b", "zai-glm-4.7"])
def test_cerebras_gets_no_property_that_it_does_not_know(model: str) -> None:
    for provider, expected in (
        (PRESETS["cerebras"], CEREBRAS_FIELDS),
        (Quirks(), CEREBRAS_FIELDS | {"parallel_tool_calls"}),
    ):
        entry = Provider("p", "openai-chat", "http://127.0.0.1:1/", quirks=provider)
        found = convert(RICH, Route(entry, model, "tag")).body
        assert found.keys() == expected


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        ("abc", ()),
        ("abcd", ()),
        ("abcde", ("stop sequences left out: 1",)),
        ("abcdefghi", ("stop sequences left out: 5",)),
    ],
)
def test_stop_sequences_beyond_four_are_cut_and_said(given: str, notes: tuple[str, ...]) -> None:
    found = converted(stop_sequences=list(given))
    assert found.body["stop"] == list(given[:4])
    assert found.notes == notes


def test_the_client_s_body_is_not_changed() -> None:
    before = copy.deepcopy(RICH)
    for quirks in (Quirks(), *PRESETS.values(), Quirks(drop_schema_keywords=("pattern",))):
        convert(RICH, route(quirks=quirks))
    assert before == RICH


def test_without_a_model_of_the_route_the_client_s_own_is_asked() -> None:
    found = convert(body(), route(None))
    assert (found.model, found.body["model"]) == ("claude-x", "claude-x")


def test_lone_surrogates_pass() -> None:
    found = converted(user("cut \ud83d"), assistant(use("\ud800", "\ud800", a="\ud800")), system="\ud83d")
    assert json.loads(json_codec.dumps(found.body))["messages"][0]["content"] == "\ud83d"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({}, "messages: found nothing; accepted: an array."),
    "messages": ({"messages": {}}, "messages: found an object; accepted: an array."),
    "empty messages": ({"messages": []}, "messages: found an empty array; accepted: at least one message."),
    "nothing to say": (
        body(user(""), assistant({"type": "thinking", "thinking": "t"})),
        "messages: found no content that can be sent; accepted: at least one message with text",
    ),
    "stream": (body(stream="true"), "stream: found the string 'true'; accepted: true or false."),
    "max_tokens": (body(max_tokens="9"), "max_tokens: found the string '9'; accepted: an integer."),
    "max_tokens 0": (body(max_tokens=0), "max_tokens: found the number 0; accepted: an integer of 1 or more."),
    "temperature": (body(temperature="hot"), "temperature: found the string 'hot'; accepted: a number."),
    "top_p": (body(top_p=True), "top_p: found true; accepted: a number."),
    "stop_sequences": (body(stop_sequences="x"), "stop_sequences: found the string 'x'; accepted: an array."),
    "a stop sequence": (body(stop_sequences=["a", 1]), "stop_sequences[1]: found the number 1; accepted: a string."),
    "a format": (body(output_config={"format": 1}), "output_config.format: found the number 1; accepted: an object."),
    "a format's type": (
        body(output_config={"format": {"type": "grammar"}}),
        "output_config.format.type: found the string 'grammar'; accepted: 'json_schema'.",
    ),
    "a format's schema": (
        body(output_format={"type": "json_schema"}),
        "output_format.schema: found nothing; accepted: an object.",
    ),
}


@pytest.mark.parametrize(("request_body", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_not_of_the_form_is_refused_by_its_path(request_body: dict[str, Any], expected: str) -> None:
    assert refusal(request_body).startswith(expected)


def test_a_body_without_a_model_needs_one_from_the_route() -> None:
    with pytest.raises(RequestError, match=r"^model: found nothing; accepted: a string\.$"):
        convert({"messages": [user("hi")]}, route(None))


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda folder: folder.name)
def test_golden(folder: Path) -> None:
    """`request.json` asks for `provider,model`, with that provider's preset; `upstream.json` is what is sent."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    provider, _, model = request["model"].partition(",")
    entry = Provider(provider, "openai-chat", "http://127.0.0.1:1/v1", quirks=preset_for(provider, ""))
    found = convert(request, Route(entry, model, "model-pair"))
    assert found.body == json.loads((folder / "upstream.json").read_text("utf-8"))
    check_against_the_sdk(found)


RICH: dict[str, Any] = body(
    user("a", image(), {"type": "document", "source": {"type": "text", "data": "d"}, "title": "t"}),
    assistant(text("b"), {"type": "thinking", "thinking": "t", "signature": "s"}, use("1", "Read", path="x"), use("2")),
    user(result("2", text("y"), image("https://example.test/i")), result("1", "x", is_error=True), text("c")),
    system("note"),
    assistant("d"),
    user({"type": "search_result", "title": "t", "source": "s", "content": [text("u")]}),
    system=[text("x-anthropic-billing-header: v"), text("<CCR-SUBAGENT-MODEL>p,m</CCR-SUBAGENT-MODEL>\nprompt")],
    tools=[
        tool("Read", description="r", type="custom"),
        {
            "name": "o" * 70,
            "input_schema": {"type": "object", "properties": {"a": {"pattern": "x"}}, "required": ["a"]},
        },
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
    ],
    tool_choice={"type": "tool", "name": "Read", "disable_parallel_tool_use": True},
    stream=True,
    temperature=0,
    top_p=0.9,
    stop_sequences=["x"],
    thinking={"type": "enabled", "budget_tokens": 5000},
    output_config={"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    metadata={"user_id": "u"},
    service_tier="auto",
    context_management={},
    top_k=1,
    safeguards={},
)


def test_the_rich_body_is_converted() -> None:
    check_against_the_sdk(convert(RICH, route()))


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.sampled_from(["user", "assistant", "system", "text", "image", "tool_use", "tool_result", "document", "1"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.sampled_from(["type", "text", "content", "id"])), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container within `value` with a key or an index into it."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield value, key
        yield from places(entry)


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A rich request in which up to four values are replaced, removed, doubled or moved."""
    request = copy.deepcopy(RICH)
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(list(places(request))))
        match draw(st.sampled_from(["replace", "remove", "double", "swap"])):
            case "replace":
                container[key] = draw(JSON)
            case "remove":
                del container[key]
            case "double" if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case _ if isinstance(container, list):
                container.append(container.pop(key))
            case _:
                container[draw(st.text(max_size=5))] = container.pop(key)
        if not list(places(request)):
            break
    return request


def convert_or_refuse(request: dict[str, Any], quirks: Quirks) -> None:
    try:
        found = convert(request, route(quirks=quirks))
    except RequestError as error:
        refused = error
    else:
        check_against_the_sdk(found)
        return
    assert refused.status == 400
    assert "; accepted: " in refused.message


QUIRKS = st.sampled_from([Quirks(), *PRESETS.values(), Quirks(drop_schema_keywords=("pattern", "type"), strict=True)])


@settings(max_examples=400, deadline=None)
@given(damaged(), QUIRKS)
def test_a_damaged_request_is_converted_or_refused(request_body: dict[str, Any], quirks: Quirks) -> None:
    convert_or_refuse(request_body, quirks)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*RICH, "output_format", "x"]), JSON, max_size=8), QUIRKS)
def test_any_json_object_is_converted_or_refused(request_body: dict[str, Any], quirks: Quirks) -> None:
    convert_or_refuse(request_body, quirks)


BLOCKS = st.one_of(
    st.sampled_from(["", "a", "b"]).map(text),
    st.sampled_from("123").map(use),
    st.builds(result, st.sampled_from("1234"), st.sampled_from(["", "r"])),
    st.just(image()),
    st.just({"type": "thinking", "thinking": "t"}),
)
TURNS = st.one_of(
    st.lists(BLOCKS.filter(lambda b: b["type"] in ("text", "tool_use", "thinking")), max_size=3).map(
        lambda b: assistant(*b, text(""))
    ),
    st.lists(BLOCKS.filter(lambda b: b["type"] in ("text", "tool_result", "image")), max_size=3).map(
        lambda b: user(*b, text(""))
    ),
    st.sampled_from(["", "s"]).map(system),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TURNS, max_size=8))
def test_every_conversation_comes_out_in_order(turns: list[dict[str, Any]]) -> None:
    found = conversation(user("first"), *turns)
    roles = [message["role"] for message in found]
    assert all(a != b or a == "tool" for a, b in pairwise(roles))
    check_against_the_sdk(converted(user("first"), *turns))
    said = [
        block["text"]
        for turn in turns
        if isinstance(turn["content"], list)
        for block in turn["content"]
        if block.get("text")
    ]
    assert all(found_text in json.dumps(found) for found_text in said)
