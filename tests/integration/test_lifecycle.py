"""How the product starts, changes its configuration, shuts down, and lives inside another application."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import ccr_asgi
from tests.integration.claude import (
    BEARER,
    CHAT_KEY,
    TARGET,
    body,
    headers,
    new_session,
    row_of,
    soon,
    tagged,
)
from tests.support.fake_upstream import FakeUpstream, Gate, anthropic_sse
from tests.support.raw_http import RawClient, RawResponse, fetch
from tests.support.server import (
    ORDERLY_EXIT,
    read_rows,
    running_server,
    serve_app,
)

WAYS: dict[str, dict[str, Any]] = {
    "uvicorn": {"server": "uvicorn"},
    "uvicorn-h11": {"server": "uvicorn", "http": "h11"},
    "granian": {"server": "granian"},
    "serve": {"server": "serve"},
    "serve-granian": {"server": "serve", "arguments": ("--server", "granian")},
}
HYPERCORN = {"server": "hypercorn", "target": "ccr_asgi.application:create_app()"}
"""It serves; of what it does with SIGTERM and odd requests nothing is promised."""
SERVE = {name: WAYS[name] for name in ("serve", "serve-granian")}


def config_of(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    return {"providers": {"anthropic": {"baseUrl": upstream.url}}, **more}


def post(url: str, session: str, content: bytes | None = None, prefix: str = "") -> RawResponse:
    with RawClient(url) as client:
        return client.request("POST", prefix + TARGET, headers(session), content or body())


@pytest.mark.parametrize("way", [*WAYS.values(), HYPERCORN], ids=[*WAYS, "hypercorn"])
def test_every_way_to_run_it_serves(fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any]) -> None:
    session = new_session()
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, **way) as server:
        assert fetch(f"{server.url}/healthz").body == b"ok\n"
        assert fetch(f"{server.url}/readyz").body == b"ok\n"
        page = fetch(f"{server.url}/dashboard")
        assert (page.status, page.header("content-type")) == (200, b"text/html; charset=utf-8")
        assert post(server.url, session).body.endswith(b'"message_stop"}\n\n')
        assert server.usage_rows(1)[0]["session_id"] == session
        assert server.terminate() == ORDERLY_EXIT[way["server"]]
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_sigterm_lets_a_running_stream_end(fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any]) -> None:
    session, gate = new_session(), Gate()
    answer = anthropic_sse()
    fake_upstream.script(answer.inserting(2, gate))
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, **way) as server:
        with RawClient(server.url) as client:
            client.send_request("POST", TARGET, headers(session), body())
            head = client.read_head()
            first = client.read_chunk()
            server.signal(signal.SIGTERM)
            assert soon(lambda: not accepts(server.port)), "it still accepts connections after SIGTERM"
            gate.open()
            assert first + client.read_body(head) == answer.content
        assert server.wait() == ORDERLY_EXIT[way["server"]]
        assert row_of(server.database, session)["outcome"] == "ok"


@pytest.mark.parametrize("way", SERVE.values(), ids=SERVE)
def test_a_stalled_stream_holds_the_end_up_for_drain_s(
    fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any]
) -> None:
    session, gate = new_session(), Gate()
    fake_upstream.script(anthropic_sse().inserting(2, gate))
    config = config_of(fake_upstream, timeouts={"drainS": 1})
    with running_server(config, tmp_path=tmp_path, **way) as server:
        with RawClient(server.url) as client:
            client.send_request("POST", TARGET, headers(session), body())
            client.read_until(b"message_start")
            assert gate.reached.wait()
            assert server.terminate(timeout=11) == 0
        row = row_of(server.database, session)
        assert (row["outcome"], row["input_tokens"]) == ("truncated", 11)


def accepts(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("way", SERVE.values(), ids=SERVE)
def test_two_workers_share_one_database(fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any]) -> None:
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, workers=2, **way) as server:
        sessions = {new_session() for _ in range(40)}
        for session in sessions:
            assert post(server.url, session).status == 200
        rows = server.usage_rows(len(sessions))
        assert {row["session_id"] for row in rows} == sessions
        assert server.terminate() == 0
        assert "Traceback" not in server.log()


# Configuration


def test_a_changed_file_holds_for_the_next_request(
    fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path
) -> None:
    gate = Gate()
    answer = anthropic_sse()
    fake_upstream.script(answer.inserting(2, gate))
    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server, RawClient(server.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), body())
        head = client.read_head()
        first = client.read_chunk()
        server.write_config(config_of(second_upstream))

        def goes_to_the_second() -> bool:
            post(server.url, new_session())
            return bool(second_upstream.requests)

        assert soon(goes_to_the_second)
        gate.open()
        assert first + client.read_body(head) == answer.content  # it ends where it began
        assert "The configuration was read again; providers: anthropic" in server.log()


BROKEN = {"{": "config.json", '{"prt": 1}': "prt", '{"providers": {"x": {}}}': "providers.x"}


def test_a_broken_change_keeps_the_former_configuration(
    fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path
) -> None:
    def complaints() -> list[str]:
        said = "The changed configuration is not used, the former one stays in force"
        return [line for line in server.log().splitlines() if said in line]

    def is_served_and_complained(count: int) -> bool:
        assert post(server.url, new_session()).status == 200
        return len(complaints()) == count

    def goes_to_the_second() -> bool:
        post(server.url, new_session())
        return bool(second_upstream.requests)

    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
        for count, (broken, named) in enumerate(BROKEN.items(), start=1):
            server.config_file.write_text(broken)
            assert soon(partial(is_served_and_complained, count))
            assert named in complaints()[-1]
        server.write_config(config_of(second_upstream))  # mended: it is in force again
        assert soon(goes_to_the_second)


def test_what_needs_a_restart_says_so(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
        server.write_config(config_of(fake_upstream, port=1234))

        def said() -> bool:
            post(server.url, new_session())
            return "The change of port takes effect at the next start." in server.log()

        assert soon(said)


def test_no_configuration_file_at_all(tmp_path: Path) -> None:
    """The defaults serve, and the first lines say what is on and what to write where."""
    home = tmp_path / "home"
    with running_server({}, tmp_path=tmp_path, env={"CCR_ASGI_CONFIG": "", "CCR_ASGI_DATABASE_URL": ""}) as server:
        assert fetch(f"{server.url}/readyz").status == 200
        log = server.log()
    config_file = home / ".claude-code-router" / "config.json"
    assert f"no configuration file ({config_file} does not exist)" in log
    assert "provider anthropic: https://api.anthropic.com, with the client's own credential" in log
    assert f"usage: {home / '.claude-code-router' / 'usage.db'}" in log
    assert "To add a provider, write" in log
    assert str(config_file) in log.partition("To add a provider")[2]
    assert (home / ".claude-code-router" / "usage.db").stat().st_mode & 0o777 == 0o600


def test_the_invited_configuration_works(tmp_path: Path) -> None:
    """The example that the start-up lines give is itself a good configuration."""
    with running_server({}, tmp_path=tmp_path) as server:
        invitation = server.log().partition("To add a provider, write ")[2].partition(" to /")[0]
    config = json.loads(invitation)
    folder = tmp_path / "second"
    folder.mkdir()
    with running_server(config, tmp_path=folder, env={"CEREBRAS_API_KEY": CHAT_KEY}) as server:
        assert "provider cerebras: https://api.cerebras.ai/v1/chat/completions" in server.log()
        assert CHAT_KEY not in server.log()


def test_a_provider_without_a_key_is_named_and_refused(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    config = config_of(fake_upstream)
    config["providers"]["cerebras"] = {"apiKey": "${CEREBRAS_API_KEY}"}
    with running_server(config, tmp_path=tmp_path) as server:
        assert "provider cerebras: no key configured (${CEREBRAS_API_KEY})" in server.log()
        response = post(server.url, new_session(), tagged())
    assert response.status == 400
    assert "${CEREBRAS_API_KEY}" in response.json()["error"]["message"]
    assert fake_upstream.arriving == []


def serve_verb(tmp_path: Path, config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "config.json"
    file.write_text(config)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CCR_ASGI_CONFIG": str(file)}
    command = [str(Path(sys.executable).with_name("ccr-asgi")), "serve", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_serve_refuses_a_broken_configuration(tmp_path: Path) -> None:
    ended = serve_verb(tmp_path, '{"prt": 1}')
    assert ended.returncode == 2
    assert "prt" in ended.stderr
    assert str(tmp_path / "config.json") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_serve_says_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve_verb(tmp_path, "{}", "--port", str(port))
    assert ended.returncode != 0
    assert str(port) in ended.stderr
    assert "address already in use" in ended.stderr.lower()


# The log


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_a_log_for_programs(fake_upstream: FakeUpstream, tmp_path: Path, server: str) -> None:
    session = new_session()
    arguments = ("--server", server, "--log-format", "json")
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, server="serve", arguments=arguments) as running:
        answer = post(running.url, session, body("planted words"))
        (row,) = running.usage_rows(1)
        running.terminate()
        entries = [json.loads(line) for line in running.log().splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, entries))
    (told,) = (entry for entry in entries if entry["logger"] == "ccr_asgi.requests")
    assert (told["request_id"], told["session_id"], told["outcome"]) == (row["id"], session, "ok")
    assert told["upstream_request_id"] == (answer.header("request-id") or b"").decode() == row["upstream_request_id"]
    assert not any(secret in running.log() for secret in ("planted", BEARER))


# A host application


@pytest.mark.parametrize("host", ["plain", "composed"])
@pytest.mark.parametrize(
    "way", [WAYS["uvicorn"], WAYS["uvicorn-h11"], WAYS["granian"]], ids=["httptools", "h11", "granian"]
)
def test_mounted_in_another_application(
    fake_upstream: FakeUpstream, tmp_path: Path, way: dict[str, Any], host: str
) -> None:
    session = new_session()
    config = config_of(fake_upstream)
    with running_server(config, tmp_path=tmp_path, target=f"tests.integration.hosts:{host}", **way) as server:
        assert fetch(f"{server.url}/healthz").body == b"the host's own"
        assert fetch(f"{server.url}/llm/healthz").body == b"ok\n"
        assert post(server.url, session, prefix="/llm").status == 200
        with RawClient(server.url) as client:
            client.request("GET", "/llm/v1/files/a%2Fb//c?x=%20")
            assert client.request("GET", "/llm/v1/%2e%2e/x").status == 404
        targets = [request.target for request in fake_upstream.requests]
        assert targets == [TARGET.encode(), b"/v1/files/a%2Fb//c?x=%20"]
        assert server.usage_rows(1)[0]["session_id"] == session
        if host == "composed":
            assert "provider anthropic:" in server.log()
            at_the_end = new_session()
            post(server.url, at_the_end, prefix="/llm")
            server.terminate()
            assert [row["session_id"] for row in read_rows(server.database)] == [session, at_the_end]


def test_without_a_lifespan_rows_are_written_at_the_exit(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    config = config_of(fake_upstream)
    with running_server(config, tmp_path=tmp_path, target="tests.integration.hosts:plain") as server:
        sessions = [new_session() for _ in range(3)]
        for session in sessions:
            post(server.url, session, prefix="/llm")
        server.signal(signal.SIGINT)  # after SIGTERM uvicorn kills itself, and no interpreter's exit follows
        assert server.wait() == 0
        assert sorted(row["session_id"] for row in read_rows(server.database)) == sorted(sessions)


@pytest.mark.parametrize("host", ["plain", "composed"])
def test_the_pages_of_a_mounted_application_carry_its_prefix(
    fake_upstream: FakeUpstream, tmp_path: Path, host: str
) -> None:
    config = config_of(fake_upstream)
    with running_server(config, tmp_path=tmp_path, target=f"tests.integration.hosts:{host}") as server:
        assert fetch(f"{server.url}/llm/").header("location") == b"/llm/dashboard"
        page = fetch(f"{server.url}/llm/dashboard")
    assert page.status == 200
    text = page.body.decode()
    links = {part.partition('"')[0] for marker in ('href="', 'src="', 'action="') for part in text.split(marker)[1:]}
    ours = {link for link in links if link.startswith("/")}
    assert ours
    assert all(link.startswith("/llm/") for link in ours), ours


def test_a_root_path_given_to_the_server(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    app = ccr_asgi.create_app(config_of(fake_upstream, usage={"database": str(tmp_path / "usage.db")}))
    with serve_app(app, root_path="/proxy") as served:
        assert fetch(f"{served.url}/").header("location") == b"/proxy/dashboard"
        assert post(served.url, new_session()).status == 200
    assert [request.target for request in fake_upstream.requests] == [TARGET.encode()]


def test_two_applications_in_one_process(
    fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path
) -> None:
    databases = tmp_path / "one.db", tmp_path / "two.db"
    one, two = (
        ccr_asgi.create_app(config_of(upstream, usage={"database": str(database)}))
        for upstream, database in zip((fake_upstream, second_upstream), databases, strict=True)
    )
    sessions = new_session(), new_session()
    host = Starlette(routes=[Mount("/one", one), Mount("/two", two)], lifespan=ccr_asgi.lifespan)
    with serve_app(host, lifespan="on") as served:
        post(served.url, sessions[0], prefix="/one")
        post(served.url, sessions[1], prefix="/two")
    assert (len(fake_upstream.requests), len(second_upstream.requests)) == (1, 1)
    for database, session in zip(databases, sessions, strict=True):
        assert [row["session_id"] for row in read_rows(database)] == [session]


def test_lifespan_needs_an_application_of_ours() -> None:
    with pytest.raises(SystemExit), serve_app(Starlette(lifespan=ccr_asgi.lifespan), lifespan="on"):
        pass


# The database


def test_a_damaged_database_costs_no_request_and_is_kept(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    damaged = b"this is not a database " * 1000
    (tmp_path / "usage.db").write_bytes(damaged)
    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
        assert post(server.url, new_session()).status == 200
        ready = fetch(f"{server.url}/readyz")
        assert ready.status == 503
        complaint = next(line for line in server.log().splitlines() if "ERROR" in line)
        assert str(server.database) in complaint
        assert "Traceback" not in server.log()
        server.kill()  # an orderly end would wait 5 s for the database to mend
    assert (tmp_path / "usage.db").read_bytes() == damaged


def test_a_database_from_the_future_is_left_alone(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "usage.db")) as connection, connection:
        connection.execute("create table alembic_version (version_num text not null)")
        connection.execute("insert into alembic_version values ('9999')")
    with running_server(config_of(fake_upstream), tmp_path=tmp_path) as server:
        assert post(server.url, new_session()).status == 200
        assert fetch(f"{server.url}/readyz").status == 503
        assert "9999" in server.log()
        server.kill()
    assert read_rows(tmp_path / "usage.db", "select * from alembic_version") == [{"version_num": "9999"}]
