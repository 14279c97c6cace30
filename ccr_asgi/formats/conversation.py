"""An Anthropic conversation as turns in which every result stands with its call.

Anthropic's clients are free in the order of things: results come in any order, over several user turns, beside texts
and images, with system messages between. Other APIs want each call answered at once and exactly once. So results are
gathered at their calls here, and all else stays where it stood.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ccr_asgi.formats.fields import OBJECT, STRING, check, describe, optional, refuse, required
from ccr_asgi.formats.parts import Part, PartReader, Result, Text, text_parts
from ccr_asgi.formats.system_prompt import text_of
from ccr_asgi.formats.tool_names import CallIds, ToolNames
from ccr_asgi.wire import json_codec

NO_RESULT = "[no result]"
"""Stands for the result of a call that the conversation holds none for; without it providers refuse the whole."""

ORPHAN = "[result of a tool call that is not in this conversation]"

_ROLES = ("user", "assistant", "system")
_UNSEEN = frozenset(["redacted_thinking", "fallback", "server_tool_use", "mcp_tool_use", "mcp_tool_listing"])
"""Assistant blocks that are for Anthropic alone; a server tool's call would dangle. The blocks of their results end in
`_tool_result`."""


@dataclass(slots=True, eq=False)
class Call:
    """A `tool_use` block, with ids and names of the provider's, and its result.

    Attributes:
        arguments: The input as JSON.
        result: What it was answered with; NO_RESULT if the conversation does not hold that.
    """

    id: str
    name: str
    arguments: str
    result: Result = field(default_factory=lambda: Result([Text(NO_RESULT)]))


@dataclass(frozen=True, slots=True)
class Thinking:
    """A `thinking` block's signature."""

    signature: str


@dataclass(slots=True, eq=False)
class Turn:
    """One or more messages of the same role.

    Attributes:
        role: user, assistant or system.
        items: What was said, in its order; calls and thinking only in an assistant's turn.
        attachments: In a user's turn, the images and files of the results that stood in it.
    """

    role: str
    items: list[Part | Call | Thinking] = field(default_factory=list)
    attachments: list[Part] = field(default_factory=list)

    @property
    def parts(self) -> list[Part]:
        """What was said in words and pictures."""
        return [item for item in self.items if not isinstance(item, Call | Thinking)]

    @property
    def calls(self) -> list[Call]:
        """The calls."""
        return [item for item in self.items if isinstance(item, Call)]


class ConversationReader:
    """Reads Anthropic messages one by one; `turns` holds what they say."""

    def __init__(self, parts: PartReader, names: ToolNames) -> None:
        self.turns: list[Turn] = []
        self._parts = parts
        self._names = names
        self._ids = CallIds()
        self._waiting: dict[str, list[Call]] = {}

    def read(self, messages: list[Any]) -> None:
        """Take the body's `messages`.

        Raises:
            RequestError: A message is not of Anthropic's form, or holds what has no counterpart.
        """
        last_user = max(
            (i for i, m in enumerate(messages) if isinstance(m, dict) and m.get("role") == "user"), default=-1
        )
        for index, element in enumerate(messages):
            path = f"messages[{index}]"
            message = check(element, OBJECT, path)
            role = required(message, "role", STRING, path)
            if role == "system":
                # Anthropic shows such a message only until the next user message (anthropic SDK, `clear_at`).
                if optional(message, "clear_at", STRING, path) != "next_user_message" or index > last_user:
                    self._add(role, text_parts(text_of(message, "content", path)))
            elif role in _ROLES:
                for block, kind, block_path in _blocks(message, path):
                    (self._user if role == "user" else self._assistant)(block, kind, block_path)
            else:
                raise refuse(f"{path}.role", describe(role), ", ".join(_ROLES))

    def _turn(self, role: str) -> Turn:
        if not self.turns or self.turns[-1].role != role:
            self.turns.append(Turn(role))
        return self.turns[-1]

    def _add(self, role: str, items: Iterable[Part | Thinking]) -> None:
        # A turn begins with its first content, so that one without any parts its neighbours from nothing.
        for item in items:
            self._turn(role).items.append(item)

    def _assistant(self, block: dict[str, Any], kind: str, path: str) -> None:
        if kind == "text":
            self._add("assistant", text_parts(required(block, "text", STRING, path)))
        elif kind == "tool_use":
            self._call(block, path)
        elif kind == "thinking":
            self._add("assistant", [Thinking(optional(block, "signature", STRING, path) or "")])
        elif kind == "compaction":  # what Anthropic's server keeps of an earlier conversation
            self._add("assistant", text_parts(optional(block, "content", STRING, path) or ""))
        elif kind not in _UNSEEN and not (kind.endswith("_tool_result") or kind == "container_upload"):
            raise refuse(f"{path}.type", describe(kind), "one of text, tool_use, thinking and server tools' blocks")

    def _call(self, block: dict[str, Any], path: str) -> None:
        call_id = required(block, "id", STRING, path)
        name = self._names.upstream(required(block, "name", STRING, path))
        arguments = optional(block, "input", OBJECT, path)
        call = Call(self._ids.upstream(call_id), name, json_codec.dumps(arguments or {}).decode())
        turn = self._turn("assistant")
        earlier = self._waiting.get(call_id, [])
        # A result answers the latest turn that called; an id repeated within one turn is answered in order.
        self._waiting[call_id] = [*(earlier if earlier and earlier[0] in turn.items else []), call]
        turn.items.append(call)

    def _user(self, block: dict[str, Any], kind: str, path: str) -> None:
        if kind != "tool_result":
            self._add("user", self._parts.parts(kind, block, path, also_accepted=("tool_result",)))
            return
        call_id = required(block, "tool_use_id", STRING, path)
        result = self._parts.result(block, path)
        if waiting := self._waiting.get(call_id):
            waiting.pop(0).result = result
            self._turn("user").attachments += result.attachments
            return
        if result.parts:
            self._add("user", [Text(f"{ORPHAN}\n{result.text}".rstrip()), *result.attachments])


def _blocks(message: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each block of a message with its type and its path; a string is one text block."""
    content = message.get("content")
    if isinstance(content, str):
        yield {"type": "text", "text": content}, "text", f"{path}.content"
        return
    if not isinstance(content, list):
        raise refuse(f"{path}.content", describe(content), "a string or an array of content blocks")
    for index, element in enumerate(content):
        block_path = f"{path}.content[{index}]"
        block = check(element, OBJECT, block_path)
        yield block, required(block, "type", STRING, block_path), block_path
