"""Servers in threads and processes start, answer, tell why they did not, and leave nothing behind."""

import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.support import asgi
from tests.support.raw_http import RawClient, fetch
from tests.support.server import ORDERLY_EXIT, read_rows, reserved_port, running_server, serve_app

SAMPLE = """
import os, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("the end was orderly")
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = pathlib.Path(os.environ["CCR_ASGI_CONFIG"]).read_bytes() + os.environ["HOME"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} ".encode() + await request.body())


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_an_application_is_served_in_a_thread(http: Any) -> None:
    with serve_app(Starlette(routes=[Route("/echo", _echo, methods=["POST"])]), http=http) as served:
        assert fetch(f"{served.url}/echo", "POST", body=b"x").body == b"POST x"
    with pytest.raises(ConnectionRefusedError):
        RawClient(served.url)


def test_the_end_waits_for_no_client_that_has_left() -> None:
    async def patient(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with serve_app(patient, lifespan="off") as served, RawClient(served.url, receive_buffer=4096) as client:
        client.send_request("GET", "/")
        assert client.read_head().status == 200
        assert client.read_chunk() == b"1"


def test_a_failed_start_is_told() -> None:
    async def refuses(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(SystemExit), serve_app(refuses, lifespan="on"):
        pass


@pytest.mark.parametrize(("server", "folder_option"), [("uvicorn", "--app-dir"), ("granian", "--working-dir")])
def test_a_process_has_its_configuration_and_an_orderly_end(tmp_path: Path, server: Any, folder_option: str) -> None:
    (tmp_path / "sample.py").write_text(SAMPLE)
    arguments = [folder_option, str(tmp_path)]
    with running_server({"a": 1}, tmp_path=tmp_path, server=server, target="sample:app", arguments=arguments) as sample:
        home = tmp_path / "home"
        assert fetch(sample.url).body == b'{"a": 1}' + str(home).encode()
        sample.write_config({"a": 2})
        assert fetch(sample.url).body.startswith(b'{"a": 2}')
        assert sample.terminate() == ORDERLY_EXIT[server]
    assert "the end was orderly" in sample.log()


def test_a_process_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    wanted = "Could not import module"
    with (
        pytest.raises(AssertionError, match=wanted),
        running_server({}, tmp_path=tmp_path, target="no_such_module_here:app"),
    ):
        pass


def test_rows_are_read_when_they_are_there(tmp_path: Path) -> None:
    database = tmp_path / "usage.db"
    assert read_rows(database) == []
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table v_requests (id, started_at)")
        connection.executemany("insert into v_requests values (?, ?)", [("b", 2), ("a", 1)])
        connection.commit()
    assert [row["id"] for row in read_rows(database)] == ["a", "b"]


def test_a_reserved_port_can_be_listened_on_though_it_is_held() -> None:
    with reserved_port() as port, socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        with RawClient(f"http://127.0.0.1:{port}") as client:
            assert client.host == f"127.0.0.1:{port}"


def test_no_foreign_setting_is_left(unused_home: Path) -> None:
    assert Path("~/.claude-code-router").expanduser().parent == unused_home
    assert not list(unused_home.iterdir())
