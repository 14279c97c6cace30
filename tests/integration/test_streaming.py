"""Streams go through as they come, keep their clients alive, and are never heaped up."""

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


class LongAnswer:
    """64 MB of the letter Q, which no event has else, in one stream; it stops half-way until it is let on."""

    def __init__(self, world: World, *, converted: bool) -> None:
        whole = (chat_sse if converted else anthropic_sse)("Q" * 30_000)
        at = next(index for index, piece in enumerate(whole.pieces) if isinstance(piece, bytes) and b"QQ" in piece)
        delta = whole.pieces[at]
        assert isinstance(delta, bytes)
        half = [delta] * (ANSWER_BYTES // len(delta) // 2)
        pieces = [*whole.pieces[:at], *half, gate := Gate(), *half, *whole.pieces[at + 2 :]]
        self.half_way = gate
        self.letters = 2 * len(half) * delta.count(b"Q")
        self.request = tagged() if converted else body()
        upstream = world.chat if converted else world.anthropic
        upstream.script(Answer(pieces, headers=whole.headers, framing="chunked"))


def read_on(client: RawClient) -> tuple[int, bytes]:
    """Read a body to its end: how many letters of the long text it held, and how it ended."""
    letters, tail = 0, b""
    while chunk := client.read_chunk():
        letters += chunk.count(b"Q")
        tail = (tail + chunk)[-100:]
    return letters, tail


@pytest.fixture
def fresh_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A process of its own: memory that an earlier test had it take would hide what this one takes."""
    with world_in_a_process(tmp_path, **SERVERS[request.param]) as world:
        yield world


def growth_of(world: World) -> Callable[[], int]:
    """A measure of by how many bytes the server has grown since it was made."""
    assert world.server is not None
    process_id = world.server.process.pid
    world.post(tagged())  # what is loaded once, on the first request, is not what is measured
    world.post(body())
    before = resident_bytes(process_id)
    return lambda: resident_bytes(process_id) - before


@pytest.mark.parametrize("fresh_world", SERVERS, indirect=True)
@pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])
def test_a_client_that_stops_reading_makes_its_upstream_wait(fresh_world: World, converted: bool) -> None:
    growth, session = growth_of(fresh_world), new_session()
    answer = LongAnswer(fresh_world, converted=converted)
    with RawClient(fresh_world.url, receive_buffer=64 * 1024) as client:
        client.send_request("POST", TARGET, headers(session), answer.request)
        assert client.read_head().status == 200
        assert not answer.half_way.reached.wait(0.5), "half of the answer was taken though nobody read it"
        assert growth() <= GROWTH_BYTES
        answer.half_way.open()
        letters, tail = read_on(client)
    assert letters == answer.letters
    assert tail.endswith(b'"message_stop"}\n\n')
    assert fresh_world.row(session)["outcome"] == "ok"


@pytest.mark.parametrize("fresh_world", ["httptools"], indirect=True)
@pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])
def test_a_long_stream_is_not_kept(fresh_world: World, converted: bool) -> None:
    growth = growth_of(fresh_world)
    answer = LongAnswer(fresh_world, converted=converted)
    answer.half_way.open()
    with RawClient(fresh_world.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), answer.request)
        assert client.read_head().status == 200
        read_on(client)
    assert growth() <= GROWTH_BYTES
