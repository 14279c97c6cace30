"""One Codex login, several server processes, real sockets: renewed once, and no client notices."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.claude import TARGET, body, headers, new_session, soon, tagged
from tests.support.codex_login import ACCOUNT_ID, PATH, TokenEndpoint, number_of, refusal, write_login
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Gate,
    RecordedRequest,
    chat_completion,
    chat_error,
    json_answer,
)
from tests.support.raw_http import RawClient, fetch
from tests.support.server import ORDERLY_EXIT, RunningServer, running_server

CHAT = "/v1/chat/completions"
CODEX = "/backend-api/codex/responses"
EXPIRED_S = -1.0


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    return tmp_path / "codex" / "auth.json"


@contextmanager
def servers(count: int, *, auth_file: Path, tmp_path: Path, upstream: FakeUpstream) -> Iterator[list[RunningServer]]:
    """Server processes that share a login."""
    env = {"CODEX_FILE": str(auth_file), "CODEX_TOKEN_URL": upstream.url + PATH, "CODEX_UPSTREAM": upstream.url + CHAT}
    target = "tests.integration.codex_app:made_of_environment"
    with ExitStack() as running:
        started = []
        for index in range(count):
            folder = tmp_path / f"server{index}"
            folder.mkdir()
            server = running_server({}, tmp_path=folder, target=target, arguments=("--factory",), env=env)
            started.append(running.enter_context(server))
        yield started


class CheckedUpstream:
    """Serves those whose login has at least this number, and refuses the others with 401."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.numbers: list[int] = []

    def __call__(self, request: RecordedRequest) -> Answer:
        number = number_of(request.header("authorization") or b"")
        self.numbers.append(number)
        return chat_completion() if number >= self.newest else chat_error(401, "expired")


def asking(server: RunningServer, count: int, clients: ExitStack) -> list[RawClient]:
    """Clients that have sent their requests."""
    begun = [clients.enter_context(RawClient(server.url)) for _ in range(count)]
    for client in begun:
        client.send_request("POST", TARGET, headers(new_session()), body(stream=False))
    return begun


def waiting(server: RunningServer) -> int:
    return int(fetch(f"{server.url}/waiting").body)


