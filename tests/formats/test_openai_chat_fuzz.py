"""Whatever a provider sends, a client gets a legal message or an error, the same however the bytes are cut."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import CcrError
from tests.formats.chat_answers import Result, call, chunk, machine, run, sse

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value, and numbers that JSON does not have."""


def usually(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value of the right type most of the time, else any."""
    return st.integers(0, 9).flatmap(lambda roll: right if roll else ANYTHING)


def some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields, each usually of its right type."""
    return st.fixed_dictionaries({}, optional={key: usually(value) for key, value in fields.items()})


COUNTS = st.integers(-1, 10**20)
ARGUMENTS = st.sampled_from(["", " ", "{}", "{", "}", '{"a":', "1", '"x', '"', "]", "[", ",", "null", '"{}"', "x"])
FUNCTION = some({"name": st.sampled_from(["f", "g", ""]), "arguments": ARGUMENTS})
CALL = some(
    {
        "index": st.integers(0, 2),
        "id": st.sampled_from(["", "call_1", "call_2", "call:3"]),
        "type": st.just("function"),
        "function": FUNCTION,
    }
)
TEXT = st.sampled_from(["", "a", "b\n"]) | st.lists(some({"type": st.just("text"), "text": st.just("c")}))
MESSAGE = some(
    {
        "role": st.just("assistant"),
        "content": TEXT,
        "reasoning": TEXT,
        "reasoning_content": TEXT,
        "refusal": TEXT,
        "tool_calls": st.lists(CALL, max_size=3),
        "function_call": FUNCTION,
    }
)
CHOICE = some(
    {
        "index": st.sampled_from([0, 0, 0, 1]),
        "delta": MESSAGE,
        "message": MESSAGE,
        "finish_reason": st.sampled_from([None, None, "", "stop", "tool_calls", "length", "content_filter", "error"]),
    }
)
DETAILS = some({"prompt_tokens": COUNTS, "cached_tokens": COUNTS, "reasoning_tokens": COUNTS})
USAGE = some(
    {
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
    }
)
CHUNK = some(
    {
        "model": st.just("m-1"),
        "choices": st.lists(usually(CHOICE), max_size=2),
        "usage": USAGE,
        "error": st.none(),
        "message": st.none(),
    }
)


def outcome(result: Result) -> object:
    """What two ways of sending the same must have in common."""
    return result.message if result.error is None else (result.error.status, result.error.message)


def check(answer: bytes, cut: int) -> None:
    """Run an answer whole and in two pieces for a stream, and for a document; `run` holds them to the grammar."""
    whole = run(machine(), [answer], streamed=True)
    pieces = run(machine(), [answer[:cut], answer[cut:]], streamed=True)
    document = run(machine(streamed=False), [answer], streamed=False)
    assert outcome(pieces) == outcome(whole)
    if whole.message is None:
        assert outcome(document) == outcome(whole)
    else:
        assert document.message is not None
        assert _joined(document.message) == _joined(whole.message)


def _joined(message: dict[str, Any]) -> object:
    """A message with the halves of a character put together, as the readers of JSON documents do."""
    return json.loads(json.dumps(message))


@settings(deadline=None)
@given(st.binary(), st.integers(0, 60))
def test_any_bytes(answer: bytes, cut: int) -> None:
    check(answer, cut)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"[DONE]", b"{}", b"null", b'{"choices":[]}']), max_size=6))
def test_any_events(events: list[bytes]) -> None:
    answer = b"".join(b"data: " + event + b"\n\n" for event in events)
    check(answer, len(answer) // 2)


@settings(deadline=None, max_examples=300)
@given(st.lists(CHUNK, max_size=6), st.booleans(), st.integers(0, 400))
def test_any_chunks(chunks: list[dict[str, Any]], done: bool, cut: int) -> None:
    check(sse(*chunks, done=done), cut)


@settings(deadline=None)
@given(CHUNK | ANYTHING, st.integers(0, 100))
def test_any_document(document: object, cut: int) -> None:
    check(json.dumps(document).encode(), cut)


@settings(deadline=None)
@given(st.lists(CHUNK, max_size=4), st.binary(max_size=9), st.integers(0, 400), st.integers(0, 400))
def test_any_chunks_with_damaged_bytes(chunks: list[dict[str, Any]], junk: bytes, place: int, cut: int) -> None:
    answer = sse(*chunks)
    check(answer[:place] + junk + answer[place:], cut)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "\ud83d", "\ude00", "{", '{"a": "', '"}']), max_size=8), st.booleans())
def test_any_halves_of_characters(pieces: list[str], streamed: bool) -> None:
    # Not every reader takes a lone half of a character, so this goes by without the SDK.
    for chunks in ([chunk({"content": piece}) for piece in pieces], [call(name="f", arguments=p) for p in pieces]):
        made = machine(streamed=streamed)
        with suppress(CcrError):
            out = made.feed(sse(*chunks, done=False)) + made.close()
            assert made.finished
            out.decode("utf-8")


@pytest.mark.parametrize("streamed", [True, False])
def test_any_depth(streamed: bool) -> None:
    # Deeper than the SDK reads; where the stack ends depends on how deep it is already.
    for depth in range(20, 1100, 3):
        nested = b"[" * depth + b"]" * depth
        answers = [
            b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": %b}}]}}]}\n\n',
            b'data: {"choices": [{"delta": {"content": %b, "refusal": "x"}}]}\n\n',
            b'{"choices": [{"message": {"content": "x", "tool_calls": %b}}]}',
            b'{"error": {"message": "x", "more": %b}}',
        ]
        for answer in answers:
            made = machine(streamed=streamed)
            with suppress(CcrError):
                made.feed(answer % (b'{"a": %b}' % nested))
                made.close()
                assert made.finished


def test_words_that_wait_behind_a_call_come_out_at_the_end() -> None:
    result = run(
        machine(), [sse(call(name="f", arguments=""), chunk({"content": "after"}), chunk(finish="stop"))], streamed=True
    )
    assert result.message is not None
    assert [block["type"] for block in result.message["content"]] == ["tool_use", "text"]
