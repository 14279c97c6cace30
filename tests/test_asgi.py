"""Bodies are read once and replayed, headers edited, targets kept byte for byte, answers sent and errors placed."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.types import Message, Receive

from ccr_asgi.asgi import (
    ClientDisconnected,
    ErrorResponder,
    end_to_end,
    has_dot_segment,
    header,
    raw_path,
    raw_target,
    read_body,
    replay,
    send_json,
    with_body_length,
    with_headers,
)
from ccr_asgi.errors import CcrError, RequestError

EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


def receiving(*messages: Message) -> Receive:
    """A `receive` that gives these messages and then says that the client has left."""
    waiting = [*messages, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return waiting.pop(0)

    return receive


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def http_scope(**changes: Any) -> dict[str, Any]:
    return {"type": "http", "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "", **changes}


class Sent(list[Message]):
    """Collects what is sent."""

    async def send(self, message: Message) -> None:
        self.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self)


# bodies


@pytest.mark.parametrize(
    "messages",
    [
        [part(b"abc", more=False)],
        [part(b"a", more=True), part(b"", more=True), part(b"bc", more=False)],
        [{"type": "http.request", "more_body": True}, {"type": "http.request", "body": b"abc"}],
    ],
)
async def test_a_body_is_read_whole(messages: list[Message]) -> None:
    assert await read_body(receiving(*messages)) == b"abc"


@pytest.mark.parametrize("messages", [[], [part(b"a", more=True)]])
async def test_a_client_that_leaves_before_the_bodys_end_is_told_apart_from_a_short_body(
    messages: list[Message],
) -> None:
    with pytest.raises(ClientDisconnected):
        await read_body(receiving(*messages))


async def test_an_empty_body_is_a_body() -> None:
    assert await read_body(receiving({"type": "http.request"})) == b""


async def test_a_replay_keeps_nothing_of_what_it_gave() -> None:
    body = b"abc" * 100
    held = sys.getrefcount(body)
    again = replay(body, receiving())
    assert sys.getrefcount(body) == held + 1
    await again()
    assert sys.getrefcount(body) == held


async def test_a_replay_gives_the_body_once_and_then_hands_on_the_real_one() -> None:
    again = replay(b"abc", receiving())
    assert await again() == part(b"abc", more=False)
    assert await again() == {"type": "http.disconnect"}


# headers


def test_the_first_of_several_values_is_read() -> None:
    scope = http_scope(headers=[(b"a", b"1"), (b"b", b"\xe9"), (b"a", b"2")])
    assert (header(scope, b"a"), header(scope, b"b"), header(scope, b"c")) == ("1", "é", None)


def test_other_headers_are_put_on_a_copy() -> None:
    scope = http_scope(headers=[(b"a", b"1")], state={})
    changed = with_headers(scope, [])
    assert (changed["headers"], scope["headers"]) == ([], [(b"a", b"1")])
    assert changed["state"] is scope["state"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(b"a", b"1")], [(b"a", b"1"), (b"content-length", b"3")]),
        (
            [(b"Content-Length", b"9"), (b"a", b"1"), (b"content-length", b"9")],
            [(b"content-length", b"3"), (b"a", b"1")],
        ),
        ([(b"a", b"1"), (b"transfer-encoding", b"chunked")], [(b"a", b"1"), (b"content-length", b"3")]),
    ],
)
def test_a_changed_body_has_one_true_length(
    given: list[tuple[bytes, bytes]], expected: list[tuple[bytes, bytes]]
) -> None:
    assert with_body_length(given, b"abc") == expected


def test_hop_by_hop_fields_are_dropped_with_those_that_connection_names() -> None:
    given = [
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"TE", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"proxy-authorization", b"Basic eDp5"),
        (b"Accept-Encoding", b"gzip"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
    ]
    assert end_to_end(given) == [(b"Accept-Encoding", b"gzip"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]


# targets


@pytest.mark.parametrize(
    ("raw", "root_path", "query", "target"),
    [
        (b"/v1/messages", "", b"beta=true", b"/v1/messages?beta=true"),
        (b"/v1/files/a%2Fb%20c", "", b"", b"/v1/files/a%2Fb%20c"),
        (b"/llm/v1/messages", "/llm", b"", b"/v1/messages"),
        (b"/llm/v1/messages", "/llm/", b"", b"/v1/messages"),
        (b"/%6Clm/v1", "/llm", b"", b"/v1"),
        (b"/caf%C3%A9/v1", "/café", b"", b"/v1"),
        (b"/llm", "/llm", b"", b""),
        (b"/llmore/v1", "/llm", b"", b"/llmore/v1"),
        (b"/v1/messages", "/llm", b"a=%20", b"/v1/messages?a=%20"),
        (b"/v1?a=b", "", b"a=b", b"/v1?a=b"),
    ],
)
def test_the_target_is_the_clients_own_less_the_mount_point(
    raw: bytes, root_path: str, query: bytes, target: bytes
) -> None:
    assert raw_target(http_scope(raw_path=raw, root_path=root_path, query_string=query)) == target


def test_a_server_that_gives_no_raw_path_gets_one_made_of_the_path() -> None:
    scope = http_scope(path="/llm/a b", root_path="/llm")
    del scope["raw_path"], scope["query_string"]
    assert raw_target(scope) == b"/a%20b"
    assert raw_path(http_scope(raw_path=None, path="/x")) == b"/x"


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"/v1/messages", False),
        (b"/v1/models/gpt-5.1", False),
        (b"/v1/..hidden", False),
        (b"/v1/../admin", True),
        (b"/v1/%2e%2E/admin", True),
        (b"/v1/.", True),
        (b"/v1/a%2f..%2fb", True),
        (b"/v1/..\\b", True),
        (b"/v1/%5C..%5Cb", True),
    ],
)
def test_dot_segments_are_seen_however_they_are_written(raw: bytes, found: bool) -> None:
    assert has_dot_segment(raw) is found


# answers


async def test_our_json_can_be_taken_for_no_page() -> None:
    sent = Sent()
    await send_json(sent.send, {"a": "<b>"}, request_id="req_1")
    assert sent.body == b'{"a":"\\u003cb\\u003e"}'
    assert sent[0]["headers"] == [
        (b"content-type", b"application/json"),
        (b"x-content-type-options", b"nosniff"),
        (b"request-id", b"req_1"),
        (b"content-length", b"%d" % len(sent.body)),
    ]


async def test_our_json_may_have_another_status_and_no_request_id() -> None:
    sent = Sent()
    await send_json(sent.send, [], status=201)
    assert sent[0]["status"] == 201
    assert b"request-id" not in dict(sent[0]["headers"])


async def after(messages: Iterable[Message], error: CcrError) -> Sent:
    """What has been sent when `error` is rendered after these messages."""
    sent = Sent()
    responder = ErrorResponder(sent.send, "req_1")
    for message in messages:
        await responder.send(message)
    await responder.render(error)
    return sent


def started(headers: Iterable[tuple[bytes, bytes]] = EVENT_STREAM) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_before_the_start_an_error_is_json() -> None:
    sent = await after([], RequestError("no"))
    assert sent[0]["status"] == 400
    assert json.loads(sent.body)["error"]["message"] == "no"


@pytest.mark.parametrize(
    "before", [[], [b"event: ping\ndata: {}\n\n"], [b"data: {}\n", b"\n"], [b"data: {}\r\n\r", b"\n"]]
)
async def test_between_two_events_an_error_is_the_last_one(before: list[bytes]) -> None:
    sent = await after([started(), *map(piece, before)], RequestError("no"))
    assert sent.body.removeprefix(b"".join(before)).startswith(b'event: error\ndata: {"type":"error"')
    assert sent[-1]["more_body"] is False


@pytest.mark.parametrize(
    "messages",
    [
        [started(), piece(b"event: ping\nda")],
        [started(), piece(b"data: {}\n\n"), piece(b"x")],
        [started([(b"content-type", b"application/json")]), piece(b"{\n\n")],
        [started([*EVENT_STREAM, (b"content-length", b"99")])],
        [started([*EVENT_STREAM, (b"Content-Encoding", b"gzip")]), piece(b"\n\n")],
        [{"type": "http.response.start", "status": 200}],
    ],
    ids=["within an event", "within the next", "json", "of a declared length", "compressed", "of no type"],
)
async def test_where_no_error_fits_it_is_raised_so_that_the_connection_is_cut(messages: list[Message]) -> None:
    error = RequestError("no")
    with pytest.raises(RequestError) as raised:
        await after(messages, error)
    assert raised.value is error


async def test_messages_that_are_no_part_of_the_answer_are_sent_on() -> None:
    hint = {"type": "http.response.early_hint", "links": []}
    sent = await after([hint], RequestError("no"))
    assert sent[0] is hint
    assert sent[1]["status"] == 400


async def test_after_the_end_nothing_is_said() -> None:
    messages = [started(), piece(b"data: {}\n\n", more=False)]
    assert await after(messages, RequestError("no")) == messages


@pytest.mark.parametrize("padding", [b"", b" " * 100], ids=["plain", "padded"])
async def test_an_error_after_a_complete_message_is_not_told(padding: bytes) -> None:
    sent = Sent()
    responder = ErrorResponder(sent.send, "req_1")
    headers = [(b"content-type", b"text/event-stream")]
    await responder.send({"type": "http.response.start", "status": 200, "headers": headers})
    stop = b'event: message_stop\ndata: {"type":"message_stop"%b}\n\n' % padding
    await responder.send({"type": "http.response.body", "body": stop, "more_body": True})
    await responder.render(CcrError("the connection broke"))
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
