"""Every recorded answer, replayed in every way, for both kinds of client: the same message, or the same error."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import CcrError, UpstreamCut
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.formats.openai_chat_stream import ChatStream
from tests.formats.chat_answers import Result, machine, read, run
from tests.support.anthropic_stream import Grammar, plain_message, read_events
from tests.support.sse_replay import ANY_WAYS, SSE_WAYS, by_event, events_of, splits, truncated, whole

FOLDER = Path(__file__).parents[1] / "fixtures" / "openai-chat"
CONTENT_TYPES = {"answer.sse": "text/event-stream", "answer.json": "application/json"}


@dataclass(frozen=True)
class Case:
    """A folder: the provider's answer, and what the client shall see of it."""

    name: str
    answer: bytes
    is_sse: bool
    content_type: str
    meta: dict[str, Any]
    message: dict[str, Any] | None
    error: dict[str, Any] | None

    def machine(self, *, streamed: bool, extra: UsageExtra | None = None) -> ChatStream:
        names = self.meta.get("tool_names")
        return machine(streamed=streamed, content_type=self.content_type, tool_names=names, extra=extra)

    def run(self, chunks: Sequence[bytes], *, streamed: bool) -> Result:
        return run(self.machine(streamed=streamed), chunks, streamed=streamed)


def _load(folder: Path) -> Case:
    [answer] = folder.glob("answer.*")
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    expected = {name: folder / f"{name}.json" for name in ("message", "error")}
    found = {name: json.loads(path.read_text("utf-8")) if path.exists() else None for name, path in expected.items()}
    content_type = meta.get("content_type") or CONTENT_TYPES[answer.name]
    return Case(
        folder.name, answer.read_bytes(), answer.suffix == ".sse", content_type, meta, found["message"], found["error"]
    )


CASES = [_load(folder) for folder in sorted(FOLDER.iterdir())]
all_cases = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
sse_cases = pytest.mark.parametrize(
    "case", [case for case in CASES if case.is_sse], ids=[case.name for case in CASES if case.is_sse]
)
both_clients = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "document"])


def check(case: Case, result: Result) -> None:
    """Hold a result against what the case expects."""
    if case.message is not None:
        assert result.error is None
        assert result.message == plain_message(case.message)
        return
    assert case.error is not None
    assert result.error is not None
    found = (result.error.status, result.error.error_type, result.error.message)
    assert found == (case.error["status"], case.error["type"], case.error["message"])


def ways(case: Case) -> Sequence[Callable[[bytes], list[bytes]]]:
    return SSE_WAYS if case.is_sse else ANY_WAYS


def test_there_are_cases_of_both_kinds() -> None:
    assert {case.is_sse for case in CASES} == {True, False}
    assert all((case.message is None) != (case.error is None) and case.meta["why"] for case in CASES)


@all_cases
@both_clients
def test_a_replay_changes_nothing(case: Case, streamed: bool) -> None:
    for way in ways(case):
        check(case, case.run(way(case.answer), streamed=streamed))


@all_cases
@both_clients
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_chunks_may_be_cut_anywhere(case: Case, streamed: bool, data: st.DataObject) -> None:
    check(case, case.run(data.draw(splits(case.answer)), streamed=streamed))


@all_cases
def test_what_the_wire_cannot_carry_is_told_beside_it(case: Case) -> None:
    if case.message is None:
        assert "extra" not in case.meta
        return
    extra = UsageExtra()
    run(case.machine(streamed=True, extra=extra), whole(case.answer), streamed=True)
    assert asdict(extra) == {**case.meta["extra"], "unsent": None}


@sse_cases
def test_what_came_before_an_error_is_kept(case: Case) -> None:
    if case.error is None:
        return
    result = case.run(by_event(case.answer), streamed=True)
    expected: list[dict[str, Any]] = case.error["content"]
    whole_blocks = [block for block in expected if "open" not in block]
    assert result.content[: len(whole_blocks)] == whole_blocks
    assert [block["type"] for block in result.content] == [block["type"] for block in expected]


@sse_cases
@both_clients
def test_a_clean_end_after_any_event_is_a_message_or_an_error(case: Case, streamed: bool) -> None:
    for cut in truncated(case.answer):
        result = case.run(by_event(cut), streamed=streamed)
        if result.message is not None and case.message is not None:
            assert_begins(case.message["content"], result.message["content"])


@sse_cases
def test_a_break_after_any_event_is_an_error(case: Case) -> None:
    events = events_of(case.answer)
    broken = UpstreamCut("The provider broke off.")
    for count in range(len(events)):
        chat = case.machine(streamed=True)
        try:
            out = b"".join(map(chat.feed, events[:count]))
        except CcrError:
            return  # the answer itself was an error
        if chat.finished:
            read(chat, out, streamed=True)
        elif out:
            result = read(chat, out + chat.fail(broken), streamed=True)
            assert result.error is broken
            if case.message is not None:
                assert_begins(case.message["content"], result.content)
        else:
            with pytest.raises(UpstreamCut):
                chat.fail(broken)


@sse_cases
def test_a_break_never_makes_a_document(case: Case) -> None:
    events = events_of(case.answer)
    for count in range(len(events)):
        chat = case.machine(streamed=False)
        try:
            out = b"".join(map(chat.feed, events[:count]))
        except CcrError:
            return
        assert bool(out) == chat.finished
        if not out:
            with pytest.raises(UpstreamCut):
                chat.fail(UpstreamCut("The provider broke off."))


@sse_cases
def test_every_piece_of_output_keeps_to_the_grammar_and_comes_at_once(case: Case) -> None:
    chat, grammar = case.machine(streamed=True), Grammar()
    try:
        for event in events_of(case.answer):
            for sent in read_events(chat.feed(event) + chat.idle()):
                grammar.take(sent)
        for sent in read_events(chat.close()):
            grammar.take(sent)
    except CcrError:
        assert case.error is not None
    else:
        assert grammar.ended


def assert_begins(full: list[dict[str, Any]], part: list[dict[str, Any]]) -> None:
    """Assert that `part` is what `full` looked like before all of it had come."""
    assert len(part) <= len(full)
    for expected, found in zip(full, part, strict=False):
        assert found.keys() == expected.keys()
        for key, value in found.items():
            if key in ("text", "thinking"):
                assert expected[key].startswith(value)
            elif key != "input":
                assert value == expected[key]
    for expected, found in list(zip(full, part, strict=False))[: len(part) - 1]:
        if expected["type"] == "tool_use":
            assert found == expected
