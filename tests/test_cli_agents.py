"""`ccr-asgi agents install`: seven files that route, and none of the user's own lost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccr_asgi.agent_files import AgentFile, faults_of
from ccr_asgi.cli import main
from ccr_asgi.cli_agents import examples
from ccr_asgi.config import parse_config
from ccr_asgi.routing import RoutingTable, find_tag

NAMES = ["code-reader", "code-reviewer", "software-architect", "data-analyst", "fast-dev", "fast-dev-gptoss", "watcher"]
BOTH = {"providers": {"cerebras": {"apiKey": "k"}, "codex": {"apiKey": "k"}}}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CCR_ASGI_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["agents", "install", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_all_seven_are_written_and_route(run: Run, tmp_path: Path) -> None:
    code, said, _ = run()
    assert code == 0
    folder = tmp_path / ".claude/agents"
    assert sorted(path.stem for path in folder.iterdir()) == sorted(NAMES)
    table = RoutingTable(parse_config(BOTH).providers)
    for name in NAMES:
        agent = AgentFile.read(folder / f"{name}.md")
        assert f"name: {name}\n" in agent.front
        assert "model: sonnet\n" in agent.front
        assert list(faults_of(agent, table, {})) == []
        assert find_tag(agent.prompt.strip()) is not None
    assert "codex is not configured yet, so that code-reader, code-reviewer" in said
    assert "only what is served" not in said
    assert run()[1].count("unchanged") == 7


def test_who_has_one_provider_is_told_whose_agents_it_serves(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCR_ASGI_PROVIDERS__CEREBRAS__APIKEY", "an-invented-key")
    _, said, _ = run("--dry-run")
    assert "cerebras is not configured" not in said
    assert "ccr-asgi agents install fast-dev fast-dev-gptoss watcher\n" in said


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("--dry-run")
    assert (code, said.count("new")) == (0, 7)
    assert not (tmp_path / ".claude").exists()


def test_what_differs_is_kept_unless_it_is_forced(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / ".claude/agents/watcher.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own")
    assert "kept" in run("watcher")[1]
    assert "differs" in run("watcher", "--dry-run")[1]
    assert mine.read_text() == "my own"
    assert "replaced" in run("watcher", "--force")[1]
    assert mine.read_text() != "my own"


@pytest.mark.parametrize(("answer", "becomes"), [("y", "replaced"), ("", "kept"), ("no", "kept")])
def test_on_a_terminal_it_asks(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, becomes: str
) -> None:
    mine = tmp_path / ".claude/agents/watcher.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: answer)
    assert becomes in run("watcher")[1]


def test_models_are_those_of_the_configuration_where_it_lists_some() -> None:
    listed = {"cerebras": {"apiKey": "k", "models": ["newest", "gpt-oss-120b"]}, "codex": {"apiKey": "k"}}
    found = {agent.name: agent.model for agent in examples(parse_config({"providers": listed}))}
    assert found["fast-dev"] == "newest"
    assert found["fast-dev-gptoss"] == "gpt-oss-120b"
    assert json.dumps(found["code-reader"])


def test_a_project_has_its_own(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    assert run("fast-dev", "--project")[0] == 0
    assert (project / ".claude/agents/fast-dev.md").exists()


def test_an_unknown_name_is_said(run: Run) -> None:
    code, _, complaint = run("reader")
    assert code == 2
    assert "accepted: code-reader" in complaint


def test_a_folder_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".claude").write_text("a file")
    code, _, complaint = run()
    assert code == 1
    assert "cannot be written" in complaint


def test_the_installed_command(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("ccr-asgi")
    ended = subprocess.run(
        [command, "agents", "install", "--dry-run"], env={"HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    assert ended.stdout.count("new ") >= 7
