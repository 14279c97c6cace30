"""Tools and tool choice."""

from typing import Any, get_args, get_type_hints

import pytest
from anthropic.types.beta import BetaToolParam, BetaToolUnionParam

from ccr_asgi.formats.tools import Choice, RequestTools
from ccr_asgi.quirks import Quirks
from tests.formats.requests import assistant, body, converted, refusal, result, sent, tool, use, user

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
SERVER_TYPES = [
    kind
    for definition in get_args(BetaToolUnionParam)
    if definition is not BetaToolParam
    for kind in get_args(get_type_hints(definition)["type"])
]
LONG = "mcp__server__" + "x" * 60


def test_a_tool_keeps_what_chat_completions_knows() -> None:
    given = tool(
        "Read",
        type="custom",
        description="Reads.",
        cache_control={"type": "ephemeral"},
        defer_loading=True,
        eager_input_streaming=True,
        input_examples=[{}],
        allowed_callers=["direct"],
        strict=True,
    )
    function = {"name": "Read", "description": "Reads.", "parameters": {"type": "object", "properties": {}}}
    assert sent(tools=[given])["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize("description", [None, ""])
def test_a_missing_description_is_left_out(description: str | None) -> None:
    assert "description" not in sent(tools=[tool("T", description=description)])["tools"][0]["function"]


@pytest.mark.parametrize("strict", [True, False])
def test_strict_is_the_same_on_every_tool(strict: bool) -> None:
    found = sent(tools=[tool("A", strict=True), tool("B")], quirks=Quirks(strict=strict))["tools"]
    assert [entry["function"]["strict"] for entry in found] == [strict, strict]


def test_refused_schema_keywords_are_dropped() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}}}
    found = sent(tools=[{"name": "T", "input_schema": schema}], quirks=Quirks(drop_schema_keywords=("pattern",)))
    assert found["tools"][0]["function"]["parameters"]["properties"] == {
        "a": {"type": "string", "description": '(pattern: "^x")'}
    }


def test_the_placeholder_is_dropped() -> None:
    found = sent(tools=[tool("DeferredToolPlaceholder"), tool("T")])
    assert [entry["function"]["name"] for entry in found["tools"]] == ["T"]


def test_server_tools_are_dropped_and_said() -> None:
    found = converted(tools=[SEARCH, tool("T"), {"type": "computer_toolset_20260801"}])
    assert [entry["function"]["name"] for entry in found.body["tools"]] == ["T"]
    assert found.notes == ("server tools left out: web_search_20250305, computer_toolset_20260801",)


@pytest.mark.parametrize("kind", SERVER_TYPES)
def test_every_server_tool_of_the_sdk_is_known(kind: str) -> None:
    assert converted(tools=[{"type": kind}]).notes == (f"server tools left out: {kind}",)


@pytest.mark.parametrize("tools", [None, [], [SEARCH], [tool("DeferredToolPlaceholder")]])
def test_without_tools_there_is_no_choice(tools: Any) -> None:
    found = sent(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & found.keys()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "T"}, {"type": "function", "function": {"name": "T"}}),
        ({"type": "tool", "name": "web_search"}, None),
        (None, None),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    assert sent(tools=[tool("T"), SEARCH], tool_choice=choice).get("tool_choice") == expected


@pytest.mark.parametrize(
    ("disable", "known", "expected"), [(True, True, False), (True, False, None), (False, True, None)]
)
def test_parallel_tool_calls(disable: bool, known: bool, expected: bool | None) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": disable}
    found = sent(tools=[tool("T")], tool_choice=choice, quirks=Quirks(parallel_tool_calls=known))
    assert found.get("parallel_tool_calls") is expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, Choice("auto", None, True)),
        ({"type": "any", "disable_parallel_tool_use": True}, Choice("any", None, False)),
        ({"type": "none", "disable_parallel_tool_use": False}, Choice("none", None, True)),
        ({"type": "tool", "name": "T"}, Choice("tool", "T", True)),
        ({"type": "tool", "name": "web_search"}, Choice("tool", None, True)),
    ],
)
def test_what_a_choice_demands(choice: dict[str, Any], expected: Choice) -> None:
    assert RequestTools({"tools": [tool("T"), SEARCH]}).choice({"tool_choice": choice}) == expected


