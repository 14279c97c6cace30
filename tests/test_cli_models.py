"""`ccr-asgi models`: what providers say of themselves, in every form that they say it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.cli import main
from ccr_asgi.config import parse_config
from ccr_asgi.provider_models import models_url
from tests.support.codex_login import write_login
from tests.support.fake_upstream import FakeUpstream, json_answer

LIST = {"object": "list", "data": [{"id": "gpt-oss-120b"}, {"id": "new-model"}]}


def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **providers: dict[str, Any]) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"providers": providers}))
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(file))


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["models", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ({"type": "openai-chat", "baseUrl": "https://h/v1/chat/completions"}, "https://h/v1/models"),
        ({"type": "openai-chat", "baseUrl": "https://h/api/"}, "https://h/api/models"),
        ({"type": "openai-responses", "baseUrl": "https://h/v1/responses", "apiKey": "k"}, "https://h/v1/models"),
        (
            {"type": "openai-responses", "baseUrl": "https://h/codex/responses", "authFile": "/x"},
            "https://h/codex/models?client_version=0.169.0",
        ),
        (
            {"type": "anthropic", "baseUrl": "https://h/anthropic", "apiKey": "k"},
            "https://h/anthropic/v1/models?limit=1000",
        ),
    ],
)
def test_the_list_is_asked_for_beside_the_endpoint(entry: dict[str, Any], url: str) -> None:
    provider = parse_config({"providers": {"x": entry}}).providers["x"]
    assert models_url(provider) == url


def test_offers_have_prices_and_what_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_upstream.on("/v1/models", json_answer(LIST))
    url = f"{fake_upstream.url}/v1/chat/completions"
    configured(tmp_path, monkeypatch, cerebras={"apiKey": "k", "baseUrl": url, "models": ["gpt-oss-120b", "retired"]})
    code, (answer,) = asked(capsys)
    assert (code, answer["problem"], answer["gone"]) == (0, None, ["retired"])
    first, second = answer["offers"]
    assert (first["model"], first["listed"], second["listed"]) == ("gpt-oss-120b", True, False)
    assert first["input_usd"] > 0
    assert first["context_tokens"] is None or first["context_tokens"] > 1000
    assert second["input_usd"] is None
    assert (b"authorization", b"Bearer k") in fake_upstream.requests[0].headers
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "new-model" in said
    assert "retired stands in the configuration and is not offered" in said


@pytest.mark.parametrize("said", [LIST, LIST["data"], {"models": [{"slug": "gpt-oss-120b"}, {"slug": "new-model"}]}])
def test_every_form_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_upstream: FakeUpstream, capsys: pytest.CaptureFixture[str],
    said: Any,
) -> None:  # fmt: skip
    fake_upstream.on("/v1/models", json_answer(said))
    configured(tmp_path, monkeypatch, x={"type": "openai-chat", "apiKey": "k", "baseUrl": f"{fake_upstream.url}/v1"})
    _, (answer,) = asked(capsys)
    assert [offer["model"] for offer in answer["offers"]] == ["gpt-oss-120b", "new-model"]


def test_codex_is_asked_under_its_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_upstream.on("/codex/models", json_answer({"models": [{"slug": "gpt-6-sol"}]}))
    auth_file = tmp_path / "auth.json"
    write_login(auth_file, ends_in_s=10_000.0)
    configured(
        tmp_path, monkeypatch, codex={"baseUrl": f"{fake_upstream.url}/codex/responses", "authFile": str(auth_file)}
    )
    code, (answer,) = asked(capsys, "codex")
    assert (code, [offer["model"] for offer in answer["offers"]]) == (0, ["gpt-6-sol"])
    assert b"client_version=" in fake_upstream.requests[0].target


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (401, {}, "refuses the credential (401"),
        (500, {}, "answered 500"),
        (200, {"data": "none"}, "something else than a list"),
    ],
)
def test_what_goes_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_upstream: FakeUpstream, capsys: pytest.CaptureFixture[str],
    status: int, content: Any, words: str,
) -> None:  # fmt: skip
    fake_upstream.on("/v1/models", json_answer(content, status))
    configured(
        tmp_path,
        monkeypatch,
        x={"type": "openai-chat", "apiKey": "secret-key", "baseUrl": f"{fake_upstream.url}/v1"},
        y={"type": "openai-chat", "apiKey": "${NOT_SET_ANYWHERE}", "baseUrl": "http://127.0.0.1:9/v1"},
        z={"type": "openai-chat", "apiKey": "k", "baseUrl": "http://127.0.0.1:9/v1"},
    )
    code, (x, y, z) = asked(capsys)
    assert code == 1
    assert words in x["problem"]
    assert "no key is configured (${NOT_SET_ANYWHERE})" in y["problem"]
    assert "cannot be reached" in z["problem"]
    assert "secret-key" not in json.dumps(x)
    assert main(["models"]) == 1
    assert words in capsys.readouterr().out


def test_without_a_provider_of_ones_own_the_next_step_is_said(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("ccr-asgi")
    ended = subprocess.run(
        [command, "models"], env={"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 1
    assert "ccr-asgi config init" in ended.stdout
