"""`ccr-asgi explain`: what it says is what the server does."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.cli import main
from tests.integration.claude import body, new_session, tagged, world_in_a_thread
from tests.support.fake_upstream import FakeUpstream

Run = Callable[..., tuple[int, str, str]]

CONFIG: dict[str, Any] = {
    "providers": {
        "cerebras": {"apiKey": "csk-invented-secret", "models": ["gpt-oss-120b"], "fallback": ["codex,gpt-6-sol"]},
        "codex": {"apiKey": "sk-another-secret"},
    },
    "rules": [{"model": "claude-haiku-*", "agentId": "watcher*", "route": "cerebras,gpt-oss-120b"}],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the verb on a body; gives its exit code and what it said."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(file))

    def explain(content: bytes, *arguments: str) -> tuple[int, str, str]:
        request = tmp_path / "request.json"
        request.write_bytes(content)
        code = main(["explain", str(request), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return explain


def test_a_tagged_request_is_shown_as_it_would_be_sent(run: Run) -> None:
    code, said, _ = run(tagged(), "--json")
    told = json.loads(said)
    assert code == 0
    assert (told["provider"], told["reason"]) == ("cerebras", "tag")
    assert "gpt-oss-120b" in told["why"]
    assert told["body"]["model"] == told["model"] == "gpt-oss-120b"
    assert "CCR-SUBAGENT-MODEL" not in said.partition('"body"')[2]
    assert [link["provider"] for link in told["fallbacks"]] == ["codex"]
    assert told["input_tokens"] > 0
    assert told["input_usd"] > 0
    assert "secret" not in said


def test_it_is_what_the_server_sends(tmp_path: Path, run: Run) -> None:
    with world_in_a_thread(tmp_path, None) as world:
        world.post(tagged(), session=new_session())
        (sent,) = world.chat.requests
    told = json.loads(run(tagged(), "--json")[1])
    assert told["body"] == json.loads(sent.body)


def test_an_untagged_request_goes_through_as_it_is(run: Run) -> None:
    code, said, _ = run(body())
    assert code == 0
    assert "provider   anthropic" in said
    assert "byte for byte" in said
    assert "a subscription bills nothing" in said
    assert json.loads(run(body(), "--json")[1])["body"] is None


def test_a_rule_is_named(run: Run) -> None:
    content = body(model="claude-haiku-4-5")
    assert "rules[0]" in run(content, "--agent", "watcher-7")[1]
    assert "provider   anthropic" in run(content)[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not json", "400 invalid_request_error"),
        (b"{}", "`model` is missing"),
        (body(model="nowhere,model"), "cerebras"),
    ],
)
def test_what_would_be_refused_is_said_with_the_servers_words(run: Run, content: bytes, said: str) -> None:
    code, out, complaint = run(content)
    assert (code, out) == (1, "")
    assert "would be refused" in complaint
    assert said in complaint
    refused = json.loads(run(content, "--json")[1])["refused"]
    assert refused["status"] == 400
    assert refused["message"] in complaint


def test_what_the_configuration_keeps_secret_is_masked(run: Run, tmp_path: Path) -> None:
    quirks = {"set": {"user": "csk-invented-secret"}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"providers": {"cerebras": {"apiKey": "csk-invented-secret", "quirks": quirks}}}))
    told = json.loads(run(tagged(), "--json")[1])
    assert told["body"]["user"] == "***"


def test_it_reads_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(body()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["explain", "-"]) == 0
    assert "anthropic" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "/nowhere/request.json"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_the_installed_command(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_bytes(body())
    command = Path(sys.executable).with_name("ccr-asgi")
    ended = subprocess.run(
        [command, "explain", request],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "provider   anthropic" in ended.stdout
    assert list(tmp_path.iterdir()) == [request], "it wrote something"


def test_nothing_is_asked(run: Run, fake_upstream: FakeUpstream) -> None:
    run(tagged())
    assert fake_upstream.requests == []
