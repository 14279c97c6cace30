"""Two judges of Anthropic event streams: a strict grammar, and the official SDK.

Neither shares a line with `ccr_asgi`: the grammar is written down here a second time, and the SDK reads the bytes with
its own decoder and its own accumulation.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
    "server_tool_use": {"input": {}},
}
"""What a block that is filled by deltas holds when it starts."""
_DELTAS = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "server_tool_use": {"input_json_delta": "partial_json"},
}


def read_events(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream that we wrote: `event:` and `data:` lines alone, each event ended by a blank line."""
    assert not stream or stream.endswith(b"\n\n"), f"the last event has no end: {stream[-80:]!r}"
    events = []
    for block in stream.decode("utf-8").split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def check_stream(stream: bytes) -> list[dict[str, Any]]:
    """Assert that `stream` is legal and ends by itself, in `message_stop` or `error`; returns its events."""
    grammar = Grammar()
    events = read_events(stream)
    for event in events:
        grammar.take(event)
    assert grammar.ended, f"the stream has no end: {events[-1:]}"
    return events


@dataclass
class Grammar:
    """What may follow what. Feed it one event after the other; it asserts."""

    started: bool = False
    ending: bool = False
    ended: bool = False
    blocks: int = 0
    block: dict[str, Any] | None = None
    deltas: list[dict[str, Any]] = field(default_factory=list)
    tool_ids: set[str] = field(default_factory=set)

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event."""
        kind = event["type"]
        assert not self.ended, f"{kind} after the end"
        if kind == "ping":
            assert event == {"type": "ping"}
            return
        assert self.started or kind in ("message_start", "error"), f"{kind} before message_start"
        assert not self.ending or kind == "message_stop", f"{kind} after message_delta"
        getattr(self, f"_{kind}")(event)

    def _message_start(self, event: dict[str, Any]) -> None:
        assert not self.started, "a second message_start"
        self.started = True
        message = event["message"]
        assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
        assert message["stop_reason"] is None
        assert message["stop_sequence"] is None
        assert message["id"]
        assert message["model"]
        assert {"input_tokens", "output_tokens"} <= message["usage"].keys()

    def _content_block_start(self, event: dict[str, Any]) -> None:
        assert self.block is None, "a block inside a block"
        assert event["index"] == self.blocks
        self.blocks += 1
        self.block = block = event["content_block"]
        self.deltas = []
        for key, empty in _EMPTY.get(block["type"], {}).items():
            assert block[key] == empty, f"{block['type']} starts with {key} {block[key]!r}"
        if block["type"] == "tool_use":
            assert block["id"] not in self.tool_ids, f"the id {block['id']} stands twice"
            self.tool_ids.add(block["id"])

    def _content_block_delta(self, event: dict[str, Any]) -> None:
        assert self.block is not None, "a delta outside of a block"
        assert event["index"] == self.blocks - 1
        delta = event["delta"]
        key = _DELTAS[self.block["type"]][delta["type"]]
        assert delta.keys() == {"type", key}
        assert isinstance(delta[key], str)
        assert not self.deltas or self.deltas[-1]["type"] != "signature_delta", "a delta after the signature"
        self.deltas.append(delta)

    def _content_block_stop(self, event: dict[str, Any]) -> None:
        assert self.block is not None, "a stop outside of a block"
        assert event == {"type": "content_block_stop", "index": self.blocks - 1}
        if self.block["type"] == "thinking":
            assert self.deltas[-1]["type"] == "signature_delta", "thinking without a signature"
        if self.block["type"] == "text":
            assert any(delta["text"] for delta in self.deltas), "an empty text block"
        self.block = None

    def _message_delta(self, event: dict[str, Any]) -> None:
        assert self.block is None, "message_delta inside a block"
        assert event["delta"].keys() == {"stop_reason", "stop_sequence"}
        assert event["delta"]["stop_reason"]
        assert all(isinstance(count, int) and count >= 0 for count in event["usage"].values())
        assert event["usage"].keys() == {
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "output_tokens",
        }
        self.ending = True

    def _message_stop(self, event: dict[str, Any]) -> None:
        assert self.ending, "message_stop without message_delta"
        assert event == {"type": "message_stop"}
        self.ended = True

    def _error(self, event: dict[str, Any]) -> None:
        # A call that broke off stays open, or a client would run it (docs/adr/0007).
        assert self.block is None or self.block["type"] == "tool_use", "an error inside a block that is not a call"
        assert event.keys() == {"type", "error"}
        assert event["error"].keys() == {"type", "message"}
        assert event["error"]["type"].endswith(("_error", "_too_large"))
        assert event["error"]["message"]
        self.ended = True


def sdk_events(stream: bytes) -> Iterator[RawMessageStreamEvent]:
    """The events as the SDK reads and validates them, without pings; an `error` ends them."""
    for event in SSEDecoder().iter_bytes(iter([stream])):
        if event.event == "error":
            return
        if event.event != "ping":
            yield _EVENT.validate_json(event.data)


def sdk_message(stream: bytes, *, broken_input: bool = False) -> dict[str, Any] | None:
    """The message that the SDK accumulates from a stream, as far as it goes; None if it never starts.

    `broken_input` passes over what the SDK cannot read of a call's input, which is right only where an error follows.
    """
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in sdk_events(stream):
        try:
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        except ValueError:
            assert broken_input, f"the SDK cannot read {event.to_json()}"
    return None if snapshot is None else plain_message(json.loads(snapshot.to_json()))


def plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message of ours or of the SDK without the keys that only one of them writes; validated as a `Message`."""
    Message.model_validate(message)
    usage = {key: count for key, count in message["usage"].items() if count is not None}
    content = [{key: value for key, value in block.items() if value is not None} for block in message["content"]]
    kept = {key: message[key] for key in ("id", "type", "role", "model", "stop_reason", "stop_sequence")}
    return cast(dict[str, Any], json.loads(json.dumps({**kept, "content": content, "usage": usage})))
