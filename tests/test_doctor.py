"""`ccr-asgi doctor` finds each of its problems when it is planted, and prints its fix."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi import doctor
from tests.support.codex_login import write_login
from tests.support.fake_upstream import Answer, FakeUpstream, json_answer

COMMAND = Path(sys.executable).with_name("ccr-asgi")
CLAUDE = "#!/bin/sh\necho '2.1.330 (Claude Code)'\n"
TAG = "<CCR-SUBAGENT-MODEL>{}</CCR-SUBAGENT-MODEL>"

Examine = Callable[..., tuple[int, list[dict[str, str]]]]


@pytest.fixture
def well(tmp_path: Path, fake_upstream: FakeUpstream) -> dict[str, Any]:
    """The configuration of a set-up in which nothing is wrong."""
    fake_upstream.on("/v1/models", json_answer({"data": [{"id": "gpt-oss-120b"}]}))
    fake_upstream.on("/codex/models", json_answer({"models": [{"slug": "gpt-6-sol"}]}))
    fake_upstream.on("/", dated(datetime.now(UTC)))
    auth_file = tmp_path / "auth.json"
    write_login(auth_file, ends_in_s=100_000.0)
    auth_file.chmod(0o600)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "claude").write_text(CLAUDE)
    (programs / "claude").chmod(0o755)
    agents = tmp_path / ".claude/agents"
    agents.mkdir(parents=True)
    (agents / "fast.md").write_text(f"---\nname: fast\n---\n{TAG.format('cerebras,gpt-oss-120b')}\nYou work.")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return {
        "port": port,
        "providers": {
            "anthropic": {"baseUrl": fake_upstream.url},
            "cerebras": {"apiKey": "csk-secret-key", "baseUrl": f"{fake_upstream.url}/v1/chat/completions"},
            "codex": {"baseUrl": f"{fake_upstream.url}/codex/responses", "authFile": str(auth_file)},
        },
        "usage": {"database": str(tmp_path / "data/usage.db")},
    }


def dated(at: datetime) -> Answer:
    return Answer([b""], headers=[("date", format_datetime(at, usegmt=True))])


@pytest.fixture
def examine(tmp_path: Path) -> Examine:
    """Runs the installed command on a configuration; gives its exit code and what it found."""

    def run(config: Mapping[str, Any] | str, **environ: str) -> tuple[int, list[dict[str, str]]]:
        file = tmp_path / "config.json"
        file.write_text(config if isinstance(config, str) else json.dumps(config))
        environment = {
            "HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "CCR_ASGI_CONFIG": str(file), **environ,
        }  # fmt: skip
        ended = subprocess.run(
            [COMMAND, "doctor", "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50,
            check=False,
        )  # fmt: skip
        assert "csk-secret-key" not in ended.stdout + ended.stderr
        assert ended.stdout, ended.stderr
        return ended.returncode, json.loads(ended.stdout)

    return run


def only(found: list[dict[str, str]], level: str) -> dict[str, str]:
    """The one finding of this level; it has a fix."""
    (one,) = [finding for finding in found if finding["level"] == level]
    assert one["fix"]
    return one


def test_nothing_is_wrong(examine: Examine, well: dict[str, Any]) -> None:
    code, found = examine(well)
    assert [finding for finding in found if finding["level"] != "ok"] == []
    assert code == 0
    subjects = " ".join(finding["subject"] for finding in found)
    for subject in ("configuration", "server", "database", "network", "login of codex", "provider cerebras", "agents",
                    "Claude Code", "prices"):  # fmt: skip
        assert subject in subjects


def test_it_is_said_for_people_too(tmp_path: Path, examine: Examine, well: dict[str, Any]) -> None:
    well["providers"]["cerebras"]["apiKey"] = "${NOT_SET}"
    examine(well)
    environment = {
        "HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin", "CCR_ASGI_CONFIG": str(tmp_path / "config.json"),
    }  # fmt: skip
    ended = subprocess.run(
        [COMMAND, "doctor"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 1
    assert "PROBLEM provider cerebras: no key is configured (${NOT_SET})\n        -> set the variable" in ended.stdout
    assert ended.stdout.endswith("problems\n")


def test_a_configuration_that_is_not_understood(examine: Examine) -> None:
    code, found = examine('{"prot": 1}')
    assert code == 1
    assert "prot: there is no such key" in only(found, "problem")["found"]


def test_a_variable_that_names_no_key(examine: Examine, well: dict[str, Any]) -> None:
    code, found = examine(well, CCR_ASGI_PROT="1")
    assert code == 0
    assert "CCR_ASGI_PROT" in only(found, "warning")["found"]


def test_a_port_that_is_taken(examine: Examine, well: dict[str, Any], fake_upstream: FakeUpstream) -> None:
    well["port"] = int(fake_upstream.url.rpartition(":")[2])
    assert "something else answers" in only(examine(well)[1], "problem")["found"]


def test_a_database_that_is_none(examine: Examine, well: dict[str, Any]) -> None:
    path = Path(well["usage"]["database"])
    path.parent.mkdir()
    path.write_bytes(b"This is no database. " * 100)
    found = only(examine(well)[1], "problem")
    assert "cannot be read" in found["found"]
    assert found["fix"].startswith("move it away")


def test_a_database_server_is_left_to_the_server(examine: Examine, well: dict[str, Any]) -> None:
    well["usage"]["database"] = "postgresql+asyncpg://ada:hidden@db/usage"
    assert any(finding["subject"] == "database" and "a server" in finding["found"] for finding in examine(well)[1])


def test_a_database_that_is_well(examine: Examine, well: dict[str, Any]) -> None:
    path = Path(well["usage"]["database"])
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE requests (id)")
    connection.close()
    assert any("0 requests" in finding["found"] for finding in examine(well)[1])


def test_a_disk_that_is_nearly_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ccr_asgi.config import parse_config

    monkeypatch.setattr(doctor, "LITTLE_SPACE_BYTES", 10**18)
    config = parse_config({"usage": {"database": str(tmp_path / "usage.db")}})
    assert [finding.level for finding in doctor._database(config)] == ["warning", "ok"]


def test_a_folder_and_a_file_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ccr_asgi.config import parse_config

    config = parse_config({"usage": {"database": str(tmp_path / "usage.db")}})
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "chown" in next(iter(doctor._database(config))).fix


def test_a_network_without_anthropic(examine: Examine, well: dict[str, Any]) -> None:
    well["providers"]["anthropic"]["baseUrl"] = "http://127.0.0.1:9"
    found = only(examine(well)[1], "problem")
    assert (found["subject"], "network.proxy" in found["fix"]) == ("network", True)


def test_a_clock_that_is_off(examine: Examine, well: dict[str, Any], fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/", dated(datetime.now(UTC) - timedelta(hours=2)))
    found = only(examine(well)[1], "problem")
    assert "off by 120 minutes" in found["found"]


def test_a_login_that_is_missing(examine: Examine, well: dict[str, Any]) -> None:
    Path(well["providers"]["codex"]["authFile"]).unlink()
    problems = [finding for finding in examine(well)[1] if finding["level"] == "problem"]
    assert problems[0]["subject"] == "login of codex"
    assert "codex login" in problems[0]["fix"]


def test_a_login_that_others_can_read(examine: Examine, well: dict[str, Any]) -> None:
    Path(well["providers"]["codex"]["authFile"]).chmod(0o644)
    assert only(examine(well)[1], "warning")["fix"].startswith("chmod 600")


def test_a_key_that_is_refused(examine: Examine, well: dict[str, Any], fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/v1/models", json_answer({}, 401))
    found = only(examine(well)[1], "problem")
    assert "refuses the credential" in found["found"]
    assert "valid key" in found["fix"]


def test_a_provider_without_a_list_of_models(
    examine: Examine, well: dict[str, Any], fake_upstream: FakeUpstream
) -> None:
    fake_upstream.on("/v1/models", json_answer({}, 404))
    code, findings = examine(well)
    assert code == 0
    assert "no list of models" in only(findings, "warning")["fix"]


def test_a_provider_that_is_away(examine: Examine, well: dict[str, Any], fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/v1/models", json_answer({}, 503))
    assert "baseUrl" in only(examine(well)[1], "problem")["fix"]


def test_a_configured_model_that_is_gone(examine: Examine, well: dict[str, Any]) -> None:
    well["providers"]["cerebras"]["models"] = ["retired", "gpt-oss-120b"]
    assert "retired" in only(examine(well)[1], "warning")["found"]


@pytest.mark.parametrize(
    ("content", "level", "words"),
    [
        (f"---\ndescription: {TAG.format('cerebras,x')}\n---\nYou work.", "problem", "front matter"),
        ("You work.\n" * 20 + TAG.format("cerebras,gpt-oss-120b"), "problem", "routes nothing"),
        (TAG.format("cerebas,gpt-oss-120b"), "problem", "cerebas"),
        (TAG.format(""), "problem", "empty"),
        (TAG.format("cerebras,qwen-3-235b"), "warning", "does not offer qwen-3-235b"),
    ],
)
@pytest.mark.parametrize("folder", [".claude/agents", ".claude/agents/team"])
def test_an_agent_whose_tag_does_not_do_what_it_says(
    tmp_path: Path, examine: Examine, well: dict[str, Any], content: str, level: str, words: str, folder: str
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "bad.md").write_text(content)
    found = only(examine(well)[1], level)
    assert found["subject"].endswith("bad.md")
    assert words in found["found"]


def test_no_agent_yet(tmp_path: Path, examine: Examine, well: dict[str, Any]) -> None:
    (tmp_path / ".claude/agents/fast.md").unlink()
    assert any("agents install" in finding["found"] for finding in examine(well)[1])


def test_claude_code_that_is_not_there(tmp_path: Path, examine: Examine, well: dict[str, Any]) -> None:
    (tmp_path / "bin/claude").unlink()
    assert "npm install" in only(examine(well)[1], "warning")["fix"]


@pytest.mark.parametrize(
    ("variables", "level", "words"),
    [
        ({"CLAUDE_CODE_USE_BEDROCK": "1"}, "problem", "past this server"),
        ({"ANTHROPIC_API_KEY": "x"}, "warning", "in place of your subscription"),
        ({"ANTHROPIC_BASE_URL": "http://elsewhere:1"}, "warning", "not this server"),
    ],
)
@pytest.mark.parametrize("in_settings", [False, True])
def test_variables_that_lead_elsewhere(
    tmp_path: Path, examine: Examine, well: dict[str, Any], variables: dict[str, str], level: str, words: str,
    in_settings: bool,
) -> None:  # fmt: skip
    if in_settings:
        (tmp_path / ".claude/settings.json").write_text(json.dumps({"env": variables}))
    _, found = examine(well, **({} if in_settings else variables))
    assert words in only(found, level)["found"]


def test_a_base_url_that_leads_here(examine: Examine, well: dict[str, Any]) -> None:
    _, found = examine(well, ANTHROPIC_BASE_URL=f"http://127.0.0.1:{well['port']}/")
    assert any(finding["found"] == "ANTHROPIC_BASE_URL leads here" for finding in found)


@pytest.mark.parametrize(
    ("since", "level"), [(date(2020, 1, 1), "warning"), (datetime.now(UTC).date(), "ok"), (None, "ok")]
)
def test_prices_that_are_old(monkeypatch: pytest.MonkeyPatch, since: date | None, level: str) -> None:
    monkeypatch.setattr(doctor, "installed_on", lambda: since)
    assert doctor._prices().level == level