def test_fifty_requests_of_two_processes_make_one_refresh(
    tmp_path: Path, auth_file: Path, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint, upstream = TokenEndpoint(fake_upstream, gate=gate), CheckedUpstream(2)
    fake_upstream.on(CHAT, upstream)
    auth_file.parent.mkdir()
    write_login(auth_file, ends_in_s=EXPIRED_S)
    with (
        servers(2, auth_file=auth_file, tmp_path=tmp_path, upstream=fake_upstream) as both,
        ExitStack() as clients,
    ):
        begun = [client for server in both for client in asking(server, 25, clients)]
        assert gate.reached.wait()
        assert soon(lambda: [waiting(server) for server in both] == [25, 25])
        gate.open()
        assert [client.read_response().status for client in begun] == [200] * 50
    assert upstream.numbers == [2] * 50
    assert len(endpoint.requests) == 1
    assert json.loads(auth_file.read_bytes())["tokens"]["refresh_token"] == "rt_invented_2"
    assert sorted(entry.name for entry in auth_file.parent.iterdir()) == ["auth.json", "auth.json.lock", "auth.lock"]


def test_fifty_refused_requests_of_two_processes_make_one_refresh(
    tmp_path: Path, auth_file: Path, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint, upstream = TokenEndpoint(fake_upstream, gate=gate), CheckedUpstream(2)
    fake_upstream.on(CHAT, upstream)
    auth_file.parent.mkdir()
    write_login(auth_file)
    with (
        servers(2, auth_file=auth_file, tmp_path=tmp_path, upstream=fake_upstream) as both,
        ExitStack() as clients,
    ):
        begun = [client for server in both for client in asking(server, 25, clients)]
        assert soon(lambda: [waiting(server) for server in both] == [25, 25])
        gate.open()
        assert [client.read_response().status for client in begun] == [200] * 50
    assert sorted(upstream.numbers) == [1] * 50 + [2] * 50
    assert len(endpoint.requests) == 1


def test_a_client_that_leaves_during_the_refresh_loses_no_token(
    tmp_path: Path, auth_file: Path, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint, upstream = TokenEndpoint(fake_upstream, gate=gate), CheckedUpstream(2)
    fake_upstream.on(CHAT, upstream)
    auth_file.parent.mkdir()
    write_login(auth_file, ends_in_s=EXPIRED_S)
    with servers(1, auth_file=auth_file, tmp_path=tmp_path, upstream=fake_upstream) as (server,):
        with ExitStack() as clients:
            asking(server, 1, clients)
            assert gate.reached.wait()
        assert soon(lambda: waiting(server) == 0)  # it has left, and nobody waits any more
        gate.open()
        assert soon(lambda: b"rt_invented_2" in auth_file.read_bytes())
        with ExitStack() as clients:
            assert [client.read_response().status for client in asking(server, 1, clients)] == [200]
    assert upstream.numbers == [2]
    assert len(endpoint.requests) == 1


def test_a_login_that_has_ended_is_told_and_a_new_one_holds_at_once(
    tmp_path: Path, auth_file: Path, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.on(PATH, json_answer(refusal("refresh_token_expired"), 401))
    upstream = CheckedUpstream(5)
    fake_upstream.on(CHAT, upstream)
    auth_file.parent.mkdir()
    write_login(auth_file, ends_in_s=EXPIRED_S)
    content = auth_file.read_bytes()
    with (
        servers(1, auth_file=auth_file, tmp_path=tmp_path, upstream=fake_upstream) as (server,),
        ExitStack() as clients,
    ):
        (client,) = asking(server, 1, clients)
        refused = client.read_response()
        assert (refused.status, refused.header("x-should-retry")) == (401, b"false")
        assert refused.json()["error"]["type"] == "authentication_error"
        assert "run `codex login`" in refused.json()["error"]["message"]
        assert auth_file.read_bytes() == content
        write_login(auth_file, 5)
        (client,) = asking(server, 1, clients)
        assert client.read_response().status == 200
        assert "rt_invented" not in server.log() + refused.body.decode()
    assert upstream.numbers == [5]


def product(auth_file: Path, upstream: FakeUpstream) -> dict[str, Any]:
    """The product's configuration for this login."""
    urls = {"baseUrl": upstream.url + CODEX, "tokenUrl": upstream.url + PATH}
    return {"providers": {"codex": {**urls, "authFile": str(auth_file)}}}


def test_the_product_as_it_is_configured_makes_one_refresh(
    tmp_path: Path, auth_file: Path, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint = TokenEndpoint(fake_upstream, gate=gate)
    auth_file.parent.mkdir()
    write_login(auth_file, ends_in_s=EXPIRED_S)
    config = product(auth_file, fake_upstream)
    with ExitStack() as running:
        begun = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            server = running.enter_context(running_server(config, tmp_path=tmp_path / name))
            clients = [running.enter_context(RawClient(server.url)) for _ in range(25)]
            for client in clients:
                client.send_request("POST", TARGET, headers(new_session()), tagged("codex,gpt-6-sol"))
            begun += clients
        assert gate.reached.wait()
        gate.open()
        answers = [client.read_response() for client in begun]
    assert [answer.status for answer in answers] == [200] * 50
    assert all(answer.body.endswith(b'"message_stop"}\n\n') for answer in answers)
    asked = [request for request in fake_upstream.requests if request.path == CODEX]
    assert [number_of(request.header("authorization") or b"") for request in asked] == [2] * 50
    assert {request.header("chatgpt-account-id") for request in asked} == {ACCOUNT_ID.encode()}
    assert len(endpoint.requests) == 1


def test_a_server_that_is_stopped_during_the_refresh_loses_no_token(
    tmp_path: Path, auth_file: Path, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    TokenEndpoint(fake_upstream, gate=gate)
    auth_file.parent.mkdir()
    write_login(auth_file, ends_in_s=EXPIRED_S)
    with running_server(product(auth_file, fake_upstream), tmp_path=tmp_path) as server:
        with RawClient(server.url) as client:
            client.send_request("POST", TARGET, headers(new_session()), tagged("codex,gpt-6-sol"))
            assert gate.reached.wait()
        server.usage_rows(1)  # the client has left; the refresh goes on alone
        server.signal(signal.SIGTERM)
        assert soon(lambda: not accepts(server))
        gate.open()
        assert server.wait() == ORDERLY_EXIT["uvicorn"]
    assert json.loads(auth_file.read_bytes())["tokens"]["refresh_token"] == "rt_invented_2"


def accepts(server: RunningServer) -> bool:
    """Whether the server still takes connections."""
    try:
        RawClient(server.url).close()
    except OSError:
        return False
    return True
