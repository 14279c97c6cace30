"""What a `ResponsesStream` does beyond the golden cases: when it speaks, how it ends, what it tells beside the wire."""

import json
from typing import Any

import pytest

from ccr_asgi.errors import ProviderError, UpstreamCut
from ccr_asgi.formats.base import StreamMachine, UsageExtra
from tests.formats.golden import BROKEN, run
from tests.formats.responses_answers import (
    INPUT_TOKENS,
    USAGE,
    Event,
    added,
    answer,
    argued,
    call,
    completed,
    event,
    failed,
    incomplete,
    item_done,
    machine,
    message_item,
    said,
    sse,
    thinking,
    thought,
    words,
)
from tests.support.anthropic_stream import check_stream, read_events

CREATED: Event = {"type": "response.created", "response": {"model": "served", "output": [], "error": None}}
SILENT: list[Event] = [
    CREATED,
    {"type": "response.in_progress", "response": {}},
    added(0, "reasoning", id="rs_0", encrypted_content="gAAA-preview"),
    event("response.reasoning_summary_part.added", 0, summary_index=0, part={"type": "summary_text", "text": ""}),
    thought(0, ""),
    {"type": "keepalive"},
    added(1, "message", id="msg_1", content=[]),
    event("response.content_part.added", 1, content_index=0, part={"type": "output_text", "text": ""}),
    added(2, "function_call", id="fc_2", call_id="call_1", name="Read", arguments=""),
    argued(2, ""),
    {"type": "something.else", "error": {"message": "not ours"}},
    {"type": "another", "error": {"message": "not ours"}},
]
"""Events that hold nothing for a client."""


def test_it_is_a_stream_machine() -> None:
    made: StreamMachine = machine()
    assert made.failure is None
    assert not made.finished


# When it speaks


def test_nothing_comes_out_before_the_first_content() -> None:
    made = machine()
    assert b"".join(made.feed(sse(entry)) for entry in SILENT) == b""
    assert [entry["type"] for entry in read_events(made.feed(sse(thought(0, "Hm"))))] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
    ]


@pytest.mark.parametrize("end", [failed("server_error", "no"), {"type": "error", "message": "no"}])
def test_an_early_failure_is_raised(end: Event) -> None:
    made = machine()
    with pytest.raises(ProviderError, match=r"^p: no$"):
        made.feed(sse(*SILENT, end))
    assert made.failure is None


def test_an_early_end_is_raised() -> None:
    made = machine(content_type="")
    made.feed(sse(*SILENT))
    with pytest.raises(UpstreamCut, match=r"^p: the answer \(no content-type\) ended before it was complete\.$"):
        made.close()


@pytest.mark.parametrize(
    ("delta", "sent"),
    [
        (said(0, "a"), {"type": "text_delta", "text": "a"}),
        (event("response.refusal.delta", 0, delta="a"), {"type": "text_delta", "text": "a"}),
        (thought(0, "a"), {"type": "thinking_delta", "thinking": "a"}),
        (event("response.reasoning_text.delta", 0, delta="a"), {"type": "thinking_delta", "thinking": "a"}),
    ],
)
def test_every_delta_comes_out_at_once(delta: Event, sent: dict[str, str]) -> None:
    made = machine()
    made.feed(sse(delta))
    assert [entry["delta"] for entry in read_events(made.feed(sse(delta)))] == [sent]


def test_arguments_come_out_at_once() -> None:
    made = machine()
    made.feed(sse(*call(0, "call_1", "Write", '{"a": "')[:2]))
    [sent] = read_events(made.feed(sse(argued(0, "b"))))
    assert sent["delta"] == {"type": "input_json_delta", "partial_json": "b"}


def test_an_item_s_end_closes_its_block_at_once() -> None:
    made = machine()
    *begun, done = call(0, "call_1", "A", '{"a": 1}')
    made.feed(sse(*begun))
    assert [entry["type"] for entry in read_events(made.feed(sse(done)))] == ["content_block_stop"]
    *begun, done = thinking(1, "Hm.")
    made.feed(sse(*begun))
    signed, stopped = read_events(made.feed(sse(done)))
    assert signed["delta"] == {"type": "signature_delta", "signature": "ccr-reasoning:gAAA-final"}
    assert stopped["type"] == "content_block_stop"


