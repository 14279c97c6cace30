"""`ccr-asgi agents install`: example agents for Claude Code that run on other models."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ccr_asgi.cli_verbs import FAILED, Verbs, add_verb, complain, say
from ccr_asgi.config import Config, load_config
from ccr_asgi.errors import ConfigError
from ccr_asgi.routing import TAG_NAME

_AGENTS = "Example agents for Claude Code that run on other models."
_INSTALL = """Write the example agents to ~/.claude/agents, each with the tag that sends it to its provider:
code-reader, code-reviewer, software-architect and data-analyst to Codex, fast-dev, fast-dev-gptoss and watcher to
Cerebras. A file that is there and differs is left as it is unless you say yes, or --force. The models are those of
today; if your configuration lists others under the provider, the first of those is taken."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An example: its front matter, where it runs, and its prompt."""

    name: str
    provider: str
    model: str
    colour: str
    description: str
    prompt: str

    def text(self) -> str:
        """The agent file."""
        front = f"name: {self.name}\ndescription: {self.description}\nmodel: sonnet\ncolor: {self.colour}"
        return f"---\n{front}\n---\n<{TAG_NAME}>{self.provider},{self.model}</{TAG_NAME}>\n\n{self.prompt}"


def add_verbs(verbs: Verbs) -> None:
    """Add the verb to the command."""
    actions = verbs.add_parser("agents", help="example agents on other models", description=_AGENTS)
    install = add_verb(
        actions.add_subparsers(dest="action", required=True, metavar="ACTION"), "install", "write them", _INSTALL, run
    )
    install.add_argument("names", nargs="*", metavar="NAME", help="only these; default: all seven")
    install.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    install.add_argument("--project", action="store_true", help="write to .claude/agents of this folder")
    install.add_argument("--force", action="store_true", help="replace files that differ without asking")


def run(args: argparse.Namespace) -> int:
    """`ccr-asgi agents install [NAME …]`."""
    config = load_config()
    folder = (Path.cwd() if args.project else Path.home()) / ".claude/agents"
    chosen = _chosen(args.names, examples(config))
    try:
        for agent in chosen:
            say(f"{_install(agent, folder / f'{agent.name}.md', args):12}{agent.name:20}{agent.provider},{agent.model}")
    except OSError as error:
        complain(f"{error.filename} cannot be written: {error.strerror}")
        return FAILED
    for line in _refused(chosen, config):
        say(f"\n{line}")
    if not args.dry_run:
        say(f"\nThey are in {folder}. `ccr-asgi doctor` says whether their tags lead where they should.")
    return 0


def _refused(chosen: list[Agent], config: Config) -> Iterator[str]:
    """Which agents nothing will answer, and what to do about it."""
    usable = {name for name, provider in config.providers.items() if provider.has_credential}
    served = [agent.name for agent in chosen if agent.provider in usable]
    for provider in dict.fromkeys(agent.provider for agent in chosen if agent.provider not in usable):
        names = [agent.name for agent in chosen if agent.provider == provider]
        yield (
            f"{provider} is not configured yet, so that {', '.join(names)} will be refused. Add it to the "
            "configuration's `providers` (`ccr-asgi config init` writes a first one), or delete these files."
        )
    if served and len(served) < len(chosen):
        yield f"To install only what is served: ccr-asgi agents install {' '.join(served)}"


def examples(config: Config) -> list[Agent]:
    """All example agents, on the models of the configuration where it lists some."""
    folder = files("ccr_asgi") / "agents"
    found = []
    for told in json.loads((folder / "agents.json").read_text(encoding="utf-8")):
        provider = config.providers.get(told["provider"])
        listed = provider.models if provider is not None else ()
        model = told["model"] if not listed or told["model"] in listed else listed[0]
        prompt = (folder / f"{told['name']}.md").read_text(encoding="utf-8")
        found.append(Agent(**{**told, "model": model}, prompt=prompt))
    return found


def _chosen(names: Sequence[str], agents: Sequence[Agent]) -> list[Agent]:
    known = {agent.name: agent for agent in agents}
    for name in names:
        if name not in known:
            raise ConfigError(f"agents: found {name!r:.60}; accepted: {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)] or list(agents)


def _install(agent: Agent, file: Path, args: argparse.Namespace) -> str:
    """What became of one file, in a word."""
    text = agent.text()
    there = file.read_text(encoding="utf-8", errors="replace") if file.exists() else None
    if there == text:
        return "unchanged"
    if args.dry_run:
        return "differs" if there is not None else "new"
    if there is not None and not args.force and not _agreed(file):
        return "kept"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return "replaced" if there is not None else "written"


def _agreed(file: Path) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{file} is there and differs. Replace it? [y/N] ").strip().lower() in ("y", "yes")
