"""Tools and the choice among them in the Responses format."""

from typing import Any

import pytest

from ccr_asgi.formats.tool_schemas import MAX_DEPTH
from ccr_asgi.quirks import Quirks
from tests.formats.requests import body, tool
from tests.formats.responses_requests import converted, refusal, sent

LONG = "mcp__server__" + "x" * 60
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
EMPTY = {"type": "object", "properties": {}}


def tools(*given: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sent(tools=list(given), **fields)["tools"]
    return found


def test_a_tool_is_flat_and_never_strict_by_itself() -> None:
    [found] = tools(tool("Read", description="r", type="custom", cache_control={}, defer_loading=True))
    assert found == {"type": "function", "name": "Read", "description": "r", "strict": False, "parameters": EMPTY}
    assert "description" not in tools(tool("Read", description=None))[0]
    assert tools(tool("Read"), quirks=Quirks(strict=True))[0]["strict"] is True


@pytest.mark.parametrize(
    ("schema", "parameters"),
    [
        (None, EMPTY),
        ({}, EMPTY),
        ({"type": "object", "properties": None, "$schema": "x"}, EMPTY),
        (
            {"properties": {"a": {"type": "object"}, "b": {"type": "array"}}},
            {"type": "object", "properties": {"a": EMPTY, "b": {"type": "array", "items": {}}}},
        ),
        (
            {"properties": {"a": {"items": [{"type": "object"}, True], "enum": [{"type": "object"}]}}},
            {"type": "object", "properties": {"a": {"items": [EMPTY, True], "enum": [{"type": "object"}]}}},
        ),
        (
            {"properties": {"a": True}, "$defs": {"b": {"not": {"type": "array", "items": {"type": "object"}}}}},
            {**EMPTY, "properties": {"a": True}, "$defs": {"b": {"not": {"type": "array", "items": EMPTY}}}},
        ),
    ],
)
def test_every_object_has_properties_and_every_array_items(schema: object, parameters: dict[str, Any]) -> None:
    assert tools({"name": "T", "input_schema": schema})[0]["parameters"] == parameters


def test_a_schema_is_searched_only_so_deep() -> None:
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH + 2):
        deep = {"not": deep}
    request = body(tools=[{"name": "T", "input_schema": deep}])
    assert refusal(request) == "tool T: found a schema nested more than 100 deep; accepted: a shallower one."


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"max_uses": 5, "name": "search"}, {}),
        ({"allowed_domains": ["a.invalid"]}, {"filters": {"allowed_domains": ["a.invalid"]}}),
        ({"allowed_domains": [], "user_location": {}}, {}),
        ({"allowed_domains": None, "user_location": None}, {}),
        (
            {"user_location": {"type": "approximate", "city": "Wien", "zip": "1010"}},
            {"user_location": {"type": "approximate", "city": "Wien"}},
        ),
    ],
)
@pytest.mark.parametrize("kind", ["web_search_20250305", "web_search_20260209"])
def test_the_web_search_is_hosted(kind: str, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert tools({**SEARCH, **fields, "type": kind}) == [{"type": "web_search", **expected}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"allowed_domains": "a.invalid"}, "tools.allowed_domains: found the string 'a.invalid'; accepted: an array."),
        ({"user_location": "Wien"}, "tools.user_location: found the string 'Wien'; accepted: an object."),
    ],
)
def test_a_wrong_web_search_is_refused(given: dict[str, Any], message: str) -> None:
    assert refusal(body(tools=[{**SEARCH, **given}])) == message


def test_what_openai_has_no_counterpart_of_is_left_out() -> None:
    found = converted(tools=[SEARCH, {"type": "computer_20250124", "name": "computer"}])
    assert [entry["type"] for entry in found.hosted] == ["web_search"]
    assert found.notes == ("server tools left out: computer_20250124",)


CHOICES: list[tuple[dict[str, Any] | None, Any, bool]] = [
    (None, "auto", True),
    ({"type": "auto"}, "auto", True),
    ({"type": "any"}, "required", True),
    ({"type": "none"}, "none", True),
    ({"type": "tool", "name": "Read"}, {"type": "function", "name": "Read"}, True),
    ({"type": "tool", "name": "web_search"}, "required", True),
    ({"type": "auto", "disable_parallel_tool_use": True}, "auto", False),
    ({"type": "any", "disable_parallel_tool_use": False}, "required", True),
    ({"type": "any", "disable_parallel_tool_use": None}, "required", True),
    ({"type": "tool", "name": "Read", "disable_parallel_tool_use": True}, {"type": "function", "name": "Read"}, False),
]


@pytest.mark.parametrize(("choice", "expected", "parallel"), CHOICES)
def test_tool_choice(choice: dict[str, Any] | None, expected: object, parallel: bool) -> None:
    found = sent(tools=[tool("Read"), SEARCH], tool_choice=choice)
    assert (found["tool_choice"], found["parallel_tool_calls"]) == (expected, parallel)


def test_a_shortened_name_is_demanded_by_that_name() -> None:
    found = sent(tools=[tool(LONG)], tool_choice={"type": "tool", "name": LONG})
    assert found["tool_choice"] == {"type": "function", "name": found["tools"][0]["name"]}
    assert len(found["tools"][0]["name"]) <= 64


@pytest.mark.parametrize(
    "given", [[], None, [{"type": "computer_20250124", "name": "c"}], [tool("DeferredToolPlaceholder")]]
)
def test_without_tools_there_is_no_choice(given: object) -> None:
    found = sent(tools=given, tool_choice={"type": "any"})
    assert found.keys().isdisjoint({"tools", "tool_choice", "parallel_tool_calls"})
    assert sent(tools=given, lane="lite")["input"][0]["type"] == "message"


def test_on_the_lite_lane_no_tool_is_told_where_none_may_be_called() -> None:
    given = [tool("Read")]
    assert sent(tools=given, lane="lite")["input"][0]["type"] == "additional_tools"
    assert sent(tools=given, lane="lite", tool_choice={"type": "none"})["input"][0]["type"] == "message"
