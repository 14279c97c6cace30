"""The real Claude Code, run headless in an empty world: its own HOME and project, invented credentials, one prompt."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = CHECKOUT / ".cache/claude-code/node_modules/@anthropic-ai/claude-code-linux-x64/claude"
NAMED = os.environ.get("CCR_ASGI_CLAUDE")
"""Read when this is imported: during a test, no variable of ours is set."""
RUN_S = 40
"""A run takes 1 to 2 s; more than this is a hang, told before the test's own limit is reached."""

_QUIET = {
    "CLAUDE_CODE_MAX_RETRIES": "1",  # a fault shows itself at once, not after eleven tries in three minutes
    "IS_SANDBOX": "1",  # lets root run it with --dangerously-skip-permissions
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
}
_FLAGS = (
    "--output-format",
    "json",
    "--dangerously-skip-permissions",
    "--model",
    "haiku",
    "--tools",
    "Agent,Read,Bash",
    "--no-session-persistence",
    "--strict-mcp-config",
    "--disable-slash-commands",
)


@dataclass(frozen=True)
class Run:
    """How a session ended.

    Attributes:
        result: The JSON object that the client prints at its end.
    """

    exit_code: int
    result: dict[str, Any]

    @property
    def text(self) -> str:
        """What the user reads."""
        return str(self.result["result"])

    @property
    def session_id(self) -> str:
        """The id that the client also sends in its header."""
        return str(self.result["session_id"])


@dataclass(frozen=True)
class ClaudeCode:
    """A Claude Code of one test, with a HOME and a project of its own."""

    binary: Path
    home: Path
    project: Path

    def write_agent(self, name: str, prompt: str, description: str = "Writes a marker into a file.") -> None:
        """Put an agent into the project; `prompt` is all of what stands below the front matter."""
        folder = self.project / ".claude" / "agents"
        folder.mkdir(parents=True, exist_ok=True)
        front_matter = f"---\nname: {name}\ndescription: {json.dumps(description)}\nmodel: sonnet\n---\n"
        (folder / f"{name}.md").write_text(front_matter + prompt)

    def run(self, prompt: str, base_url: str, credentials: Mapping[str, str], *, patience_s: float = RUN_S) -> Run:
        """Run one prompt to its end against `base_url`."""
        ended = subprocess.run(
            [self.binary, "-p", prompt, *_FLAGS],
            cwd=self.project,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "ANTHROPIC_BASE_URL": base_url,
                **_QUIET,
                **credentials,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience_s,
            check=False,
        )
        try:
            return Run(ended.returncode, json.loads(ended.stdout))
        except ValueError:
            said = f"{ended.stdout.decode(errors='replace')}\n{ended.stderr.decode(errors='replace')}"
            raise AssertionError(f"claude ended with {ended.returncode} and no JSON:\n{said}") from None


def find_binary() -> Path | None:
    """The client: where CCR_ASGI_CLAUDE says, else where `make e2e` installs it; None if it is not there."""
    binary = Path(NAMED) if NAMED else INSTALLED
    return binary if os.access(binary, os.X_OK) else None
