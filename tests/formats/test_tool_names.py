"""Names and ids within OpenAI's limits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.formats.tool_names import MAX_CHARS, CallIds, ToolNames, fits, shorten

LONG = "mcp__" + "n" * 80


def test_a_name_that_fits_stays() -> None:
    names = ToolNames(["Read", "a-b_C9", "x" * MAX_CHARS])
    assert names.client == {"Read": "Read", "a-b_C9": "a-b_C9", "x" * MAX_CHARS: "x" * MAX_CHARS}


def test_a_short_form_is_the_same_in_every_request() -> None:
    assert ToolNames([LONG]).upstream(LONG) == ToolNames(["A", "odd.name", LONG]).upstream(LONG) == shorten(LONG)


def test_a_short_form_begins_like_the_name() -> None:
    assert shorten("mcp__größe.lies").startswith("mcp__gr__e_lies_")


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


def test_an_id_that_fits_stays() -> None:
    assert CallIds().upstream("toolu_01.odd!") == "toolu_01.odd!"
