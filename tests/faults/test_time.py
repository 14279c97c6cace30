"""Providers that take their time, or never come: nobody waits but those who asked them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from tests.faults.measures import HELD_UP_S, descriptors
from tests.integration.claude import (
    TARGET,
    World,
    body,
    events,
    headers,
    new_session,
    row_of,
    soon,
    tagged,
)
from tests.support.fake_upstream import Answer, Delay, Fault, Gate, anthropic_sse, chat_sse
from tests.support.raw_http import RawClient
from tests.support.server import running_server

STALLED = 150


def request_of(converted: bool, *, stream: bool = True) -> bytes:
    return tagged(stream=stream) if converted else body(stream=stream)


both_ways = pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])


@pytest.mark.fault("stall before the first byte")
@both_ways
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_silence_before_the_head(impatient_world: World, converted: bool, stream: bool) -> None:
    world, session = impatient_world, new_session()
    (world.chat if converted else world.anthropic).script(Answer.raw(Fault.SILENCE))
    response = world.post(request_of(converted, stream=stream), session=session)
    assert response.status == 504
    assert response.json()["error"]["type"] == "timeout_error"
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", 504, "timeout_error")
    upstream = world.chat if converted else world.anthropic
    assert upstream.requests[0].disconnected.wait()


@pytest.mark.fault("stall before the first byte")
def test_silence_after_the_head_of_a_conversion(impatient_world: World) -> None:
    impatient_world.chat.script(chat_sse().inserting(0, Fault.SILENCE))
    response = impatient_world.post(tagged())
    assert (response.status, response.json()["error"]["type"]) == (504, "timeout_error")


@pytest.mark.fault("stall after the first byte")
@both_ways
def test_silence_in_the_middle(impatient_world: World, converted: bool) -> None:
    world, session = impatient_world, new_session()
    upstream, answer = (world.chat, chat_sse("Hi you")) if converted else (world.anthropic, anthropic_sse("Hi you"))
    upstream.script(answer.inserting(3, Fault.SILENCE))
    response = world.post(request_of(converted), session=session)
    assert response.status == 200
    *_, last = events(response.body)
    assert (last["type"], last["error"]["type"]) == ("error", "timeout_error")
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", 200, "timeout_error")
    assert upstream.requests[0].disconnected.wait()


@pytest.mark.fault("slow drip")
@both_ways
def test_each_byte_begins_the_count_anew(impatient_world: World, converted: bool) -> None:
    """Three seconds in all where two and a half of silence are the limit."""
    world, session = impatient_world, new_session()
    answer = chat_sse() if converted else anthropic_sse()
    content = answer.content
    pieces = [part for n in range(10) for part in (Delay(0.3), content[n : n + 1])]
    dripping = Answer([*pieces, content[10:]], headers=answer.headers, framing="chunked")
    (world.chat if converted else world.anthropic).script(dripping)
    response = world.post(request_of(converted), session=session)
    assert events(response.body)[-1]["type"] == "message_stop"
    assert world.row(session)["outcome"] == "ok"


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A URL whose connections are never taken: the queue of its listener is full."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.fault("nobody answers the connect")
def test_a_connect_that_nobody_answers(tmp_path: Path, black_hole: str) -> None:
    session = new_session()
    config = {"providers": {"anthropic": {"baseUrl": black_hole}}, "timeouts": {"connectS": 0.5}}
    with running_server(config, tmp_path=tmp_path) as server, RawClient(server.url) as client:
        began_s = monotonic()
        response = client.request("POST", TARGET, headers(session), body())
        assert (response.status, response.json()["error"]["type"]) == (504, "timeout_error")
        assert monotonic() - began_s < HELD_UP_S
        row = row_of(server.database, session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", 504, "timeout_error")


# Many that stand still


@pytest.mark.fault("150 stalled streams")
@pytest.mark.parametrize("stage", ["before the head", "in the middle"])
@both_ways
def test_those_who_wait_hold_up_nobody(world: World, converted: bool, stage: str, seen: Callable[[str], None]) -> None:
    stalling, other = (world.chat, world.anthropic) if converted else (world.anthropic, world.chat)
    whole = chat_sse() if converted else anthropic_sse()
    silent = Answer.raw(Fault.SILENCE) if stage == "before the head" else whole.inserting(2, Fault.SILENCE)
    for _ in range(2):
        assert world.post(request_of(converted)).status == 200
    before = descriptors(world)
    world.forget()
    stalling.script(*[silent] * STALLED)
    with ExitStack() as clients:
        for _ in range(STALLED):
            client = clients.enter_context(RawClient(world.url))
            client.send_request("POST", TARGET, headers(new_session()), request_of(converted))
        stalling.wait_for_requests(STALLED)
        slowest_s = 0.0
        for leg in (not converted, converted) * 5:
            began_s = monotonic()
            assert world.post(request_of(leg)).status == 200
            slowest_s = max(slowest_s, monotonic() - began_s)
        began_s = monotonic()
        with RawClient(world.url) as client:
            assert client.request("GET", "/healthz").status == 200
    assert slowest_s < HELD_UP_S
    assert len(other.requests) == 5
    assert soon(lambda: stalling.open_connections <= 2), "upstream connections stay though their clients left"
    assert soon(lambda: descriptors(world) <= before + 4), (before, descriptors(world))
    seen(f"slowest other {slowest_s * 1000:.0f} ms, descriptors {descriptors(world) - before:+d}")


@pytest.mark.fault("150 stalled streams")
def test_a_gate_that_opens_lets_them_all_through(world: World) -> None:
    """Waiting costs them nothing: every stream ends whole."""
    gate = Gate()
    answer = anthropic_sse()
    world.anthropic.on("/v1/messages", answer.inserting(2, gate))
    with ExitStack() as clients:
        waiting = [clients.enter_context(RawClient(world.url)) for _ in range(STALLED)]
        for client in waiting:
            client.send_request("POST", TARGET, headers(new_session()), body())
        world.anthropic.wait_for_requests(STALLED)
        gate.open()
        assert {client.read_response("POST").body for client in waiting} == {answer.content}
