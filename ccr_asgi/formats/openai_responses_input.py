"""A conversation as Responses input items (openai SDK, `ResponseInputItemParam`).

Items have no ids: nothing is stored upstream that they could name. A call's output stands after the items of its turn,
whenever the client sent it, and may hold images and files.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ccr_asgi.formats.conversation import Call, Thinking, Turn
from ccr_asgi.formats.openai_reasoning import encrypted_content_of
from ccr_asgi.formats.parts import Image, Part, Result, Text

Item = dict[str, Any]

_ROLES = {"user": "user", "system": "developer"}


def input_items(turns: Sequence[Turn]) -> Iterator[Item]:
    """The conversation for the provider, every call answered."""
    for turn in turns:
        if turn.role == "assistant":
            yield from _assistant_items(turn)
        elif parts := turn.parts:
            yield message(_ROLES[turn.role], [input_part(part) for part in parts])


def message(role: str, content: list[dict[str, Any]]) -> Item:
    """A message item."""
    return {"type": "message", "role": role, "content": content}


def input_part(part: Part) -> dict[str, Any]:
    """A part of what the model is told."""
    match part:
        case Text(text):
            return {"type": "input_text", "text": text}
        case Image(url):
            return {"type": "input_image", "image_url": url}
    return {"type": "input_file", "filename": part.filename, "file_data": part.url}


def _assistant_items(turn: Turn) -> Iterator[Item]:
    texts: list[dict[str, Any]] = []
    for item in turn.items:
        if isinstance(item, Text):
            texts.append({"type": "output_text", "text": item.text})
            continue
        if texts:
            yield message("assistant", texts)
            texts = []
        if isinstance(item, Call):
            yield {"type": "function_call", "call_id": item.id, "name": item.name, "arguments": item.arguments}
        elif isinstance(item, Thinking) and (encrypted := encrypted_content_of(item.signature)):
            yield {"type": "reasoning", "summary": [], "content": None, "encrypted_content": encrypted}
    if texts:
        yield message("assistant", texts)
    for call in turn.calls:
        yield {"type": "function_call_output", "call_id": call.id, "output": _output(call.result)}


def _output(result: Result) -> str | list[dict[str, Any]]:
    """A string as long as it is all text."""
    return [input_part(part) for part in result.parts] if result.attachments else result.text
