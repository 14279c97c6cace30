"""Streamed tool calls: whatever order their fragments come in, the client gets them whole, one after the other."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import ProviderError
from ccr_asgi.formats.message_writer import MessageWriter
from ccr_asgi.formats.openai_chat_calls import Calls
from tests.formats.chat_answers import answer, call, chunk, machine, run, sse
from tests.support.anthropic_stream import check_stream, read_events

INPUTS = st.dictionaries(
    st.sampled_from(["path", "text", "é", "{}"]),
    st.recursive(st.none() | st.integers(-99, 99) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=2)),
    max_size=3,
)


def uses(*chunks: dict[str, Any], finish: str | None = "tool_calls", done: bool = True) -> list[tuple[str, str, Any]]:
    """Id, name and input of the calls that a client sees, the same for events and document."""
    found = [answer(*chunks, chunk({}, finish), streamed=streamed, done=done) for streamed in (True, False)]
    assert found[0].error is None, found[0].error
    assert found[0].message is not None
    assert found[0].message == found[1].message
    content = found[0].message["content"]
    return [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]


def failure(*chunks: dict[str, Any], finish: str | None = "tool_calls") -> str:
    """The message of the error that the calls end in."""
    found = [answer(*chunks, chunk({}, finish), streamed=streamed).error for streamed in (True, False)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].message == found[1].message
    return found[0].message


@settings(deadline=None)
@given(st.lists(INPUTS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_any_interleaving_gives_the_same_calls(inputs: list[dict[str, Any]], random: Any) -> None:
    fragments = []
    for index, given_input in enumerate(inputs):
        text = json.dumps(given_input, ensure_ascii=bool(index % 2))
        cuts = sorted(random.sample(range(len(text) + 1), k=min(3, len(text))))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        own = [call(index, id=f"call_{index}", name="T", arguments=pieces[0])]
        fragments.append(own + [call(index, arguments=piece) for piece in pieces[1:]])
    order = []
    opened = 0
    while any(fragments):
        # A provider opens its calls in their order; what follows may come in any.
        place = random.choice([n for n, left in enumerate(fragments) if left and n <= opened])
        opened = max(opened, place + 1)
        order.append(fragments[place].pop(0))
    assert uses(*order) == [(f"call_{index}", "T", given_input) for index, given_input in enumerate(inputs)]


def test_a_call_is_opened_with_its_first_argument() -> None:
    made = machine()
    assert made.feed(sse(call(id="call_1", name="A", arguments=" "), done=False)) == b""
    assert made.feed(sse(call(arguments="{"), done=False))


def test_text_that_comes_inside_a_call_waits_for_its_end() -> None:
    made = machine()
    made.feed(sse(call(id="call_1", name="A", arguments='{"a"'), done=False))
    assert made.feed(sse(chunk({"content": "then"}), done=False)) == b""
    out = read_events(made.feed(sse(call(arguments=":1}"), done=False)))
    assert [event["type"] for event in out][1:3] == ["content_block_stop", "content_block_start"]
    assert out[-1]["delta"] == {"type": "text_delta", "text": "then"}


def test_all_that_waited_for_a_call_comes_with_its_end() -> None:
    made = machine()
    made.feed(sse(call(0, name="A", arguments='{"a"'), chunk({"content": "then"}), done=False))
    assert made.feed(sse(call(1, name="B", arguments='{"b"'), done=False)) == b""
    out = read_events(made.feed(sse(call(0, arguments=":1}"), done=False)))
    started = [event["content_block"] for event in out if event["type"] == "content_block_start"]
    assert [block["type"] for block in started] == ["text", "tool_use"]
    assert out[-1]["delta"] == {"type": "input_json_delta", "partial_json": '{"b"'}


@pytest.mark.parametrize("finish", ["tool_calls", "stop", None])
def test_a_call_is_the_reason_to_stop(finish: str | None) -> None:
    found = answer(call(id="call_1", name="A", arguments="{}"), chunk({}, finish)).message
    assert found is not None
    assert found["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "given_input"),
    [
        ("", {}),
        (None, {}),
        ("  \n", {}),
        ("null", {}),
        ("{}", {}),
        (' {"a": 1} ', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('"null"', {}),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_arguments_in_any_form(arguments: object, given_input: dict[str, Any]) -> None:
    assert uses(call(id="call_1", name="A", arguments=arguments)) == [("call_1", "A", given_input)]


@pytest.mark.parametrize(
    "arguments",
    ["[]", "5", "true", '"text"', '"\\"5\\""', "{", '{"a": }', '{"a": 1}{"b": 2}', "[1", [1], 5, '{"a": NaN}'],
)
def test_arguments_that_are_no_object_are_an_error(arguments: object) -> None:
    assert failure(call(id="call_1", name="A", arguments=arguments)) == (
        "p: the arguments of the call to 'A' are not a JSON object."
    )


def test_a_broken_call_before_others_is_an_error() -> None:
    assert "call to 'A'" in failure(
        call(0, id="call_1", name="A", arguments='{"a": '), call(1, id="call_2", name="B", arguments="{}")
    )


def test_a_name_in_an_error_is_shortened() -> None:
    assert len(failure(call(id="call_1", name="A" * 5000, arguments="{"))) < 200


def test_text_behind_a_call_without_arguments_comes_after_it() -> None:
    found = answer(call(id="call_1", name="A", arguments=""), chunk({"content": "then"}), chunk({}, "tool_calls"))
    assert found.message is not None
    assert [block["type"] for block in found.message["content"]] == ["tool_use", "text"]


# Ids


@pytest.mark.parametrize("odd", [None, "", "a b", "é", "functions.A:0", "a/b", 5, "\ud83c"])
def test_an_odd_id_is_made_anew(odd: object) -> None:
    assert uses(call(id=odd, name="A", arguments="{}")) == [("toolu_golden_0", "A", {})]


def test_an_id_is_given_once() -> None:
    ids = [found[0] for found in uses(*(call(n, id="call_1", name="A", arguments="{}") for n in range(4)))]
    assert ids == ["call_1", "toolu_golden_0", "toolu_golden_1", "toolu_golden_2"]


def test_an_id_of_the_provider_that_looks_like_ours_is_not_doubled() -> None:
    ids = [
        found[0]
        for found in uses(call(0, id="toolu_golden_0", name="A", arguments="{}"), call(1, name="B", arguments="{}"))
    ]
    assert ids == ["toolu_golden_0", "toolu_golden_1"]


def test_an_id_of_an_earlier_call_of_the_conversation_is_made_anew() -> None:
    writer = MessageWriter(message_id="msg_1", model="m", streamed=True)
    calls = Calls(writer, {}, taken_ids=["call_0"], id_prefix="1", complain=ProviderError)
    calls.take({"index": 0, "id": "call_0", "function": {"name": "A", "arguments": "{}"}})
    [_, start, _] = read_events(writer.take())
    assert start["content_block"]["id"] == "toolu_1_0"


# Which fragment belongs to which call


@pytest.mark.parametrize(("first", "second"), [("A", "B"), ("B", "A")])
def test_another_name_after_complete_arguments_is_another_call(first: str, second: str) -> None:
    assert uses(call(name=first, arguments="{}"), call(name=second, arguments=""), call(arguments="{}")) == [
        ("toolu_golden_0", first, {}),
        ("toolu_golden_1", second, {}),
    ]


def test_a_repeated_name_before_an_inner_object_is_no_other_call() -> None:
    chunks = [call(name="A", arguments='{"a":'), call(name="A", arguments='{"b": 1}}')]
    assert uses(*chunks) == [("toolu_golden_0", "A", {"a": {"b": 1}})]


def test_a_repeated_id_is_the_same_call() -> None:
    chunks = [call(id="call_1", name="A", arguments='{"a":'), call(id="call_1", name="A", arguments="1}")]
    assert uses(*chunks) == [("call_1", "A", {"a": 1})]


@pytest.mark.parametrize(("first", "second"), [("call_1", "call_2"), ("call_2", "call_1")])
def test_another_id_is_another_call_of_the_same_tool_before_its_arguments_begin(first: str, second: str) -> None:
    chunks = [
        call(id=first, name="A", arguments="{}"),
        call(id=second, name="A", arguments=""),
        call(arguments='{"a": 1}'),
    ]
    assert uses(*chunks) == [(first, "A", {}), (second, "A", {"a": 1})]


def test_white_space_at_the_border_of_two_fragments_is_kept() -> None:
    chunks = [call(id="call_1", name="A", arguments=' {"a": "x'), call(arguments=' y "}')]
    assert uses(*chunks) == [("call_1", "A", {"a": "x y "})]


def test_a_complete_call_is_closed_as_soon_as_something_waits_behind_it() -> None:
    made = machine()
    out = made.feed(sse(call(id="call_1", name="A", arguments="{}"), call(1, name="B"), done=False))
    assert read_events(out)[-1] == {"type": "content_block_stop", "index": 0}


def test_the_arguments_of_a_call_that_waited_are_sent_as_they_came() -> None:
    waiting = [call(0, name="A", arguments="{"), call(1, name="B", arguments='{ "b" : 1 }'), call(0, arguments="}")]
    out = machine().feed(sse(*waiting, chunk({}, "tool_calls")))
    pieces = [event["delta"]["partial_json"] for event in read_events(out) if event["type"] == "content_block_delta"]
    assert pieces == ["{", "}", '{ "b" : 1 }']


def test_the_same_name_again_is_the_same_call_while_no_new_arguments_begin() -> None:
    chunks = [call(id="call_1", name="A", arguments='{"a":'), call(name="A", arguments="1}"), call(name="A")]
    assert uses(*chunks) == [("call_1", "A", {"a": 1})]


def test_an_id_that_comes_late_does_not_split_its_call() -> None:
    assert uses(call(name="A", arguments="{"), call(id="call_1", arguments="}")) == [("toolu_golden_0", "A", {})]


@pytest.mark.parametrize("index", ["0", 0.0, None, True])
def test_an_index_of_any_kind_holds_a_call_together(index: object) -> None:
    chunks = [call(index, id="call_1", name="A", arguments='{"a":'), call(index, arguments="1}")]
    assert uses(*chunks) == [("call_1", "A", {"a": 1})]


def test_an_index_of_no_sense_is_none() -> None:
    assert uses(call([0], id="call_1", name="A", arguments="{"), call({}, arguments="}")) == [("call_1", "A", {})]


@pytest.mark.parametrize("entry", [{}, {"index": 0}, {"index": 0, "id": "", "function": None}, {"function": 5}])
def test_an_empty_entry_is_no_call(entry: dict[str, Any]) -> None:
    assert uses(chunk({"content": "Hi", "tool_calls": [entry]}), finish="stop") == []


def test_white_space_after_the_end_of_a_call_is_passed_over() -> None:
    chunks = [call(id="call_1", name="A", arguments="{}"), chunk({"content": "Hi"}), call(arguments="\n")]
    assert uses(*chunks) == [("call_1", "A", {})]


def test_more_arguments_after_the_end_of_a_call_are_an_error() -> None:
    chunks = [call(id="call_1", name="A", arguments="{}"), chunk({"content": "Hi"}), call(arguments='{"a": 1}')]
    assert "call to 'A'" in failure(*chunks)


# How it ends


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize(
    ("arguments", "given_input"),
    [
        ('{"a": 1, "b": "cu', {"a": 1}),
        ('{"a": 1', {"a": 1}),
        ('{"a": 1, "b"', {"a": 1}),
        ("{", {}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
    ],
)
def test_a_call_that_was_cut_off_keeps_what_is_whole(finish: str, arguments: str, given_input: dict[str, Any]) -> None:
    assert uses(call(id="call_1", name="A", arguments=arguments), finish=finish) == [("call_1", "A", given_input)]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
@pytest.mark.parametrize("arguments", ["", None, " ", '"{\\"a', "nul"])
def test_a_call_that_was_cut_off_before_its_arguments_is_none(finish: str, arguments: str | None) -> None:
    assert uses(call(id="call_1", name="A", arguments=arguments), finish=finish) == []


def test_a_call_that_was_cut_off_before_its_name_is_none() -> None:
    assert uses(call(id="call_1", arguments='{"a"'), finish="length") == []


def test_only_the_last_call_can_be_cut_off() -> None:
    chunks = [call(0, id="call_1", name="A", arguments='{"a'), call(1, id="call_2", name="B", arguments='{"b')]
    assert "call to 'A'" in failure(*chunks, finish="length")


def test_arguments_that_no_end_could_mend_were_not_cut_off() -> None:
    assert "call to 'A'" in failure(call(id="call_1", name="A", arguments='{"a": }'), finish="length")


def test_without_a_word_of_the_end_missing_arguments_may_be_lost() -> None:
    chunks = [sse(call(id="call_1", name="A", arguments=""), done=False)]
    result = run(machine(), chunks, streamed=True)
    assert result.error is not None
    assert "call to 'A'" in result.error.message
    assert uses(call(id="call_1", name="A", arguments=""), finish=None) == [("call_1", "A", {})]


def test_a_call_that_breaks_off_stays_open() -> None:
    made = machine()
    out = made.feed(sse(call(id="call_1", name="A", arguments='{"a"'), done=False)) + made.close()
    assert [event["type"] for event in check_stream(out)][-2:] == ["content_block_delta", "error"]
