"""Items of an answer: in whatever order, however told, told twice or not at all, the same blocks come out."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import ProviderError
from tests.formats.golden import run
from tests.formats.responses_answers import (
    Event,
    added,
    all_arguments,
    answer,
    argued,
    call,
    call_item,
    completed,
    content,
    event,
    item_done,
    machine,
    message_item,
    said,
    sse,
    thinking,
    thought,
    words,
)
from tests.support.anthropic_stream import read_events

HI = {"type": "text", "text": "Hi"}
CALL = {"type": "tool_use", "id": "call_1", "name": "Read", "input": {"a": 1}}


def use(number: int, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{number}", "name": "A", "input": given}


# Any order

ITEMS: Sequence[tuple[list[Event], list[dict[str, Any]]]] = [
    (call(0, "call_0", "A", '{"a"', ": ", "1}"), [use(0, a=1)]),
    (call(1, "call_1", "A", '{"b": [', "{}]", "}"), [use(1, b=[{}])]),
    (call(2, "call_2", "A", "", "{", "}"), [use(2)]),
    (call(3, "call_3", "A"), [use(3)]),
    (words(4, "one ", "", "two"), [{"type": "text", "text": "one two"}]),
    (
        thinking(5, "one", "two", encrypted="gAAA-5"),
        [{"type": "thinking", "thinking": "one\n\ntwo", "signature": "ccr-reasoning:gAAA-5"}],
    ),
    (thinking(6, encrypted="gAAA-6"), [{"type": "thinking", "thinking": "", "signature": "ccr-reasoning:gAAA-6"}]),
    (thinking(7, encrypted=None), []),
    (words(8), []),
]


@st.composite
def interleaved(draw: st.DrawFn) -> tuple[list[Event], list[dict[str, Any]]]:
    """The events of some items, mixed in any way that keeps the order within each, and the blocks of them all."""
    chosen = draw(st.lists(st.sampled_from(range(len(ITEMS))), min_size=1, max_size=5, unique=True))
    waiting = [list(ITEMS[place][0]) for place in chosen]
    order = draw(st.permutations([number for number, events in enumerate(waiting) for _ in events]))
    mixed = [waiting[number].pop(0) for number in order]
    return mixed, [block for place in chosen for block in ITEMS[place][1]]


def sorted_blocks(blocks: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(block, sort_keys=True) for block in blocks)


@settings(max_examples=200, deadline=None)
@given(interleaved(), st.sampled_from(["all", "no output_index", "no item ids"]), st.booleans())
def test_any_interleaving_gives_the_same_blocks(
    mixed: tuple[list[Event], list[dict[str, Any]]], told: str, repeated: bool
) -> None:
    events, blocks = mixed
    if told == "no output_index":
        events = [{key: value for key, value in entry.items() if key != "output_index"} for entry in events]
    if told == "no item ids":
        events = [without_ids(entry) for entry in events]
    output = [entry["item"] for entry in events if entry["type"] == "response.output_item.done"]
    if told == "all":  # only then do places in the output say which item is meant
        in_order = sorted((e for e in events if "item" in e and "done" in e["type"]), key=lambda e: e["output_index"])
        output = [entry["item"] for entry in in_order]
    end = completed(*output) if repeated and told != "no item ids" else completed()
    for streamed in (True, False):
        found = answer(*events, end, streamed=streamed).message
        assert found is not None
        assert sorted_blocks(found["content"]) == sorted_blocks(blocks)


def without_ids(entry: Event) -> Event:
    bare = {key: value for key, value in entry.items() if key != "item_id"}
    if "item" in bare:
        bare["item"] = {key: value for key, value in bare["item"].items() if key != "id"}
    return bare


def test_items_are_written_in_the_order_they_begin() -> None:
    events = [*words(1, "b"), *call(0, "call_0", "A", "{}")]
    assert [block["type"] for block in content(*events)] == ["text", "tool_use"]


def test_a_waiting_item_comes_out_as_soon_as_those_before_it_are_complete() -> None:
    made = machine()
    *begun, done = call(0, "call_0", "A", "{}")
    made.feed(sse(*begun))
    assert made.feed(sse(*words(1, "Hi"))) == b""
    assert [entry["type"] for entry in read_events(made.feed(sse(done)))] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    ]


# Told in part, twice, or in another way


@pytest.mark.parametrize(
    "events",
    [
        [item_done(0, "message", **message_item("Hi"))],
        [said(0, "Hi")],
        [said(None, "H"), said(None, "i")],
        [said(None, "H", item_id="msg_1"), said(None, "i", item_id="msg_1")],
        [said(0, "H"), item_done(0, "message", **message_item("Hi"))],
        [said(0, "Hi"), item_done(0, "message")],
        [said(0, "Hi"), item_done(0, "message", content=[None, {"type": "output_text", "text": None}])],
        [said(0, "Hi"), item_done(0, "message", **message_item("Something else"))],
        [said(0, "H"), said(0, "i", content_index=1)],
        [item_done(0, "message", **message_item("H", "i"))],
        [added(None, "message"), said(None, "Hi"), item_done(None, "message", **message_item("Hi"))],
        [added(0, "message"), added(0, "message"), *words(0, "Hi")[1:]],
        [*words(0, "Hi"), said(0, "!"), said(0, "!", item_id="msg_0")],
        [*words(0, "Hi"), item_done(0, "message", **message_item("Hi!", id="msg_0"))],
        [added(0, "message", id="msg_0"), said(None, "Hi", item_id="msg_0")],
        [added(None, "message", id="msg_0"), said(0, "Hi")],
        [added("zero", "message", id="msg_0"), said(True, "Hi", item_id="msg_0")],  # type: ignore[arg-type]  # the point
        [item_done(0, "message", content=[{"type": "refusal", "refusal": "Hi"}])],
        [event("response.refusal.delta", 0, delta="H"), said(0, "i")],
        [item_done(0, "reasoning", summary=[], encrypted_content=None), said(1, "Hi")],
        [added(0, "custom_tool_call", name="x"), item_done(0, "custom_tool_call", input="x"), *words(1, "Hi")],
        [added(0, "message"), said(0, "Hi"), item_done(0, "image_generation_call", id="ig_1", result="AAAA")],
        [{"type": "response.output_item.added", "output_index": 0, "item": "message"}, said(0, "Hi")],
    ],
)
def test_a_text_told_in_any_way(events: list[Event]) -> None:
    assert content(*events) == [HI]


@pytest.mark.parametrize(
    "events",
    [
        [item_done(0, "function_call", call_id="call_1", name="Read", arguments='{"a": 1}')],
        [item_done(0, "function_call", call_id="call_1", name="Read", arguments={"a": 1})],
        [item_done(0, "function_call", call_id="call_1", name="Read", arguments='"{\\"a\\": 1}"')],
        [added(0, "function_call", call_id="call_1", name="Read"), argued(0, '{"a": 1}')],
        [added(0, "function_call", call_id="call_1", name="Read"), all_arguments(0, '{"a": 1}')],
        [added(0, "function_call", call_id="call_1", name="Read"), argued(0, {"a": 1})],
        [added(0, "function_call", call_id="call_1", name="Read"), argued(0, " "), argued(0, ' {"a": 1}\n')],
        [argued(0, '{"a": 1}'), item_done(0, "function_call", call_id="call_1", name="Read", arguments="")],
        [
            argued(0, '{"a"'),
            all_arguments(0, '{"a": 1}'),
            event("response.output_item.done", 0, item=call_item("call_1", "Read", None)),
        ],
        [*call(0, "call_1", "Read", '{"a": 1}'), argued(0, "}"), all_arguments(0, '{"a": 1} and more')],
        [*call(0, "call_1", "Read", '{"a": 1}'), *call(0, "call_1", "Read", '{"a": 1}')],
        [*call(0, "call_1", "Read", '{"a": 1}'), added(0, "function_call", call_id="call_1", name="Other")],
    ],
)
def test_a_call_told_in_any_way(events: list[Event]) -> None:
    assert content(*events) == [CALL]


def test_only_the_first_of_the_arguments_may_lose_a_blank() -> None:
    assert content(*call(0, "call_0", "A", ' {"a": "b', ' c"}')) == [use(0, a="b c")]


@pytest.mark.parametrize("arguments", ["", "null", "{}", " ", None])
def test_a_call_without_arguments(arguments: str | None) -> None:
    call_events = [item_done(0, "function_call", call_id="call_1", name="Read", arguments=arguments)]
    assert content(*call_events) == [{**CALL, "input": {}}]


@pytest.mark.parametrize("arguments", ["[]", "7", '"x"', "{", '{"a": 1}}', "nonsense", [], 7])
@pytest.mark.parametrize("end", [[], [completed()]])
def test_arguments_that_are_no_object_are_an_error(arguments: object, end: list[Event]) -> None:
    call_events = [added(0, "function_call", call_id="call_1", name="Read"), all_arguments(0, arguments)]
    done = item_done(0, "function_call", call_id="call_1", name="Read", arguments=arguments)
    result = answer(*call_events, *(end or [done]))
    assert result.error is not None
    assert result.error.message == "p: the arguments of the call to 'Read' are not a JSON object."


@pytest.mark.parametrize("end", [item_done(0, "function_call", call_id="call_1", arguments="{}"), completed()])
def test_a_call_without_a_name_is_an_error(end: Event) -> None:
    with pytest.raises(ProviderError, match=r"^p: the model called a tool without naming it\.$"):
        machine().feed(sse(argued(0, "{}"), end))


def test_arguments_that_grow_while_they_wait_stay_as_they_were_at_their_end() -> None:
    waiting = [*call(1, "call_1", "Read", '{"a": 1}'), all_arguments(1, '{"a": 1} and more'), argued(1, "}")]
    begun, *rest = call(0, "call_0", "A", "{}")
    assert content(begun, *waiting, *rest) == [use(0), CALL]


def test_an_id_that_comes_late_is_not_used_for_a_call_that_has_begun() -> None:
    done = item_done(0, "function_call", call_id="call_1", name="Read", arguments='{"a": 1}')
    [block] = content(added(0, "function_call", name="Read"), argued(0, '{"a"'), done)
    assert block == {**CALL, "id": "toolu_golden_0"}


def test_an_id_of_an_earlier_turn_is_not_given_again() -> None:
    made = machine(taken_ids=frozenset({"call_1"}))
    found = run(made, [sse(*call(0, "call_1", "Read", '{"a": 1}'), completed())], streamed=True).message
    assert found is not None
    assert found["content"] == [{**CALL, "id": "toolu_golden_0"}]


# Reasoning


def thought_of(*events: Event) -> list[tuple[str, str]]:
    return [(block["thinking"], block["signature"]) for block in content(*events)]


def reasoning_done(*summary: str, place: int = 0, **item: Any) -> Event:
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return item_done(place, "reasoning", summary=parts, **item)


def part_begins(place: int = 0) -> Event:
    return event("response.reasoning_summary_part.added", place, part={"type": "summary_text", "text": ""})


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([thought(0, "a", 0), thought(0, "b", 0)], "ab"),
        ([thought(0, "a", 0), thought(0, "b", 1), thought(0, "", 2), thought(0, "c", 1)], "a\n\nbc"),
        ([thought(0, "a"), part_begins(), thought(0, "b"), thought(0, "c")], "a\n\nbc"),
        ([part_begins(), thought(0, "a", 0), part_begins(), thought(0, "b", 1)], "a\n\nb"),
        ([reasoning_done("a", "", "b")], "a\n\nb"),
        ([thought(0, "a", 0), reasoning_done("a", "b")], "a\n\nb"),
        ([thought(0, "a", 0), reasoning_done("x", "y")], "a"),
        ([thought(0, "a", 0), thought(0, "b", 1), reasoning_done("a", "b"), thought(0, "c", 2)], "a\n\nb"),
        ([item_done(0, "reasoning", summary=None, content=[{"type": "reasoning_text", "text": "a"}])], "a"),
        ([event("response.reasoning_text.delta", 0, delta="a"), thought(0, "b")], "a\n\nb"),
    ],
)
def test_reasoning_told_in_any_way(events: list[Event], expected: str) -> None:
    assert thought_of(*events) == [(expected, "")]


def test_only_the_final_encrypted_content_is_kept() -> None:
    preview = added(0, "reasoning", id="rs_0", summary=[], encrypted_content="gAAA-preview")
    assert thought_of(preview, thought(0, "a"), reasoning_done("a", encrypted_content="gAAA-1")) == [
        ("a", "ccr-reasoning:gAAA-1")
    ]
    assert thought_of(preview, thought(0, "a"), reasoning_done("a")) == [("a", "")]
    assert thought_of(preview) == []


def test_the_encrypted_content_may_stand_in_the_last_event_alone() -> None:
    begun = [added(0, "reasoning", id="rs_0", encrypted_content="gAAA-preview"), thought(0, "a")]
    final = {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "gAAA-1"}
    for item in (final, {**final, "id": "another"}):
        found = answer(*begun, completed(item)).message
        assert found is not None
        assert found["content"] == [{"type": "thinking", "thinking": "a", "signature": "ccr-reasoning:gAAA-1"}]


def test_a_signature_is_not_put_on_the_reasoning_before_it() -> None:
    events = [*thinking(0, "a", encrypted=None), *thinking(1, encrypted="gAAA-1")]
    assert thought_of(*events) == [("a", ""), ("", "ccr-reasoning:gAAA-1")]


# The output of the last event


def test_the_last_event_tells_what_the_others_did_not() -> None:
    told, untold = message_item("Hi", id="msg_0"), call_item("call_1", "Read", '{"a": 1}', id="fc_1")
    found = answer(*words(0, "Hi"), completed(told, untold)).message
    assert found is not None
    assert found["content"] == [HI, CALL]
    assert found["stop_reason"] == "tool_use"


def test_the_last_event_completes_what_had_begun() -> None:
    begun = [added(0, "function_call", id="fc_1", call_id="call_1", name="Read"), argued(0, '{"a"')]
    found = answer(*begun, completed(call_item("call_1", "Read", '{"a": 1}', id="fc_1"))).message
    assert found is not None
    assert found["content"] == [CALL]


def test_a_call_without_an_item_id_is_known_by_its_call_id() -> None:
    begun = [*call(0, "call_0", "A", "{}"), added(1, "function_call", call_id="call_1", name="Read"), argued(1, '{"a"')]
    found = answer(*begun, completed(call_item("call_1", "Read", '{"a": 1}'))).message
    assert found is not None
    assert found["content"] == [use(0), CALL]


def test_an_item_of_another_type_at_a_known_place_is_new() -> None:
    found = answer(*words(0, "Hi"), completed(call_item("call_1", "Read", '{"a": 1}'))).message
    assert found is not None
    assert found["content"] == [HI, CALL]


def test_unusable_output_is_passed_over() -> None:
    odd: list[Any] = [None, 7, {"type": "shell_call", "id": "sh_1"}, {"type": ["message"]}]
    for end in (completed(*odd), completed(output="none"), completed(output=None)):
        found = answer(said(0, "Hi"), end).message
        assert found is not None
        assert found["content"] == [HI]
