"""What a `ChatStream` does beyond the golden cases: when it speaks, what it refuses, what it tells beside the wire."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut, UpstreamError
from ccr_asgi.formats import answer_machine
from ccr_asgi.formats.answer_machine import AnswerContext
from ccr_asgi.formats.base import StreamMachine, UsageExtra
from ccr_asgi.formats.openai_chat_stream import ChatStream
from tests.formats.chat_answers import INPUT_TOKENS, answer, call, chunk, machine, run, sse
from tests.support.anthropic_stream import check_stream, read_events, sdk_message

ROLE = chunk({"role": "assistant", "content": ""})
USAGE = {"prompt_tokens": 20, "completion_tokens": 5}
BROKEN = UpstreamCut("The provider broke off.")


def message(content: object = "Hi", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"model": "served", "choices": [choice], "usage": USAGE, **fields}


def test_it_is_a_stream_machine() -> None:
    made: StreamMachine = machine()
    assert made.failure is None
    assert not made.finished


# When it speaks


def test_nothing_comes_out_before_the_first_content() -> None:
    made = machine()
    assert made.feed(b": waiting\n\n" + sse(ROLE, chunk({"tool_calls": []}), done=False)) == b""
    assert made.feed(sse(call(name="Read", arguments=""), done=False)) == b""
    first = read_events(made.feed(sse(call(arguments='{"a"'), done=False)))
    assert [event["type"] for event in first] == ["message_start", "content_block_start", "content_block_delta"]


@pytest.mark.parametrize(
    ("delta", "sent"),
    [
        ({"content": "a"}, {"type": "text_delta", "text": "a"}),
        ({"reasoning": "a"}, {"type": "thinking_delta", "thinking": "a"}),
        ({"reasoning_content": "a"}, {"type": "thinking_delta", "thinking": "a"}),
        ({"refusal": "a"}, {"type": "text_delta", "text": "a"}),
    ],
)
def test_every_delta_comes_out_at_once(delta: dict[str, str], sent: dict[str, str]) -> None:
    made = machine()
    made.feed(sse(chunk(delta), done=False))
    assert [event["delta"] for event in read_events(made.feed(sse(chunk(delta), done=False)))] == [sent]


def test_arguments_come_out_at_once() -> None:
    made = machine()
    made.feed(sse(call(id="call_1", name="Write", arguments='{"a": "'), done=False))
    [event] = read_events(made.feed(sse(call(arguments="b"), done=False)))
    assert event["delta"] == {"type": "input_json_delta", "partial_json": "b"}


def test_a_complete_call_makes_way_for_the_next() -> None:
    made = machine()
    made.feed(sse(call(0, id="call_1", name="A", arguments='{"a": 1}'), done=False))
    out = read_events(made.feed(sse(call(1, id="call_2", name="B", arguments='{"b'), done=False)))
    assert [event["type"] for event in out] == ["content_block_stop", "content_block_start", "content_block_delta"]


def test_a_document_comes_out_whole_at_the_end() -> None:
    made = machine(streamed=False)
    assert made.feed(sse(ROLE, chunk({"content": "Hi"}), chunk({}, "stop"), done=False)) == b""
    assert made.idle() == b""
    assert json.loads(made.close())["content"] == [{"type": "text", "text": "Hi"}]


def test_done_is_the_end_though_the_connection_stays() -> None:
    made = machine()
    out = made.feed(sse(chunk({"content": "Hi"}), chunk({}, "stop")))
    assert made.finished
    assert check_stream(out)[-1] == {"type": "message_stop"}
    assert made.feed(b"data: [DONE]\n\n") + made.close() + made.idle() + made.fail(BROKEN) == b""
    assert made.failure is None


def test_what_stands_behind_the_end_in_one_chunk_is_passed_over() -> None:
    made = machine()
    out = made.feed(sse(chunk({"content": "Hi"}), chunk({}, "stop")) + sse(chunk({"content": "more"})))
    found = sdk_message(out)
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "Hi"}]


def test_usage_without_an_end_before_it_is_not_the_end() -> None:
    made = machine()
    made.feed(sse(chunk({"content": "Hi"}), {"choices": [], "usage": USAGE}, done=False))
    assert not made.finished


@pytest.mark.parametrize(
    ("last", "ended"),
    [
        ({"choices": [], "usage": USAGE}, True),
        ({"usage": USAGE}, True),
        ({"choices": []}, False),
        ({"choices": [], "usage": None}, False),
        (chunk({}, usage=USAGE), False),
    ],
)
def test_usage_alone_behind_the_reason_is_the_end(last: dict[str, Any], ended: bool) -> None:
    made = machine()
    made.feed(sse(chunk({"content": "Hi"}, "stop"), last, done=False))
    assert made.finished is ended


# Pings and failures


def test_a_ping_keeps_a_waiting_client() -> None:
    made = machine()
    assert read_events(made.idle()) == [{"type": "ping"}]
    out = made.feed(sse(chunk({"content": "Hi"}), done=False)) + made.idle() + made.feed(sse(chunk({}, "stop")))
    assert [event["type"] for event in check_stream(out)].count("ping") == 1


def test_a_failure_before_any_output_is_raised() -> None:
    made = machine()
    made.feed(sse(ROLE, done=False))
    with pytest.raises(UpstreamCut) as caught:
        made.fail(BROKEN)
    assert caught.value is BROKEN
    assert made.failure is None


def test_a_failure_after_a_ping_is_an_event() -> None:
    made = machine()
    out = made.idle() + made.fail(BROKEN)
    assert [event["type"] for event in check_stream(out)] == ["ping", "error"]
    assert made.failure is BROKEN


def test_a_failure_inside_a_text_closes_it() -> None:
    made = machine()
    out = made.feed(sse(chunk({"content": "Hi"}), done=False)) + made.fail(BROKEN)
    assert [event["type"] for event in check_stream(out)][-2:] == ["content_block_stop", "error"]
    assert made.feed(sse(chunk({"content": "more"}))) == b""


def test_a_broken_off_answer_is_never_a_document() -> None:
    made = machine(streamed=False)
    made.feed(sse(chunk({"content": "Hi"}), chunk({}, "stop"), done=False))
    with pytest.raises(UpstreamCut):
        made.fail(BROKEN)


def test_what_was_said_before_an_error_in_the_same_chunk_comes_before_it() -> None:
    made = machine()
    out = made.feed(sse(chunk({"content": "a"}), done=False))
    out += made.feed(sse(chunk({"content": "b"}), {"error": {"message": "no"}}))
    found = sdk_message(out)
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "ab"}]
    assert check_stream(out)[-1]["error"]["message"] == "p: no"


def test_secrets_are_blanked_out_of_errors() -> None:
    made = machine(secrets=["hush-hush"])
    with pytest.raises(ProviderError) as caught:
        made.feed(sse({"error": {"message": "bad key hush-hush"}}))
    assert caught.value.message == "p: bad key ***"


@pytest.mark.parametrize(
    "error", [{"error": "no"}, {"message": "no", "object": "error"}, {"detail": "no"}, {"error": {"message": "no"}}]
)
def test_any_form_of_error_is_one(error: dict[str, Any]) -> None:
    with pytest.raises(ProviderError, match=r"^p: no$"):
        machine().feed(sse(error))


@pytest.mark.parametrize("event", [b"event: error\ndata: no\n\n", b'event: error\ndata: {"message": "no"}\n\n'])
def test_an_event_named_error_is_one(event: bytes) -> None:
    with pytest.raises(ProviderError, match=r"^p: no$"):
        machine().feed(event)


@pytest.mark.parametrize(
    "choice", [{"error": {"message": "no"}}, {"message": "no", "finish_reason": "error"}, {"index": 0, "error": "no"}]
)
def test_an_error_in_a_choice_is_one(choice: dict[str, Any]) -> None:
    with pytest.raises(ProviderError, match=r"^p: no$"):
        machine().feed(sse({"choices": [choice]}))


@pytest.mark.parametrize(
    "harmless",
    [
        b"data: 5\n\n",
        b"data:\n\n",
        b"event: chunk\ndata: {}\n\n",
        sse({"usage": USAGE}, done=False),
        sse({"choices": [], "detail": "none", "message": "none"}, done=False),
    ],
)
def test_what_says_nothing_ends_nothing(harmless: bytes) -> None:
    text = sse(chunk({"content": "Hi"}), done=False)
    found = run(machine(), [text, harmless, text, harmless, sse(chunk({}, "stop"))], streamed=True).message
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "HiHi"}]


# What it refuses


def test_a_line_without_end_is_refused() -> None:
    made = machine()
    for _ in range(15):
        made.feed(b"x" * (1024 * 1024))
    with pytest.raises(UpstreamError, match="more than 16777216 bytes"):
        made.feed(b"x" * (1024 * 1024 + 1))


def test_a_document_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_machine, "MAX_DOCUMENT_BYTES", 100)
    made = machine(streamed=False)
    made.feed(b"{" + b" " * 99)
    with pytest.raises(ProviderError, match="longer than 100 bytes"):
        made.feed(b" ")


def test_json_nested_without_end_is_refused() -> None:
    deep = b'{"choices": [{"delta": {"content": "x", "tool_calls": ' + b"[" * 100_000
    result = run(machine(streamed=False), [deep], streamed=False)
    assert isinstance(result.error, CcrError)
    assert result.error.message == "p: the answer is not whole JSON."


@pytest.mark.parametrize("streamed", [True, False])
def test_no_depth_of_arguments_breaks_it(streamed: bool) -> None:
    for depth in range(sys.getrecursionlimit() - 100, sys.getrecursionlimit()):
        arguments = b'{"a":' * depth + b"1" + b"}" * depth
        entry = b'{"index":0,"id":"call_1","function":{"name":"A","arguments":' + arguments + b"}}"
        made = machine(streamed=streamed)
        out = made.feed(b'data: {"choices":[{"delta":{"tool_calls":[' + entry + b"]}}]}\n\n")
        out += made.feed(sse(chunk({}, "tool_calls")))
        assert out
        assert made.finished


def test_arguments_that_can_be_read_but_not_written_again_are_refused() -> None:
    depth = sys.getrecursionlimit() * 3 // 4
    deep = call(0, id="call_1", name="A", arguments='{"a":' * depth + "1" + "}" * depth)
    made = machine(streamed=False)
    made.feed(sse(deep, call(1, id="call_2", name="B", arguments="{}"), chunk({}, "tool_calls"), done=False))
    with pytest.raises(ProviderError, match="nested too deeply"):
        _further_down(sys.getrecursionlimit() // 4, made.close)


def _further_down(frames: int, act: Callable[[], bytes]) -> bytes:
    return _further_down(frames - 1, act) if frames else act()


@pytest.mark.parametrize("body", [b"", b"  \n ", b"\xef\xbb\xbf", b"\xef\xbb"])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_empty_answer_is_an_error(body: bytes, streamed: bool) -> None:
    result = run(machine(streamed=streamed, content_type=""), [body], streamed=streamed)
    assert result.error is not None
    assert result.error.status == 502
    assert result.error.message == "p: the answer (no content-type) ended without a completion in it."


# What it takes


@pytest.mark.parametrize("lead", [b"\xef\xbb\xbf", b" \r\n\t", b"\xef\xbb\xbf\n"])
def test_a_document_is_known_by_its_first_byte(lead: bytes) -> None:
    body = lead + json.dumps(message()).encode()
    for chunks in ([body], [body[place : place + 1] for place in range(len(body))]):
        result = run(machine(content_type="text/event-stream"), chunks, streamed=True)
        assert result.message is not None
        assert result.message["content"] == [{"type": "text", "text": "Hi"}]


def test_events_are_known_whatever_their_content_type_says() -> None:
    result = run(machine(content_type="application/json"), [sse(chunk({"content": "Hi"}, "stop"))], streamed=True)
    assert result.message is not None


def test_a_spoilt_character_costs_nothing_but_itself() -> None:
    body = sse(chunk({"content": "aXb"}, "stop")).replace(b"X", b"\xff")
    result = run(machine(), [body], streamed=True)
    assert result.message is not None
    assert result.message["content"] == [{"type": "text", "text": "a\N{REPLACEMENT CHARACTER}b"}]


def test_a_number_that_is_none_costs_nothing() -> None:
    body = sse({**chunk({"content": "ab"}, "stop"), "logprobs": [float("nan"), float("-inf")]})
    assert b"NaN" in body
    result = run(machine(), [body], streamed=True)
    assert result.message is not None
    assert result.message["content"] == [{"type": "text", "text": "ab"}]


def test_the_halves_of_a_character_in_two_chunks_become_one() -> None:
    halves = [sse(chunk({"content": half}), done=False) for half in ("\ud83c", "\udf89")]
    made = machine(streamed=False)
    out = b"".join(map(made.feed, [*halves, sse(chunk({}, "stop"))]))
    assert json.loads(out)["content"] == [{"type": "text", "text": "🎉"}]
    made = machine()
    out = b"".join(map(made.feed, [*halves, sse(chunk({}, "stop"))]))
    texts = [event["delta"]["text"] for event in check_stream(out) if event["type"] == "content_block_delta"]
    assert texts == ["\ud83c", "\udf89"]


@pytest.mark.parametrize("streamed", [True, False])
def test_the_halves_of_a_character_in_arguments_become_one(streamed: bool) -> None:
    chunks = [
        call(id="call_1", name="A", arguments='{"a": "\ud83c'),
        call(arguments='\udf89"}'),
        chunk({}, "tool_calls"),
    ]
    found = answer(*chunks, streamed=streamed).message
    assert found is not None
    assert found["content"][0]["input"] == {"a": "🎉"}


def test_a_lone_half_does_no_harm() -> None:
    made = machine()
    out = b"".join(map(made.feed, [sse(chunk({"content": "a\ud83c"})), b""]))
    assert check_stream(out)[2]["delta"]["text"] == "a\ud83c"


@pytest.mark.parametrize(
    ("reason", "stop_reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("model_length", "max_tokens"),
        ("content_filter", "refusal"),
        ("tool_calls", "end_turn"),
        ("eos", "end_turn"),
        (None, "end_turn"),
        ("", "end_turn"),
    ],
)
def test_why_it_ended(reason: str | None, stop_reason: str) -> None:
    found = answer(chunk({"content": "Hi"}), chunk({}, reason)).message
    assert found is not None
    assert found["stop_reason"] == stop_reason


def test_the_reason_is_remembered_and_nothing_is_no_reason() -> None:
    found = answer(chunk({"content": "Hi"}, "length"), chunk({}, ""), chunk({}, None)).message
    assert found is not None
    assert found["stop_reason"] == "max_tokens"


UNENDED = sse(chunk({"content": "Hi"}), done=False)
STOPPED = sse(chunk({"content": "Hi"}, "stop"), done=False)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (UNENDED + b"data: [DONE]", True),
        (UNENDED.rstrip(), True),
        (UNENDED + b'data: {"choices": []}', True),
        (UNENDED + b'data: {"choi', False),
        (STOPPED + b'data: {"choi', True),
        (STOPPED + b"data: [DON", True),
    ],
)
def test_a_last_event_without_its_blank_line_counts_if_it_is_whole(body: bytes, whole: bool, streamed: bool) -> None:
    result = run(machine(streamed=streamed), [body], streamed=streamed)
    assert (result.error is None) is whole
    assert (result.message is not None) is whole
    if result.message is not None:
        assert result.message["content"] == [{"type": "text", "text": "Hi"}]


def test_the_first_choice_may_have_its_number_as_text() -> None:
    said = chunk({"content": "a"}, "stop")
    said["choices"][0]["index"] = "0"
    result = run(machine(), [sse(said)], streamed=True)
    assert result.message is not None
    assert result.message["content"] == [{"type": "text", "text": "a"}]


def test_only_the_first_choice_is_taken() -> None:
    other = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    first = {"delta": {"content": "Hi"}, "finish_reason": "stop"}
    found = answer({"choices": [5, other, None, first]}).message
    assert found is not None
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": "Hi"}], "end_turn")


def test_a_function_call_of_old_is_a_call() -> None:
    pieces = [{"name": "A", "arguments": '{"a":'}, {"arguments": "1}"}]
    found = answer(*[chunk({"function_call": piece}) for piece in pieces], chunk({}, "function_call")).message
    assert found is not None
    assert [(block["name"], block["input"]) for block in found["content"]] == [("A", {"a": 1})]


def test_a_function_call_beside_calls_is_passed_over() -> None:
    both = call(id="call_1", name="A", arguments="{}")
    both["choices"][0]["delta"]["function_call"] = {"name": "B", "arguments": "{}"}
    found = answer(both, chunk({}, "tool_calls")).message
    assert found is not None
    assert [block["name"] for block in found["content"]] == ["A"]


def test_text_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, 5, {"type": "refusal", "refusal": "b"}, {"text": 7}, {}]
    found = answer(chunk({"content": parts}), chunk({}, "stop")).message
    assert found is not None
    assert found["content"] == [{"type": "text", "text": "ab"}]


# Usage and what goes beside it


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 5}, (20, 0, 5)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 16}}, (4, 16, 5)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 30}}, (0, 30, 5)),
        ({**USAGE, "prompt_tokens_details": None}, (20, 0, 5)),
        ({**USAGE, "prompt_cache_hit_tokens": 8}, (12, 8, 5)),
        ({**USAGE, "cached_tokens": 8}, (12, 8, 5)),
        ({"completion_tokens": 5}, (INPUT_TOKENS, 0, 5)),
        ({"prompt_tokens": 20}, (20, 0, 1)),
        ({"prompt_tokens": -1, "completion_tokens": True}, (INPUT_TOKENS, 0, 1)),
        ({"prompt_tokens": "20", "completion_tokens": 5.5}, (INPUT_TOKENS, 0, 1)),
    ],
)
def test_usage_in_anthropic_s_terms(usage: dict[str, Any], expected: tuple[int, int, int]) -> None:
    extra = UsageExtra()
    body = sse(chunk({"content": "Hi"}, "stop", usage=usage))
    found = run(machine(extra=extra), [body], streamed=True).message
    assert found is not None
    keys = ("input_tokens", "cache_read_input_tokens", "output_tokens")
    assert tuple(found["usage"][key] for key in keys) == expected
    assert found["usage"]["cache_creation_input_tokens"] == 0
    assert extra.estimated == (expected[0] == INPUT_TOKENS or expected[2] == 1)


def test_the_estimate_counts_all_that_was_said() -> None:
    said = [chunk({"reasoning": "one two"}), chunk({"content": " three"}), call(id="call_1", name="A", arguments="{}")]
    for chunks in (said, said[:1]):
        found = answer(*chunks, chunk({}, "stop")).message
        assert found is not None
        assert found["usage"]["output_tokens"] >= 2


def test_an_estimate_is_made_only_where_it_is_needed() -> None:
    def refuse() -> int:
        raise AssertionError

    made = ChatStream(
        AnswerContext(
            message_id="msg_1",
            provider="p",
            model="m",
            streamed=True,
            content_type="",
            tool_names={},
            estimate_input_tokens=refuse,
            extra=UsageExtra(),
        )
    )
    assert made.feed(sse(chunk({"content": "Hi"}, "stop", usage=USAGE)))


def test_usage_so_far_is_told_for_an_answer_that_nobody_waited_for() -> None:
    extra = UsageExtra()
    made = machine(extra=extra)
    made.feed(sse(chunk({"content": "one two three"}), done=False))
    assert made.usage_so_far()["output_tokens"] >= 3
    assert extra.estimated


def test_the_served_model_and_reasoning_tokens_go_beside_the_wire() -> None:
    extra = UsageExtra()
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}
    body = json.dumps(message(usage=usage)).encode()
    found = run(machine(extra=extra), [body], streamed=True).message
    assert found is not None
    assert found["model"] == "m"
    assert (extra.served_model, extra.reasoning_tokens, extra.estimated) == ("served", 2, False)


@pytest.mark.parametrize("model", [None, "", 5])
def test_no_model_told_is_no_model(model: object) -> None:
    extra = UsageExtra()
    run(machine(extra=extra), [sse(chunk({"content": "Hi"}, "stop", model=model))], streamed=True)
    assert extra.served_model is None


def test_a_long_answer_takes_time_by_its_length_alone() -> None:
    # Quadratic work over this many fragments would run into the test's time limit.
    made = machine()
    out = [made.feed(sse(call(id="call_1", name="Write", arguments='{"a": "'), done=False))]
    fragments = sse(*[call(arguments="x} ")] * 200, done=False)
    out += [made.feed(fragments) for _ in range(100)]
    out.append(made.feed(sse(call(arguments='"}'), chunk({}, "tool_calls"))))
    assert b"".join(out).count(b"event: content_block_delta") == 20_002
    assert read_events(out[-1])[-1] == {"type": "message_stop"}
