"""The command turns flags into configuration, and a server is run the way the promises need it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ccr_asgi
from ccr_asgi.cli import main


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A copy of the environment, since `serve` writes to it; and SIGTERM is put back, which it takes."""
    environ = {**os.environ, "HOME": str(tmp_path)}
    monkeypatch.setattr(os, "environ", environ)
    before = signal.getsignal(signal.SIGTERM)
    yield environ
    signal.signal(signal.SIGTERM, before)


class Started:
    """Stands where a server would be: remembers how it was made and that it was told to serve."""

    def __init__(self) -> None:
        self.target: object = None
        self.options: dict[str, Any] = {}
        self.served = False

    def run(self, target: object, **options: Any) -> None:
        self.__call__(target, **options).serve()

    def __call__(self, target: object, **options: Any) -> "Started":
        self.target, self.options = target, options
        return self

    def serve(self) -> None:
        self.served = True


@pytest.fixture
def uvicorn(monkeypatch: pytest.MonkeyPatch) -> Started:
    started = Started()
    monkeypatch.setattr("uvicorn.run", started.run)
    return started


@pytest.fixture
def granian(monkeypatch: pytest.MonkeyPatch) -> Started:
    started = Started()
    monkeypatch.setattr("granian.Granian", started)
    return started


def test_uvicorn_serves_by_default(uvicorn: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 0
    assert uvicorn.served
    assert uvicorn.target == "ccr_asgi:app"
    wanted = {"host": "127.0.0.1", "port": 3456, "workers": 1, "http": "httptools", "lifespan": "on", "ws": "none"}
    assert uvicorn.options.items() >= wanted.items()
    off = {"access_log": False, "server_header": False, "date_header": False, "proxy_headers": False}
    assert uvicorn.options.items() >= off.items()
    assert uvicorn.options["timeout_graceful_shutdown"] == 31
    assert uvicorn.options["h11_max_incomplete_event_size"] > 1024 * 1024
    printed = capsys.readouterr()
    assert "ANTHROPIC_BASE_URL=http://localhost:3456 claude" in printed.err
    assert printed.out == ""


def test_flags_travel_to_the_workers_by_environment(uvicorn: Started, environment: dict[str, str]) -> None:
    assert main(["serve", "--host", "::1", "--port", "4000", "--workers", "3", "--http", "h11"]) == 0
    assert (environment["CCR_ASGI_HOST"], environment["CCR_ASGI_PORT"]) == ("::1", "4000")
    assert uvicorn.options.items() >= {"host": "::1", "port": 4000, "workers": 3, "http": "h11"}.items()


def test_flags_that_are_not_given_leave_the_environment_alone(uvicorn: Started, environment: dict[str, str]) -> None:
    environment["CCR_ASGI_PORT"] = "4001"
    assert main(["serve"]) == 0
    assert environment["CCR_ASGI_PORT"] == "4001"
    assert "CCR_ASGI_HOST" not in environment
    assert uvicorn.options["port"] == 4001


def test_the_file_says_the_rest(uvicorn: Started, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ccr.json").write_text('{"port": 4002, "host": "192.0.2.7", "timeouts": {"drainS": 7.4}}')
    environment["CCR_ASGI_CONFIG"] = str(tmp_path / "ccr.json")
    assert main(["serve", "--port", "4003"]) == 0
    assert uvicorn.options.items() >= {"host": "192.0.2.7", "port": 4003, "timeout_graceful_shutdown": 9}.items()


def test_granian_serves_too(granian: Started) -> None:
    assert main(["serve", "--server", "granian", "--workers", "2", "--port", "4000"]) == 0
    assert granian.served
    assert granian.target == "ccr_asgi:app"
    wanted = {"address": "127.0.0.1", "port": 4000, "interface": "asgi", "workers": 2, "websockets": False}
    assert granian.options.items() >= wanted.items()
    assert granian.options["workers_kill_timeout"] > 30  # after drainS, so that rows are written


def test_an_extra_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "granian", None)
    assert main(["serve", "--server", "granian"]) == 1
    assert "pip install 'ccr-asgi[granian]'" in capsys.readouterr().err


def test_sigterm_is_no_failure(uvicorn: Started) -> None:
    main(["serve"])
    signal.raise_signal(signal.SIGTERM)


def test_a_broken_configuration_is_told_and_nothing_is_started(
    uvicorn: Started, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ccr.json"
    path.write_text('{"prot": 1}')
    environment["CCR_ASGI_CONFIG"] = str(path)
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.startswith(f"ccr-asgi: {path}: prot: there is no such key")
    assert not uvicorn.served


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        *(
            ([], 2),
            (["fly"], 2),
            (["serve", "--port", "x"], 2),
            (["serve", "--server", "x"], 2),
            (["serve", "--workers", "0"], 2),
            (["serve", "x"], 2),
        ),
        *((["--version"], 0), (["--help"], 0), (["serve", "--help"], 0)),
    ],
    ids=str,
)
def test_what_is_not_understood_is_a_usage_error(
    argv: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert raised.value.code == code
    printed = capsys.readouterr()
    assert (printed.out == "") is (code != 0)
    assert (printed.err == "") is (code == 0)


def test_alone_it_tells_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([])
    assert raised.value.code == 2
    told = capsys.readouterr().err
    assert all(f"\n    {verb} " in told for verb in ("serve", "code", "demo", "doctor"))


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"ccr-asgi {ccr_asgi.__version__}\n"


def test_it_is_a_program() -> None:
    ran = subprocess.run([sys.executable, "-m", "ccr_asgi.cli", "--version"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"ccr-asgi {ccr_asgi.__version__}\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(environment: dict[str, str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody_reads:
        command = [sys.executable, "-m", "ccr_asgi", "config", "schema"]
        env = {**environment, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, env=env, stdout=nobody_reads, stderr=subprocess.PIPE, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (141, b"")
