"""What an end-to-end run is made of: the client, two providers that are sockets, and the product between them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.claude_code import INSTALLED, ClaudeCode, find_binary
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import RunningServer, read_rows, running_server

CHAT_MODEL = "gpt-oss-120b"
CHAT_KEY = "invented-cerebras-key"
CODEX_MODEL = "gpt-6-sol"
CODEX_PATH = "/backend-api/codex/responses"


@pytest.fixture
def claude(tmp_path: Path) -> ClaudeCode:
    """A Claude Code with an empty HOME and an empty project."""
    binary = find_binary()
    if binary is None:
        absent = f"Claude Code is neither where CCR_ASGI_CLAUDE says nor at {INSTALLED}: run `make e2e`"
        if os.environ.get("CI_E2E_REQUIRED") == "1":
            pytest.fail(absent)
        pytest.skip(absent)
    home, project = tmp_path / "client-home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    return ClaudeCode(binary, home, project)


@pytest.fixture
def anthropic_side(fake_upstream: FakeUpstream) -> FakeUpstream:
    """Stands where api.anthropic.com does."""
    return fake_upstream


@pytest.fixture
def chat_side(second_upstream: FakeUpstream) -> FakeUpstream:
    """Stands where Cerebras does, and ChatGPT."""
    return second_upstream


@pytest.fixture
def product(anthropic_side: FakeUpstream, chat_side: FakeUpstream, tmp_path: Path) -> Iterator[RunningServer]:
    """The product as its users start it, between the client and the two."""
    config: dict[str, Any] = {
        "providers": {
            "anthropic": {"baseUrl": anthropic_side.url, "passthrough": True},
            "cerebras": {
                "baseUrl": f"{chat_side.url}/v1/chat/completions",
                "apiKey": CHAT_KEY,
                "models": [CHAT_MODEL, "zai-glm-4.7"],
            },
            "codex": {
                "baseUrl": f"{chat_side.url}{CODEX_PATH}",
                "authFile": str(tmp_path / "auth.json"),
                "tokenUrl": f"{chat_side.url}/oauth/token",
            },
        }
    }
    with running_server(config, tmp_path=tmp_path) as server:
        yield server
        print(
            f"What the server said:\n{server.log()}Its rows: {read_rows(server.database)}"
        )  # shown if the test failed