def test_a_document_comes_out_whole_at_the_end() -> None:
    made = machine(streamed=False)
    assert made.feed(sse(CREATED, *words(0, "Hi"), {"type": "keepalive"})) == b""
    assert made.idle() == b""
    assert json.loads(made.feed(sse(completed())))["content"] == [{"type": "text", "text": "Hi"}]


def test_a_document_is_read_like_the_last_event() -> None:
    found = run(machine(), [json.dumps(completed(message_item("Hi"))["response"]).encode()], streamed=True).message
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize("document", [{"error": {"message": "no"}, "output": []}, {"detail": "no"}])
def test_a_document_with_an_error_or_without_output_is_a_refusal(document: Event) -> None:
    made = machine()
    made.feed(json.dumps(document).encode())
    with pytest.raises(ProviderError, match=r"^p: no$"):
        made.close()


def test_the_last_event_is_the_end_though_the_connection_stays() -> None:
    made = machine()
    out = made.feed(sse(*words(0, "Hi"), completed(), said(0, "more"), failed("server_error", "no")))
    assert made.finished
    assert check_stream(out)[-1] == {"type": "message_stop"}
    assert made.feed(sse(said(1, "more"))) + made.close() + made.idle() + made.fail(BROKEN) == b""
    assert made.failure is None


# Pings


def test_a_keepalive_is_a_ping_once_something_has_come_out() -> None:
    made = machine()
    keepalive = sse({"type": "keepalive", "sequence_number": 3})
    assert made.feed(keepalive) == b""  # or the 200 would go out, and a failure could be no status any more
    made.feed(sse(said(0, "Hi")))
    assert read_events(made.feed(keepalive)) == [{"type": "ping"}]


def test_a_failure_after_a_ping_is_an_event() -> None:
    made = machine()
    out = made.idle() + made.feed(sse(failed("server_error", "no")))
    assert [entry["type"] for entry in check_stream(out)] == ["ping", "error"]
    assert isinstance(made.failure, ProviderError)


# How it ends


