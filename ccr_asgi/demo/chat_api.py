"""Answers of a Chat Completions API, as chunks and whole."""

import time
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from ccr_asgi.demo.story import Reply
from ccr_asgi.demo.words import Said, said

Chunk = Mapping[str, Any]


def chunks(reply: Reply, model: str) -> Iterator[Chunk]:
    """The chunks of a stream; the usage comes last, in one without choices."""
    content, envelope = said(reply), _envelope("chat.completion.chunk", model)
    for delta in _deltas(content):
        yield {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**envelope, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish_reason(content)}]}
    yield {**envelope, "choices": [], "usage": _usage(reply)}


def whole(reply: Reply, model: str) -> Mapping[str, Any]:
    """The completion in one; it has neither thinking nor calls."""
    message = {"role": "assistant", "content": "".join(said(reply).text)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**_envelope("chat.completion", model), "choices": [choice], "usage": _usage(reply)}


def refusal(status: int, message: str) -> Mapping[str, Any]:
    """An error, flat, as Cerebras writes it."""
    code = "request_quota_exceeded" if status == 429 else "server_error"
    return {"message": message, "type": "too_many_requests_error" if status == 429 else code, "code": code}


def _deltas(content: Said) -> Iterator[Mapping[str, Any]]:
    yield {"role": "assistant"}
    yield from ({"reasoning": piece} for piece in content.thinking)
    yield from ({"content": piece} for piece in content.text)
    if (call := content.call) is not None:
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": 0, "id": call.id, "type": "function", "function": function}]}
        for piece in call.arguments:
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _finish_reason(content: Said) -> str:
    return "stop" if content.call is None else "tool_calls"


def _envelope(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage(reply: Reply) -> dict[str, Any]:
    prompt_tokens = reply.input_tokens + reply.cache_read_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
    }
