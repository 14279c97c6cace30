"""Conversations as turns, before any wire format has its say."""

from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats.conversation import NO_RESULT, Call, ConversationReader, Thinking, Turn
from ccr_asgi.formats.parts import Image, PartReader, Text
from ccr_asgi.formats.tool_names import ToolNames
from tests.formats.requests import assistant, image, result, system, text, use, user

LINK = "https://example.test/i.png"


def turns(*messages: Any) -> list[Turn]:
    names = ToolNames()
    reader = ConversationReader(PartReader("m", images=True, pdf=True, names=names), names)
    reader.read(list(messages))
    return reader.turns


def items(*messages: Any) -> list[Any]:
    """What the only turn holds."""
    (turn,) = turns(*messages)
    return turn.items


def thinking(**fields: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "t", **fields}


@pytest.mark.parametrize(
    ("fields", "signature"), [({"signature": "s"}, "s"), ({"signature": None}, ""), ({"signature": ""}, ""), ({}, "")]
)
def test_thinking_keeps_its_signature(fields: dict[str, Any], signature: str) -> None:
    assert items(assistant(thinking(**fields), text("a"))) == [Thinking(signature), Text("a")]


@pytest.mark.parametrize(
    "kind",
    [
        *("redacted_thinking", "fallback", "server_tool_use", "mcp_tool_use", "mcp_tool_listing", "container_upload"),
        *("mcp_tool_result", "web_search_tool_result", "advisor_tool_result", "tool_search_tool_result"),
    ],
)
def test_what_is_for_anthropic_alone_leaves_nothing(kind: str) -> None:
    assert items(assistant({"type": kind}, text("a"))) == [Text("a")]
    assert turns(assistant({"type": kind}, {"type": kind})) == []


@pytest.mark.parametrize("kind", ["audio", "container", "document", "thinking_of_tomorrow", "zebra"])
def test_a_block_that_nobody_knows_is_refused(kind: str) -> None:
    with pytest.raises(RequestError) as caught:
        turns(assistant({"type": kind}, text("a")))
    assert caught.value.message.startswith(f"messages[0].content[0].type: found the string '{kind}'; accepted: ")


@pytest.mark.parametrize("kind", ["audio", "tool_use", "zebra"])
def test_a_user_s_block_that_nobody_knows_is_refused(kind: str) -> None:
    with pytest.raises(RequestError) as caught:
        turns(user({"type": kind}, text("a")))
    assert caught.value.message.startswith(f"messages[0].content[0].type: found the string '{kind}'; accepted: ")
    assert caught.value.message.endswith("tool_result.")


def test_a_turn_tells_its_words_from_its_calls() -> None:
    (turn,) = turns(assistant(text("a"), thinking(), use("1", a=1), text("b")))
    (call,) = turn.calls
    assert turn.parts == [Text("a"), Text("b")]
    assert (call.id, call.name, call.arguments, call.result.parts) == ("1", "T", '{"a":1}', [Text(NO_RESULT)])
    assert [type(item) for item in turn.items] == [Text, Thinking, Call, Text]


def test_a_result_stands_with_its_call_and_its_pictures_where_they_stood() -> None:
    called, answered = turns(assistant(use("1")), user(result("1", text("x"), image(LINK)), text("z")))
    assert called.calls[0].result.parts == [Text("x"), Image(LINK)]
    assert (answered.items, answered.attachments) == ([Text("z")], [Image(LINK)])


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [([], [], True), ([user("a")], [], True), ([], [user("a")], False), ([user("a")], [user("b")], False)],
)
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_message_for_one_turn_is_kept_until_the_next_user_message(
    before: list[Any], after: list[Any], kept: bool, others: int
) -> None:
    cleared = {**system("s"), "clear_at": "next_user_message"}
    found = turns(*before, *[assistant("b")] * others, cleared, *after)
    assert any(turn.role == "system" for turn in found) is kept