@pytest.mark.parametrize(
    ("end", "alone", "with_a_call"),
    [
        (completed(), "end_turn", "tool_use"),
        ({**completed(), "type": "response.done"}, "end_turn", "tool_use"),
        (completed(status=None), "end_turn", "tool_use"),
        (incomplete("max_output_tokens"), "max_tokens", "max_tokens"),
        (incomplete("content_filter"), "refusal", "refusal"),
        (incomplete("something_new"), "max_tokens", "max_tokens"),
        (incomplete(None), "max_tokens", "max_tokens"),
        ({**incomplete("content_filter"), "type": "response.done"}, "refusal", "refusal"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_why_it_ended(end: Event, alone: str, with_a_call: str, streamed: bool) -> None:
    for events, reason in (([], alone), (call(1, "call_1", "Read", "{}"), with_a_call)):
        found = answer(*words(0, "Hi"), *events, end, streamed=streamed).message
        assert found is not None
        assert found["stop_reason"] == reason


@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled"])
@pytest.mark.parametrize("kind", ["response.completed", "response.done"])
def test_an_end_that_is_none_is_an_error(status: str, kind: str) -> None:
    with pytest.raises(UpstreamCut, match=rf"^p: the answer \({status}\) ended before it was complete\.$"):
        machine().feed(sse({**completed(status=status), "type": kind}))


def test_an_end_that_is_a_failure_is_one() -> None:
    ended = failed("server_is_overloaded", "no")
    with pytest.raises(ProviderError) as caught:
        machine().feed(sse({**ended, "type": "response.done"}))
    assert caught.value.status == 529


def test_several_calls_that_were_cut_off_are_written_as_far_as_they_came() -> None:
    begun = [entry for place in range(3) for entry in call(place, f"call_{place}", "A", '{"a": 1, "b')[:2]]
    unbegun = added(3, "function_call", call_id="call_3", name="A", arguments="")
    found = answer(*begun, unbegun, incomplete()).message
    assert found is not None
    assert [block["input"] for block in found["content"]] == [{"a": 1}] * 3
    assert found["stop_reason"] == "max_tokens"


def test_what_is_complete_stays_so_when_the_rest_is_cut_off() -> None:
    begun = added(0, "function_call", call_id="call_0", name="A")
    nameless = argued(2, '{"a"')
    found = answer(begun, argued(0, '{"a": 1}'), *words(1, "Hi"), nameless, incomplete()).message
    assert found is not None
    assert [block["type"] for block in found["content"]] == ["tool_use", "text"]


def test_a_cut_call_in_a_complete_answer_is_an_error() -> None:
    result = answer(added(0, "function_call", call_id="call_0", name="A"), argued(0, '{"a"'), completed())
    assert result.error is not None
    assert result.error.message == "p: the arguments of the call to 'A' are not a JSON object."


def test_wrong_arguments_are_no_cut_ones() -> None:
    begun = added(0, "function_call", call_id="call_0", name="A")
    result = answer(begun, argued(0, '{"a": }'), *words(1, "Hi"), incomplete())
    assert result.error is not None
    assert result.error.message == "p: the arguments of the call to 'A' are not a JSON object."


@pytest.mark.parametrize("body", [b"", b" \n", b"\xef\xbb\xbf", sse(CREATED), b"data: {}\n\n", b": nothing\n\n"])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_without_an_end_is_an_error(body: bytes, streamed: bool) -> None:
    result = run(machine(streamed=streamed), [body], streamed=streamed)
    assert result.raised
    assert isinstance(result.error, UpstreamCut)


def test_an_end_in_the_middle_of_an_event_is_an_error() -> None:
    result = run(machine(), [sse(*words(0, "Hi")), sse(completed())[:60]], streamed=True)
    assert result.content == [{"type": "text", "text": "Hi"}]
    assert result.error is not None
    assert result.error.message == "p: the answer ended in the middle of an event."


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (b"data: {broken", "p: the answer ended in the middle of an event."),
        (b"data: Hm", "p: the answer ended in the middle of an event."),
        (b"data: [1]", "p: the answer (text/event-stream) ended before it was complete."),
        (b"data: [DONE]", "p: the answer (text/event-stream) ended before it was complete."),
        (b'data: {"type": "keepalive"}', "p: the answer (text/event-stream) ended before it was complete."),
    ],
)
def test_a_last_event_without_its_blank_line_is_cut_unless_it_is_whole(last: bytes, message: str) -> None:
    made = machine()
    made.feed(last)
    with pytest.raises(UpstreamCut) as caught:
        made.close()
    assert caught.value.message == message


@pytest.mark.parametrize("bad", [b"data: {broken", b"event: done\ndata: {broken", b"data: [1]", b"data: 7"])
def test_a_bad_line_costs_nothing_but_itself(bad: bytes) -> None:
    body = sse(*words(0, "Hi")) + bad + b"\n\n" + sse(completed())
    found = run(machine(), [body], streamed=True).message
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "Hi"}]


def test_the_event_s_name_serves_where_there_is_no_type() -> None:
    untyped = [{key: value for key, value in entry.items() if key != "type"} for entry in [said(0, "Hi"), completed()]]
    names = ["response.output_text.delta", "response.completed"]
    body = b"".join(
        b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(entry).encode())
        for name, entry in zip(names, untyped, strict=True)
    )
    found = run(machine(), [body], streamed=True).message
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "Hi"}]


def test_the_type_counts_where_the_name_says_otherwise() -> None:
    body = sse(said(0, "Hi"), completed()).replace(b"event: response.completed", b"event: error")
    assert run(machine(), [body], streamed=True).message is not None


