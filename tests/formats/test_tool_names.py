"""Names and ids within OpenAI's limits."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.formats.tool_names import MAX_CHARS, AnswerCallIds, CallIds, ToolNames, fits, shorten

LONG = "mcp__" + "n" * 80


def test_a_name_that_fits_stays() -> None:
    names = ToolNames(["Read", "a-b_C9", "x" * MAX_CHARS])
    assert names.client == {"Read": "Read", "a-b_C9": "a-b_C9", "x" * MAX_CHARS: "x" * MAX_CHARS}


@pytest.mark.parametrize(
    ("name", "expected"), [("", False), ("a", True), ("x" * 64, True), ("x" * 65, False), ("a.b", False), ("é", False)]
)
def test_the_limits_are_openai_s(name: str, expected: bool) -> None:
    assert fits(name) is expected


def test_a_short_form_is_the_same_in_every_request() -> None:
    assert ToolNames([LONG]).upstream(LONG) == ToolNames(["A", "odd.name", LONG]).upstream(LONG) == shorten(LONG)


def test_a_short_form_begins_like_the_name() -> None:
    assert re.fullmatch("mcp__gr__e_lies_[0-9a-f]{12}", shorten("mcp__größe.lies"))


def test_a_short_form_of_a_long_name_has_all_the_characters_that_are_allowed() -> None:
    assert re.fullmatch("mcp__n{46}_[0-9a-f]{12}", shorten(LONG))
    assert len(shorten(LONG)) == 64


def test_only_as_many_short_forms_are_passed_over_as_are_taken() -> None:
    assert ToolNames([LONG, shorten(LONG)]).upstream(LONG) == shorten(LONG, 1)


def test_a_short_form_gives_way_to_a_tool_that_has_that_name() -> None:
    names = ToolNames([LONG, shorten(LONG), shorten(LONG, 1)])
    assert names.upstream(shorten(LONG)) == shorten(LONG)
    assert names.upstream(LONG) == shorten(LONG, 2)


def test_a_name_of_the_history_gives_way_to_a_short_form() -> None:
    names = ToolNames([LONG])
    assert names.upstream(shorten(LONG)) != names.upstream(LONG)
    assert set(names.client.values()) == {LONG, shorten(LONG)}


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=80), st.just(LONG), st.integers(0, 3).map(lambda n: shorten(LONG, n)))))
def test_names_are_one_to_one_and_fit(found: list[str]) -> None:
    names = ToolNames(found)
    upstream = [names.upstream(name) for name in found]
    assert all(fits(name) for name in upstream)
    assert [names.client[name] for name in upstream] == found


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=70), st.sampled_from(["", "a", shorten("a")]))))
def test_ids_are_unique_and_short(found: list[str]) -> None:
    ids = CallIds()
    upstream = [ids.upstream(call_id) for call_id in found]
    assert len(set(upstream)) == len(found)
    assert all(0 < len(call_id) <= MAX_CHARS for call_id in upstream)


@pytest.mark.parametrize("call_id", ["toolu_01.odd!", "a", "x" * 64])
def test_an_id_that_fits_stays(call_id: str) -> None:
    assert CallIds().upstream(call_id) == call_id


@pytest.mark.parametrize(("call_id", "begins"), [("x" * 65, "x" * 51 + "_"), ("", "call_")])
def test_any_other_id_is_made_to_fit(call_id: str, begins: str) -> None:
    found = CallIds().upstream(call_id)
    assert found.startswith(begins)
    assert re.fullmatch("[0-9a-f]{12}", found.removeprefix(begins))


@pytest.mark.parametrize("call_id", ["call_0", "x" * 65])
def test_an_id_that_comes_again_and_again_costs_no_more_each_time(call_id: str) -> None:
    """Where each tried all the forms before it, this would not end within the test's time."""
    ids, few = CallIds(), CallIds()
    found = [ids.upstream(call_id) for _ in range(20_000)]
    assert len(set(found)) == len(found)
    assert found[:3] == [few.upstream(call_id) for _ in range(3)]


def test_a_client_gets_the_provider_s_ids_where_they_are_usable_and_new() -> None:
    ids = AnswerCallIds("x", taken=["call_0"])
    found = [ids.unique(call_id) for call_id in ("call_1", "call_0", "call_1", "", "odd.id", "call_2", "call_2")]
    assert found == ["call_1", "toolu_x_0", "toolu_x_1", "toolu_x_2", "toolu_x_3", "call_2", "toolu_x_4"]


def test_an_id_made_for_a_client_is_new_too() -> None:
    assert AnswerCallIds("x", taken=["toolu_x_0"]).unique("") == "toolu_x_1"
