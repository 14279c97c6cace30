"""Agent files of Claude Code, and whether the routing tag in each does what its author meant.

A tag that stands in the wrong place routes nothing, and nobody says so: that is what this is for. Claude Code sends the
text below the front matter as the last `system` text.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccr_asgi.errors import RequestError
from ccr_asgi.routing import TAG_LINES, TAG_NAME, Route, RoutingTable, find_tag

_LIKE_A_TAG = re.compile(r"<\s*/?\s*CCR[-_ ]?SUBAGENT[-_ ]?MODEL\s*>?", re.IGNORECASE)
_FRONT = re.compile(r"\A---\r?\n(.*?)^---\s*?$\r?\n?(.*)\Z", re.MULTILINE | re.DOTALL)
FORM = f"<{TAG_NAME}>provider,model</{TAG_NAME}>"


@dataclass(frozen=True, slots=True)
class AgentFile:
    """One agent: its front matter and its prompt, as text."""

    path: Path
    front: str
    prompt: str

    @classmethod
    def read(cls, path: Path) -> "AgentFile":
        """Read the file at `path`.

        Raises:
            OSError: It cannot be read.
        """
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        found = _FRONT.match(text)
        return cls(path, *(found.groups() if found else ("", text)))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an agent file, and how to mend it; `grave` keeps it from doing what it should."""

    found: str
    fix: str
    grave: bool = True


def agent_files(*folders: Path) -> Iterator[Path]:
    """Every agent file in `folders` and below, in the order of their names."""
    for folder in folders:
        yield from sorted(folder.rglob("*.md"))


def faults_of(agent: AgentFile, table: RoutingTable, offered: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    """What is wrong with `agent`.

    Args:
        agent: The file.
        table: Decides where its tag leads.
        offered: The models that providers say they offer, by provider; one that did not say is not in it.
    """
    if _LIKE_A_TAG.search(agent.front):
        yield Fault(
            "a tag stands in the front matter, where it routes nothing (Claude Code shows the description to the main "
            "session, which it must not route either)",
            "move it to the first line of the prompt, below the second ---",
        )
    tag = find_tag(agent.prompt.strip())
    if tag is None:
        yield from _no_tag(agent)
        return
    try:
        route = table.resolve(None, tag)
    except RequestError as error:
        yield Fault(error.message, f"write it as {FORM}, or configure the provider")
        return
    yield from _stale(route, offered)


def _no_tag(agent: AgentFile) -> Iterator[Fault]:
    found = _LIKE_A_TAG.search(agent.prompt)
    if found is None:
        return
    if f"<{TAG_NAME}>" in agent.prompt:
        yield Fault(
            "the tag stands where it routes nothing",
            f"put it at the start of the prompt, or on a line of its own within its first {TAG_LINES} lines, outside "
            "code fences",
        )
    else:
        yield Fault(f"{found[0]!r:.60} looks like a tag and is none", f"write it as {FORM}")


def _stale(route: Route, offered: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    models = offered.get(route.provider.name)
    if route.model and models and route.model not in models:
        yield Fault(
            f"{route.provider.name} does not offer {route.model} (any more)",
            f"choose one of: {', '.join(models[:12])}{' …' if len(models) > 12 else ''}",
            grave=False,
        )
