"""Whole requests: golden cases on both lanes, fields, the allow-list, and bodies of every sort."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from ccr_asgi.config import Provider
from ccr_asgi.errors import RequestError
from ccr_asgi.formats.openai_responses_request import DEFAULT_INSTRUCTIONS, Lane, ResponsesRequest, convert
from ccr_asgi.quirks import PRESETS, Quirks, preset_for
from ccr_asgi.routing import Route
from ccr_asgi.wire import json_codec
from tests.formats.golden import FIXTURES
from tests.formats.requests import assistant, body, image, system, text, tool, use, user
from tests.formats.responses_requests import CODEX, converted, refusal, route, sent
from tests.formats.test_openai_chat_request import JSON, RICH, consume, damaged

GOLDEN = sorted((FIXTURES / "openai-responses-requests").iterdir())
LANES: tuple[Lane, ...] = get_args(Lane)
ORACLE: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)
SESSION = "5b8f0c1e-1111-4222-8333-444444444444"

FULL_LANE = {
    *("model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "store", "stream"),
    *("include", "prompt_cache_key", "text"),
}
"""All that the subscription's backend takes on the full lane, and on the lite one without the first of these two."""
LITE_LANE = FULL_LANE - {"instructions", "tools"}
ALWAYS = {"model", "input", "store", "stream", "include", "prompt_cache_key"}


def check(request: ResponsesRequest, *, login: bool = True) -> None:
    """Both bodies keep to the allow-list and the order of items; the full one to the openai SDK's types too."""
    full, lite = request.body("full"), request.body("lite")
    consume(ORACLE.validate_python({**full, "input": [as_the_sdk_has_it(item) for item in full["input"]]}))
    if login:
        assert ALWAYS | {"instructions"} <= full.keys() <= FULL_LANE
        assert full["instructions"].strip()
        assert ALWAYS | {"tool_choice", "parallel_tool_calls", "reasoning"} <= lite.keys() <= LITE_LANE
    assert lite["input"][-len(full["input"]) :] == full["input"]
    for sent_body in (full, lite):
        assert (sent_body["store"], sent_body["stream"]) == (False, True)
        json.loads(json_codec.dumps(sent_body))
        check_items(sent_body["input"])


def as_the_sdk_has_it(item: dict[str, Any]) -> dict[str, Any]:
    """What the SDK's types demand beyond what the API does: ids of what is stored, and values that are usual."""
    if item["type"] == "reasoning":
        return {**item, "id": "rs_1", "content": []}
    if item["type"] != "message":
        return item
    more: dict[str, dict[str, Any]] = {"output_text": {"annotations": []}, "input_image": {"detail": "auto"}}
    content = [{**part, **more.get(part["type"], {})} for part in item["content"]]
    return {
        **item,
        "content": content,
        **({"id": "msg_1"} if item["role"] == "assistant" else {}),
        "status": "completed",
    }


