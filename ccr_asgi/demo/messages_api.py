"""Answers of Anthropic's Messages API, as events and whole."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from ccr_asgi.demo.story import Reply
from ccr_asgi.demo.words import Said, said
from ccr_asgi.errors import ERROR_TYPES

Event = Mapping[str, Any]

_SIGNATURE = "c2ltdWxhdGVk"
_TOLD_AGAIN = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
"""The counts that the end of a stream has; they are sums, not what was added since its start."""


def events(reply: Reply, model: str) -> Iterator[Event]:
    """The events of a stream: what went in at its start, what came out at its end."""
    content = said(reply)
    start = {**_envelope(model), "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**start, "usage": {**_usage(reply), "output_tokens": 1}}}
    for index, (block, deltas) in enumerate(_blocks(content)):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": _stop_reason(content), "stop_sequence": None}
    counts = {name: count for name, count in _usage(reply).items() if name in _TOLD_AGAIN}
    yield {"type": "message_delta", "delta": stop, "usage": counts}
    yield {"type": "message_stop"}


def whole(reply: Reply, model: str) -> Mapping[str, Any]:
    """The message in one; it has neither thinking nor calls."""
    content = said(reply)
    return {
        **_envelope(model),
        "content": [{"type": "text", "text": "".join(content.text)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _usage(reply),
    }


def refusal(status: int, message: str) -> Mapping[str, Any]:
    """An error."""
    return {"type": "error", "error": {"type": ERROR_TYPES.get(status, "api_error"), "message": message}}


def _blocks(content: Said) -> Iterator[tuple[Event, list[Event]]]:
    """Each block as it begins, with the deltas that fill it."""
    if content.thinking:
        deltas: list[Event] = [{"type": "thinking_delta", "thinking": piece} for piece in content.thinking]
        deltas.append({"type": "signature_delta", "signature": _SIGNATURE})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in content.text]
    if (call := content.call) is not None:
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in call.arguments]


def _envelope(model: str) -> dict[str, Any]:
    return {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": model}


def _stop_reason(content: Said) -> str:
    return "end_turn" if content.call is None else "tool_use"


def _usage(reply: Reply) -> dict[str, Any]:
    written_5m, written_1h = reply.cache_write_5m_tokens, reply.cache_write_1h_tokens
    return {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": written_5m + written_1h,
        "cache_read_input_tokens": reply.cache_read_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": written_5m, "ephemeral_1h_input_tokens": written_1h},
        "output_tokens": reply.output_tokens,
        "service_tier": "standard",
    }
