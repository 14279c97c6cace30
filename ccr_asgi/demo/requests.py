"""Which answer a request to a simulated provider gets: the one that its prompt settles, else one for visitors."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ccr_asgi.demo.story import Reply, reply_to

BYTES_A_TOKEN = 4

_STARTERS = ("Agent", "Task")
"""What Claude Code calls the tool that starts an agent, and has called it."""
_WANTED = re.compile(r"\b([a-z0-9][\w-]*)[\"'`]? (?:sub)?agent\b", re.IGNORECASE)


def reply_for(asked: Mapping[str, Any], size_bytes: int) -> Reply:
    """The answer to the request `asked`, whose body has `size_bytes`."""
    settled = [reply for text in _texts(asked) if (reply := reply_to(text)) is not None]
    return settled[-1] if settled else _reply_to_visitor(asked, estimated_tokens(size_bytes))


def estimated_tokens(size_bytes: int) -> int:
    """About how many tokens a body of this size has."""
    return max(1, size_bytes // BYTES_A_TOKEN)


def _reply_to_visitor(asked: Mapping[str, Any], input_tokens: int) -> Reply:
    """A sentence, or the start of an agent: no other tool is ever called, since a real client would obey."""
    starter, agent = _starter(asked), _agent_wanted(asked)
    if starter is None or agent is None:
        return Reply(input_tokens=input_tokens, output_tokens=24, ttft_ms=300, duration_ms=900)
    arguments = {"subagent_type": agent, "description": "Say hello", "prompt": "Say hello.", "run_in_background": False}
    return Reply(
        input_tokens=input_tokens,
        output_tokens=60,
        ttft_ms=300,
        duration_ms=1200,
        calls=starter,
        arguments=json.dumps(arguments),
    )


def _starter(asked: Mapping[str, Any]) -> str | None:
    names = [tool.get("name") for tool in asked.get("tools") or () if isinstance(tool, dict)]
    return next((name for name in _STARTERS if name in names), None)


def _agent_wanted(asked: Mapping[str, Any]) -> str | None:
    """The agent that the last message names ("use the fast-dev agent"), if the client has told of one so called."""
    texts = list(_texts(asked))
    # Claude Code lists its agents as "- name: description".
    told = (name for name in _WANTED.findall(_last_words(asked)) if any(f"- {name}:" in text for text in texts))
    return next(told, None)


def _last_words(asked: Mapping[str, Any]) -> str:
    """The text that ends the user's last message; nothing if that brings a tool's result."""
    messages = [message for message in asked.get("messages") or () if isinstance(message, dict)]
    content = next((message.get("content") for message in reversed(messages) if message.get("role") == "user"), "")
    if isinstance(content, str):
        return content
    blocks = [block for block in content or () if isinstance(block, dict)]
    if any(block.get("type") == "tool_result" for block in blocks):
        return ""
    return next((str(block.get("text")) for block in reversed(blocks) if block.get("type") == "text"), "")


def _texts(value: object) -> Iterator[str]:
    """All texts of a JSON document, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