def test_by_default_the_model_chooses() -> None:
    assert Choice() == Choice("auto", None, True)


def test_a_long_name_is_the_same_everywhere_and_mapped_back() -> None:
    found = converted(
        assistant(use("1", LONG)),
        user(result("1", "x")),
        tools=[tool(LONG), tool("T")],
        tool_choice={"type": "tool", "name": LONG},
    )
    name = found.body["tools"][0]["function"]["name"]
    assert len(name) == 64
    assert found.body["messages"][0]["tool_calls"][0]["function"]["name"] == name
    assert found.body["tool_choice"]["function"]["name"] == name
    assert found.tool_names == {name: LONG, "T": "T"}


def test_a_name_of_the_history_that_is_no_tool_any_more_is_mapped_too() -> None:
    found = converted(assistant(use("1", "odd name!")), user("hi"))
    name = found.body["messages"][0]["tool_calls"][0]["function"]["name"]
    assert found.tool_names == {name: "odd name!"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": {}}, "tools: found an object; accepted: an array."),
    "a tool": ({"tools": ["T"]}, "tools[0]: found the string 'T'; accepted: an object."),
    "a name": ({"tools": [{"input_schema": {}}]}, "tools[0].name: found nothing; accepted: a string."),
    "a name twice": (
        {"tools": [tool("T"), tool("T")]},
        "tools[1].name: found the string 'T' for the second time; accepted: a name for each tool.",
    ),
    "a type": (
        {"tools": [tool("T", type="function")]},
        "tools[0].type: found the string 'function'; accepted: 'custom' or a server tool such as",
    ),
    "a type's type": ({"tools": [tool("T", type=1)]}, "tools[0].type: found the number 1; accepted: a string."),
    "a description": ({"tools": [tool("T", description=1)]}, "tools[0].description: found the number 1; accepted: a"),
    "a schema": (
        {"tools": [{"name": "T", "input_schema": []}]},
        "tools[0].input_schema: found an array; accepted: a JSON schema object.",
    ),
    "properties": (
        {"tools": [{"name": "T", "input_schema": {"properties": []}}]},
        "tools[0].input_schema.properties: found an array; accepted: an object.",
    ),
    "a server tool's name": (
        {"tools": [{**SEARCH, "name": 1}]},
        "tools[0].name: found the number 1; accepted: a string",
    ),
    "a choice": ({"tool_choice": "auto"}, "tool_choice: found the string 'auto'; accepted: an object."),
    "a choice's type": (
        {"tool_choice": {"type": "some"}},
        "tool_choice.type: found the string 'some'; accepted: auto, any, none, tool.",
    ),
    "a choice without a name": ({"tool_choice": {"type": "tool"}}, "tool_choice.name: found nothing; accepted: a str"),
    "an unknown choice": (
        {"tools": [tool("A"), tool("B")], "tool_choice": {"type": "tool", "name": "C"}},
        "tool_choice.name: found the string 'C'; accepted: the name of one of `tools`: A, B.",
    ),
    "an unknown choice beside a server tool": (
        {"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "a"}},
        "tool_choice.name: found the string 'a'; accepted: the name of one of `tools`: there are none.",
    ),
    "another unknown choice beside a server tool": (
        {"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "x"}},
        "tool_choice.name: found the string 'x'; accepted: the name of one of `tools`: there are none.",
    ),
    "an unknown choice among many": (
        {"tools": [tool(name) for name in "IHGFEDCBA"], "tool_choice": {"type": "tool", "name": "a"}},
        "tool_choice.name: found the string 'a'; accepted: the name of one of `tools`: A, B, C, D, E, F, G, H.",
    ),
    "a choice of none": (
        {"tool_choice": {"type": "tool", "name": "C"}},
        "tool_choice.name: found the string 'C'; accepted: the name of one of `tools`: there are none.",
    ),
    "parallel": (
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}},
        "tool_choice.disable_parallel_tool_use: found the number 1; accepted: true or false.",
    ),
}


@pytest.mark.parametrize(("fields", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_not_of_the_form_is_refused_by_its_path(fields: dict[str, Any], expected: str) -> None:
    assert refusal(body(**fields)).startswith(expected)