@pytest.mark.parametrize(
    "data",
    [b"no", b'"no"', b'{"message": "no"}', b'{"error": "no"}', b'{"error": {"message": "no"}}', b'{"detail":"no"}'],
)
def test_an_event_named_error_is_one(data: bytes) -> None:
    with pytest.raises(ProviderError, match=r'^p: "?no"?$'):
        machine().feed(b"event: error\ndata: " + data + b"\n\n")


@pytest.mark.parametrize("error", [{"error": {"message": "no"}}, {"error": "no"}, {"detail": "no"}])
def test_an_error_object_alone_is_one(error: Event) -> None:
    with pytest.raises(ProviderError, match=r"^p: no$"):
        machine().feed(b"data: " + json.dumps(error).encode() + b"\n\n")


# Usage and what goes beside it


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, (30, 60, 10, 50)),
        ({"input_tokens": 20, "output_tokens": 5}, (20, 0, 0, 5)),
        ({**USAGE, "input_tokens_details": None}, (100, 0, 0, 50)),
        ({**USAGE, "input_tokens_details": {"cached_tokens": None, "cache_write_tokens": 100}}, (0, 0, 100, 50)),
        ({**USAGE, "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0}}, (0, 100, 0, 50)),
        ({"input_tokens": 0, "output_tokens": 0}, (0, 0, 0, 0)),
        ({"output_tokens": 5}, (INPUT_TOKENS, 0, 0, 5)),
        ({"input_tokens": 20}, (20, 0, 0, 1)),
        ({"input_tokens": -1, "output_tokens": True}, (INPUT_TOKENS, 0, 0, 1)),
        ({"input_tokens": "20", "output_tokens": 5.5, "input_tokens_details": [1]}, (INPUT_TOKENS, 0, 0, 1)),
        (None, (INPUT_TOKENS, 0, 0, 1)),
        ([], (INPUT_TOKENS, 0, 0, 1)),
    ],
)
@pytest.mark.parametrize("make", [completed, incomplete])
def test_usage_in_anthropic_s_terms(usage: Any, expected: tuple[int, int, int, int], make: Any) -> None:
    extra = UsageExtra()
    end = make()
    end["response"]["usage"] = usage
    found = answer(said(0, "Hi"), end, extra=extra).message
    assert found is not None
    keys = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    assert tuple(found["usage"][key] for key in keys) == expected
    assert extra.estimated == (expected[0] == INPUT_TOKENS or expected[3] == 1)
    if isinstance(usage, dict) and not extra.estimated:
        assert sum(expected[:3]) == usage["input_tokens"]


def test_the_estimate_counts_all_that_was_said() -> None:
    def estimated(*events: Event) -> int:
        made = machine()
        made.feed(sse(*events))
        return made.usage_so_far()["output_tokens"]

    assert estimated(said(0, "one two three")) >= 3
    assert estimated(thought(0, "one two three")) >= 3
    assert estimated(*call(0, "call_1", "A", '{"one": "two three"}')) >= 3
    assert estimated(item_done(0, "message", **message_item("one two three"))) >= 3
    assert estimated(*words(0, "one two three")) == estimated(said(0, "one two three"))


def test_usage_of_a_failed_answer_is_told() -> None:
    extra = UsageExtra()
    made = machine(extra=extra)
    made.feed(sse(said(0, "Hi")))
    made.feed(sse(failed("server_error", "no", usage=USAGE)))
    assert made.finished
    assert made.usage_so_far()["cache_read_input_tokens"] == 60
    assert extra.reasoning_tokens == 20


@pytest.mark.parametrize(
    ("events", "model"),
    [
        ([CREATED, completed()], "served"),
        ([completed(model="other")], "other"),
        ([CREATED, completed(model="other")], "served"),
        ([completed()], None),
        ([completed(model=7)], None),
    ],
)
def test_the_model_that_answered_is_told(events: list[Event], model: str | None) -> None:
    extra = UsageExtra()
    answer(*events, extra=extra)
    assert extra.served_model == model
