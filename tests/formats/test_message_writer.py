"""The grammar of Anthropic's answers: what the writer writes, and what it refuses to."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import ProviderError
from ccr_asgi.formats import message_writer
from ccr_asgi.formats.message_writer import DELTAS, TRANSITIONS, IllegalEvent, MessageWriter, State
from tests.support.anthropic_stream import check_stream, plain_message, read_events, sdk_message

USAGE = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 2,
    "output_tokens": 5,
}
SEARCH_RESULT = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "title": "T", "url": "https://x.test", "encrypted_content": ""}],
}
Step = Callable[[MessageWriter], None]


def writer(*, streamed: bool = True) -> MessageWriter:
    return MessageWriter(message_id="msg_1", model="m", streamed=streamed)


def both(*steps: Step) -> dict[str, Any]:
    """What the steps say, which must be the same as events and as a document."""
    events, document = writer(), writer(streamed=False)
    for step in steps:
        step(events)
        step(document)
        assert document.take() == b"" or document.done
    for each in (events, document):
        each.finish("end_turn", USAGE)
        assert each.done
    out = events.take()
    check_stream(out)
    message = plain_message(json.loads(document.take()))
    assert sdk_message(out) == message
    return message


def content(*steps: Step) -> Any:
    return both(*steps)["content"]


def test_a_message_has_all_its_fields() -> None:
    assert both(lambda w: w.text("Hi")) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }


def test_the_events_are_those_of_the_api() -> None:
    made = writer()
    made.text("Hi")
    made.finish("stop_sequence", USAGE, stop_sequence="END")
    assert [event["type"] for event in read_events(made.take())] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_message_begins_with_nothing_said_and_nothing_counted() -> None:
    made = writer()
    made.text("Hi")
    started = read_events(made.take())[0]
    assert started["message"] == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def test_the_end_says_why_and_how_much() -> None:
    made = writer()
    made.finish("stop_sequence", USAGE, stop_sequence="END")
    *_, end, _ = read_events(made.take())
    assert end == {
        "type": "message_delta",
        "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        "usage": USAGE,
    }


def test_pieces_of_one_kind_share_a_block() -> None:
    assert content(lambda w: w.text("a"), lambda w: w.text("b")) == [{"type": "text", "text": "ab"}]


def test_another_kind_is_another_block() -> None:
    steps: list[Step] = [lambda w: w.thinking("a"), lambda w: w.text("b"), lambda w: w.thinking("c")]
    assert [block["type"] for block in content(*steps)] == ["thinking", "text", "thinking"]


def test_nothing_is_not_a_block() -> None:
    assert content(lambda w: w.text(""), lambda w: w.thinking("")) == []


def test_thinking_without_a_signature_gets_the_empty_one() -> None:
    assert content(lambda w: w.thinking("a")) == [{"type": "thinking", "thinking": "a", "signature": ""}]


def test_a_signature_closes_its_thinking() -> None:
    steps: list[Step] = [lambda w: w.thinking("a"), lambda w: w.signature("s"), lambda w: w.thinking("b")]
    assert content(*steps) == [
        {"type": "thinking", "thinking": "a", "signature": "s"},
        {"type": "thinking", "thinking": "b", "signature": ""},
    ]


def test_a_signature_may_stand_without_thinking() -> None:
    assert content(lambda w: w.text("x"), lambda w: w.signature("s"))[1] == {
        "type": "thinking",
        "thinking": "",
        "signature": "s",
    }


def test_a_call_takes_its_input_in_pieces() -> None:
    steps: list[Step] = [
        lambda w: w.open_tool_use("toolu_1", "Read"),
        lambda w: w.tool_input('{"a"'),
        lambda w: w.tool_input(": 1}"),
        lambda w: w.close_block(),
    ]
    assert content(*steps) == [{"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"a": 1}}]


def test_a_call_without_input_has_an_empty_one() -> None:
    assert content(lambda w: w.open_tool_use("toolu_1", "List"))[0]["input"] == {}


def test_a_cut_input_is_read_as_far_as_it_goes() -> None:
    steps: list[Step] = [
        lambda w: w.open_tool_use("toolu_1", "Write"),
        lambda w: w.tool_input('{"a": [1, {"b": 2}], "c": "not whole'),
    ]
    assert content(*steps)[0]["input"] == {"a": [1, {"b": 2}]}


def test_a_hosted_search_is_a_call_and_a_whole_block() -> None:
    steps: list[Step] = [
        lambda w: w.open_tool_use("srvtoolu_1", "web_search", kind="server_tool_use"),
        lambda w: w.tool_input('{"query": "x"}'),
        lambda w: w.whole_block(SEARCH_RESULT),
        lambda w: w.text("Found."),
    ]
    call, result, text = content(*steps)
    assert call == {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    assert result["content"][0]["url"] == "https://x.test"
    assert text["text"] == "Found."


def test_a_whole_block_is_closed_at_once() -> None:
    made = writer()
    made.whole_block(SEARCH_RESULT)
    assert made.block_type is None
    assert read_events(made.take())[-1] == {"type": "content_block_stop", "index": 0}


def test_a_ping_may_stand_before_and_inside_the_message_but_in_no_document() -> None:
    steps: list[Step] = [lambda w: w.ping(), lambda w: w.text("a"), lambda w: w.ping(), lambda w: w.close_block()]
    assert content(*steps, lambda w: w.ping()) == [{"type": "text", "text": "a"}]


def test_output_is_handed_out_once() -> None:
    made = writer()
    made.text("a")
    assert made.take()
    assert made.take() == b""


def test_it_knows_where_it_stands() -> None:
    made = writer()
    assert (made.started, made.block_type, made.done) == (False, None, False)
    made.text("a")
    assert (made.started, made.block_type, made.done) == (True, "text", False)
    made.close_block()
    made.close_block()
    assert (made.started, made.block_type, made.done) == (True, None, False)
    made.finish("end_turn", USAGE)
    assert made.done


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_an_error_closes_the_open_block(kind: str) -> None:
    made = writer()
    getattr(made, kind)("a")
    made.fail(ProviderError("broken off", status=529))
    events = check_stream(made.take())
    assert events[-2]["type"] == "content_block_stop"
    assert events[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "broken off"}}
    assert made.done


def test_an_error_leaves_a_call_open_that_a_client_would_run() -> None:
    made = writer()
    made.open_tool_use("toolu_1", "DeleteAll")
    made.fail(ProviderError("broken off"))
    assert [event["type"] for event in check_stream(made.take())] == ["message_start", "content_block_start", "error"]


def test_an_error_may_be_all_there_is_after_a_ping() -> None:
    made = writer()
    made.ping()
    made.fail(ProviderError("no"))
    assert [event["type"] for event in check_stream(made.take())] == ["ping", "error"]


@pytest.mark.parametrize("ended", [lambda w: w.finish("end_turn", USAGE), lambda w: w.fail(ProviderError("no"))])
@pytest.mark.parametrize(
    "late",
    [
        lambda w: w.text("a"),
        lambda w: w.thinking("a"),
        lambda w: w.signature("s"),
        lambda w: w.open_tool_use("toolu_1", "A"),
        lambda w: w.whole_block(SEARCH_RESULT),
        lambda w: w.ping(),
        lambda w: w.finish("end_turn", USAGE),
        lambda w: w.fail(ProviderError("no")),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_nothing_follows_the_end(ended: Step, late: Step, streamed: bool) -> None:
    made = writer(streamed=streamed)
    ended(made)
    out = made.take()
    with pytest.raises(IllegalEvent):
        late(made)
    assert made.take() == b""
    assert made.done
    assert bool(out) is True or not streamed


@pytest.mark.parametrize(
    ("opened", "place"),
    [(lambda w: None, "no block"), (lambda w: w.text("a"), "text"), (lambda w: w.thinking("a"), "thinking")],
)
def test_input_belongs_to_a_call(opened: Step, place: str) -> None:
    made = writer()
    opened(made)
    with pytest.raises(IllegalEvent, match=f"^a input_json_delta in {place}$"):
        made.tool_input("{}")


def test_the_table_names_every_state_and_ends() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.DONE] == {}
    reached = {following for row in TRANSITIONS.values() for following in row.values()}
    assert reached == set(State)


def test_the_deltas_are_those_of_the_sdk() -> None:
    assert {delta for row in DELTAS.values() for delta in row} == {
        "text_delta",
        "thinking_delta",
        "signature_delta",
        "input_json_delta",
    }


def test_lone_surrogates_are_written_as_escapes() -> None:
    events, document = writer(), writer(streamed=False)
    for made in (events, document):
        made.text("\ud83c")
        made.text("\udf89")
        made.finish("end_turn", USAGE)
    assert b"\\ud83c" in events.take()
    assert json.loads(document.take())["content"] == [{"type": "text", "text": "🎉"}]


STEPS: list[Step] = [
    lambda w: w.text("a"),
    lambda w: w.text(""),
    lambda w: w.thinking("b"),
    lambda w: w.signature("s"),
    lambda w: w.whole_block(SEARCH_RESULT),
    lambda w: w.close_block(),
    lambda w: w.ping(),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(range(len(STEPS) + 2)), max_size=12))
def test_any_order_of_steps_is_legal_and_says_the_same_both_ways(order: list[int]) -> None:
    def call(place: int) -> Step:
        return lambda w: w.open_tool_use(f"toolu_{place}", "T")

    def call_with_input(place: int) -> Step:
        def step(made: MessageWriter) -> None:
            made.open_tool_use(f"toolu_{place}", "T")
            made.tool_input('{"a": ')
            made.tool_input("1}")

        return step

    own = [call, call_with_input]
    both(*(STEPS[n] if n < len(STEPS) else own[n - len(STEPS)](place) for place, n in enumerate(order)))


def test_a_document_without_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_writer, "MAX_DOCUMENT_CHARS", 10)
    for streamed in (True, False):
        made = MessageWriter(message_id="msg_1", model="m", streamed=streamed)
        made.text("12345")
        made.thinking("67890")
        if streamed:
            made.thinking("a stream may go on for ever")
        else:
            with pytest.raises(ProviderError, match="longer than 10 characters"):
                made.thinking("1")


def test_a_document_may_have_sixteen_mi_characters() -> None:
    made = writer(streamed=False)
    made.text("x" * 16_777_216)
    with pytest.raises(ProviderError, match=r"^The answer is longer than 16777216 characters; ask for a stream\.$"):
        made.text("x")
