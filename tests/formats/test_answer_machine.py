"""What is the same for every wire format: bytes in, an ending whatever happens, and usage that adds up."""

import json
from typing import Any

import pytest

from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut
from ccr_asgi.formats.answer_machine import (
    AnswerContext,
    AnswerMachine,
    ToldUsage,
    count,
    mapping,
    objects,
    read_json,
    string,
)
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.wire.sse import ServerSentEvent
from tests.support.anthropic_stream import check_stream, read_events

MIB = 1024 * 1024
BROKEN = UpstreamCut("The provider broke off.")


class Echo(AnswerMachine):
    """Says the data of each event; `end` is the end of it, and `?` is no JSON."""

    told = ToldUsage(total_input=20, output=5)
    ended = False

    def _event(self, event: ServerSentEvent) -> bool:
        if event.data == b"end":
            self._finish()
        elif event.data == b"deep":
            raise RecursionError
        elif event.data != b"?":
            self._writer.text(event.data.decode())
            self._said.add(event.data.decode())
        return event.data != b"?"

    def _whole(self, answer: dict[str, Any]) -> None:
        self._writer.text(str(answer))

    def _finish(self) -> None:
        self._writer.finish("end_turn", self.usage_so_far())

    def _ended(self) -> bool:
        return self.ended

    def _told_usage(self) -> ToldUsage:
        return self.told


def echo(*, streamed: bool = True, content_type: str = "", extra: UsageExtra | None = None) -> Echo:
    return Echo(
        AnswerContext(
            message_id="msg_x",
            provider="p",
            model="m",
            streamed=streamed,
            content_type=content_type,
            tool_names={},
            estimate_input_tokens=lambda: 1000,
            extra=extra or UsageExtra(),
        )
    )


