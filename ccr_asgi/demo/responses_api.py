"""Answers of the Responses API, as Codex's backend gives them: streamed, with an empty `output` at the end."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any
from uuid import uuid4

from ccr_asgi.demo.story import Reply
from ccr_asgi.demo.words import Call, said

Event = Mapping[str, Any]


def events(reply: Reply, model: str) -> Iterator[Event]:
    """The events of a stream."""
    numbers = count()
    for event in _events(reply, model):
        yield {**event, "sequence_number": next(numbers)}


def refusal(status: int, message: str) -> Mapping[str, Any]:
    """An error."""
    code = "rate_limit_exceeded" if status == 429 else "server_is_overloaded" if status == 503 else "server_error"
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def _events(reply: Reply, model: str) -> Iterator[Event]:
    content, places = said(reply), count()
    response = {"id": f"resp_{uuid4().hex}", "object": "response", "model": model, "output": []}
    yield {"type": "response.created", "response": {**response, "status": "in_progress", "usage": None}}
    if content.thinking:
        yield from _reasoning(next(places), content.thinking)
    yield from _message(next(places), content.text)
    if content.call is not None:
        yield from _call(next(places), content.call)
    done = {**response, "status": "completed", "usage": _usage(reply)}
    yield {"type": "response.completed", "response": done}


def _reasoning(place: int, pieces: Sequence[str]) -> Iterator[Event]:
    item = {"id": f"rs_{uuid4().hex}", "type": "reasoning"}
    at = {"item_id": item["id"], "output_index": place, "summary_index": 0}
    yield _item("added", place, {**item, "summary": []})
    yield {"type": "response.reasoning_summary_part.added", **at, "part": {"type": "summary_text", "text": ""}}
    for piece in pieces:
        yield {"type": "response.reasoning_summary_text.delta", **at, "delta": piece}
    summary = {"type": "summary_text", "text": "".join(pieces)}
    yield {"type": "response.reasoning_summary_part.done", **at, "part": summary}
    yield _item("done", place, {**item, "summary": [summary], "encrypted_content": "c2ltdWxhdGVk"})


def _message(place: int, pieces: Sequence[str]) -> Iterator[Event]:
    item = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant"}
    at = {"item_id": item["id"], "output_index": place, "content_index": 0}
    yield _item("added", place, {**item, "status": "in_progress", "content": []})
    yield {"type": "response.content_part.added", **at, "part": _text("")}
    for piece in pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece}
    yield {"type": "response.output_text.done", **at, "text": "".join(pieces)}
    yield {"type": "response.content_part.done", **at, "part": _text("".join(pieces))}
    yield _item("done", place, {**item, "status": "completed", "content": [_text("".join(pieces))]})


def _call(place: int, call: Call) -> Iterator[Event]:
    item = {"id": f"fc_{uuid4().hex}", "type": "function_call", "call_id": call.id, "name": call.name}
    at = {"item_id": item["id"], "output_index": place}
    arguments = "".join(call.arguments)
    yield _item("added", place, {**item, "status": "in_progress", "arguments": ""})
    for piece in call.arguments:
        yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **at, "arguments": arguments}
    yield _item("done", place, {**item, "status": "completed", "arguments": arguments})


def _item(state: str, place: int, item: Mapping[str, Any]) -> Event:
    return {"type": f"response.output_item.{state}", "output_index": place, "item": item}


def _text(text: str) -> Mapping[str, Any]:
    return {"type": "output_text", "annotations": [], "text": text}


def _usage(reply: Reply) -> Mapping[str, Any]:
    input_tokens = reply.input_tokens + reply.cache_read_tokens
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": reply.cache_read_tokens},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": input_tokens + reply.output_tokens,
    }
