"""Answers in the three wire formats, invented in content and real in structure: one builder for each thing said.

The shapes are those of the official SDKs' types (`anthropic.types`, `openai.types.chat`, `openai.types.responses`).
Every event of a stream is a piece of its own, so a test can put a gate or a fault between any two of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.answers import Answer, Headers, Piece, json_answer, sse_answer

TEXT = "Hello from the fake upstream."
ANTHROPIC_MODEL = "claude-haiku-4-5"
ANTHROPIC_USAGE: Mapping[str, Any] = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 7,
}
CHAT_USAGE: Mapping[str, Any] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
RESPONSES_USAGE: Mapping[str, Any] = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 18,
}
MODEL_LIST: Mapping[str, Any] = {
    "data": [
        {"type": "model", "id": ANTHROPIC_MODEL, "display_name": "Haiku", "created_at": "2026-01-01T00:00:00Z"},
    ],
    "has_more": False,
    "first_id": ANTHROPIC_MODEL,
    "last_id": ANTHROPIC_MODEL,
}


@dataclass(frozen=True)
class ToolCall:
    """A call that a model makes; its id is unique, as clients need it to be."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"call_{uuid4().hex}")

    @property
    def json(self) -> str:
        """The arguments as providers send them: a JSON text."""
        return json.dumps(self.arguments)


# Anthropic Messages


def anthropic_message(
    text: str | None = TEXT,
    *,
    tool_use: Sequence[ToolCall] = (),
    thinking: str | None = None,
    usage: Mapping[str, Any] = ANTHROPIC_USAGE,
    model: str = ANTHROPIC_MODEL,
    stop_reason: str | None = None,
    headers: Headers = (),
) -> Answer:
    """A whole message as JSON; without `text` and `thinking` it holds the tool calls alone."""
    return json_answer(
        {
            **_anthropic_envelope(model),
            "content": _anthropic_content(text, tool_use, thinking),
            "stop_reason": stop_reason or ("tool_use" if tool_use else "end_turn"),
            "stop_sequence": None,
            "usage": dict(usage),
        },
        headers=[("request-id", f"req_{uuid4().hex}"), *headers],
    )


def anthropic_sse(
    text: str | None = TEXT,
    *,
    tool_use: Sequence[ToolCall] = (),
    thinking: str | None = None,
    usage: Mapping[str, Any] = ANTHROPIC_USAGE,
    model: str = ANTHROPIC_MODEL,
    stop_reason: str | None = None,
    headers: Headers = (),
) -> Answer:
    """The same message as an event stream: input counts at the start, the true output count in `message_delta`."""
    stop = stop_reason or ("tool_use" if tool_use else "end_turn")

    def events() -> Iterator[dict[str, Any]]:
        start = {**_anthropic_envelope(model), "content": [], "stop_reason": None, "stop_sequence": None}
        yield {"type": "message_start", "message": {**start, "usage": {**usage, "output_tokens": 1}}}
        for index, block in enumerate(_anthropic_content(text, tool_use, thinking)):
            yield from _anthropic_block(index, block)
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": usage["output_tokens"]},
        }
        yield {"type": "message_stop"}

    return sse_answer(
        [_event(event["type"], event) for event in events()], [("request-id", f"req_{uuid4().hex}"), *headers]
    )


def anthropic_error(status: int, message: str, error_type: str = "api_error", headers: Headers = ()) -> Answer:
    """An error in Anthropic's form."""
    request_id = f"req_{uuid4().hex}"
    return json_answer(
        {"type": "error", "error": {"type": error_type, "message": message}, "request_id": request_id},
        status,
        [("request-id", request_id), *headers],
    )


def _anthropic_envelope(model: str) -> dict[str, Any]:
    return {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": model}


def _anthropic_content(text: str | None, tool_use: Sequence[ToolCall], thinking: str | None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if thinking is not None:
        content.append({"type": "thinking", "thinking": thinking, "signature": "c2lnbmF0dXJl"})
    if text is not None:
        content.append({"type": "text", "text": text})
    for call in tool_use:
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)})
    return content


def _anthropic_block(index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "text":
            empty: dict[str, Any] = {"text": ""}
            deltas = [{"type": "text_delta", "text": half} for half in _halves(block["text"])]
        case "thinking":
            empty = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": half} for half in _halves(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case _:
            empty = {"input": {}}
            halves = _halves(json.dumps(block["input"]))
            deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


# OpenAI Chat Completions


def chat_completion(
    text: str | None = TEXT,
    *,
    tool_calls: Sequence[ToolCall] = (),
    usage: Mapping[str, Any] | None = CHAT_USAGE,
    model: str = "gpt-oss-120b",
    finish_reason: str | None = None,
    headers: Headers = (),
) -> Answer:
    """A whole completion as JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.json}}
            for call in tool_calls
        ]
    finish = finish_reason or ("tool_calls" if tool_calls else "stop")
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return json_answer(
        {**_chat_envelope("chat.completion", model), "choices": [choice], **({"usage": dict(usage)} if usage else {})},
        headers=headers,
    )


def chat_sse(
    text: str | None = TEXT,
    *,
    tool_calls: Sequence[ToolCall] = (),
    reasoning: str | None = None,
    usage: Mapping[str, Any] | None = CHAT_USAGE,
    model: str = "gpt-oss-120b",
    finish_reason: str | None = None,
    headers: Headers = (),
) -> Answer:
    """The completion as chunks, the usage in one of its own with empty `choices`, then `[DONE]`."""
    envelope = _chat_envelope("chat.completion.chunk", model)
    finish = finish_reason or ("tool_calls" if tool_calls else "stop")

    def chunks() -> Iterator[dict[str, Any]]:
        for delta in _chat_deltas(text, tool_calls, reasoning):
            yield {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**envelope, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
        if usage is not None:
            yield {**envelope, "choices": [], "usage": dict(usage)}

    events: list[Piece] = [_event(None, chunk) for chunk in chunks()]
    return sse_answer([*events, b"data: [DONE]\n\n"], headers)


def chat_error(status: int, message: str, code: str | None = None, headers: Headers = ()) -> Answer:
    """An error in OpenAI's form."""
    return json_answer(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}, status, headers
    )


