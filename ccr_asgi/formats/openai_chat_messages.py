"""A conversation as Chat Completions messages (openai SDK, `ChatCompletionMessageParam`).

Every tool call must be followed at once by one tool message per call, and by nothing else in between. A tool message
holds text alone, so the images of results go into the next user message.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ccr_asgi.formats.conversation import Turn
from ccr_asgi.formats.parts import ERROR_PREFIX, Image, Part, Result, Text
from ccr_asgi.formats.system_prompt import join_texts

Message = dict[str, Any]

SEE_ATTACHMENT = "[no text; see the attachment in the next user message]"


def chat_messages(turns: Sequence[Turn]) -> Iterator[Message]:
    """The conversation for the provider, every call answered."""
    for turn in _merged(turns):
        if turn.role == "assistant":
            yield from _assistant_messages(turn)
        else:
            yield {"role": turn.role, "content": _content([*turn.attachments, *turn.parts])}


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """The turns that say something, neighbours of the same role as one.

    A user's turn of results alone says nothing more once they stand at their calls; what came after them stays after
    them, so a turn with calls takes in no other. Thinking is for its own model: some providers refuse it.
    """
    merged: list[Turn] = []
    for turn in turns:
        if not (turn.parts or turn.calls or turn.attachments):
            continue
        if merged and merged[-1].role == turn.role and not merged[-1].calls:
            before = merged[-1]
            merged[-1] = Turn(turn.role, before.items + turn.items, before.attachments + turn.attachments)
        else:
            merged.append(turn)
    return merged


def _assistant_messages(turn: Turn) -> Iterator[Message]:
    message: Message = {"role": "assistant", "content": _content(turn.parts)}
    if calls := turn.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    yield message
    for call in turn.calls:
        yield {"role": "tool", "tool_call_id": call.id, "content": _result_text(call.result)}


def _result_text(result: Result) -> str:
    text = result.text
    if result.attachments and text in ("", ERROR_PREFIX):
        return text + SEE_ATTACHMENT
    return text


def _content(parts: list[Part]) -> str | list[dict[str, Any]]:
    """A message's content: a string as long as it is all text, which every provider takes."""
    texts = [part.text for part in parts if isinstance(part, Text)]
    return join_texts(texts) if len(texts) == len(parts) else [_part(part) for part in parts]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.url}}
    return {"type": "file", "file": {"filename": part.filename, "file_data": part.url}}
