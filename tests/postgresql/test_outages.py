"""A usage database on a PostgreSQL server that goes away, comes back, or is not there at the start."""

from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.integration.claude import TARGET, body, headers, new_session, soon
from tests.postgresql.server import PostgreSQL, needs_postgresql
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient, fetch
from tests.support.server import RunningServer, running_server

DOWN_S = 30.0

pytestmark = needs_postgresql


def config_of(upstream: FakeUpstream) -> dict[str, Any]:
    return {"providers": {"anthropic": {"baseUrl": upstream.url}}}


def post(server: RunningServer, session: str) -> float:
    began_s = monotonic()
    with RawClient(server.url) as client:
        assert client.request("POST", TARGET, headers(session), body()).status == 200
    return monotonic() - began_s


@pytest.mark.timeout(120)
def test_it_goes_away_and_comes_back(fake_upstream: FakeUpstream, tmp_path: Path, postgresql: PostgreSQL) -> None:
    postgresql.start()
    env = {"CCR_ASGI_DATABASE_URL": postgresql.url()}
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, env=env) as server:
        first = new_session()
        post(server, first)
        assert soon(lambda: postgresql.sessions() == [first])
        postgresql.stop()
        sessions, slowest_s, until_s = [first], 0.0, monotonic() + DOWN_S
        while monotonic() < until_s:
            sessions.append(new_session())
            slowest_s = max(slowest_s, post(server, sessions[-1]))
            assert fetch(f"{server.url}/readyz").status == 503
            assert fetch(f"{server.url}/dashboard").status == 503
        postgresql.start()
        assert soon(lambda: sorted(postgresql.sessions()) == sorted(sessions))
        assert soon(lambda: fetch(f"{server.url}/readyz").status == 200)
        server.terminate()
        log = server.log()
    assert slowest_s < 10.0  # it waited for no database
    assert "planted-password" not in log
    assert "Traceback" not in log, log


def test_it_is_not_there_at_the_start(fake_upstream: FakeUpstream, tmp_path: Path, postgresql: PostgreSQL) -> None:
    env = {"CCR_ASGI_DATABASE_URL": postgresql.url()}
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, env=env) as server:
        session = new_session()
        assert post(server, session) < 10.0
        assert fetch(f"{server.url}/readyz").status == 503
        postgresql.start()
        assert soon(lambda: postgresql.sessions() == [session])
        assert "planted-password" not in server.log()
        assert "Traceback" not in server.log()
