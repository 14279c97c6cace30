"""The demo, running: its own configuration, its own folder, real requests, and nothing left at the end."""

import asyncio
import os
import socket
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ccr_asgi.demo import Demo, PortTaken, running
from ccr_asgi.demo.cast import KINDS
from ccr_asgi.demo.story import live, seeded
from ccr_asgi.demo.traffic import GAP_S, OPENING_GAP_S, OPENING_TURNS, new_client, send, traffic
from tests.demo.conftest import PACE
from tests.integration.claude import soon
from tests.support.server import read_rows

BRISK = 0.2
"""As fast as traffic without end can be, on a small machine."""

PATIENCE_S = 40.0

CLOSED = "http://127.0.0.1:9"
"""Where nobody listens; what is sent there by mistake fails."""


def providers_of(database: str) -> set[Any]:
    return {row["provider"] for row in read_rows(Path(database)) if row["outcome"] == "ok"}


async def test_its_traffic_reaches_every_provider() -> None:
    async with running(days=0, pace=BRISK) as demo:
        database = demo.config.usage.database
        assert await asyncio.to_thread(soon, lambda: providers_of(database) == KINDS.keys(), PATIENCE_S)


@pytest.mark.parametrize("seed", range(1, 6))
def test_its_first_ten_seconds_show_every_provider(seed: int) -> None:
    answered_s: dict[str, float] = {}
    for number, turn in enumerate(islice(live(seeded("live", seed)), 20)):
        asked_s = min(number, OPENING_TURNS) * OPENING_GAP_S + max(0, number - OPENING_TURNS) * GAP_S
        if turn.reply.status == 200:
            answered_s.setdefault(turn.model.provider, asked_s + turn.lasts_s)
    assert answered_s.keys() == KINDS.keys()
    assert max(answered_s.values()) < 9


async def test_it_is_the_real_server(demo: Demo) -> None:
    async with new_client(demo.url) as client:
        for path in ("/healthz", "/readyz", "/dashboard", "/api/usage"):
            assert (await client.get(path)).status_code == 200, path
        visit = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        answer = await client.post("/v1/messages", json=visit, headers={"authorization": "Bearer x"})
        assert "This answer is simulated" in answer.json()["content"][0]["text"]
    assert demo.dashboard_url == f"{demo.url}/dashboard"


async def test_its_past_is_there_from_the_start() -> None:
    async with running(days=2, live=False) as demo:
        assert len(read_rows(Path(demo.config.usage.database))) == demo.past_requests > 50


async def test_all_of_it_is_on_this_machine_and_in_its_folder(demo: Demo) -> None:
    folder = Path(demo.config.usage.database).parent
    for provider in demo.config.providers.values():
        assert urlsplit(provider.base_url).hostname == "127.0.0.1"
        assert provider.auth_file is None or Path(provider.auth_file).parent == folder
        assert provider.token_url is None or urlsplit(provider.token_url).hostname == "127.0.0.1"
    assert demo.config.providers.keys() == KINDS.keys()
    assert demo.config.network.proxy is None
    assert demo.config.usage.log_file is None
    assert demo.config.source is None


async def test_its_files_are_nobody_elses(demo: Demo) -> None:
    files = list(Path(demo.config.usage.database).parent.iterdir())
    assert len(files) > 1
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}


async def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, CLOSED)
    monkeypatch.setenv("CCR_ASGI_DATABASE_URL", "/nowhere/usage.db")
    monkeypatch.setenv("CCR_ASGI_CONFIG", "/nowhere/config.json")
    monkeypatch.setenv("CCR_ASGI_PROVIDERS__CEREBRAS__BASEURL", f"{CLOSED}/chat/completions")
    async with running(days=0, pace=BRISK) as demo:
        database = demo.config.usage.database
        assert await asyncio.to_thread(soon, lambda: providers_of(database) == KINDS.keys(), PATIENCE_S)


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_is_left(fails: bool) -> None:
    class Failure(Exception):
        pass

    folder = Path()
    try:
        async with running(days=1, pace=PACE) as demo:
            folder = Path(demo.config.usage.database).parent
            assert folder.exists()
            if fails:
                raise Failure
    except Failure:
        assert fails
    assert not folder.exists()
    with pytest.raises(httpx.ConnectError):
        async with new_client(demo.url) as client:
            await client.get("/healthz")


async def test_a_cancelled_demo_is_put_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    up = asyncio.Event()

    async def run() -> None:
        async with running(days=0, pace=PACE):
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await up.wait()
    assert os.listdir(tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not os.listdir(tmp_path)


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} of 127\.0\.0\.1 cannot be used: another program has it"):
            async with running(port, days=0, live=False):
                pass


async def test_a_port_that_may_not_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.bind", bind)
    with pytest.raises(PortTaken, match=r"port 80 of 127\.0\.0\.1 cannot be used: Permission denied"):
        async with running(80, days=0, live=False):
            pass


async def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def startup(*_: object, **__: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("uvicorn.Server.startup", startup)
    with pytest.raises(OSError, match="no room"):
        async with running(days=0, live=False):
            pass


async def test_a_request_that_nobody_answers_does_not_end_the_traffic(caplog: pytest.LogCaptureFixture) -> None:
    async with new_client(CLOSED) as client:
        await send(client, next(live(seeded("test", 1))))
    assert "A request of the demo was not answered: ConnectError" in caplog.text


async def test_traffic_ends_when_all_is_answered(demo: Demo) -> None:
    turns = list(islice(live(seeded("test", 3)), 12))
    await traffic(demo.url, turns, pace=PACE)
    assert await asyncio.to_thread(
        soon, lambda: len(read_rows(Path(demo.config.usage.database))) == len(turns), PATIENCE_S
    )