def texts(out: bytes) -> str:
    deltas = [event["delta"] for event in read_events(out) if event["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas)


def test_a_wire_format_says_what_events_mean() -> None:
    assert AnswerMachine.__abstractmethods__ == {"_event", "_whole", "_finish", "_ended", "_told_usage"}


def test_ids_are_made_of_the_message_s() -> None:
    assert echo()._request.id_prefix == "x"


# Bytes


@pytest.mark.parametrize("lead", [b"", b" ", b"\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
@pytest.mark.parametrize(
    ("body", "said"), [(b"data: a\n\ndata: b\n\n", "ab"), (b'{"a": 1}', "{'a': 1}"), (b'[{"a": 1}, 2]', "{'a': 1}")]
)
def test_the_first_bytes_tell_what_an_answer_is(lead: bytes, body: bytes, said: str) -> None:
    whole = lead + body
    for chunks in ([whole], [whole[place : place + 1] for place in range(len(whole))]):
        made = echo()
        out = b"".join(map(made.feed, chunks)) + made.close()
        assert texts(out) == said
        assert check_stream(out)[-1] == {"type": "message_stop"}
        assert made.failure is None


@pytest.mark.parametrize(
    ("content_type", "shown"), [("", "no content-type"), ("text/html", "text/html"), ("x" * 51, "x" * 50)]
)
def test_a_page_is_no_answer(content_type: str, shown: str) -> None:
    with pytest.raises(ProviderError) as caught:
        echo(content_type=content_type).feed(b" <html>")
    assert caught.value.message == (
        f"p: the answer is a page ({shown}), not a completion. Is baseUrl the full URL of the endpoint?"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "p: the answer is not whole JSON."),
        (b"[]", "p: the answer is a JSON list, not a completion."),
        (b"[5]", "p: the answer is a JSON int, not a completion."),
        (b"[[{}]]", "p: the answer is a JSON list, not a completion."),
        (b"[null]", "p: the answer is not whole JSON."),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_document_that_is_no_object_is_no_answer(body: bytes, message: str, streamed: bool) -> None:
    made = echo(streamed=streamed)
    assert made.feed(body) == b""
    with pytest.raises(CcrError) as caught:
        made.close()
    assert caught.value.message == message


def test_a_document_may_have_sixteen_mib_and_no_more() -> None:
    made = echo()
    assert made.feed(b"{" + b" " * (16 * MIB - 1)) == b""
    with pytest.raises(ProviderError, match=r"^p: the answer is longer than 16777216 bytes\.$"):
        made.feed(b" ")


def test_what_stands_behind_the_end_is_passed_over() -> None:
    made = echo()
    out = made.feed(b"data: a\n\ndata: end\n\ndata: b\n\n") + made.feed(b"data: c\n\n") + made.close()
    assert texts(out) == "a"
    assert check_stream(out)[-1] == {"type": "message_stop"}


@pytest.mark.parametrize(
    ("ended", "last", "cut"), [(False, b"data: ?", True), (True, b"data: ?", False), (False, b"data: b", False)]
)
def test_an_event_that_was_cut_in_two_ends_the_answer_unless_it_has_ended(ended: bool, last: bytes, cut: bool) -> None:
    made = echo()
    made.ended = ended
    out = made.feed(b"data: a\n\ndata: ?\n\n" + last) + made.close()
    assert (made.failure is not None) is cut
    if made.failure is not None:
        assert made.failure.message == "p: the answer ended in the middle of an event."
    assert check_stream(out)[-1]["type"] == ("error" if cut else "message_stop")


# Endings


def test_nothing_comes_out_behind_the_end() -> None:
    made = echo()
    made.feed(b"data: a\n\ndata: end\n\n")
    assert made.finished
    assert made.feed(b"data: a\n\n") + made.close() + made.idle() + made.fail(BROKEN) == b""
    assert made.failure is None


@pytest.mark.parametrize("before", [b"", b": waiting\n\n"])
def test_a_failure_before_the_first_byte_is_raised(before: bytes) -> None:
    made = echo()
    assert made.feed(before) == b""
    with pytest.raises(UpstreamCut) as caught:
        made.fail(BROKEN)
    assert caught.value is BROKEN
    assert made.failure is None


def test_a_failure_after_a_ping_is_an_event_but_not_in_a_document() -> None:
    made = echo()
    assert [event["type"] for event in read_events(made.idle() + made.fail(BROKEN))] == ["ping", "error"]
    assert made.failure is BROKEN
    made = echo(streamed=False)
    assert made.idle() == b""
    with pytest.raises(UpstreamCut):
        made.fail(BROKEN)


def test_what_was_said_is_followed_by_the_failure_in_the_same_chunk() -> None:
    made = echo()
    out = made.feed(b"data: a\n\n") + made.feed(b"data: b\n\ndata: deep\n\ndata: c\n\n")
    assert texts(out) == "ab"
    last = check_stream(out)[-1]
    assert last["error"]["message"] == "p: the answer is JSON that is nested too deeply."


def test_what_was_not_sent_yet_is_lost_with_the_failure() -> None:
    made = echo()
    with pytest.raises(ProviderError, match=r"^p: the answer is JSON that is nested too deeply\.$"):
        made.feed(b"data: a\n\ndata: deep\n\n")


# Usage


@pytest.mark.parametrize(
    ("told", "expected", "estimated"),
    [
        (ToldUsage(total_input=20, output=5), (20, 0, 0, 5), False),
        (ToldUsage(total_input=20, cache_read=6, cache_write=3, output=5), (11, 3, 6, 5), False),
        (ToldUsage(total_input=9, cache_read=6, cache_write=3, output=0), (0, 3, 6, 0), False),
        (ToldUsage(total_input=5, cache_read=6, cache_write=3, output=5), (0, 3, 6, 5), False),
        (ToldUsage(total_input=0, output=5), (0, 0, 0, 5), False),
        (ToldUsage(output=5), (1000, 0, 0, 5), True),
        (ToldUsage(cache_read=6, cache_write=3, output=5), (1000, 3, 6, 5), True),
        (ToldUsage(total_input=20), (20, 0, 0, 2), True),
        (ToldUsage(), (1000, 0, 0, 2), True),
    ],
)
def test_usage_is_what_was_told_and_estimated_where_it_was_not(
    told: ToldUsage, expected: tuple[int, int, int, int], estimated: bool
) -> None:
    extra = UsageExtra()
    made = echo(extra=extra)
    made.told = told
    made.feed(b"data: two words\n\n")
    keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    assert made.usage_so_far() == dict(zip(keys, expected, strict=True))
    assert (extra.estimated, extra.reasoning_tokens) == (estimated, None)


def test_reasoning_goes_beside_the_wire() -> None:
    extra = UsageExtra()
    made = echo(extra=extra)
    made.told = ToldUsage(total_input=1, output=2, reasoning=0)
    made.usage_so_far()
    assert extra.reasoning_tokens == 0


# Reading what a provider sent


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b'{"a": 1}', {"a": 1}), (b'"\xff"', "\N{REPLACEMENT CHARACTER}"), (b"{", None), (b"null", None), (b"", None)],
)
def test_json_is_read_if_it_is_json(data: bytes, expected: object) -> None:
    assert read_json(data) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (7, 7), (-1, None), (True, None), (False, None), (1.0, None), ("1", None)]
)
def test_a_count_is_a_whole_number(value: object, expected: int | None) -> None:
    found = count({"a": value}, "a")
    assert (found, type(found)) == (expected, type(expected))
    assert count({"a": value}, "b") is None


def test_anything_else_counts_as_absent() -> None:
    parent: dict[str, Any] = json.loads('{"o": {"a": 1}, "l": [{}, 5, {"b": 2}], "s": "x", "n": null}')
    assert [mapping(parent, key) for key in "olsnz"] == [{"a": 1}, {}, {}, {}, {}]
    assert [objects(parent, key) for key in "olsnz"] == [[], [{}, {"b": 2}], [], [], []]
    assert [string(parent.get(key)) for key in "olsnz"] == ["", "", "x", "", ""]
