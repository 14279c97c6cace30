"""Conversations as input items; the golden requests show whole ones."""

from typing import Any

import pytest

from ccr_asgi.quirks import Quirks
from tests.formats.requests import PDF, assistant, image, result, system, text, use, user
from tests.formats.responses_requests import items, sent


def thinking(signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "t", "signature": signature}


def reasoning(encrypted: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "content": None, "encrypted_content": encrypted}


def told(item: dict[str, Any]) -> tuple[str, str]:
    """An item in short: its role or type, and its text."""
    if item["type"] == "message":
        return item["role"], "|".join(part.get("text", part["type"]) for part in item["content"])
    return item["type"], item.get("encrypted_content") or item.get("name") or item["output"]


def test_texts_keep_their_parts_and_their_place() -> None:
    found = items(user("a", text("b")), assistant("c", use("1"), text("d"), text("e")), user("f"))
    assert [told(item) for item in found] == [
        ("user", "a|b"),
        ("assistant", "c"),
        ("function_call", "T"),
        ("assistant", "d|e"),
        ("function_call_output", "[no result]"),
        ("user", "f"),
    ]


@pytest.mark.parametrize("encrypted", ["gAAA==", "ccr-reasoning:x", "é\n{}"])
def test_encrypted_content_is_sent_as_it_came(encrypted: str) -> None:
    found = items(user("q"), assistant(thinking(f"ccr-reasoning:{encrypted}"), text("a")), user("r"))
    assert found[1] == reasoning(encrypted)


@pytest.mark.parametrize("signature", ["", "EqQB", "ccr-reasoning:", "x ccr-reasoning:gAAA"])
def test_a_foreign_signature_says_nothing(signature: str) -> None:
    found = items(user("q"), assistant(thinking(signature), text("a")), user("r"))
    assert [item["type"] for item in found] == ["message"] * 3


def test_thinking_without_a_signature_says_nothing() -> None:
    unsigned = {"type": "thinking", "thinking": "t"}
    assert [told(item) for item in items(user("q"), assistant(unsigned, text("a")))] == [
        ("user", "q"),
        ("assistant", "a"),
    ]


def test_an_image_takes_no_detail() -> None:
    for lane in ("full", "lite"):
        content = sent(user("see", image()), lane=lane)["input"][-1]["content"]
        assert content[1].keys() == {"type", "image_url"}
        assert content[1]["image_url"].startswith("data:image/png;base64,")


def test_a_model_that_sees_nothing_is_told_so() -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    quirks = Quirks(images={"*": False})
    found = items(user(image(), pdf), assistant(use("1")), user(result("1", image())), quirks=quirks, login=False)
    assert told(found[0]) == (
        "user",
        "[image left out: gpt-6-sol takes no images]|[PDF left out: gpt-6-sol takes no PDFs]",
    )
    assert found[2]["output"] == "[image left out: gpt-6-sol takes no images]"


@pytest.mark.parametrize(
    ("content", "output"),
    [
        (["a", "b"], "a\n\nb"),
        (["a", image()], [{"type": "input_text", "text": "a"}, "image"]),
        ([image(), "a"], ["image", {"type": "input_text", "text": "a"}]),
        ([image()], ["image"]),
        ([], ""),
    ],
)
def test_an_output_is_a_string_as_long_as_it_is_all_text(content: list[Any], output: Any) -> None:
    blocks = [text(entry) if isinstance(entry, str) else entry for entry in content]
    given = {"type": "tool_result", "tool_use_id": "1", "content": blocks}
    found = items(assistant(use("1")), user(given))[1]["output"]
    if isinstance(found, list):
        found = ["image" if part["type"] == "input_image" else part for part in found]
    assert found == output


def test_a_system_message_stands_where_it_stood() -> None:
    found = items(user("a"), system("s"), assistant("b"), system("t"), user("c"))
    assert [told(item) for item in found] == [
        ("user", "a"),
        ("developer", "s"),
        ("assistant", "b"),
        ("developer", "t"),
        ("user", "c"),
    ]


def test_halves_of_characters_are_no_obstacle() -> None:
    found = items(user("\ud83c"), assistant(use("1", "T", a="\udf89")), system="\ud83c", session_id=None)
    assert told(found[0]) == ("user", "\ud83c")
