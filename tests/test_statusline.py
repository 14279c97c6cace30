"""The status line: what stands on it, that it is never missing, and that little is loaded for it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi import statusline
from ccr_asgi.__main__ import main
from tests.integration.claude import CHAT_MODEL, World, new_session, tagged, world_in_a_thread
from tests.support.fake_upstream import FakeUpstream, chat_sse, json_answer, refused_url

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the verb as Claude Code does; gives its line."""
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    monkeypatch.delenv("ANTHROPIC_CUSTOM_HEADERS", raising=False)

    def run(*arguments: str, state: str = "{}") -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(state.encode())))
        monkeypatch.setattr(sys, "argv", ["ccr-asgi", "statusline", *arguments])
        assert main() == 0
        (said,) = capsys.readouterr().out.splitlines()
        return said

    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("line")
    usage = {"database": str(folder / "usage.db"), "costs": {CHAT_MODEL: {"input": 1000, "output": 10_000}}}
    budgets = [
        {"per": "day", "usd": 0.1, "provider": "cerebras", "then": "warn"},
        {"per": "day", "usd": 9, "then": "warn"},
    ]
    settings = {"usage": usage, "budgets": budgets, "proxyKeys": {"alice": "key-of-alice"}}
    with world_in_a_thread(folder, settings) as served:
        yield served


def test_it_tells_limits_budgets_and_money(world: World, line: Any) -> None:
    resets_at = round((datetime.now(UTC) + timedelta(hours=4, seconds=30)).timestamp())
    told = [("x-codex-primary-used-percent", "30"), ("x-codex-primary-reset-at", str(resets_at))]
    world.chat.script(chat_sse("Well.", headers=told))
    session = new_session()
    assert world.post(tagged(), session=session).status == 200
    world.row(session)  # limits and money are told from the database
    said = line("--url", world.url, state='{"model": {"display_name": "Sonnet\\u001b[31m"}}')
    model, quota, budget, money = said.split(" | ")
    assert model == "Sonnet[31m", "no control character reaches the terminal"
    assert quota == "cerebras primary 30% (anew in 4h 00m)"
    assert budget == "budget of 0.1 USD per day at cerebras 81%"
    assert money.startswith("today saved ")
    assert money.endswith(", billed $0.08")


def test_the_server_is_the_one_that_claude_code_talks_to(
    world: World, line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", world.url + "/")
    assert "today saved" in line()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert "today saved" in line("--url", world.url)


def test_the_proxy_key_goes_along(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeUpstream() as gateway:
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-other: secret\nX-CCR-Key: key-of-alice")
        gateway.script(replace(json_answer({}, status=403), then_close=True), where=lambda _: True)
        assert "status 403" in line("--url", f"{gateway.url}/llm")
        (asked,) = gateway.wait_for_requests(1)
    assert asked.target.startswith(b"/llm/api/quota?from=20")
    assert (asked.header("x-ccr-key"), asked.header("x-other")) == (b"key-of-alice", None)


def test_whatever_goes_wrong_is_told_in_the_line(line: Any) -> None:
    with refused_url() as url:
        assert line("--url", url, state='{"model": {"display_name": "Opus"}}').startswith(
            f"Opus | ccr-asgi: no answer that is understood from {url} ("
        )
    assert "it is no http:// or https:// URL" in line("--url", "localhost:3456")
    with FakeUpstream() as other:
        for told in ('{"windows": 3}', "[]"):
            other.script(replace(json_answer(json.loads(told)), then_close=True), where=lambda _: True)
        assert [line("--url", other.url).startswith("ccr-asgi: no answer that is under") for _ in range(2)] == [
            True
        ] * 2


@pytest.mark.parametrize("state", ["", "not JSON", "[]", "[" * 100_000, '{"model": 5}', '{"model": {}}'])
def test_any_state_will_do(world: World, line: Any, state: str) -> None:
    assert "today saved" in line("--url", world.url, state=state)


def test_a_person_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.StringIO("a terminal gives nothing until it is told to")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert statusline._state() is None
    assert stdin.tell() == 0


def window(used: float | None, provider: str = "codex", runs_out: timedelta | None = None, **more: Any) -> Any:
    told = {"provider": provider, "label": "5h", "used_percent": used, "resets_at": "2026-02-02T10:35:00.000Z"}
    runs_out_at = None if runs_out is None else (NOW + runs_out).isoformat()
    return {**told, "forecast": {"runs_out_at": runs_out_at}, **more}


@pytest.mark.parametrize(
    ("told", "part"),
    [
        (window(42.4), "codex 5h 42% (anew in 2d 1h)"),
        (window(42.4, "anthropic", resets_at="2026-01-31T10:35:59.000Z"), "5h 42% (anew in 1h 05m)"),
        (window(90.0, runs_out=timedelta(minutes=7)), "codex 5h 90% (out in 7m, anew in 2d 1h)"),
        (window(90.0, resets_at=None), "codex 5h 90%"),
    ],
)
def test_each_limit_has_a_part(told: Any, part: str) -> None:
    spent = {"saved_usd": 12.345, "billed_usd": None}
    found = list(statusline._parts({"windows": [told, window(None)], "budgets": [], "spent": spent}, NOW))
    assert found == [part, "today saved $12.35, billed -"]


def test_a_loss_is_told_as_one() -> None:
    assert statusline._usd(-0.5) == "-$0.50"


def test_any_other_verb_is_reached_as_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ccr-asgi", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "statusline" in capsys.readouterr().out


def test_little_is_loaded_for_it(tmp_path: Path) -> None:
    """Measured when it was written: 60 ms of processor time, of which Python's own start is 15 ms."""
    program = "import sys; from ccr_asgi.__main__ import main; main(); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run(
        [sys.executable, "-c", program, "statusline", "--url", "http://127.0.0.1:9"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        input=json.dumps({"model": {"display_name": "Sonnet"}}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("Sonnet | ccr-asgi: no answer")
    loaded = set(ended.stderr.split())
    assert {"ccr_asgi", "ccr_asgi.statusline"} <= loaded
    heavy = {
        "asyncio",
        "sqlite3",
        "ssl",
        "http.client",
        "httpx",
        "msgspec",
        "sqlalchemy",
        "starlette",
        "ccr_asgi.config",
    }
    assert not heavy & loaded
