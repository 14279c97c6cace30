"""Streams go through as they come, keep their clients alive, and are never heaped up."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi import application
from ccr_asgi.middleware import format_conversion
from ccr_asgi.upstream import UpstreamApp
from tests.integration.claude import (
    TARGET,
    World,
    body,
    chunks_until,
    events,
    headers,
    new_session,
    soon,
    tagged,
    world_in_a_process,
    world_in_a_thread,
)
from tests.support.fake_upstream import Answer, Gate, anthropic_sse, chat_completion, chat_sse, in_pieces
from tests.support.raw_http import RawClient

SERVERS: dict[str, dict[str, Any]] = {
    "httptools": {"server": "uvicorn", "http": "httptools"},
    "h11": {"server": "uvicorn", "http": "h11"},
    "granian": {"server": "granian"},
}
MB = 1024 * 1024
GROWTH_BYTES = 40 * MB
ANSWER_BYTES = 64 * MB


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The product under each server."""
    with world_in_a_process(tmp_path_factory.mktemp("world"), **SERVERS[request.param]) as world:
        yield world


@pytest.fixture
def each_world(served: World) -> World:
    """The world under each server, whose providers have not been asked anything yet."""
    served.forget()
    return served


# Each event at once


def test_each_event_of_a_passthrough_comes_at_once(each_world: World) -> None:
    """The upstream sends an event only when the client holds the one before it."""
    answer = anthropic_sse()
    gates = [Gate() for _ in answer.pieces]
    each_world.anthropic.script(
        Answer(
            [piece for gate, event in zip(gates, answer.pieces, strict=True) for piece in (gate, event)],
            headers=answer.headers,
            framing="chunked",
        )
    )
    with RawClient(each_world.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), body())
        gates[0].open()
        assert client.read_head().status == 200
        for gate, event in zip([*gates[1:], Gate()], answer.pieces, strict=True):
            assert client.read_chunk() == event
            gate.open()
        assert client.read_chunk() == b""


def test_each_event_of_a_compressed_passthrough_comes_at_once(each_world: World) -> None:
    gate = Gate()
    answer = anthropic_sse().compressed("gzip")
    each_world.anthropic.script(answer.inserting(1, gate))
    with RawClient(each_world.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), body())
        head = client.read_head()
        first = client.read_chunk()
        assert first == answer.pieces[0]
        gate.open()
        assert first + client.read_body(head) == answer.content


def test_each_delta_of_a_conversion_comes_at_once(each_world: World) -> None:
    before, between = Gate(), Gate()
    each_world.chat.script(chat_sse("Hello there.").inserting(2, between).inserting(1, before))
    with RawClient(each_world.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), tagged())
        assert before.reached.wait()
        before.open()
        assert client.read_head().status == 200
        assert b"message_start" in client.read_until(b'"Hello "')  # while the second half has not been sent
        assert between.reached.wait()
        between.open()
        assert b"there." in client.read_until(b'"message_stop"}\n\n')


def test_the_end_comes_before_the_upstream_closes(each_world: World) -> None:
    """A provider that dawdles after its last event delays nobody."""
    gate, session = Gate(), new_session()
    each_world.chat.script(chat_sse().inserting(len(chat_sse().pieces), gate))
    with RawClient(each_world.url) as client:
        client.send_request("POST", TARGET, headers(session), tagged())
        head = client.read_head()
        assert client.read_body(head).endswith(b'"message_stop"}\n\n')
        assert each_world.row(session)["outcome"] == "ok"
        gate.open()


