"""The product on a real socket: as a process of its own, as its users run it, or in a thread, for speed."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Literal

import uvicorn

CHECKOUT = Path(__file__).resolve().parents[2]

ServerName = Literal["uvicorn", "granian", "hypercorn", "serve"]
HttpName = Literal["httptools", "h11"]

ORDERLY_EXIT: dict[ServerName, int] = {"uvicorn": -signal.SIGTERM, "granian": 0, "hypercorn": 0, "serve": 0}
"""The exit code after SIGTERM and a clean shutdown: uvicorn raises the signal once more when it is done."""

START_S = 30.0
STOP_S = 20.0
ROWS_S = 30.0
_LOOK_AGAIN_S = 0.02


@dataclass
class RunningServer:
    """A server process that answers.

    Attributes:
        url: Its origin, without a slash at the end.
        home: The empty folder that is its HOME.
        database: Where its usage.db is.
        log_file: Its standard output and error.
    """

    url: str
    port: int
    home: Path
    config_file: Path
    database: Path
    log_file: Path
    process: subprocess.Popen[bytes]

    def usage_rows(self, count: int = 1, timeout: float = ROWS_S) -> list[dict[str, Any]]:
        """All rows of `v_requests`, oldest first, once there are at least `count` of them.

        Raises:
            AssertionError: They did not come in `timeout` seconds; it shows those that did, and the server's log.
        """
        rows: list[dict[str, Any]] = []

        def enough() -> bool:
            rows[:] = read_rows(self.database)
            return len(rows) >= count

        assert _soon(enough, timeout), f"{len(rows)} of {count} rows came: {rows}\n{self.log()}"
        return rows

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace the configuration file atomically."""
        fresh = self.config_file.with_suffix(".new")
        fresh.write_text(json.dumps(config))
        fresh.replace(self.config_file)

    def log(self) -> str:
        """What the server has said so far."""
        return self.log_file.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self.process.send_signal(number)

    def wait(self, timeout: float = STOP_S) -> int:
        """Wait for the process to end; its exit code."""
        return self.process.wait(timeout)

    def terminate(self, timeout: float = STOP_S) -> int:
        """Send SIGTERM and wait for the end; the exit code, which is `ORDERLY_EXIT` of its server if all is well."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it and its workers at once (SIGKILL), as a crash would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_server(
    config: Mapping[str, Any],
    *,
    tmp_path: Path,
    server: ServerName = "uvicorn",
    http: HttpName = "httptools",
    workers: int = 1,
    target: str = "ccr_asgi:app",
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[RunningServer]:
    """Run the product with this configuration until the block ends; it answers `/healthz` when the block begins.

    Args:
        tmp_path: Where its HOME, configuration, database and log are put.
        target: The application, for those who test it mounted in one of their own.
        arguments: More arguments for the server's command line.
        env: More environment variables; HOME, PATH and the two of ours are all it has otherwise.
    """
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    config_file, database, log_file = tmp_path / "config.json", tmp_path / "usage.db", tmp_path / "server.log"
    config_file.write_text(json.dumps(config))
    environment = {
        **{name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_START") if name in os.environ},
        "HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "CCR_ASGI_CONFIG": str(config_file),
        "CCR_ASGI_DATABASE_URL": str(database),
        **(env or {}),
    }
    with reserved_port() as port, log_file.open("wb") as log:
        command = _command(server, http, port, workers, target)
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be ended with it
        )
        running = RunningServer(f"http://127.0.0.1:{port}", port, home, config_file, database, log_file, process)
        try:
            _wait_until_healthy(running)
            yield running
        finally:
            _end(running)


def _command(server: ServerName, http: HttpName, port: int, workers: int, target: str) -> list[str]:
    at = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    match server:
        case "uvicorn":
            return [sys.executable, "-m", "uvicorn", *at, "--http", http, "--no-access-log", target]
        case "granian":
            return [sys.executable, "-m", "granian", *at, "--interface", "asgi", "--no-ws", target]
        case "hypercorn":
            return [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "--workers", str(workers), target]
        case "serve":
            return [str(Path(sys.executable).with_name("ccr-asgi")), "serve", *at, "--http", http]


def _wait_until_healthy(running: RunningServer) -> None:
    def answered_or_ended() -> bool:
        return running.process.poll() is not None or _is_healthy(running.port)

    _soon(answered_or_ended, START_S)
    code = running.process.poll()
    assert code is None, f"the server ended with {code}:\n{running.log()}"
    assert _is_healthy(running.port), f"no healthy answer in {START_S} s:\n{running.log()}"


def _is_healthy(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


def _end(running: RunningServer) -> None:
    if running.process.poll() is not None:
        return
    try:
        code = running.terminate()
    except subprocess.TimeoutExpired:
        running.kill()
        raise AssertionError(f"the server did not stop in {STOP_S} s after SIGTERM:\n{running.log()}") from None
    assert code in ORDERLY_EXIT.values(), f"the server ended with {code}:\n{running.log()}"


def read_rows(database: Path, query: str = "select * from v_requests order by started_at") -> list[dict[str, Any]]:
    """The rows of a query on a usage.db; none while the file or the view is not there yet."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]
    except sqlite3.OperationalError:
        return []


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the kernel gives to nobody else while the block runs, though a server may bind it.

    The socket that holds it is bound and never listens: with SO_REUSEADDR (uvicorn) or SO_REUSEPORT (granian) on both
    sides another may bind the same address, while the kernel's own choice of a free port passes it over.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@dataclass(frozen=True)
class ServedApp:
    """An application served by a thread of this process."""

    url: str
    port: int
    server: uvicorn.Server


@contextmanager
def serve_app(
    app: Any,
    *,
    http: HttpName = "httptools",
    lifespan: Literal["auto", "on", "off"] = "auto",
    root_path: str = "",
    drain_s: int = 5,
) -> Iterator[ServedApp]:
    """Serve an ASGI application with uvicorn in a thread of its own until the block ends.

    Args:
        drain_s: How long the end waits for requests that still run before it cancels them.
    """
    options = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan=lifespan,
        root_path=root_path,
        log_config=None,
        timeout_graceful_shutdown=drain_s,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port: int = listener.getsockname()[1]
        server = _ThreadedServer(options)
        thread = threading.Thread(target=server.run_here, args=(listener,), name="served-app")
        thread.start()
        try:
            assert server.ready.wait(START_S), "the application did not start"
            if server.failure is None:
                yield ServedApp(f"http://127.0.0.1:{port}", port, server)
        finally:
            server.should_exit = True
            thread.join()
        if server.failure is not None:
            raise server.failure


class _ThreadedServer(uvicorn.Server):
    """A uvicorn server that says when it is ready, and keeps what ended it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.failure: BaseException | None = None

    def run_here(self, listener: socket.socket) -> None:
        try:
            self.run([listener])
        except BaseException as error:  # SystemExit when the lifespan's startup failed
            self.failure = error
        finally:
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _soon(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
