"""Short ways to run a `ChatStream` over an answer, and to write answers."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ccr_asgi.errors import CcrError
from ccr_asgi.formats.answer_machine import AnswerContext
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.formats.openai_chat_stream import ChatStream
from tests.support.anthropic_stream import check_stream, plain_message, sdk_message

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


@dataclass
class Result:
    """How an answer ended: a message, or an error, which was raised or came after some content."""

    message: dict[str, Any] | None = None
    error: CcrError | None = None
    content: list[dict[str, Any]] = field(default_factory=list)


def run(chat: ChatStream, chunks: Iterable[bytes], *, streamed: bool) -> Result:
    """Feed the chunks, close, and read what came out as a client would; the output is checked on the way."""
    out = b""
    try:
        for chunk in chunks:
            piece = chat.feed(chunk)
            assert streamed or not piece or chat.finished, "a document in pieces"
            out += piece
        out += chat.close()
    except CcrError as error:
        assert not out
        assert chat.failure is None
        return Result(error=error)
    return read(chat, out, streamed=streamed)


def read(chat: ChatStream, out: bytes, *, streamed: bool) -> Result:
    """What a client makes of the whole output of a machine that has ended."""
    assert chat.finished
    assert chat.feed(b"data: {}\n\n") + chat.close() + chat.idle() == b""
    if not streamed:
        return Result(message=plain_message(json.loads(out)))
    events = check_stream(out)
    message = sdk_message(out, broken_input=chat.failure is not None)
    if chat.failure is not None:
        assert events[-1]["error"] == {"type": chat.failure.error_type, "message": chat.failure.message}
        return Result(error=chat.failure, content=message["content"] if message else [])
    assert events[-1] == {"type": "message_stop"}
    return Result(message=message)


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
