"""A PostgreSQL server of our own, in a folder of our own, on a port that is kept for it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.claude import new_session, soon
from tests.support.server import reserved_port

FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
BINARIES = next((folder for folder in FOLDERS if (folder / "initdb").exists() and (folder / "postgres").exists()), None)
USER = "postgres" if os.geteuid() == 0 else None
"""The server refuses to run as root."""

REQUIRED = "CI_POSTGRESQL_REQUIRED" in os.environ
"""In CI a missing server is a failure, not a skip."""

needs_postgresql = [
    pytest.mark.postgresql,
    pytest.mark.skipif(BINARIES is None and not REQUIRED, reason="needs Debian's postgresql"),
]


class PostgreSQL:
    """A cluster that has not been started yet."""

    def __init__(self, folder: Path, port: int) -> None:
        assert BINARIES is not None
        self._bin, self._folder, self._port = BINARIES, folder, port
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, parents=True)
        if USER is not None:
            shutil.chown(folder, USER)
        command: list[str | Path] = [self._bin / "initdb", "-D", folder, "-U", "tester", "-A", "trust"]
        subprocess.run(
            [*command, "--no-sync", "-E", "UTF8"],
            user=USER,
            cwd="/",
            check=True,
            capture_output=True,
            env=_environment(),
        )

    def url(self, database: str = "postgres") -> str:
        """Where one of its databases is, as the usage's `database` takes it."""
        return f"postgresql+asyncpg://tester:planted-password@127.0.0.1:{self._port}/{database}"

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
        return self.query("select 1") == ["1"]

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"usage_{new_session().replace('-', '')}"
        self.query(f"create database {name}")
        return self.url(name)

    def sessions(self) -> list[str]:
        """The sessions that have a row."""
        return self.query("select session_id from v_requests")

    def query(self, query: str) -> list[str]:
        """What psql prints, in words; nothing if it fails."""
        at: list[str | Path] = [self._bin / "psql", "-h", "127.0.0.1", "-p", str(self._port), "-U", "tester"]
        ended = subprocess.run(
            [*at, "-d", "postgres", "-Atqc", query], capture_output=True, text=True, check=False, env=_environment()
        )
        return ended.stdout.split()


@contextmanager
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A cluster in a folder that its user may enter, gone when the block ends."""
    base = Path("/tmp") if USER is not None else tmp_path_factory.mktemp("postgresql")
    folder = base / f"ccr-asgi-postgresql-{os.getpid()}-{new_session()[:8]}"
    with ExitStack() as stack, reserved_port() as port:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = PostgreSQL(folder / "data", port)
        stack.callback(server.stop)
        yield server


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}
