"""`ccr-asgi config`: what is understood, a first file, and the schema that editors check it by."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ccr_asgi.cli import main
from ccr_asgi.cli_config import first_config, schema
from ccr_asgi.config import load_config, parse_config
from tests.support.server import CHECKOUT

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CCR_ASGI_CONFIG", "CEREBRAS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["config", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_a_first_file_is_written_and_understood(run: Run, home: Path) -> None:
    file = home / ".claude-code-router/config.json"
    code, said, _ = run("init")
    assert code == 0
    assert str(file) in said
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    code, said, _ = run("check")
    assert code == 0
    assert "provider cerebras: no key configured (${CEREBRAS_API_KEY})" in said
    before = file.read_bytes()
    code, _, complaint = run("init")
    assert (code, file.read_bytes()) == (1, before)
    assert "left as it is" in complaint


@pytest.mark.parametrize(
    ("environ", "login", "providers"),
    [
        ({}, False, {"anthropic", "cerebras"}),
        ({"CEREBRAS_API_KEY": "x"}, False, {"anthropic", "cerebras"}),
        ({}, True, {"anthropic", "codex"}),
        ({"CEREBRAS_API_KEY": "x"}, True, {"anthropic", "cerebras", "codex"}),
    ],
)
def test_a_first_file_names_what_seems_to_be_there(environ: dict[str, str], login: bool, providers: set[str]) -> None:
    made = first_config(environ, login)
    assert parse_config(made, environ=environ).providers.keys() == providers
    assert "x" not in json.dumps(made).replace("codex", "")


def test_a_folder_that_cannot_be_written_is_said(run: Run, home: Path) -> None:
    (home / ".claude-code-router").write_text("a file where the folder belongs")
    code, _, complaint = run("init")
    assert code == 1
    assert "cannot be written" in complaint


def test_what_is_not_understood_is_said_for_people_and_machines(run: Run, home: Path) -> None:
    file = home / "other.json"
    file.write_text('{"prot": 1}')
    code, _, complaint = run("check", str(file))
    assert code == 2
    assert "prot: there is no such key; accepted: port" in complaint
    code, said, _ = run("check", str(file), "--json")
    assert (code, json.loads(said)["understood"]) == (2, False)
    assert "prot" in json.loads(said)["error"]


def test_without_a_file_everything_has_a_default(run: Run) -> None:
    code, said, _ = run("check", "--json")
    assert (code, json.loads(said)["exists"], json.loads(said)["providers"]) == (0, False, ["anthropic"])


def test_the_schema_accepts_what_is_documented_and_refuses_what_is_not(run: Run) -> None:
    code, said, _ = run("schema")
    assert code == 0
    assert json.loads(said) == json.loads(json.dumps(schema()))
    validator = jsonschema.Draft202012Validator(schema())
    blocks = re.findall(
        r"^```json\n(.*?)^```", (CHECKOUT / "docs/configuration.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    for block in blocks:
        validator.validate(json.loads(block))
    for wrong in ({"prot": 1}, {"port": "many"}, {"providers": {"a": {"apiKy": "x"}}}, {"onUnknown": "guess"}):
        assert not _is_valid(validator, wrong), wrong


def _is_valid(validator: Any, value: object) -> bool:
    found: bool = validator.is_valid(value)
    return found


def test_the_file_that_is_named_is_the_one_that_is_read(run: Run, home: Path) -> None:
    file = home / "mine.json"
    file.write_text('{"port": 4000}')
    assert load_config(file).port == 4000
    assert run("check", str(file))[0] == 0
