"""Whatever a provider sends, a client gets a legal message or an error, the same however the bytes are cut."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import CcrError
from tests.formats.golden import Result, run
from tests.formats.responses_answers import argued, machine, said, sse
from tests.formats.test_openai_chat_fuzz import ANYTHING, ARGUMENTS, COUNTS, some

TEXT = st.sampled_from(["", "a", "b\n"])
NAME = st.sampled_from(["", "x", "call_1", "call_2", "call:3"])
PART = some(
    {
        "type": st.sampled_from(["output_text", "refusal", "summary_text"]),
        "text": TEXT,
        "refusal": TEXT,
        "annotations": st.lists(some({"type": st.just("url_citation"), "url": NAME, "title": TEXT}), max_size=2),
    }
)
ACTION = some(
    {
        "type": st.sampled_from(["search", "search", "open_page"]),
        "query": TEXT,
        "queries": st.lists(TEXT, max_size=2),
        "sources": st.lists(some({"url": NAME}), max_size=2),
    }
)
ITEM = some(
    {
        "type": st.sampled_from(["message", "reasoning", "function_call", "function_call", "web_search_call", "other"]),
        "id": NAME,
        "call_id": NAME,
        "name": st.sampled_from(["f", "g", ""]),
        "arguments": ARGUMENTS,
        "status": st.sampled_from(["completed", "incomplete"]),
        "content": st.lists(PART, max_size=2),
        "summary": st.lists(PART, max_size=2),
        "encrypted_content": st.sampled_from(["", "gAAA"]),
        "action": ACTION,
    }
)
DETAILS = some({"cached_tokens": COUNTS, "cache_write_tokens": COUNTS, "reasoning_tokens": COUNTS})
USAGE = some(
    {
        "input_tokens": COUNTS,
        "output_tokens": COUNTS,
        "input_tokens_details": DETAILS,
        "output_tokens_details": DETAILS,
    }
)
RESPONSE = some(
    {
        "status": st.sampled_from(["completed", "completed", "incomplete", "failed", "in_progress"]),
        "model": st.just("m-1"),
        "output": st.lists(ITEM, max_size=3),
        "usage": USAGE,
        "error": st.none(),
        "incomplete_details": some({"reason": st.sampled_from(["max_output_tokens", "content_filter"])}),
    }
)
KINDS = [
    *("response.created", "response.output_item.added", "response.output_item.added", "response.output_text.delta"),
    *("response.output_text.annotation.added", "response.refusal.delta", "response.reasoning_summary_text.delta"),
    *(
        "response.reasoning_text.delta",
        "response.reasoning_summary_part.added",
        "response.function_call_arguments.delta",
        "response.output_item.done",
    ),
    *("response.function_call_arguments.done", "response.output_item.done", "keepalive", "something.else"),
]
ENDS = ["response.completed", "response.completed", "response.done", "response.incomplete", "response.failed", "error"]
EVENT = some(
    {
        "output_index": st.sampled_from([0, 0, 1, 2]),
        "item_id": NAME,
        "item": ITEM,
        "delta": TEXT | ARGUMENTS,
        "arguments": ARGUMENTS,
        "summary_index": st.integers(0, 1),
        "content_index": st.integers(0, 1),
        "annotation": some({"type": st.just("url_citation"), "url": NAME, "title": TEXT}),
        "response": RESPONSE,
    }
)


def of_kind(kinds: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda event, kind: {**event, "type": kind}, EVENT, st.sampled_from(kinds))


def outcome(result: Result) -> object:
    """What two ways of sending the same must have in common."""
    return result.message if result.error is None else (result.error.status, result.error.message)


def check(answer: bytes, cut: int) -> Result:
    """Run an answer whole and in two pieces for a stream, and for a document; `run` holds them to the grammar."""
    whole = run(machine(), [answer], streamed=True)
    pieces = run(machine(), [answer[:cut], answer[cut:]], streamed=True)
    document = run(machine(streamed=False), [answer], streamed=False)
    assert outcome(pieces) == outcome(document) == outcome(whole)
    if whole.message is not None:
        called = any(block["type"] == "tool_use" for block in whole.message["content"])
        assert whole.message["stop_reason"] in (["tool_use"] if called else ["end_turn"]) + ["max_tokens", "refusal"]
    return whole


@settings(deadline=None)
@given(st.binary(), st.integers(0, 60))
def test_any_bytes(answer: bytes, cut: int) -> None:
    check(answer, cut)


@settings(deadline=None, max_examples=100)
@given(st.lists(of_kind(KINDS), max_size=8), st.lists(of_kind(ENDS), max_size=1), st.integers(0, 400))
def test_any_events(events: list[dict[str, Any]], end: list[dict[str, Any]], cut: int) -> None:
    result = check(sse(*events, *end), cut)
    assert result.message is None or end


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENT | ANYTHING, max_size=6), st.integers(0, 100))
def test_any_json(events: list[object], cut: int) -> None:
    check(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events), cut)


@settings(deadline=None, max_examples=60)
@given(RESPONSE | ANYTHING, st.integers(0, 100))
def test_any_document(document: object, cut: int) -> None:
    check(json.dumps(document).encode(), cut)


@settings(deadline=None, max_examples=60)
@given(st.lists(of_kind(KINDS + ENDS), max_size=5), st.binary(max_size=9), st.integers(0, 400), st.integers(0, 400))
def test_any_events_with_damaged_bytes(events: list[dict[str, Any]], junk: bytes, place: int, cut: int) -> None:
    answer = sse(*events)
    check(answer[:place] + junk + answer[place:], cut)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "\ud83d", "\ude00", "{", '{"a": "', '"}']), max_size=8), st.booleans())
def test_any_halves_of_characters(pieces: list[str], streamed: bool) -> None:
    # Not every reader takes a lone half of a character, so this goes by without the SDK.
    for events in ([said(0, piece) for piece in pieces], [argued(0, piece) for piece in pieces]):
        made = machine(streamed=streamed)
        with suppress(CcrError):
            end = {"type": "response.incomplete", "response": {}}
            out = made.feed(sse(*events, end)) + made.close()
            assert made.finished
            out.decode("utf-8")


@pytest.mark.parametrize("streamed", [True, False])
def test_any_depth(streamed: bool) -> None:
    # Deeper than the SDK reads; where the stack ends depends on how deep it is already.
    for depth in range(20, 1100, 7):
        nested = b"[" * depth + b"]" * depth
        done = b'{"type": "response.output_item.done", "item": {"type": "function_call", "name": "f", "arguments": %b}}'
        answers = [
            b"data: " + done + b"\n\n",
            b'data: {"type": "response.output_text.delta", "delta": "x", "more": %b}\n\n',
            b'{"status": "completed", "output": %b}',
            b'{"error": {"message": "x", "more": %b}}',
        ]
        for answer in answers:
            made = machine(streamed=streamed)
            with suppress(CcrError):
                made.feed(answer % (b'{"a": %b}' % nested))
                made.close()
                assert made.finished
