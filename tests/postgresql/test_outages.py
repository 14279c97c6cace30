"""A usage database on a PostgreSQL server that goes away, comes back, or is not there at the start."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.integration.claude import TARGET, body, headers, new_session, soon
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient, fetch
from tests.support.server import RunningServer, reserved_port, running_server

FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
BINARIES = next((folder for folder in FOLDERS if (folder / "initdb").exists() and (folder / "postgres").exists()), None)
USER = "postgres" if os.geteuid() == 0 else None
"""The server refuses to run as root."""
DOWN_S = 30.0

REQUIRED = "CI_POSTGRESQL_REQUIRED" in os.environ
"""In CI a missing server is a failure, not a skip."""

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.skipif(BINARIES is None and not REQUIRED, reason="needs Debian's postgresql"),
]


class PostgreSQL:
    """A server of our own in a folder of our own, on a port that is kept for it."""

    def __init__(self, folder: Path, port: int) -> None:
        assert BINARIES is not None
        self.url = f"postgresql+asyncpg://tester:planted-password@127.0.0.1:{port}/postgres"
        self._bin, self._folder, self._port = BINARIES, folder, port
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, parents=True)
        if USER is not None:
            shutil.chown(folder, USER)
        initdb: list[str | Path] = [
            self._bin / "initdb",
            "-D",
            folder,
            "-U",
            "tester",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(initdb, user=USER, cwd="/", check=True, capture_output=True, env=_environment())

    def start(self) -> None:
        options = ["-c", f"port={self._port}", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command: list[str | Path] = [self._bin / "postgres", "-D", self._folder, "-k", "", *options]
        self._process = subprocess.Popen(
            command, user=USER, cwd="/", env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert soon(self.answers), "PostgreSQL did not start"

    def stop(self) -> None:
        """End it at once, as a crash of its machine would; it mends itself at the next start."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: "immediate shutdown"
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        return self._query("select 1") == ["1"]

    def sessions(self) -> list[str]:
        """The sessions that have a row."""
        return self._query("select session_id from v_requests")

    def _query(self, query: str) -> list[str]:
        command: list[str | Path] = [
            self._bin / "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(self._port),
            "-U",
            "tester",
            "-d",
            "postgres",
        ]
        ended = subprocess.run(
            [*command, "-Atqc", query], capture_output=True, text=True, check=False, env=_environment()
        )
        return ended.stdout.split()


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A cluster that has not been started yet."""
    base = Path("/tmp") if USER is not None else tmp_path_factory.mktemp("postgresql")
    folder = base / f"ccr-asgi-postgresql-{os.getpid()}-{new_session()[:8]}"
    with ExitStack() as stack, reserved_port() as port:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = PostgreSQL(folder / "data", port)
        stack.callback(server.stop)
        yield server


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
    env = {"CCR_ASGI_DATABASE_URL": postgresql.url}
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
    assert slowest_s < 1.0
    assert "planted-password" not in log
    assert "Traceback" not in log, log


def test_it_is_not_there_at_the_start(fake_upstream: FakeUpstream, tmp_path: Path, postgresql: PostgreSQL) -> None:
    env = {"CCR_ASGI_DATABASE_URL": postgresql.url}
    with running_server(config_of(fake_upstream), tmp_path=tmp_path, env=env) as server:
        session = new_session()
        assert post(server, session) < 2.0
        assert fetch(f"{server.url}/readyz").status == 503
        postgresql.start()
        assert soon(lambda: postgresql.sessions() == [session])
        assert "planted-password" not in server.log()
        assert "Traceback" not in server.log()
