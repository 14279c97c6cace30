"""A Codex login that cannot be renewed, is renewed by somebody else, or is judged by a wrong clock."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.measures import HELD_UP_S
from tests.integration.claude import TARGET, body, headers, new_session, soon, tagged
from tests.support.codex_login import PATH, TEN_DAYS_S, TokenEndpoint, number_of, write_login
from tests.support.fake_upstream import FakeUpstream, Gate
from tests.support.raw_http import RawClient, RawResponse
from tests.support.server import RunningServer, running_server

CODEX = "/backend-api/codex/responses"
TAGGED = tagged("codex,gpt-5.5")


def config_of(upstream: FakeUpstream, auth_file: Path) -> dict[str, Any]:
    codex = {"baseUrl": upstream.url + CODEX, "tokenUrl": upstream.url + PATH, "authFile": str(auth_file)}
    return {"providers": {"anthropic": {"baseUrl": upstream.url}, "codex": codex}}


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    folder = tmp_path / "codex"
    folder.mkdir()
    return folder / "auth.json"


def post(server: RunningServer, content: bytes = TAGGED) -> RawResponse:
    with RawClient(server.url) as client:
        return client.request("POST", TARGET, headers(new_session()), content)


def used(upstream: FakeUpstream) -> list[int]:
    """The numbers of the logins that the backend was asked with."""
    asked = [request for request in upstream.requests if request.path == CODEX]
    return [number_of(request.header("authorization") or b"") for request in asked]


@pytest.mark.fault("refresh that hangs")
@pytest.mark.parametrize("name", SERVERS)
def test_a_token_endpoint_that_hangs_delays_nobody_else(
    fake_upstream: FakeUpstream, tmp_path: Path, auth_file: Path, name: str, seen: Callable[[str], None]
) -> None:
    gate = Gate()
    endpoint = TokenEndpoint(fake_upstream, gate=gate)
    write_login(auth_file, ends_in_s=-1.0)
    config = config_of(fake_upstream, auth_file)
    with running_server(config, tmp_path=tmp_path, **SERVERS[name]) as server, ExitStack() as clients:
        waiting = [clients.enter_context(RawClient(server.url)) for _ in range(10)]
        for client in waiting:
            client.send_request("POST", TARGET, headers(new_session()), TAGGED)
        assert gate.reached.wait()
        slowest_s = 0.0
        for _ in range(10):
            began_s = monotonic()
            assert post(server, body()).status == 200
            slowest_s = max(slowest_s, monotonic() - began_s)
        assert used(fake_upstream) == []
        gate.open()
        assert [client.read_response("POST").status for client in waiting] == [200] * 10
    assert slowest_s < HELD_UP_S
    assert used(fake_upstream) == [2] * 10
    assert len(endpoint.requests) == 1
    seen(f"slowest other {slowest_s * 1000:.0f} ms")


@pytest.mark.fault("rotation by the CLI")
def test_a_login_that_the_cli_has_renewed_is_used_at_once(
    fake_upstream: FakeUpstream, tmp_path: Path, auth_file: Path
) -> None:
    endpoint = TokenEndpoint(fake_upstream)
    write_login(auth_file, 1)
    with running_server(config_of(fake_upstream, auth_file), tmp_path=tmp_path) as server:
        assert post(server).status == 200
        write_login(auth_file, 2)
        assert post(server).status == 200
        write_login(auth_file, 3, ends_in_s=-1.0)
        endpoint.current = 3
        assert post(server).status == 200
    assert used(fake_upstream) == [1, 2, 4]
    assert len(endpoint.requests) == 1
    assert json.loads(auth_file.read_bytes())["tokens"]["refresh_token"] == "rt_invented_4"


@pytest.mark.fault("clock jump")
@pytest.mark.parametrize("jump_s", [2 * TEN_DAYS_S, -2 * TEN_DAYS_S], ids=["ahead", "back"])
def test_a_clock_that_jumps(
    fake_upstream: FakeUpstream, tmp_path: Path, auth_file: Path, jump_s: float, seen: Callable[[str], None]
) -> None:
    endpoint = TokenEndpoint(fake_upstream)
    write_login(auth_file)
    clock = tmp_path / "clock"
    clock.write_text("0")
    with running_server(
        config_of(fake_upstream, auth_file),
        tmp_path=tmp_path,
        target="tests.faults.ticking:app",
        env={"CLOCK_FILE": str(clock)},
    ) as server:
        assert post(server).status == 200
        clock.write_text(str(jump_s))
        for _ in range(20):
            assert post(server).status == 200
            assert post(server, body()).status == 200
        rows = server.usage_rows(41)
        assert soon(lambda: len(server.usage_rows(41)) == 41)
        assert all(0 <= row["duration_ms"] < 10_000 for row in rows)
        assert {row["outcome"] for row in rows} == {"ok"}
    assert len(endpoint.requests) <= 1, "a refresh storm"
    seen(f"{len(endpoint.requests)} refreshes in 20 requests, 41 rows")


@pytest.mark.fault("refresh refused")
@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_login_that_is_not_there_is_told(
    fake_upstream: FakeUpstream, tmp_path: Path, auth_file: Path, name: str, stream: bool
) -> None:
    with running_server(config_of(fake_upstream, auth_file), tmp_path=tmp_path, **SERVERS[name]) as server:
        response = post(server, tagged("codex,gpt-5.5", stream=stream))
        assert (response.status, response.json()["error"]["type"]) == (401, "authentication_error")
        assert response.header("x-should-retry") == b"false"
        assert "codex login" in response.json()["error"]["message"]
        assert fake_upstream.arriving == []
        write_login(auth_file)
        assert post(server).status == 200
