"""Short ways to run a `ResponsesStream` over an answer, and to write answers event by event."""

import json
from collections.abc import Mapping
from typing import Any

from ccr_asgi.formats.answer_machine import AnswerContext
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.formats.openai_responses_errors import Refusals
from ccr_asgi.formats.openai_responses_stream import ResponsesStream
from tests.formats.golden import Result, run

INPUT_TOKENS = 1000
"""What the machine is told when it asks for an estimate."""
NOW_S = 1_795_393_200.0
"""The present, for errors that tell when a quota resets: 2026-11-23 00:20 UTC."""
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
}

Event = dict[str, Any]


def machine(
    *,
    streamed: bool = True,
    content_type: str = "text/event-stream",
    tool_names: Mapping[str, str] | None = None,
    extra: UsageExtra | None = None,
    taken_ids: frozenset[str] = frozenset(),
) -> ResponsesStream:
    return ResponsesStream(
        AnswerContext(
            message_id="msg_golden",
            provider="p",
            model="m",
            streamed=streamed,
            content_type=content_type,
            tool_names=tool_names or {},
            taken_ids=taken_ids,
            estimate_input_tokens=lambda: INPUT_TOKENS,
            extra=extra or UsageExtra(),
        ),
        Refusals("p", login=True, estimate=lambda: INPUT_TOKENS, now=lambda: NOW_S).event,
    )


# Events. A `None` among the fields leaves the field out.


def event(kind: str, place: int | None = None, **fields: Any) -> Event:
    found = {"type": kind, "output_index": place, **fields}
    return {key: value for key, value in found.items() if value is not None}


def added(place: int | None, kind: str, **item: Any) -> Event:
    return event("response.output_item.added", place, item={"type": kind, **item})


def item_done(place: int | None, kind: str, **item: Any) -> Event:
    return event("response.output_item.done", place, item={"type": kind, **item})


def said(place: int | None, delta: object, **fields: Any) -> Event:
    return event("response.output_text.delta", place, delta=delta, **fields)


def thought(place: int | None, delta: object, part: int = 0, **fields: Any) -> Event:
    return event("response.reasoning_summary_text.delta", place, delta=delta, summary_index=part, **fields)


def argued(place: int | None, delta: object, **fields: Any) -> Event:
    return event("response.function_call_arguments.delta", place, delta=delta, **fields)


def all_arguments(place: int | None, arguments: object, **fields: Any) -> Event:
    return event("response.function_call_arguments.done", place, arguments=arguments, **fields)


def message_item(*texts: str, **fields: Any) -> Event:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "role": "assistant", "status": "completed", "content": content, **fields}


def call_item(call_id: str, name: str, arguments: object, **fields: Any) -> Event:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **fields}


def completed(*output: Event, usage: object = USAGE, **fields: Any) -> Event:
    response = {"id": "resp_1", "status": "completed", "output": list(output), "usage": usage, "error": None}
    return {"type": "response.completed", "response": {**response, **fields}}


def incomplete(reason: str | None = "max_output_tokens", *output: Event, **fields: Any) -> Event:
    details = {"incomplete_details": {"reason": reason} if reason else None}
    ended = completed(*output, status="incomplete", **details, **fields)
    return {**ended, "type": "response.incomplete"}


def failed(code: str | None, message: str | None, **fields: Any) -> Event:
    response = {"id": "resp_1", "status": "failed", "output": [], "error": {"code": code, "message": message}}
    return {"type": "response.failed", "response": {**response, **fields}}


def call(place: int, call_id: str, name: str, *pieces: str) -> list[Event]:
    """All events of a call whose arguments come in these pieces."""
    whole = "".join(pieces)
    return [
        added(place, "function_call", id=f"fc_{place}", call_id=call_id, name=name, arguments=""),
        *(argued(place, piece, item_id=f"fc_{place}") for piece in pieces),
        all_arguments(place, whole, item_id=f"fc_{place}"),
        event("response.output_item.done", place, item=call_item(call_id, name, whole, id=f"fc_{place}")),
    ]


def words(place: int, *pieces: str) -> list[Event]:
    """All events of a message whose text comes in these pieces."""
    return [
        added(place, "message", id=f"msg_{place}", role="assistant", content=[]),
        *(said(place, piece, item_id=f"msg_{place}", content_index=0) for piece in pieces),
        event("response.output_item.done", place, item=message_item("".join(pieces), id=f"msg_{place}")),
    ]


def thinking(place: int, *parts: str, encrypted: str | None = "gAAA-final") -> list[Event]:
    """All events of a reasoning item with these summary parts."""
    summary = [{"type": "summary_text", "text": part} for part in parts]
    return [
        added(place, "reasoning", id=f"rs_{place}", summary=[], encrypted_content="gAAA-preview"),
        *(thought(place, part, number, item_id=f"rs_{place}") for number, part in enumerate(parts)),
        item_done(place, "reasoning", id=f"rs_{place}", summary=summary, encrypted_content=encrypted),
    ]


def sse(*events: Event) -> bytes:
    """The events as they are sent."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (str(entry.get("type", "message")).encode(), json.dumps(entry).encode())
        for entry in events
    )


def answer(*events: Event, streamed: bool = True, extra: UsageExtra | None = None) -> Result:
    """What the client gets for these events, each in a network chunk of its own."""
    return run(machine(streamed=streamed, extra=extra), [sse(entry) for entry in events], streamed=streamed)


def content(*events: Event) -> list[dict[str, Any]]:
    """The content that a client gets for these events and a good end; for a stream and for a document the same."""
    found = answer(*events, completed()).message
    assert found is not None
    document = answer(*events, completed(), streamed=False).message
    assert document == found
    blocks: list[dict[str, Any]] = found["content"]
    return blocks
