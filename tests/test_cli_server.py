"""`code`, `status` and `stop`, as the installed command on a real port."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_upstream import FakeUpstream

COMMAND = Path(sys.executable).with_name("ccr-asgi")
CLAUDE = """#!/bin/sh
echo "base $ANTHROPIC_BASE_URL"
for argument in "$@"; do echo "argument $argument"; done
exit 7
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
        return found


@pytest.fixture
def environment(tmp_path: Path, port: int) -> dict[str, str]:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "claude").write_text(CLAUDE)
    (programs / "claude").chmod(0o755)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "COVERAGE_PROCESS_START") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "PATH": f"{programs}:{kept['PATH']}", "CCR_ASGI_PORT": str(port)}


@pytest.fixture
def run(environment: dict[str, str]) -> Iterator[Run]:
    """Runs the command; whatever server it has started is stopped in the end."""

    def call(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [COMMAND, *arguments],
            env={**environment, **changes},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
            stdin=subprocess.DEVNULL,
        )

    yield call
    call("stop")


def test_nothing_runs(run: Run, port: int) -> None:
    told = run("status")
    assert (told.returncode, told.stderr) == (1, "")
    assert f"No server runs at http://localhost:{port}." in told.stdout
    assert json.loads(run("status", "--json").stdout)["state"] == "nothing"
    stopped = run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"No server runs at http://localhost:{port}.\n")


def test_claude_code_runs_through_a_server_that_is_started_for_it(run: Run, port: int, tmp_path: Path) -> None:
    first = run("code", "-p", "two words", "--model", "haiku", "--", "x")
    assert first.returncode == 7
    assert first.stdout.splitlines() == [
        f"base http://localhost:{port}",
        *(f"argument {argument}" for argument in ("-p", "two words", "--model", "haiku", "--", "x")),
    ]
    assert "ccr-asgi stop" in first.stderr
    told = json.loads(run("status", "--json").stdout)
    assert told["state"] == "ready"
    assert told["pid"] is not None
    second = run("code")
    assert (second.returncode, second.stderr) == (7, "")  # the one that runs is found
    assert json.loads(run("status", "--json").stdout)["pid"] == told["pid"]
    notes = sorted((tmp_path / ".claude-code-router").glob("server-*"))
    assert [oct(path.stat().st_mode & 0o777) for path in notes] == ["0o600", "0o600"]
    stopped = run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"The server at http://localhost:{port} has stopped.\n")
    assert run("status").returncode == 1
    assert list((tmp_path / ".claude-code-router").glob("server-*.json")) == []


def test_help_is_ours() -> None:
    done = subprocess.run([COMMAND, "code", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "ANTHROPIC_BASE_URL" in done.stdout


def test_without_claude_code_it_says_how_to_get_it(run: Run, tmp_path: Path) -> None:
    done = run("code", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "npm install -g @anthropic-ai/claude-code" in done.stderr
    assert run("status").returncode == 1  # nothing was started


def test_a_foreign_server_is_left_alone(run: Run) -> None:
    with FakeUpstream() as foreign:
        foreign_port = foreign.url.rpartition(":")[2]
        for verb, code in (("status", 1), ("code", 1), ("stop", 0)):
            assert run(verb, CCR_ASGI_PORT=foreign_port).returncode == code
        assert "Something else answers" in run("code", CCR_ASGI_PORT=foreign_port).stderr


def test_a_server_that_cannot_start_says_why(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"host": "203.0.113.7"}')
    done = run("code", CCR_ASGI_CONFIG=str(config))
    assert done.returncode == 1
    assert "did not start" in done.stderr
    assert "203.0.113.7" in done.stderr


def test_a_server_of_another_start_is_not_stopped(run: Run, environment: dict[str, str], port: int) -> None:
    line = [sys.executable, "-m", "uvicorn", "ccr_asgi:app", "--port", str(port)]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        while "running on" not in server.stderr.readline():
            pass
        assert run("status").returncode == 0
        done = run("stop")
        assert (done.returncode, server.poll()) == (1, None)
        assert "stop it where it was started" in done.stderr
        server.send_signal(signal.SIGTERM)
        server.stderr.read()


def test_a_database_that_cannot_be_used_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "usage.db").write_bytes(b"no database at all" * 100)
    database = str(tmp_path / "usage.db")
    assert run("code", CCR_ASGI_DATABASE_URL=database).returncode == 7
    told = run("status", CCR_ASGI_DATABASE_URL=database)
    assert told.returncode == 1
    assert "cannot be used" in told.stdout
    assert database in told.stdout


def test_start_starts_one_and_finds_it_again(run: Run, port: int) -> None:
    for _ in range(2):
        told = run("start")
        assert (told.returncode, told.stdout) == (0, f"A server runs at http://localhost:{port}.\n")
    assert json.loads(run("status", "--json").stdout)["state"] == "ready"


def test_start_does_not_take_a_port_of_somebody_else(run: Run, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        told = run("start")
    assert told.returncode == 1
    assert "Something else answers" in told.stderr