def _chat_envelope(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": 1_795_390_000, "model": model}


def _chat_deltas(text: str | None, tool_calls: Sequence[ToolCall], reasoning: str | None) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    for half in _halves(reasoning or ""):
        yield {"reasoning": half}
    for half in _halves(text or ""):
        yield {"content": half}
    for index, call in enumerate(tool_calls):
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
        for half in _halves(call.json):
            yield {"tool_calls": [{"index": index, "function": {"arguments": half}}]}


# OpenAI Responses (Codex)


def responses_sse(transcript: Path | str | bytes, headers: Headers = ()) -> Answer:
    """A recorded event stream, a piece for each event; an unfinished last event is sent as it is."""
    data = transcript.read_bytes() if isinstance(transcript, Path) else transcript
    data = data.encode() if isinstance(data, str) else data
    return sse_answer([event for event in data.replace(b"\n\n", b"\n\n\0").split(b"\0") if event], headers)


def responses_completed(
    text: str | None = TEXT,
    *,
    tool_calls: Sequence[ToolCall] = (),
    encrypted_reasoning: str | None = None,
    usage: Mapping[str, Any] = RESPONSES_USAGE,
    model: str = "gpt-6-sol",
    headers: Headers = (),
) -> Answer:
    """An event stream that says `text`, makes the calls and is completed; `response.output` stays empty, as Codex's.

    `encrypted_reasoning` comes before all, with a preview of it that nobody may keep.
    """
    numbers = count()
    envelope = {"id": f"resp_{uuid4().hex}", "object": "response", "model": model, "output": []}

    def events() -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": {**envelope, "status": "in_progress", "usage": None}}
        yield {"type": "response.in_progress", "response": {**envelope, "status": "in_progress", "usage": None}}
        place = count()
        if encrypted_reasoning is not None:
            yield from _responses_reasoning(next(place), encrypted_reasoning)
        if text is not None:
            yield from _responses_text(next(place), text)
        for call in tool_calls:
            yield from _responses_call(next(place), call)
        yield {"type": "response.completed", "response": {**envelope, "status": "completed", "usage": dict(usage)}}

    return sse_answer(
        [_event(event["type"], {**event, "sequence_number": next(numbers)}) for event in events()], headers
    )


def _responses_reasoning(index: int, encrypted_content: str) -> Iterator[dict[str, Any]]:
    item = {"id": f"rs_{uuid4().hex}", "type": "reasoning", "summary": []}
    preview = {**item, "encrypted_content": "a preview that is not to be kept"}
    yield {"type": "response.output_item.added", "output_index": index, "item": preview}
    done = {**item, "encrypted_content": encrypted_content}
    yield {"type": "response.output_item.done", "output_index": index, "item": done}


def _responses_text(index: int, text: str) -> Iterator[dict[str, Any]]:
    item: dict[str, Any] = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant"}
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    added = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": added}
    yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
    for half in _halves(text):
        yield {"type": "response.output_text.delta", **at, "delta": half, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}
    done = {**item, "status": "completed", "content": [part]}
    yield {"type": "response.output_item.done", "output_index": index, "item": done}


def _responses_call(index: int, call: ToolCall) -> Iterator[dict[str, Any]]:
    item = {"id": f"fc_{uuid4().hex}", "type": "function_call", "call_id": call.id, "name": call.name}
    at = {"item_id": item["id"], "output_index": index}
    added = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": added}
    for half in _halves(call.json):
        yield {"type": "response.function_call_arguments.delta", **at, "delta": half}
    yield {"type": "response.function_call_arguments.done", **at, "arguments": call.json}
    done = {**item, "status": "completed", "arguments": call.json}
    yield {"type": "response.output_item.done", "output_index": index, "item": done}


# All three


def default_answer(method: str, path: str, body: bytes) -> Answer:
    """What the API that `path` belongs to usually says: a short text, streamed if the body asks for that."""
    match method, path:
        case "POST", _ if path.endswith("/v1/messages"):
            return anthropic_sse() if _wants_stream(body) else anthropic_message()
        case "POST", _ if path.endswith("/v1/messages/count_tokens"):
            return json_answer({"input_tokens": 11})
        case "POST", _ if path.endswith("/chat/completions"):
            return chat_sse() if _wants_stream(body) else chat_completion()
        case "POST", _ if path.endswith("/responses"):
            return responses_completed()
        case "GET", _ if path.endswith("/models"):
            model = {
                "type": "model",
                "id": ANTHROPIC_MODEL,
                "display_name": "Haiku",
                "created_at": "2026-01-01T00:00:00Z",
            }
            return json_answer({"data": [model], "has_more": False, "first_id": model["id"], "last_id": model["id"]})
        case "HEAD", _:
            return Answer()
    return anthropic_error(404, f"No such endpoint: {method} {path}", "not_found_error")


def _wants_stream(body: bytes) -> bool:
    try:
        document = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("stream") is True


def _event(name: str | None, data: dict[str, Any]) -> bytes:
    line = f"event: {name}\n".encode() if name else b""
    return line + b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _halves(text: str) -> list[str]:
    middle = (len(text) + 1) // 2
    return [half for half in (text[:middle], text[middle:]) if half]
