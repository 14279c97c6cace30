"""Golden answers: folders of what a provider sent and what the client shall see of it, and the checks that hold them.

A case is a folder with `answer.sse` (or `.json`, or `.body` for anything else), a `meta.json` that says why it stands,
and either `message.json` or `error.json`. A wire format's test module names the folder and makes the machines.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from ccr_asgi.errors import CcrError, UpstreamCut
from ccr_asgi.formats.base import StreamMachine, UsageExtra
from tests.support.anthropic_stream import Grammar, check_stream, plain_message, read_events, sdk_message
from tests.support.sse_replay import ANY_WAYS, SSE_WAYS, by_event, events_of, truncated, whole

FIXTURES = Path(__file__).parents[1] / "fixtures"
CONTENT_TYPES = {"answer.sse": "text/event-stream", "answer.json": "application/json"}
BROKEN = UpstreamCut("The provider broke off.")


class MakesMachines(Protocol):
    """Makes a fresh machine of the wire format under test."""

    def __call__(
        self,
        *,
        streamed: bool = True,
        content_type: str = "text/event-stream",
        tool_names: dict[str, str] | None = None,
        extra: UsageExtra | None = None,
    ) -> StreamMachine: ...


@dataclass
class Result:
    """How an answer ended: a message, or an error, which was raised or came after some content."""

    message: dict[str, Any] | None = None
    error: CcrError | None = None
    content: list[dict[str, Any]] = field(default_factory=list)
    raised: bool = False


def run(machine: StreamMachine, chunks: Iterable[bytes], *, streamed: bool) -> Result:
    """Feed the chunks, close, and read what came out as a client would; the output is checked on the way."""
    out = b""
    try:
        for chunk in chunks:
            piece = machine.feed(chunk)
            assert streamed or not piece or machine.finished, "a document in pieces"
            out += piece
        out += machine.close()
    except CcrError as error:
        assert not out
        assert machine.failure is None
        return Result(error=error, raised=True)
    return read(machine, out, streamed=streamed)


def read(machine: StreamMachine, out: bytes, *, streamed: bool) -> Result:
    """What a client makes of the whole output of a machine that has ended."""
    assert machine.finished
    assert machine.feed(b"data: {}\n\n") + machine.close() + machine.idle() == b""
    if not streamed:
        return Result(message=plain_message(json.loads(out)))
    events = check_stream(out)
    message = sdk_message(out, broken_input=machine.failure is not None)
    if machine.failure is not None:
        assert events[-1]["error"] == {"type": machine.failure.error_type, "message": machine.failure.message}
        return Result(error=machine.failure, content=message["content"] if message else [])
    assert events[-1] == {"type": "message_stop"}
    return Result(message=message)


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
    make: MakesMachines

    def machine(self, *, streamed: bool, extra: UsageExtra | None = None) -> StreamMachine:
        """A fresh machine for this answer."""
        names = self.meta.get("tool_names")
        return self.make(streamed=streamed, content_type=self.content_type, tool_names=names, extra=extra)

    def run(self, chunks: Sequence[bytes], *, streamed: bool) -> Result:
        """What a client gets for these chunks."""
        return run(self.machine(streamed=streamed), chunks, streamed=streamed)

    @property
    def ways(self) -> Sequence[Callable[[bytes], list[bytes]]]:
        """Ways to bring the answer that change nothing in what it says."""
        return SSE_WAYS if self.is_sse else ANY_WAYS

    def check(self, result: Result) -> None:
        """Hold a result against what the case expects."""
        if self.message is not None:
            assert result.error is None
            assert result.message == plain_message(self.message)
            return
        assert self.error is not None
        assert result.error is not None
        found = (result.error.status, result.error.error_type, result.error.message)
        assert found == (self.error["status"], self.error["type"], self.error["message"])


def load_cases(kind: str, make: MakesMachines) -> list[Case]:
    """The cases of a wire format, each of them whole."""
    cases = [_load(folder, make) for folder in sorted((FIXTURES / kind).iterdir())]
    assert {case.is_sse for case in cases} == {True, False}
    assert all((case.message is None) != (case.error is None) and case.meta["why"] for case in cases)
    return cases


def _load(folder: Path, make: MakesMachines) -> Case:
    [answer] = folder.glob("answer.*")
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    message, error = (
        json.loads(path.read_text("utf-8")) if (path := folder / f"{name}.json").exists() else None
        for name in ("message", "error")
    )
    return Case(
        name=folder.name,
        answer=answer.read_bytes(),
        is_sse=answer.suffix == ".sse",
        content_type=meta.get("content_type") or CONTENT_TYPES[answer.name],
        meta=meta,
        message=message,
        error=error,
        make=make,
    )


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Parametrize a test with `case`."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


# The checks. Each takes one case.


def check_replays(case: Case, *, streamed: bool) -> None:
    """However the bytes come, the client sees the same."""
    for way in case.ways:
        case.check(case.run(way(case.answer), streamed=streamed))


def check_extra(case: Case) -> None:
    """What the wire cannot carry is told beside it."""
    if case.message is None:
        assert "extra" not in case.meta
        return
    extra = UsageExtra()
    run(case.machine(streamed=True, extra=extra), whole(case.answer), streamed=True)
    assert asdict(extra) == {**case.meta["extra"], "unsent": None}


def check_content_before_error(case: Case) -> None:
    """What came before an error is kept: whole blocks, and one that was open."""
    if case.error is None:
        return
    result = case.run(by_event(case.answer), streamed=True)
    expected: list[dict[str, Any]] = case.error["content"]
    whole_blocks = [block for block in expected if "open" not in block]
    assert result.content[: len(whole_blocks)] == whole_blocks
    assert [block["type"] for block in result.content] == [block["type"] for block in expected]


def check_clean_ends(case: Case, *, streamed: bool) -> list[Result]:
    """A clean end after any event is a message, as far as it came, or an error; returns all results in order."""
    results = [case.run(by_event(cut), streamed=streamed) for cut in truncated(case.answer)]
    for result in results:
        if result.message is not None and case.message is not None:
            assert_begins(case.message["content"], result.message["content"])
    return results


def check_breaks(case: Case) -> None:
    """A break after any event is an error: raised as long as nothing has come out, else written."""
    events = events_of(case.answer)
    for count in range(len(events)):
        machine = case.machine(streamed=True)
        try:
            out = b"".join(map(machine.feed, events[:count]))
        except CcrError:
            return  # the answer itself was an error
        if machine.finished:
            read(machine, out, streamed=True)
        elif out:
            result = read(machine, out + machine.fail(BROKEN), streamed=True)
            assert result.error is BROKEN
            if case.message is not None:
                assert_begins(case.message["content"], result.content)
        else:
            with pytest.raises(UpstreamCut):
                machine.fail(BROKEN)


def check_no_broken_document(case: Case) -> None:
    """A break never makes a document."""
    events = events_of(case.answer)
    for count in range(len(events)):
        machine = case.machine(streamed=False)
        try:
            out = b"".join(map(machine.feed, events[:count]))
        except CcrError:
            return
        assert bool(out) == machine.finished
        if not out:
            with pytest.raises(UpstreamCut):
                machine.fail(BROKEN)


def check_every_piece(case: Case) -> None:
    """Every piece of output keeps to the grammar and ends with whole events, with pings in between."""
    machine, grammar = case.machine(streamed=True), Grammar()
    try:
        for event in events_of(case.answer):
            for sent in read_events(machine.feed(event) + machine.idle()):
                grammar.take(sent)
        for sent in read_events(machine.close()):
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
            if key in ("text", "thinking", "signature"):
                assert expected[key].startswith(value)
            elif key != "input":
                assert value == expected[key]
    for expected, found in list(zip(full, part, strict=False))[: len(part) - 1]:
        if expected["type"] == "tool_use":
            assert found == expected
