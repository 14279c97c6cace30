"""The conversation in the order that Chat Completions demands.

Every tool call must be followed at once by one tool message per call, and by nothing else in between. Anthropic's
clients are freer: results come in any order, over several user turns, beside texts and images, with system messages
between. So results are gathered at their calls, and all else stays where it stood.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ccr_asgi.formats.fields import OBJECT, STRING, check, describe, optional, refuse, required
from ccr_asgi.formats.openai_chat_blocks import Part, PartReader, content_of, text_parts
from ccr_asgi.formats.system_prompt import text_of
from ccr_asgi.formats.tool_names import CallIds, ToolNames
from ccr_asgi.wire import json_codec

Message = dict[str, Any]

NO_RESULT = "[no result]"
"""Stands for the result of a call that the conversation holds none for; without it providers refuse the whole."""

ORPHAN = "[result of a tool call that is not in this conversation]"

_ROLES = ("user", "assistant", "system")
_UNSEEN = frozenset(
    ["thinking", "redacted_thinking", "fallback", "server_tool_use", "mcp_tool_use", "mcp_tool_listing"]
)
"""Assistant blocks that are for Anthropic alone: other models' thinking is refused by some providers, and a server
tool's call would dangle. The blocks of their results end in `_tool_result`."""


@dataclass(slots=True, eq=False)
class _Call:
    id: str
    name: str
    arguments: str
    result: str | None = None


@dataclass(slots=True, eq=False)
class _Turn:
    """One or more messages of the same role; in a user's turn `media` are the attachments of tool results."""

    role: str
    parts: list[Part] = field(default_factory=list)
    media: list[Part] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)

    def take_in(self, later: "_Turn") -> None:
        self.parts += later.parts
        self.media += later.media
        self.calls += later.calls


class ConversationReader:
    """Reads Anthropic messages one by one, then writes them all as Chat Completions messages."""

    def __init__(self, parts: PartReader, names: ToolNames) -> None:
        self._parts = parts
        self._names = names
        self._ids = CallIds()
        self._turns: list[_Turn] = []
        self._waiting: dict[str, list[_Call]] = {}

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

    def messages(self) -> Iterator[Message]:
        """The conversation for the provider, every call answered."""
        for turn in self._merged():
            if turn.role == "assistant":
                yield from _assistant_messages(turn)
            else:
                yield {"role": turn.role, "content": content_of([*turn.media, *turn.parts])}

    def _merged(self) -> list[_Turn]:
        """The turns that say something, neighbours of the same role as one.

        A user's turn of results alone says nothing more once they stand at their calls; what came after them stays
        after them, so a turn with calls takes in no other.
        """
        merged: list[_Turn] = []
        for turn in self._turns:
            if not (turn.parts or turn.media or turn.calls):
                continue
            if merged and merged[-1].role == turn.role and not merged[-1].calls:
                merged[-1].take_in(turn)
            else:
                merged.append(turn)
        return merged

    def _turn(self, role: str) -> _Turn:
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role))
        return self._turns[-1]

    def _add(self, role: str, parts: Iterable[Part]) -> None:
        # A turn begins with its first content, so that one without any parts its neighbours from nothing.
        for part in parts:
            self._turn(role).parts.append(part)

    def _assistant(self, block: dict[str, Any], kind: str, path: str) -> None:
        if kind == "text":
            self._add("assistant", text_parts(required(block, "text", STRING, path)))
        elif kind == "tool_use":
            self._call(block, path)
        elif kind == "compaction":  # what Anthropic's server keeps of an earlier conversation
            self._add("assistant", text_parts(optional(block, "content", STRING, path) or ""))
        elif kind not in _UNSEEN and not (kind.endswith("_tool_result") or kind == "container_upload"):
            raise refuse(f"{path}.type", describe(kind), "one of text, tool_use, thinking and server tools' blocks")

    def _call(self, block: dict[str, Any], path: str) -> None:
        call_id = required(block, "id", STRING, path)
        name = self._names.upstream(required(block, "name", STRING, path))
        arguments = optional(block, "input", OBJECT, path)
        call = _Call(self._ids.upstream(call_id), name, json_codec.dumps(arguments or {}).decode())
        turn = self._turn("assistant")
        earlier = self._waiting.get(call_id, [])
        # A result answers the latest turn that called; an id repeated within one turn is answered in order.
        self._waiting[call_id] = [*(earlier if earlier and earlier[0] in turn.calls else []), call]
        turn.calls.append(call)

    def _user(self, block: dict[str, Any], kind: str, path: str) -> None:
        if kind != "tool_result":
            self._add("user", self._parts.parts(kind, block, path, also_accepted=("tool_result",)))
            return
        call_id = required(block, "tool_use_id", STRING, path)
        result = self._parts.result(block, path)
        if waiting := self._waiting.get(call_id):
            waiting.pop(0).result = result.text
            self._turn("user").media += result.media
            return
        if result.text:
            self._add("user", text_parts(f"{ORPHAN}\n{result.text}"))
        self._add("user", result.media)


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


def _assistant_messages(turn: _Turn) -> Iterator[Message]:
    message: Message = {"role": "assistant", "content": content_of(turn.parts)}
    if turn.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.calls
        ]
    yield message
    for call in turn.calls:
        yield {
            "role": "tool",
            "tool_call_id": call.id,
            "content": NO_RESULT if call.result is None else call.result,
        }
