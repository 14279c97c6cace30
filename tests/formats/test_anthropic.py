"""Requests that are routed to a provider of Anthropic's own format."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.formats.anthropic import rewrite
from tests.formats.requests import body, route, text, tool, user

TAG = "<CCR-SUBAGENT-MODEL>plain,m</CCR-SUBAGENT-MODEL>"
BILLING = "x-anthropic-billing-header: cc_version=1.2.3; cc_entrypoint=cli;"
CACHED = {"cache_control": {"type": "ephemeral"}}


def rewritten(request: dict[str, Any], model: str | None = "m", own_key: bool = False) -> dict[str, Any]:
    before = copy.deepcopy(request)
    found = rewrite(request, route(model), own_key=own_key)
    assert request == before
    return found


def test_the_model_is_replaced_and_the_order_kept() -> None:
    request = body(user("hi"), stream=True, metadata={"user_id": "u"}, future={"a": [1]})
    found = rewritten(request)
    assert found == {**request, "model": "m"}
    assert list(found) == list(request)


@pytest.mark.parametrize(("model", "expected"), [("m[1m]", "m"), ("m", "m"), (None, "claude-x")])
def test_the_model_s_suffix_is_stripped(model: str | None, expected: str) -> None:
    assert rewritten(body(), model)["model"] == expected


SYSTEMS: dict[str, tuple[Any, Any, Any]] = {
    "none": (None, None, None),
    "a string": ("You help.", "You help.", "You help."),
    "an empty string": ("", "", ""),
    "a blank string": (" ", " ", " "),
    "no blocks": ([], [], []),
    "a tag in a string": (f"{TAG}\nYou help.", "You help.", "You help."),
    "a tag in a block": (
        [text("a"), {**text(f"{TAG}\nYou help."), **CACHED}],
        [text("a"), {**text("You help."), **CACHED}],
        [text("a"), {**text("You help."), **CACHED}],
    ),
    "a block of a tag alone": ([text("a"), text(f" {TAG}\n")], [text("a")], [text("a")]),
    "a billing block": ([text(BILLING), text("a")], [text(BILLING), text("a")], [text("a")]),
    "a billing line": (f"{BILLING}\na", f"{BILLING}\na", "a"),
    "blank blocks": ([text(" ")], [text(" ")], [text(" ")]),
    "what is not of the form": (
        [5, {"type": "image"}, {"type": "text", "text": 5}, {"type": "text"}],
        [5, {"type": "image"}, {"type": "text", "text": 5}, {"type": "text"}],
        [5, {"type": "image"}, {"type": "text", "text": 5}, {"type": "text"}],
    ),
    "a number": (5, 5, 5),
}


@pytest.mark.parametrize(("system", "expected", "expected_own_key"), SYSTEMS.values(), ids=SYSTEMS.keys())
def test_the_system_prompt(system: Any, expected: Any, expected_own_key: Any) -> None:
    assert rewritten(body(system=system))["system"] == expected
    assert rewritten(body(system=system), own_key=True)["system"] == expected_own_key


@pytest.mark.parametrize("system", [TAG, f"\n{TAG}\n", f"{TAG}\u3000", [text(TAG)], [text(TAG), text(f"{TAG}\n ")]])
def test_an_emptied_system_prompt_is_left_out(system: Any) -> None:
    assert "system" not in rewritten(body(system=system))


@pytest.mark.parametrize("system", [BILLING, [text(BILLING)], [text(BILLING), text(TAG)]])
def test_an_emptied_system_prompt_of_a_third_party_is_left_out(system: Any) -> None:
    assert "system" not in rewritten(body(system=system), own_key=True)


def test_an_absent_system_prompt_stays_absent() -> None:
    assert "system" not in rewritten(body())


def test_a_third_party_gets_no_metadata() -> None:
    request = body(user("hi"), metadata={"user_id": "u"}, tools=[tool("T")])
    assert "metadata" not in rewritten(request, own_key=True)
    assert list(rewritten(request, own_key=True)) == [key for key in request if key != "metadata"]


def test_a_tag_anywhere_else_stays() -> None:
    request = body(user(TAG), tools=[tool("T", description=TAG)], system=f"You help with {TAG}.")
    assert rewritten(request) == {**request, "model": "m"}


@settings(deadline=None)
@given(
    st.one_of(
        st.none(),
        st.text(),
        st.lists(
            st.one_of(st.none(), st.dictionaries(st.sampled_from(["type", "text"]), st.text()), st.text().map(text))
        ),
    ),
    st.booleans(),
)
def test_a_system_prompt_without_a_tag_is_kept(system: Any, own_key: bool) -> None:
    assert json.dumps(rewritten(body(system=system), own_key=own_key)["system"]) == json.dumps(system)
