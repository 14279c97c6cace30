"""The real Codex CLI, run headless in an empty world: its own HOME and project, an invented login, one prompt."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.codex_backend import CodexBackend

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = CHECKOUT / ".cache/codex/node_modules/@openai"
NAMED = os.environ.get("CCR_ASGI_CODEX")
"""Read when this is imported: during a test, no variable of ours is set."""
RUN_S = 40
"""A run takes less than a second; more than this is a hang, told before the test's own limit is reached."""

_FLAGS = ("--json", "--ephemeral", "--skip-git-repo-check", "--sandbox", "read-only")
# The built-in provider sends its requests to the host that an https:// discovery names; only one of its own can be told
# to stay on loopback. `requires_openai_auth` makes it use the login all the same.
_CONFIG = """\
model = "gpt-6-sol"
model_provider = "loopback"
chatgpt_base_url = "{base_url}"
check_for_update_on_startup = false
cli_auth_credentials_store = "file"

[analytics]
enabled = false

[feedback]
enabled = false

[features]
apps = false
plugins = false

[model_providers.loopback]
name = "loopback"
base_url = "{base_url}/codex"
wire_api = "responses"
requires_openai_auth = true
supports_websockets = false
request_max_retries = 0
stream_max_retries = 0
"""


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        events: The JSON objects that the CLI printed, in order.
        errors: Its standard error.
    """

    exit_code: int
    events: list[dict[str, Any]]
    errors: str

    @property
    def text(self) -> str:
        """What the model said to the user."""
        items = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return "".join(item["text"] for item in items if item["type"] == "agent_message")


class RunningCli:
    """A run that has begun."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def finish(self) -> Run:
        """Wait for its end."""
        said, errors = self._process.communicate(timeout=RUN_S)
        return Run(self._process.returncode, [json.loads(line) for line in said.splitlines()], errors)


@dataclass(frozen=True)
class CodexCli:
    """A Codex CLI of one test, with a HOME and a project of its own, that knows no other host than `backend`."""

    binary: Path
    home: Path
    project: Path
    backend: CodexBackend

    @property
    def auth_file(self) -> Path:
        """Where its login is."""
        return self.home / ".codex" / "auth.json"

    def sign_in(self, login: Mapping[str, Any]) -> None:
        """Write its login file, as `codex login` does, and its configuration."""
        folder = self.auth_file.parent
        (folder / "config.toml").write_text(_CONFIG.format(base_url=self.backend.base_url))
        self.auth_file.touch(mode=0o600)
        self.auth_file.write_text(json.dumps(login, indent=2))

    def login(self) -> dict[str, Any]:
        """What the login file holds now."""
        document: dict[str, Any] = json.loads(self.auth_file.read_text())
        return document

    def run(self, prompt: str) -> Run:
        """Run one prompt to its end."""
        with self.started(prompt) as running:
            return running.finish()

    @contextmanager
    def started(self, prompt: str) -> Iterator[RunningCli]:
        """Begin to run one prompt; a run that the test does not see the end of is killed."""
        with subprocess.Popen(
            [self.binary, "exec", *_FLAGS, prompt],
            cwd=self.project,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "CODEX_HOME": str(self.auth_file.parent),
                "CODEX_REFRESH_TOKEN_URL_OVERRIDE": self.backend.token_url,
                # Whatever else it would contact, all of it https://, comes to the backend as a CONNECT, and is refused.
                "HTTPS_PROXY": self.backend.upstream.url,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield RunningCli(process)
            finally:
                process.kill()


def find_binary() -> Path | None:
    """The CLI: where CCR_ASGI_CODEX says, else where `make e2e` installs it; None if it is not there.

    It is the program itself: npm's package holds a launcher in JavaScript, and a package for each platform with this.
    """
    found = [Path(NAMED)] if NAMED else sorted(INSTALLED.glob("codex-*/vendor/*/bin/codex"))
    return next((binary for binary in found if os.access(binary, os.X_OK)), None)
