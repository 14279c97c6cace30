"""Whether a tag in an agent file does what its author meant."""

from pathlib import Path

import pytest

from ccr_asgi.agent_files import AgentFile, agent_files, faults_of
from ccr_asgi.config import parse_config
from ccr_asgi.routing import RoutingTable

TAG = "<CCR-SUBAGENT-MODEL>cerebras,gpt-oss-120b</CCR-SUBAGENT-MODEL>"
FRONT = "---\nname: a\ndescription: does things{}\nmodel: sonnet\n---\n"
TABLE = RoutingTable(
    parse_config({"providers": {"cerebras": {"apiKey": "k"}, "codex": {"apiKey": "${NOT_SET}"}}}).providers
)


def faults(tmp_path: Path, prompt: str, description: str = "", offered: list[str] | None = None) -> list[str]:
    path = tmp_path / "a.md"
    path.write_text(FRONT.format(description) + prompt)
    found = faults_of(AgentFile.read(path), TABLE, {} if offered is None else {"cerebras": offered})
    return [f"{'grave' if fault.grave else 'light'}: {fault.found} -> {fault.fix}" for fault in found]


@pytest.mark.parametrize("prompt", [TAG, f"\n{TAG}\nYou work.", f"You work.\n{TAG}\nWell.", "You work.", ""])
def test_a_good_file_has_none(tmp_path: Path, prompt: str) -> None:
    assert faults(tmp_path, prompt) == []


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("You work.\n" * 30 + TAG, "stands where it routes nothing -> put it at the start"),
        (f"You work.\n```\n{TAG}\n```\n", "stands where it routes nothing"),
        (f"Agents say {TAG} in their prompt.", "stands where it routes nothing"),
        ("<CCR_SUBAGENT_MODEL>cerebras,x</CCR_SUBAGENT_MODEL>", "looks like a tag and is none"),
        ("<ccr-subagent-model>cerebras,x</ccr-subagent-model>", "looks like a tag and is none"),
        ("<CCR-SUBAGENT-MODEL>cerebras,x", "not closed"),
        ("<CCR-SUBAGENT-MODEL></CCR-SUBAGENT-MODEL>", "empty"),
        ("<CCR-SUBAGENT-MODEL>cerebas,x</CCR-SUBAGENT-MODEL>", "cerebras"),
        ("<CCR-SUBAGENT-MODEL>codex,x</CCR-SUBAGENT-MODEL>", "NOT_SET"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(tmp_path: Path, prompt: str, words: str) -> None:
    (found,) = faults(tmp_path, prompt)
    assert found.startswith("grave: ")
    assert words in found


def test_a_tag_in_the_description_is_found(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "You work.", description=f" {TAG}")
    assert "front matter" in found


def test_a_model_that_is_gone_is_a_warning(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, TAG, offered=["other-model"])
    assert found == "light: cerebras does not offer gpt-oss-120b (any more) -> choose one of: other-model"
    assert faults(tmp_path, TAG, offered=["gpt-oss-120b"]) == []


def test_a_file_without_front_matter_is_all_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"\xef\xbb\xbf" + TAG.encode() + b"\xff")
    assert AgentFile.read(path).front == ""
    assert list(faults_of(AgentFile.read(path), TABLE, {})) == []


def test_folders_are_read_with_all_below_them(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    for name in ("b.md", "a.md", "team/c.md", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in agent_files(tmp_path, tmp_path / "none")] == ["a.md", "b.md", "c.md"]
