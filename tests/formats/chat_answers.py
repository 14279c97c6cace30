"""Short ways to run a `ChatStream` over an answer, and to write answers."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ccr_asgi.formats.answer_machine import AnswerContext
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.formats.openai_chat_stream import ChatStream
from tests.formats.golden import Result, read, run

__all__ = ["INPUT_TOKENS", "Result", "answer", "call", "chunk", "machine", "read", "run", "sse"]

INPUT_TOKENS = 1000
"""What the machine is told when it asks for an estimate."""


def machine(
    *,
    streamed: bool = True,
    content_type: str = "text/event-stream",
    tool_names: Mapping[str, str] | None = None,
    extra: UsageExtra | None = None,
    secrets: Iterable[str] = (),
) -> ChatStream:
    return ChatStream(
        AnswerContext(
            message_id="msg_golden",
            provider="p",
            model="m",
            streamed=streamed,
            content_type=content_type,
            tool_names=tool_names or {},
            estimate_input_tokens=lambda: INPUT_TOKENS,
            extra=extra or UsageExtra(),
            secrets=tuple(secrets),
        )
    )


def chunk(delta: object = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **fields}


def call(index: object = 0, *, id: object = None, name: object = None, arguments: object = None) -> dict[str, Any]:
    """A chunk with a fragment of a call."""
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})


def sse(*chunks: dict[str, Any], done: bool = True) -> bytes:
    events = b"".join(b"data: " + json.dumps(entry).encode() + b"\n\n" for entry in chunks)
    return events + b"data: [DONE]\n\n" * done


def answer(*chunks: dict[str, Any], streamed: bool = True, done: bool = True) -> Result:
    """What the client gets for these chunks, each in a network chunk of its own."""
    events = [sse(entry, done=False) for entry in chunks] + [b"data: [DONE]\n\n"] * done
    return run(machine(streamed=streamed), events, streamed=streamed)
