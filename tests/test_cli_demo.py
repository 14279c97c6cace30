"""`ccr-asgi demo`, as it is installed: from the command to its end, in an empty home folder."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from ccr_asgi.cli import main
from tests.integration.claude import soon

COMMAND = Path(sys.executable).with_name("ccr-asgi")
PROVIDERS = {"anthropic", "cerebras", "codex"}
START_S, STOP_S = 30.0, 20.0

CLOSED = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), CLOSED)

WATCHED = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        place = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        print(event, place, file=log, flush=True)

log = open(sys.argv.pop(1), "w")
sys.addaudithook(watch)
from ccr_asgi.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Runs the command, and writes down every address that its process uses."""


@dataclass
class Running:
    """A demo that has told where it is."""

    process: subprocess.Popen[str]
    told: str
    url: str

    def get(self, path: str) -> Any:
        with build_opener(ProxyHandler({})).open(self.url + path, timeout=5) as answer:
            return answer.read()

    def summary(self) -> Any:
        return json.loads(self.get("/api/usage?range=1h"))

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The folder for temporary folders."""
    made = tmp_path / "temporary"
    made.mkdir()
    return made


@contextmanager
def running(
    home: Path, temporary: Path, *arguments: str, command: tuple[str, ...] = (str(COMMAND),), **env: str
) -> Iterator[Running]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), **PROXIES, **env}
    process = subprocess.Popen(
        [*command, "demo", "--port", "0", *arguments],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = ""
        while not told.endswith("Ctrl-C ends it.\n"):
            line = process.stdout.readline()
            assert line, f"it ended: {told}{process.stderr.read() if process.stderr else ''}"
            told += line
        found = re.search(r"http://127\.0\.0\.1:\d+", told)
        assert found
        yield Running(process, told, found[0])
    finally:
        process.kill()
        process.communicate()


def test_everything_fills_and_nothing_is_left(home: Path, temporary: Path) -> None:
    with running(home, temporary, "--no-open", "--days", "3") as demo:
        assert "All of this is simulated" in demo.told
        assert demo.get("/healthz") == b"ok\n"
        assert b"<html" in demo.get("/dashboard")
        (folder,) = temporary.iterdir()
        assert str(folder / "usage.db") in demo.told

        before = demo.summary()["summary"]["requests"]
        assert soon(lambda: demo.summary()["summary"]["requests"] > before + 3, START_S)
        assert {group["provider"] for group in demo.summary()["by_provider"]} == PROVIDERS

        assert demo.end(signal.SIGINT) == 0
        assert demo.process.stdout is not None
        assert "nothing of it is left" in demo.process.stdout.read()
    assert list(temporary.iterdir()) == []
    assert list(home.iterdir()) == []


def test_live_traffic_alone_asks_every_provider(home: Path, temporary: Path) -> None:
    with running(home, temporary, "--no-open", "--days", "0") as demo:
        assert soon(lambda: {group["provider"] for group in demo.summary()["by_provider"]} == PROVIDERS, START_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_as_well_when_it_is_told_to(home: Path, temporary: Path, number: signal.Signals) -> None:
    with running(home, temporary, "--no-open", "--days", "0") as demo:
        assert demo.end(number) == 0
    assert list(temporary.iterdir()) == []


def test_no_address_but_loopback_is_ever_used(home: Path, temporary: Path, tmp_path: Path) -> None:
    log = tmp_path / "addresses"
    command = (sys.executable, "-c", WATCHED, str(log))
    with running(home, temporary, "--no-open", "--days", "1", command=command) as demo:
        assert soon(lambda: {group["provider"] for group in demo.summary()["by_provider"]} == PROVIDERS, START_S)
        before = demo.summary()["summary"]["requests"]
        assert soon(lambda: demo.summary()["summary"]["requests"] > before + 3, START_S)
        assert demo.end(signal.SIGINT) == 0
    places = [line.partition(" ")[2] for line in log.read_text().splitlines()]
    assert len(places) > 6
    assert all(re.match(r"(\(?['\"]127\.0\.0\.1['\"]|127\.0\.0\.1\b)", place) for place in places), set(places)
    assert not any(place.endswith(", 9)") for place in places), "a proxy of the environment was asked"


def test_the_dashboard_opens_in_a_browser(home: Path, temporary: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o700)
    with running(home, temporary, "--days", "0", BROWSER=str(browser)) as demo:
        assert soon(opened.exists)
        assert opened.read_text() == f"{demo.url}/dashboard\n"


@pytest.mark.parametrize(
    ("platform", "variables"),
    [("linux", {"DISPLAY": ":0"}), ("linux", {"WAYLAND_DISPLAY": "wayland-0"}), ("darwin", {})],
)
def test_it_opens_where_there_is_a_window(
    platform: str,
    variables: dict[str, str],
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[str] = []

    def browser(url: str) -> bool:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
            seen.append(f"{url} {answer.status}")
        os.kill(os.getpid(), signal.SIGINT)
        return True

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("webbrowser.open", browser)
    assert main(["demo", "--port", "0", "--days", "0"]) == 0
    told = capsys.readouterr().out
    (opened,) = seen
    assert opened.endswith("/dashboard 200")
    assert opened.removesuffix(" 200") in told
    assert told.endswith("The demo has ended; nothing of it is left.\n")
    assert list(temporary.iterdir()) == []


def test_no_open_opens_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setenv("BROWSER", "some-browser")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("ccr_asgi.cli_demo._tell", lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert main(["demo", "--port", "0", "--days", "0", "--no-open"]) == 0
    assert not opened


def test_no_browser_takes_the_terminal(home: Path, temporary: Path) -> None:
    with running(home, temporary, "--days", "0") as demo:
        assert demo.get("/healthz") == b"ok\n"


def test_a_port_that_is_taken_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["demo", "--port", port, "--no-open"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"ccr-asgi: port {port} of 127.0.0.1 cannot be used: another program has it")
    assert "--port" in printed.err


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--days", "-1"]])
def test_an_argument_that_cannot_be_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["demo", *arguments])
    assert refused.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    told = capsys.readouterr().out
    assert "simulated" in told
    assert all(flag in told for flag in ("--port", "--no-open", "--days", "--seed"))