def test_a_stream_that_drips_is_converted_like_any_other(world: World) -> None:
    whole = chat_sse("Grüße aus Zürich 🚀", usage=None)
    dripping = Answer(in_pieces(whole.content), headers=whole.headers, framing="chunked")
    world.chat.script(whole, dripping)

    def without_id(content: bytes) -> list[dict[str, Any]]:
        found = events(content)
        found[0]["message"].pop("id")
        return found

    one, other = (without_id(world.post(tagged()).body) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate"])
def test_a_compressed_stream_is_converted(world: World, encoding: Any) -> None:
    """Providers are asked for plain answers, and some compress all the same."""
    session = new_session()
    world.chat.script(chat_sse("Hello.").compressed(encoding))
    response = world.post(tagged(), session=session)
    assert response.header("content-encoding") is None
    assert b"Hello." in b"".join(
        event["delta"].get("text", "").encode()
        for event in events(response.body)
        if event["type"] == "content_block_delta"
    )
    assert world.row(session)["output_tokens"] == 7


def test_a_stream_for_a_client_that_wants_a_whole_answer_and_the_other_way_round(world: World) -> None:
    world.chat.script(chat_sse("Hello."), chat_completion("Hello."))
    folded = world.post(tagged(stream=False))
    assert folded.json()["content"] == [{"type": "text", "text": "Hello."}]
    assert folded.header("content-length") == str(len(folded.body)).encode()
    assert [event["type"] for event in events(world.post(tagged()).body)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


# Pings

PING_END = b'"ping"}\n\n'


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of silence become hundredths: the clocks are the product's, only faster."""
    monkeypatch.setattr(format_conversion, "PING_S", 0.05)
    monkeypatch.setattr(format_conversion, "HOLD_S", 0.2)
    monkeypatch.setattr(application, "UpstreamApp", partial(UpstreamApp, silence_s=0.05))


@pytest.fixture
def impatient_world(impatient: None, tmp_path: Path) -> Iterator[World]:
    """A world whose server pings after hundredths of a second."""
    with world_in_a_thread(tmp_path) as world:
        yield world


@pytest.mark.parametrize("place", [0, 3], ids=["before the first event", "in the middle"])
def test_a_silent_provider_is_bridged_by_pings(impatient_world: World, place: int) -> None:
    gate, session = Gate(), new_session()
    impatient_world.chat.script(chat_sse("Hello there.").inserting(place, gate))
    with RawClient(impatient_world.url) as client:
        client.send_request("POST", TARGET, headers(session), tagged())
        head = client.read_head()
        assert head.status == 200
        seen = b"".join(chunks_until(client, PING_END) for _ in range(3))
        gate.open()
        found = events(seen + client.read_body(head))
    kinds = [event["type"] for event in found]
    assert kinds.count("ping") >= 3
    assert [kind for kind in kinds if kind != "ping"] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert impatient_world.row(session)["outcome"] == "ok"


def test_silence_before_the_head_is_bridged_too(impatient_world: World) -> None:
    """From the first ping on an error can only be an event."""
    gate, session = Gate(), new_session()
    refusal = json.dumps({"error": {"message": "no more"}}).encode()
    impatient_world.chat.script(
        Answer.raw(gate, b"HTTP/1.1 429 Too Many\r\ncontent-length: %d\r\n\r\n%b" % (len(refusal), refusal))
    )
    with RawClient(impatient_world.url) as client:
        client.send_request("POST", TARGET, headers(session), tagged())
        head = client.read_head()
        seen = chunks_until(client, PING_END)
        gate.open()
        found = events(seen + client.read_body(head))
    assert head.status == 200
    assert {event["type"] for event in found[:-1]} == {"ping"}
    assert found[-1]["type"] == "error"
    assert found[-1]["error"]["type"] == "rate_limit_error"
    row = impatient_world.row(session)
    assert (row["outcome"], row["error_type"]) == ("error", "rate_limit_error")


def test_a_client_that_wants_a_whole_answer_gets_no_ping(impatient_world: World) -> None:
    gate = Gate()
    impatient_world.chat.script(chat_sse("Hello there.").inserting(3, gate))
    with RawClient(impatient_world.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), tagged(stream=False))
        assert gate.reached.wait()
        assert not soon(lambda: False, timeout=0.3)  # several spells of silence go by
        gate.open()
        assert client.read_response("POST").json()["content"][0]["text"] == "Hello there."


# A client that stops reading


def resident_bytes(process_id: int) -> int:
    """The resident memory of a process and of those that it started."""
    total = 0
    for candidate in [process_id, *children_of(process_id)]:
        status = Path(f"/proc/{candidate}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        total += int(line.split()[1]) * 1024
    return total


def children_of(process_id: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{process_id}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]


def until_stalled(sent: Callable[[], int]) -> int:
    """What has been sent once it no longer grows for half a second."""
    while True:
        before = sent()
        if not soon(lambda: sent() > before, timeout=0.5):  # noqa: B023 -- called at once
            return before


class Counted:
    """The pieces of a long answer, made as they are sent; it tells how many were."""

    def __init__(self, first: bytes, piece: bytes, count: int, last: bytes) -> None:
        self.sent = 0
        self._parts = first, piece, count, last

    def __iter__(self) -> Iterator[bytes]:
        first, piece, count, last = self._parts
        yield first
        for _ in range(count):
            self.sent += 1
            yield piece
        yield last


def long_answer(converted: bool) -> tuple[Answer, Counted]:
    whole = chat_sse("x" * 30_000) if converted else anthropic_sse("x" * 30_000)
    at = next(index for index, piece in enumerate(whole.pieces) if isinstance(piece, bytes) and b"xxxx" in piece)
    first, piece, last = (
        b"".join(bytes_of(whole.pieces[:at])),
        bytes_of(whole.pieces)[at],
        bytes_of(whole.pieces)[at + 2 :],
    )
    counted = Counted(first, piece, ANSWER_BYTES // len(piece), b"".join(last))
    answer = Answer(b"", headers=whole.headers, framing="chunked")
    object.__setattr__(answer, "pieces", counted)  # made when sent, not held beforehand
    return answer, counted


def bytes_of(pieces: Any) -> list[bytes]:
    return [piece for piece in pieces if isinstance(piece, bytes)]


@pytest.mark.parametrize("name", ["passthrough", "converted"])
def test_a_client_that_stops_reading_costs_little_memory(each_world: World, name: str) -> None:
    converted = name == "converted"
    upstream, request = (each_world.chat, tagged()) if converted else (each_world.anthropic, body())
    answer, counted = long_answer(converted)
    assert each_world.server is not None
    session = new_session()
    each_world.post(request)  # warm: what is loaded once is not what is measured
    before = resident_bytes(each_world.server.process.pid)
    upstream.script(answer)
    with RawClient(each_world.url, receive_buffer=64 * 1024) as client:
        client.send_request("POST", TARGET, headers(session), request)
        head = client.read_head()
        stalled_at = until_stalled(lambda: counted.sent)
        assert stalled_at * len(counted._parts[1]) < ANSWER_BYTES // 2, "the upstream was not made to wait"
        assert resident_bytes(each_world.server.process.pid) - before <= GROWTH_BYTES
        # And when it reads on, nothing is lost.
        received = hashlib.sha256()
        length = texts = 0
        while chunk := client.read_chunk():
            received.update(chunk)
            length += len(chunk)
            texts += chunk.count(b"x" * 64) and chunk.count(b"x")
        assert head.status == 200
    assert resident_bytes(each_world.server.process.pid) - before <= GROWTH_BYTES
    if converted:
        assert texts >= counted.sent * 15_000
    else:
        expected = hashlib.sha256()
        for piece in counted:
            expected.update(piece)
        assert received.digest() == expected.digest()
    assert each_world.row(session)["outcome"] == "ok"
