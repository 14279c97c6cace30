"""A client that leaves ends its upstream request within a second, and leaves one row within three."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.claude import (
    TARGET,
    World,
    body,
    headers,
    new_session,
    tagged,
    world_in_a_process,
)
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Fault,
    Gate,
    RecordedRequest,
    anthropic_message,
    anthropic_sse,
    chat_completion,
    chat_sse,
)
from tests.support.raw_http import RawClient

SERVERS: dict[str, dict[str, Any]] = {
    "httptools": {"server": "uvicorn", "http": "httptools"},
    "h11": {"server": "uvicorn", "http": "h11"},
    "granian": {"server": "granian"},
}
UPSTREAM_END_S = 15.0
"""Far less than the silence that the proxy would bear; in truth it is a few milliseconds."""


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The product under each server."""
    with world_in_a_process(tmp_path_factory.mktemp("world"), **SERVERS[request.param]) as world:
        yield world


class Leg:
    """One of the two ways that a request can go."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.converted = name == "converted"
        self.upstream: FakeUpstream = world.chat if self.converted else world.anthropic
        self.request: Callable[..., bytes] = tagged if self.converted else body
        self.provider = "cerebras" if self.converted else "anthropic"

    def stream(self) -> Answer:
        return chat_sse("Hello there.") if self.converted else anthropic_sse("Hello there.")

    def whole(self) -> Answer:
        return chat_completion("Hello there.") if self.converted else anthropic_message("Hello there.")


@pytest.fixture
def world(served: World) -> World:
    """The module's world, whose providers have not been asked anything yet."""
    served.forget()
    return served


@pytest.fixture(params=["passthrough", "converted"])
def leg(world: World, request: pytest.FixtureRequest) -> Leg:
    """Both ways."""
    return Leg(world, request.param)


@pytest.fixture(params=["close", "reset"])
def leave(request: pytest.FixtureRequest) -> Callable[[RawClient], None]:
    """How a client leaves: in an orderly way (FIN), or by a reset."""
    return RawClient.close if request.param == "close" else RawClient.reset


def assert_ended(request: RecordedRequest, left_at_s: float) -> None:
    assert request.disconnected.wait(UPSTREAM_END_S), "the upstream keeps its connection though the client has left"
    assert time.monotonic() - left_at_s <= UPSTREAM_END_S


def cancelled_row(world: World, session: str, leg: Leg) -> dict[str, Any]:
    row = world.row(session)
    assert row["outcome"] == "cancelled"
    assert row["provider"] == leg.provider
    assert row["attempts"] == 1
    return row


def test_before_any_byte(world: World, leg: Leg, leave: Callable[[RawClient], None]) -> None:
    session, gate = new_session(), Gate()
    leg.upstream.script(Answer.raw(gate))
    client = RawClient(world.url)
    client.send_request("POST", TARGET, headers(session), leg.request())
    (request,) = leg.upstream.wait_for_requests(1)
    assert gate.reached.wait()
    leave(client)
    assert_ended(request, time.monotonic())
    row = cancelled_row(world, session, leg)
    assert row["status"] is None
    assert row["output_tokens"] is None


def test_in_the_middle_of_a_stream(world: World, leg: Leg, leave: Callable[[RawClient], None]) -> None:
    session, gate = new_session(), Gate()
    leg.upstream.script(leg.stream().inserting(3, gate, Fault.SILENCE))
    client = RawClient(world.url)
    client.send_request("POST", TARGET, headers(session), leg.request())
    assert client.read_head().status == 200
    assert b"message_start" in client.read_until(b"text_delta")
    (request,) = leg.upstream.wait_for_requests(1)
    leave(client)
    assert_ended(request, time.monotonic())
    row = cancelled_row(world, session, leg)
    assert row["status"] == 200
    assert row["stop_reason"] is None
    assert row["ttft_ms"] is not None
    if leg.converted:  # Chat Completions tells its usage at the end: what is known before is our estimate
        assert row["estimated"] == 1
        assert row["input_tokens"] > 0
        assert row["output_tokens"] > 0
    else:
        assert (row["input_tokens"], row["output_tokens"]) == (11, 1)  # as message_start told them


def test_while_a_stream_is_flowing(world: World, leg: Leg) -> None:
    """The proxy is in the middle of writing when the client goes, and has no silence in which to notice."""
    session = new_session()
    plain = leg.stream()
    delta = plain.pieces[2]
    assert isinstance(delta, bytes)
    answer = Answer(
        [*plain.pieces[:2], *[delta] * 200_000, *plain.pieces[3:]], headers=plain.headers, framing="chunked"
    )
    leg.upstream.script(answer)
    client = RawClient(world.url, receive_buffer=8192)
    client.send_request("POST", TARGET, headers(session), leg.request())
    assert b"message_start" in client.read_until(b"text_delta")
    (request,) = leg.upstream.wait_for_requests(1)
    client.reset()
    assert_ended(request, time.monotonic())
    assert cancelled_row(world, session, leg)["status"] == 200


def test_while_a_whole_answer_is_awaited(world: World, leg: Leg, leave: Callable[[RawClient], None]) -> None:
    session, gate = new_session(), Gate()
    answer = leg.whole()
    leg.upstream.script(Answer([answer.content[:40], gate, answer.content[40:]], headers=answer.headers))
    client = RawClient(world.url)
    client.send_request("POST", TARGET, headers(session), leg.request(stream=False))
    (request,) = leg.upstream.wait_for_requests(1)
    assert gate.reached.wait()
    leave(client)
    assert_ended(request, time.monotonic())
    row = cancelled_row(world, session, leg)
    assert row["streamed"] == 0


def test_during_the_upload_of_a_message(world: World) -> None:
    """Nobody is asked before the whole body is there, since its end may hold the model."""
    session = new_session()
    client = RawClient(world.url)
    content = body()
    client.send_request("POST", TARGET, [*headers(session), ("Content-Length", str(len(content)))])
    client.send(content[:20])
    client.close()
    row = world.row(session)
    assert (row["outcome"], row["status"], row["provider"], row["attempts"]) == ("cancelled", None, None, 0)
    assert world.contacts == 0


def test_during_an_upload_that_is_passed_on(world: World, leave: Callable[[RawClient], None]) -> None:
    client = RawClient(world.url)
    client.send_request("POST", "/v1/files", [("Content-Length", "1000")])
    client.send(b"x" * 20)
    (request,) = world.anthropic.wait_for_arriving(1)
    assert world.anthropic.wait_for_body(request, 20) == b"x" * 20
    leave(client)
    assert_ended(request, time.monotonic())


def test_others_are_served_on(world: World, leg: Leg) -> None:
    """The end of one request is not the end of its neighbours."""
    gate = Gate()
    leg.upstream.script(leg.stream().inserting(3, gate), leg.stream().inserting(3, Fault.SILENCE))
    staying, leaving = new_session(), new_session()
    with RawClient(world.url) as client:
        client.send_request("POST", TARGET, headers(staying), leg.request())
        leg.upstream.wait_for_requests(1)
        other = RawClient(world.url)
        other.send_request("POST", TARGET, headers(leaving), leg.request())
        _, gone = leg.upstream.wait_for_requests(2)
        other.read_until(b"message_start")
        other.close()
        assert_ended(gone, time.monotonic())
        gate.open()
        assert client.read_response("POST").body.count(b"message_stop") == 2  # the event's name, and its type
    assert world.row(staying)["outcome"] == "ok"
    assert world.row(leaving)["outcome"] == "cancelled"
