"""examples/team: the script brings up the whole gateway; the files for containers and systemd say the same things."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.config import parse_config
from tests.integration.claude import TARGET, body, headers, new_session, providers, soon, tagged
from tests.postgresql.nginx import BINARY
from tests.postgresql.server import BINARIES, REQUIRED
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient
from tests.support.server import CHECKOUT

TEAM = CHECKOUT / "examples" / "team"
KEYS = {"CCR_KEY_ALICE": "invented-key-of-alice", "CCR_KEY_BOB": "invented-key-of-bob"}
ALICE = ("x-ccr-key", KEYS["CCR_KEY_ALICE"])


@contextmanager
def three_ports() -> Iterator[int]:
    """The first of three ports in a row that the kernel gives to nobody else while the block runs."""
    for first in range(20_000 + os.getpid() % 10_000, 32_000, 3):
        with ExitStack() as held:
            try:
                for port in range(first, first + 3):
                    holder = held.enter_context(socket.socket())
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    holder.bind(("127.0.0.1", port))
            except OSError:
                continue
            yield first
            return
    raise AssertionError("no three free ports in a row")


@contextmanager
def gateway(config: dict[str, Any], port: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The script, running; and the folder of its data, whose path is short enough for a socket."""
    folder = Path(f"/tmp/ccr-team-{os.getpid()}-{new_session()[:8]}")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(folder), "PORT": str(port), "CONFIG": str(folder / "config.json"), **KEYS}
    with (folder / "run.log").open("wb") as log:
        process = subprocess.Popen([TEAM / "run.sh", folder], env=environment, stdout=log, stderr=log)
    try:
        yield process, folder
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def status_of(port: int, *more: tuple[str, str], content: bytes | None = None) -> int:
    with RawClient(f"http://127.0.0.1:{port}") as client:
        return client.request("POST", TARGET, headers(new_session(), *more), content or body()).status


def everything_said(folder: Path) -> str:
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-3000:]}" for log in folder.glob("*.log"))


@pytest.mark.postgresql
@pytest.mark.skipif((BINARIES is None or BINARY is None) and not REQUIRED, reason="needs Debian's postgresql and nginx")
@pytest.mark.timeout(180)
def test_the_script_serves_a_team(fake_upstream: FakeUpstream, second_upstream: FakeUpstream) -> None:
    config = json.loads((TEAM / "config.json").read_text())
    config["providers"] = providers(fake_upstream, second_upstream, fake_upstream)
    with three_ports() as port, gateway(config, port) as (process, folder):
        ready = soon(lambda: b"serving at" in (folder / "run.log").read_bytes() or process.poll() is not None, 90)
        assert ready, everything_said(folder)
        assert process.poll() is None, everything_said(folder)
        assert status_of(port) == 403
        assert [status_of(port, ALICE) for _ in range(4)] == [200] * 4
        assert status_of(port, ("x-ccr-key", KEYS["CCR_KEY_BOB"]), content=tagged()) == 200

        def people() -> list[str]:
            assert BINARIES is not None
            query = "select proxy_key, count(*) from v_requests group by 1 order by 1"
            command: list[str | Path] = [BINARIES / "psql", "-h", folder, "-U", "ccr", "-d", "usage", "-Atc", query]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            return said.split()

        assert soon(lambda: people() == ["alice|4", "bob|1"]), everything_said(folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        said = everything_said(folder)
    assert "Traceback" not in said
    assert not any(key in said for key in KEYS.values())


def test_the_teams_configuration_is_one() -> None:
    config = parse_config(json.loads((TEAM / "config.json").read_text()), environ=KEYS)
    assert config.require_key
    assert set(config.proxy_keys) == {"alice", "bob"}


def test_the_image_has_what_the_package_is_built_of_and_no_root() -> None:
    lines = (TEAM / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]}
    assert all((CHECKOUT / name).exists() for name in copied)
    wanted = re.search(r"^only-include = (.*)$", (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert wanted is not None
    assert set(json.loads(wanted[1])) <= copied
    assert sum(line.startswith("FROM") for line in lines) == 2
    assert "USER ccr" in lines[lines.index(next(line for line in reversed(lines) if line.startswith("FROM"))) :]
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def test_the_compose_file_and_nginx_name_each_other() -> None:
    compose, nginx = (TEAM / "compose.yaml").read_text(), (TEAM / "nginx.conf").read_text()
    replicas = re.findall(r"^  (replica-\d): \*replica$", compose, re.MULTILINE)
    assert replicas == re.findall(r"server (replica-\d):3456;", nginx)
    assert len(replicas) == 2
    for mounted in re.findall(r'"\./([\w.]+):', compose):
        assert (TEAM / mounted).is_file()
    assert set(re.findall(r"CCR_KEY_\w+(?=:)", compose)) == set(KEYS)


def test_the_unit_starts_the_command() -> None:
    unit = (TEAM / "ccr-asgi.service").read_text()
    assert "ExecStart=%h/.local/bin/ccr-asgi serve\n" in unit
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > parse_config({}).timeouts.drain_s
