"""The end of a server: whoever waits may finish, and nobody can hold it up for ever."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.measures import HELD_UP_S
from tests.integration.claude import TARGET, body, headers, new_session, soon
from tests.support.fake_upstream import FakeUpstream, Fault, Gate, anthropic_sse
from tests.support.raw_http import RawClient
from tests.support.server import ORDERLY_EXIT, read_rows, running_server

WAYS: dict[str, dict[str, Any]] = {
    **SERVERS,
    "serve httptools": {"server": "serve"},
    "serve h11": {"server": "serve", "http": "h11"},
    "serve granian": {"server": "serve", "arguments": ("--server", "granian")},
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
OUTCOMES = "select session_id, outcome, input_tokens from v_requests"


def config_of(upstream: FakeUpstream, drain_s: float) -> dict[str, Any]:
    return {"providers": {"anthropic": {"baseUrl": upstream.url}}, "timeouts": {"drainS": drain_s}}


@pytest.mark.fault("SIGTERM with a stalled stream")
@each_way
def test_nothing_that_stands_still_holds_the_end_up(
    fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any], seen: Callable[[str], None]
) -> None:
    """Neither a silent upstream, nor an upload that never ends, nor a client that keeps its connection."""
    fake_upstream.script(*[anthropic_sse().inserting(2, Fault.SILENCE)] * 3)
    sessions = [new_session() for _ in range(3)]
    with running_server(config_of(fake_upstream, 1), tmp_path=tmp_path, **way) as server, ExitStack() as clients:
        for session in sessions:
            client = clients.enter_context(RawClient(server.url))
            client.send_request("POST", TARGET, headers(session), body())
            client.read_until(b"message_start")
        uploading = clients.enter_context(RawClient(server.url))
        uploading.send_request("POST", TARGET, [*headers(new_session()), ("Content-Length", "1000")])
        uploading.send(b"{")
        idle = clients.enter_context(RawClient(server.url))
        assert idle.request("GET", "/healthz").status == 200
        began_s = monotonic()
        assert server.terminate(timeout=HELD_UP_S) == ORDERLY_EXIT[way["server"]]
        took_s = monotonic() - began_s
        rows = {row["session_id"]: row for row in read_rows(server.database, OUTCOMES)}
        for session in sessions:
            assert (rows[session]["outcome"], rows[session]["input_tokens"]) == ("truncated", 11)
    seen(f"out after {took_s:.1f} s, with timeouts.drainS 1")


@pytest.mark.fault("SIGTERM with a stalled stream")
@each_way
def test_ctrl_c_is_drained_too(fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any]) -> None:
    fake_upstream.script(anthropic_sse().inserting(2, Fault.SILENCE))
    with running_server(config_of(fake_upstream, 1), tmp_path=tmp_path, **way) as server:
        with RawClient(server.url) as client:
            client.send_request("POST", TARGET, headers(new_session()), body())
            client.read_until(b"message_start")
            server.signal(signal.SIGINT)
            server.wait(timeout=HELD_UP_S)
        assert [row["outcome"] for row in read_rows(server.database, OUTCOMES)] == ["truncated"]
        assert "Traceback" not in server.log().partition("KeyboardInterrupt")[0]


@pytest.mark.fault("SIGTERM with a live stream")
@each_way
def test_streams_that_flow_are_let_through_to_their_end(
    fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any], seen: Callable[[str], None]
) -> None:
    gate = Gate()
    answer = anthropic_sse()
    fake_upstream.on("/v1/messages", answer.inserting(2, gate))
    sessions = [new_session() for _ in range(20)]
    with running_server(config_of(fake_upstream, 30), tmp_path=tmp_path, **way) as server:
        with ExitStack() as clients:
            begun = [clients.enter_context(RawClient(server.url)) for _ in sessions]
            for client, session in zip(begun, sessions, strict=True):
                client.send_request("POST", TARGET, headers(session), body())
            first = [(client.read_head(), client.read_chunk()) for client in begun]
            server.signal(signal.SIGTERM)
            assert soon(lambda: refuses(server.url)), "it still takes connections"
            gate.open()
            for client, (head, chunk) in zip(begun, first, strict=True):
                assert chunk + client.read_body(head) == answer.content
        began_s = monotonic()
        assert server.wait(timeout=HELD_UP_S) == ORDERLY_EXIT[way["server"]]
        took_s = monotonic() - began_s
        rows = read_rows(server.database, OUTCOMES)
    assert sorted(row["session_id"] for row in rows) == sorted(sessions)
    assert {row["outcome"] for row in rows} == {"ok"}
    seen(f"20 streams whole, out {took_s:.1f} s after the last")


def refuses(url: str) -> bool:
    try:
        RawClient(url).close()
    except OSError:
        return True
    return False