def check_items(items: list[dict[str, Any]]) -> None:
    assert items
    waiting: list[str] = []
    for item in items:
        assert "id" not in item
        if item["type"] == "function_call_output":
            assert item["call_id"] == waiting.pop(0)
            continue
        assert not waiting or item["type"] in ("function_call", "message", "reasoning")
        if item["type"] == "function_call":
            assert isinstance(json.loads(item["arguments"]), dict)
            assert len(item["call_id"]) <= 64
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", item["name"])
            waiting.append(item["call_id"])
        elif item["type"] == "message":
            assert item["role"] in ("user", "assistant", "developer")
            assert item["content"]
            assert waiting == [] or item["role"] == "assistant"
    assert waiting == []
    calls = [item["call_id"] for item in items if item["type"] == "function_call"]
    assert len(set(calls)) == len(calls)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_golden(folder: Path) -> None:
    """`request.json` asks for `provider,model`, with that provider's preset; the others are what is sent by lane."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    provider, _, model = request["model"].partition(",")
    credential: dict[str, Any] = {"auth_file": "x"} if provider == "codex" else {"api_key": "x"}
    entry = Provider(provider, "openai-responses", "http://x", quirks=preset_for(provider, ""), **credential)
    found = convert(request, Route(entry, model, "model-pair"), SESSION)
    check(found, login=provider == "codex")
    lanes = [lane for lane in LANES if (folder / f"{lane}.json").exists()]
    assert lanes == (["full", "lite"] if provider == "codex" else ["full"])
    for lane in lanes:
        expected = json.loads((folder / f"{lane}.json").read_text("utf-8"))
        assert found.body(lane) == {**expected, "prompt_cache_key": found.cache_key}


# Fields

PLAIN = {
    "model": "gpt-6-sol",
    "instructions": DEFAULT_INSTRUCTIONS,
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "text": {"verbosity": "low"},
}


def test_a_plain_request() -> None:
    found = sent()
    assert found == {**PLAIN, "prompt_cache_key": found["prompt_cache_key"]}


@pytest.mark.parametrize("streamed", [True, False, None])
def test_it_is_always_a_stream(streamed: bool | None) -> None:
    found = converted(stream=streamed)
    assert found.streamed is (streamed is True)
    assert found.body("full")["stream"] is True


@pytest.mark.parametrize(
    ("prompt", "instructions"),
    [
        (None, DEFAULT_INSTRUCTIONS),
        ("", DEFAULT_INSTRUCTIONS),
        ([], DEFAULT_INSTRUCTIONS),
        ([text(" ")], DEFAULT_INSTRUCTIONS),
        ("x-anthropic-billing-header: cch=1;", DEFAULT_INSTRUCTIONS),
        ([text("x-anthropic-billing-header: cch=1;"), text("a"), text("b")], "a\n\nb"),
        ("<CCR-SUBAGENT-MODEL>codex,gpt-6-sol</CCR-SUBAGENT-MODEL>\na", "a"),
    ],
)
def test_instructions(prompt: object, instructions: str) -> None:
    assert sent(system=prompt)["instructions"] == instructions
    assert sent(system=prompt, lane="lite")["input"][0] == {
        "type": "message",
        "role": "developer",
        "content": [{"type": "input_text", "text": instructions}],
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 100}, {"max_output_tokens": 100}),
        ({"max_tokens": 1}, {"max_output_tokens": 16}),
        ({"max_tokens": None}, {}),
        ({"max_tokens": None, "temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"max_tokens": None, "temperature": None}, {}),
    ],
)
def test_limits_and_sampling_are_for_the_public_api(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(**fields).keys() == PLAIN.keys() | {"prompt_cache_key"}
    found = sent(quirks=Quirks(), login=False, **fields)
    plain = {key: value for key, value in PLAIN.items() if key not in ("instructions", "text")}
    assert found == {**plain, "prompt_cache_key": found["prompt_cache_key"], **expected}


@pytest.mark.parametrize(("max_tokens", "expected"), [(50, 50), (500, 200), (2, 16)])
def test_a_cap_on_the_output(max_tokens: int, expected: int) -> None:
    found = sent(quirks=Quirks(max_tokens_cap=200), login=False, max_tokens=max_tokens)
    assert found["max_output_tokens"] == expected


THINKS = {"type": "adaptive"}


def enabled(budget_tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget_tokens}


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("gpt-6-sol", {}, None),
        ("gpt-6-sol", {"thinking": enabled(1024)}, {"effort": "low", "summary": "auto"}),
        ("gpt-6-sol", {"thinking": enabled(1025)}, {"effort": "medium", "summary": "auto"}),
        ("gpt-6-sol", {"thinking": enabled(8192)}, {"effort": "medium", "summary": "auto"}),
        ("gpt-6-sol", {"thinking": enabled(8193)}, {"effort": "high", "summary": "auto"}),
        ("gpt-6-sol", {"thinking": enabled(24576)}, {"effort": "high", "summary": "auto"}),
        ("gpt-6-sol", {"thinking": enabled(24577)}, {"effort": "xhigh", "summary": "auto"}),
        (
            "gpt-6-sol",
            {"thinking": enabled(9), "output_config": {"effort": "max"}},
            {"effort": "max", "summary": "auto"},
        ),
        ("gpt-6-sol", {"thinking": THINKS}, {"summary": "auto"}),
        ("gpt-6-sol", {"thinking": THINKS, "output_config": {"effort": "low"}}, {"effort": "low", "summary": "auto"}),
        ("gpt-6-sol", {"output_config": {"effort": "xhigh"}}, {"effort": "xhigh"}),
        ("gpt-6-sol", {"output_config": {"effort": "turbo"}}, None),
        ("gpt-6-sol", {"thinking": {"type": "disabled"}}, {"effort": "low"}),
        ("gpt-6-sol", {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, {"effort": "low"}),
        ("gpt-6-sol", {"thinking": {"type": "something-new"}}, None),
        ("gpt-5.1-codex", {"output_config": {"effort": "max"}}, {"effort": "high"}),
        ("gpt-5.2-codex", {"output_config": {"effort": "max"}}, {"effort": "xhigh"}),
        ("gpt-5.1-codex-mini", {"output_config": {"effort": "low"}}, {"effort": "medium"}),
        ("gpt-5.1-codex-mini", {"thinking": {"type": "disabled"}}, {"effort": "medium"}),
    ],
)
def test_reasoning(model: str, fields: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert sent(model=model, **fields).get("reasoning") == expected
    assert sent(model=model, lane="lite", **fields)["reasoning"] == {**(expected or {}), "context": "all_turns"}


def test_a_model_that_does_not_reason_is_asked_for_nothing() -> None:
    quirks = Quirks(efforts={"gpt-4*": ()})
    found = sent(model="gpt-4.1", quirks=quirks, login=False, thinking=enabled(9000), output_config={"effort": "high"})
    assert found.keys().isdisjoint({"reasoning", "include"})


@pytest.mark.parametrize(
    ("model", "expected"), [("gpt-6-sol", "low"), ("gpt-5.5", "low"), ("gpt-5.1-codex", None), ("my-model", None)]
)
def test_verbosity(model: str, expected: str | None) -> None:
    assert sent(model=model).get("text", {}).get("verbosity") == expected


def test_quirks_edit_the_body_last() -> None:
    quirks = Quirks(rename={"store": "keep"}, set={"text": {"verbosity": "high"}}, drop=("include",))
    for lane in LANES:
        found = sent(quirks=quirks, lane=lane)
        assert (found["keep"], found["text"]) == (False, {"verbosity": "high"})
        assert found.keys().isdisjoint({"store", "include"})


def test_the_client_s_model_is_asked_where_the_route_names_none() -> None:
    assert convert(body(), route(None), None).model == "claude-x"


# The cache key


def test_the_cache_key_belongs_to_the_session() -> None:
    keys = [
        converted(user("a"), session_id=SESSION).cache_key,
        converted(user("a"), assistant("b"), user("c"), system="s", session_id=SESSION).cache_key,
        converted(user("a"), session_id="another").cache_key,
        converted(user("a"), session_id=None).cache_key,
        converted(user("a"), assistant("b"), user("c"), session_id=None).cache_key,
        converted(user("b"), session_id=None).cache_key,
        converted(user("a"), system="s", session_id=None).cache_key,
        converted(user("a"), session_id="\ud83c").cache_key,
    ]
    assert keys[0] == keys[1]
    assert keys[3] == keys[4]
    assert len(set(keys)) == 6
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", key) for key in keys)


def test_nothing_tells_who_the_client_is() -> None:
    fields = {"metadata": {"user_id": f"user_aa_account_bb_session_{SESSION}"}, "container": "cc", "betas": ["dd"]}
    for login in (True, False):
        for lane in LANES:
            found = json.dumps(sent(lane=lane, login=login, session_id=SESSION, **fields))
            assert not any(word in found for word in (SESSION, "user_aa", "account_bb", "betas", "container"))


# Whatever the client's body holds


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": None}, "messages: found null; accepted: an array."),
    "empty messages": ({"messages": []}, "messages: found an empty array; accepted: at least one message."),
    "messages without content": (
        {"messages": [user(" "), assistant({"type": "thinking", "thinking": "t", "signature": "foreign"})]},
        "messages: found no content that can be sent; accepted: at least one message with text, an image or a tool"
        " call.",
    ),
    "max_tokens 0": ({"max_tokens": 0}, "max_tokens: found the number 0; accepted: an integer of 1 or more."),
    "max_tokens": ({"max_tokens": "1"}, "max_tokens: found the string '1'; accepted: an integer."),
    "temperature": ({"temperature": "0"}, "temperature: found the string '0'; accepted: a number."),
    "stop_sequences": ({"stop_sequences": "x"}, "stop_sequences: found the string 'x'; accepted: an array."),
    "thinking": ({"thinking": True}, "thinking: found true; accepted: an object."),
    "a budget": (
        {"thinking": {"type": "enabled", "budget_tokens": None}},
        "thinking.budget_tokens: found null; accepted: an integer.",
    ),
    "a file": (
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
        "messages[0].content[0].source.type: found a file of Anthropic's Files API, which another provider cannot read;"
        " accepted: 'base64' or 'url'.",
    ),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    assert refusal(body(**fields) if "messages" not in fields else {**body(), **fields}) == message


@pytest.mark.parametrize(
    ("fields", "notes"),
    [
        ({}, ()),
        ({"stop_sequences": ["a", "b"]}, ("stop sequences left out: 2",)),
        ({"stop_sequences": []}, ()),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ()),
        (
            {"tools": [{"type": "computer_20250124", "name": "c"}, {"type": "bash_20250124", "name": "b"}]},
            ("server tools left out: computer_20250124, bash_20250124",),
        ),
    ],
)
def test_what_is_left_out_is_noted(fields: dict[str, Any], notes: tuple[str, ...]) -> None:
    assert converted(**fields).notes == notes


def test_the_oracle_can_fail() -> None:
    found = converted(assistant(use("1")))
    found.items[0]["arguments"] = {}
    with pytest.raises(ValueError, match="arguments"):
        check(found)


def test_the_rich_body_is_converted() -> None:
    check(convert(RICH, route()))
    check(convert(RICH, route(login=False, quirks=PRESETS["openai"])), login=False)


def convert_or_refuse(request: dict[str, Any], quirks: Quirks, *, login: bool) -> None:
    try:
        found = convert(request, route(quirks=quirks, login=login), SESSION)
    except RequestError as error:
        refused = error
    else:
        check(found, login=login)
        return
    assert refused.status == 400
    assert "; accepted: " in refused.message


QUIRKS = st.sampled_from([CODEX, Quirks(), Quirks(drop_schema_keywords=("pattern", "type"), strict=True, verbosity={})])


@settings(max_examples=150, deadline=None)
@given(damaged(), QUIRKS, st.booleans())
def test_a_damaged_request_is_converted_or_refused(request_body: dict[str, Any], quirks: Quirks, login: bool) -> None:
    convert_or_refuse(request_body, quirks, login=login)


KNOWN = sorted({*RICH, "output_format", "max_output_tokens", "user", "truncation", "previous_response_id", "input"})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), JSON, max_size=8), st.booleans(), st.booleans())
def test_no_other_field_is_ever_sent(fields: dict[str, Any], login: bool, plain: bool) -> None:
    convert_or_refuse({**fields, **(body() if plain else {})}, CODEX, login=login)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([use("1"), use("2"), text("a"), text("")]), max_size=4), st.lists(st.integers(1, 3)))
def test_every_call_is_answered_once(blocks: list[dict[str, Any]], answered: list[int]) -> None:
    results = [{"type": "tool_result", "tool_use_id": str(number), "content": "r"} for number in answered]
    check(converted(user("q"), assistant(text("x"), *blocks), system("s"), user(text("y"), *results, image())))


def test_the_lite_lane_takes_the_tools_as_an_item() -> None:
    given = [tool("Read", description="r"), {"type": "web_search_20250305", "name": "web_search"}]
    lite, full = sent(lane="lite", tools=given), sent(tools=given)
    assert lite["input"][0] == {"type": "additional_tools", "role": "developer", "tools": full["tools"][:1]}
    assert [entry["type"] for entry in full["tools"]] == ["function", "web_search"]
    assert (lite["tool_choice"], lite["parallel_tool_calls"]) == ("auto", False)


@pytest.mark.parametrize(("kind", "tools"), [("auto", True), ("any", True), ("tool", True), ("none", False)])
def test_the_lite_lane_takes_no_tool_where_none_may_be_called(kind: str, tools: bool) -> None:
    choice = {"type": kind, **({"name": "Read"} if kind == "tool" else {})}
    lite = sent(lane="lite", tools=[tool("Read")], tool_choice=choice)
    assert (lite["input"][0]["type"] == "additional_tools") is tools


def test_the_calls_of_the_conversation_are_known() -> None:
    found = converted(user("q"), assistant(text("a"), use("toolu_1"), use("toolu_2")), user("r"))
    assert found.call_ids == {"toolu_1", "toolu_2"}


def test_reasoning_items_may_be_left_out() -> None:
    mine = {"type": "thinking", "thinking": "t", "signature": "ccr-reasoning:gAAA"}
    found = converted(user("q"), assistant(mine, text("a")), user("r"))
    assert found.has_reasoning_items
    assert not converted(user("q"), assistant("a")).has_reasoning_items
    for lane in LANES:
        kept, dropped = found.body(lane)["input"], found.body(lane, with_reasoning_items=False)["input"]
        assert [item for item in kept if item["type"] != "reasoning"] == dropped
        assert len(kept) == len(dropped) + 1
