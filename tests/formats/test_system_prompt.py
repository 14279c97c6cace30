"""The system prompt as another provider may see it."""

from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats.system_prompt import prompt_texts, text_of
from tests.formats.requests import conversation, text, user

BILLING = "x-anthropic-billing-header: cc_version=1.2.3; cc_entrypoint=cli;"
TAG = "<CCR-SUBAGENT-MODEL>plain,m</CCR-SUBAGENT-MODEL>"

PROMPTS: dict[str, tuple[Any, list[str]]] = {
    "absent": (None, []),
    "a string": ("Be kind.", ["Be kind."]),
    "an empty string": ("", []),
    "no blocks": ([], []),
    "blocks in order": ([text("a"), text("b")], ["a", "b"]),
    "blank blocks": ([text(""), text("a"), text(" \n")], ["a"]),
    "a cache mark": ([{**text("a"), "cache_control": {"type": "ephemeral"}}], ["a"]),
    "a tag": ([text(f"{TAG}\nYou help.")], ["You help."]),
    "a tag in a string": (f"\n{TAG}\nYou help.", ["\nYou help."]),
    "a tag alone": ([text(TAG), text("a")], ["a"]),
    "a billing block": ([text(BILLING), text("a")], ["a"]),
    "a billing block with more": ([text(f"\n{BILLING}\nmore")], []),
    "a billing line in a string": (f"{BILLING}\nYou help.", ["You help."]),
    "a billing line alone": (BILLING, []),
    "a billing line further down": (f"a\n{BILLING}", [f"a\n{BILLING}"]),
}


@pytest.mark.parametrize(("system", "expected"), PROMPTS.values(), ids=PROMPTS.keys())
def test_texts(system: Any, expected: list[str]) -> None:
    assert prompt_texts({"system": system}) == expected


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (5, "system: found the number 5; accepted: a string or an array of text blocks."),
        (["a"], "system[0]: found the string 'a'; accepted: an object."),
        ([{"text": "a"}], "system[0].type: found nothing; accepted: a string."),
        ([text("a"), {"type": "image"}], "system[1].type: found the string 'image'; accepted: 'text'."),
        ([{"type": "video"}], "system[0].type: found the string 'video'; accepted: 'text'."),
        ([{"type": "text"}], "system[0].text: found nothing; accepted: a string."),
    ],
)
def test_what_is_not_of_the_form_is_refused(system: Any, expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        prompt_texts({"system": system})
    assert caught.value.message == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"k": None}, ""),
        ({"k": ""}, ""),
        ({"k": " a\n"}, " a\n"),
        ({"k": []}, ""),
        ({"k": [text("a"), text(" "), text("b")]}, "a\n\nb"),
    ],
)
def test_the_text_of_a_field(fields: dict[str, Any], expected: str) -> None:
    assert text_of(fields, "k", "p") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "p.k: found the number 5; accepted: a string or an array of text blocks."),
        ({}, "p.k: found an object; accepted: a string or an array of text blocks."),
        ([5], "p.k[0]: found the number 5; accepted: an object."),
    ],
)
def test_what_is_no_text_of_a_field_is_refused(value: Any, expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        text_of({"k": value}, "k", "p")
    assert caught.value.message == expected


def test_it_is_the_first_message() -> None:
    found = conversation(user("hi"), system=[text("a"), text("b")])
    assert found == [{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "hi"}]


def test_an_empty_one_is_left_out() -> None:
    assert [message["role"] for message in conversation(user("hi"), system=TAG)] == ["user"]


def test_a_tag_in_a_message_is_only_text() -> None:
    assert conversation(user(TAG)) == [{"role": "user", "content": TAG}]
