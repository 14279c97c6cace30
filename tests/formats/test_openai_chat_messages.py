"""The order of a converted conversation."""

from typing import Any

import pytest

from tests.formats.requests import assistant, body, conversation, image, refusal, result, system, text, use, user


def calls(*ids: str, content: str = "") -> dict[str, Any]:
    found = [{"id": i, "type": "function", "function": {"name": "T", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": content, "tool_calls": found}


def answer(call_id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}

ORDERS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "consecutive user turns merge": (
        [user("a"), user(text("b"), text("c"))],
        [said("user", "a\n\nb\n\nc")],
    ),
    "consecutive assistant turns merge, with their calls": (
        [user("a"), assistant("b"), assistant(use("1")), assistant(use("2")), user(result("1", "x"), result("2", "y"))],
        [said("user", "a"), calls("1", "2", content="b"), answer("1", "x"), answer("2", "y")],
    ),
    "blank texts are skipped": (
        [user(text(""), text("a"), text(" \n"))],
        [said("user", "a")],
    ),
    "an assistant turn of thinking alone is omitted, and its neighbours merge": (
        [user("a"), assistant({"type": "thinking", "thinking": "t", "signature": ""}), user("b")],
        [said("user", "a\n\nb")],
    ),
    "an empty user turn is omitted, and its neighbours merge": (
        [user("a"), assistant("b"), user(""), assistant("c")],
        [said("user", "a"), said("assistant", "b\n\nc")],
    ),
    "results come in the order of the calls": (
        [assistant(use("1"), use("2")), user(result("2", "y"), result("1", "x"))],
        [calls("1", "2"), answer("1", "x"), answer("2", "y")],
    ),
    "results split over two user turns stand together": (
        [assistant(use("1"), use("2")), user(result("1", "x")), user(result("2", "y"), text("z"))],
        [calls("1", "2"), answer("1", "x"), answer("2", "y"), said("user", "z")],
    ),
    "results on both sides of an assistant turn stand at their calls": (
        [assistant(use("1"), use("2")), user(result("1", "x")), assistant("b"), user(result("2", "y"))],
        [calls("1", "2"), answer("1", "x"), answer("2", "y"), said("assistant", "b")],
    ),
    "assistant turns merge when the user turn between them only held a late result": (
        [assistant(use("1")), user("u"), assistant("b"), user(result("1", "x")), assistant("c"), user("d")],
        [calls("1"), answer("1", "x"), said("user", "u"), said("assistant", "b\n\nc"), said("user", "d")],
    ),
    "an assistant turn after its results is a turn of its own": (
        [assistant(use("1")), user(result("1", "x")), assistant(use("2")), user(result("2", "y"))],
        [calls("1"), answer("1", "x"), calls("2"), answer("2", "y")],
    ),
    "tool messages come before the text of their turn": (
        [assistant(use("1")), user(text("z"), result("1", "x"))],
        [calls("1"), answer("1", "x"), said("user", "z")],
    ),
    "images of results follow all tool messages, before the text": (
        [assistant(use("1"), use("2")), user(text("z"), result("1", text("x"), image()), result("2", "y"))],
        [calls("1", "2"), answer("1", "x"), answer("2", "y"), said("user", [IMAGE, {"type": "text", "text": "z"}])],
    ),
    "a result without a call becomes text": (
        [user("a"), assistant("b"), user(result("9", "x"))],
        [
            said("user", "a"),
            said("assistant", "b"),
            said("user", "[result of a tool call that is not in this conversation]\nx"),
        ],
    ),
    "an empty result without a call is dropped": (
        [user("a"), assistant("b"), user(result("9"))],
        [said("user", "a"), said("assistant", "b")],
    ),
    "a result that comes before its call answers none": (
        [user(result("1", "x")), assistant(use("1"))],
        [
            said("user", "[result of a tool call that is not in this conversation]\nx"),
            calls("1"),
            answer("1", "[no result]"),
        ],
    ),
    "a call without a result gets one": (
        [assistant(use("1"), use("2")), user(result("2", "y"))],
        [calls("1", "2"), answer("1", "[no result]"), answer("2", "y")],
    ),
    "a second result for a call answers none": (
        [assistant(use("1")), user(result("1", "x"), result("1", "again"))],
        [
            calls("1"),
            answer("1", "x"),
            said("user", "[result of a tool call that is not in this conversation]\nagain"),
        ],
    ),
    "a system message stays in its place": (
        [user("a"), system("s"), assistant("b"), system(text("t"), text("u"))],
        [said("user", "a"), said("system", "s"), said("assistant", "b"), said("system", "t\n\nu")],
    ),
    "a system message between a call and its result does not part them": (
        [assistant(use("1")), system("s"), user(result("1", "x"), text("z"))],
        [calls("1"), answer("1", "x"), said("system", "s"), said("user", "z")],
    ),
    "a system message without content says nothing": (
        [user("a"), {"role": "system", "output_config": {"effort": "low"}}, user("b")],
        [said("user", "a\n\nb")],
    ),
    "a system message for one turn is gone at the next user message": (
        [{**system("s"), "clear_at": "next_user_message"}, user("a"), {**system("t"), "clear_at": "next_user_message"}],
        [said("user", "a"), said("system", "t")],
    ),
    "a system message to be kept is kept": (
        [{**system("s"), "clear_at": "never"}, user("a")],
        [said("system", "s"), said("user", "a")],
    ),
    "server tools' blocks leave nothing dangling": (
        [
            user("a"),
            assistant(
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "mcp_tool_use", "id": "n", "name": "x", "server_name": "y", "input": {}},
                {"type": "mcp_tool_result", "tool_use_id": "n", "content": []},
                {"type": "container_upload", "file_id": "f"},
                {"type": "fallback", "from": {}, "to": {}},
                text("b"),
            ),
        ],
        [said("user", "a"), said("assistant", "b")],
    ),
    "what a compaction left is text": (
        [assistant({"type": "compaction", "content": "so far"}, {"type": "compaction", "content": None}), user("a")],
        [said("assistant", "so far"), said("user", "a")],
    ),
}


@pytest.mark.parametrize(("messages", "expected"), ORDERS.values(), ids=ORDERS.keys())
def test_order(messages: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert conversation(*messages) == expected


def test_a_repeated_id_within_a_turn_is_answered_in_order() -> None:
    turn, *answers = conversation(assistant(use("1"), use("1")), user(result("1", "x"), result("1", "y")))
    first, second = (call["id"] for call in turn["tool_calls"])
    assert first != second
    assert answers == [answer(first, "x"), answer(second, "y")]


def test_a_repeated_id_is_answered_for_the_latest_turn_that_called() -> None:
    found = conversation(assistant(use("1")), user("skip"), assistant(use("1")), user(result("1", "x")))
    assert [m["content"] for m in found if m["role"] == "tool"] == ["[no result]", "x"]
    assert len({m["tool_call_id"] for m in found if m["role"] == "tool"}) == 2


def test_a_long_call_id_is_shortened_alike_on_both_sides() -> None:
    long_id = "toolu_" + "x" * 91
    first, second = conversation(assistant(use(long_id)), user(result(long_id, "x")))
    assert first["tool_calls"][0]["id"] == second["tool_call_id"]
    assert len(second["tool_call_id"]) <= 64


@pytest.mark.parametrize(("given", "arguments"), [({"ä": [1, None]}, '{"ä":[1,null]}'), (None, "{}"), ({}, "{}")])
def test_input_becomes_a_json_string(given: Any, arguments: str) -> None:
    found = conversation(assistant({"type": "tool_use", "id": "1", "name": "T", "input": given}))
    assert found[0]["tool_calls"][0]["function"]["arguments"] == arguments


def test_missing_input_is_an_empty_object() -> None:
    found = conversation(assistant({"type": "tool_use", "id": "1", "name": "T"}))
    assert found[0]["tool_calls"][0]["function"]["arguments"] == "{}"


WRONG: dict[str, tuple[Any, str]] = {
    "no message": (5, "messages[1]: found the number 5; accepted: an object."),
    "no role": ({"content": "a"}, "messages[1].role: found nothing; accepted: a string."),
    "role": ({"role": "tool", "content": "a"}, "messages[1].role: found the string 'tool'; accepted: user, assistant"),
    "content": (
        {"role": "user", "content": None},
        "messages[1].content: found null; accepted: a string or an array of content blocks.",
    ),
    "no block": (user(7), "messages[1].content[0]: found the number 7; accepted: an object."),
    "no type": (user({}), "messages[1].content[0].type: found nothing; accepted: a string."),
    "user block": (
        user({"type": "container_upload"}),
        "messages[1].content[0].type: found the string 'container_upload'; accepted: one of text, image, document",
    ),
    "assistant block": (
        assistant(image()),
        "messages[1].content[0].type: found the string 'image'; accepted: one of text, tool_use",
    ),
    "text": (assistant({"type": "text", "text": 1}), "messages[1].content[0].text: found the number 1; accepted: a"),
    "call id": (assistant({"type": "tool_use"}), "messages[1].content[0].id: found nothing; accepted: a string."),
    "call name": (
        assistant({"type": "tool_use", "id": "1", "name": []}),
        "messages[1].content[0].name: found an array; accepted: a string.",
    ),
    "input": (
        assistant({"type": "tool_use", "id": "1", "name": "T", "input": "{}"}),
        "messages[1].content[0].input: found the string '{}'; accepted: an object.",
    ),
    "result id": (
        user({"type": "tool_result"}),
        "messages[1].content[0].tool_use_id: found nothing; accepted: a string.",
    ),
    "compaction": (
        assistant({"type": "compaction", "content": True}),
        "messages[1].content[0].content: found true; accepted: a string.",
    ),
    "system content": (
        {"role": "system", "content": {}},
        "messages[1].content: found an object; accepted: a string or an array of text blocks.",
    ),
    "system block": (system(image()), "messages[1].content[0].type: found the string 'image'; accepted: 'text'."),
    "clear_at": (
        {"role": "system", "content": "a", "clear_at": False},
        "messages[1].clear_at: found false; accepted: a string.",
    ),
}


@pytest.mark.parametrize(("message", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_not_of_the_form_is_refused_by_its_path(message: Any, expected: str) -> None:
    assert refusal(body(user("hi"), message)).startswith(expected)
