"""The grammar of Anthropic's answers, owned in one place: every converter writes through it.

    NEW ──message_start──> BETWEEN ──message_delta──> ENDING ──message_stop──> DONE
                            │    ^
             content_block_ │    │ content_block_stop
                     start  v    │
                           IN_BLOCK ──content_block_delta──> IN_BLOCK

`TRANSITIONS` is that picture; `DELTAS` says which deltas a block of each type takes. Blocks are numbered 0, 1, 2… and
one is open at a time. The end of a stream, good or bad, is an input like any other: an early one closes the open block
and writes `error`. For a client that asked for `stream: false` the same calls fold into one JSON message.

The shapes are those of the anthropic SDK, `anthropic.types.RawMessageStreamEvent` and `anthropic.types.Message`.
"""

from enum import Enum
from typing import Any, Literal

from ccr_asgi.errors import CcrError, ProviderError
from ccr_asgi.formats.partial_json import parse_partial
from ccr_asgi.wire.json_codec import dumps
from ccr_asgi.wire.sse import encode

StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn"]


class State(Enum):
    """Where a message stands."""

    NEW = "new"
    BETWEEN = "between blocks"
    IN_BLOCK = "in a block"
    ENDING = "ending"
    DONE = "done"


TRANSITIONS: dict[State, dict[str, State]] = {
    State.NEW: {"ping": State.NEW, "message_start": State.BETWEEN, "error": State.DONE},
    State.BETWEEN: {
        "ping": State.BETWEEN,
        "content_block_start": State.IN_BLOCK,
        "message_delta": State.ENDING,
        "error": State.DONE,
    },
    State.IN_BLOCK: {
        "ping": State.IN_BLOCK,
        "content_block_delta": State.IN_BLOCK,
        "content_block_stop": State.BETWEEN,
        "error": State.DONE,  # of a call alone, see `fail`
    },
    State.ENDING: {"message_stop": State.DONE},
    State.DONE: {},
}
"""What may follow what; anything else is a defect of the converter."""

DELTAS: dict[str, dict[str, str]] = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
    "server_tool_use": {"input_json_delta": "partial_json"},
}
"""Block type to the deltas it takes, and the key that each carries its piece under. Other blocks come whole."""


MAX_DOCUMENT_CHARS = 16 * 1024 * 1024
"""More text than this is not folded into one document."""


class IllegalEvent(Exception):
    """A converter wrote what the grammar does not allow: a defect of ours."""


class MessageWriter:
    """Writes one message, as events for `streamed`, else as one JSON document.

    Methods queue output; `take` hands it out. Whatever block is asked for, the one that stands in its way is closed.

    Args:
        message_id: The message's id.
        model: The model's name as the client shall see it.
        streamed: Events, or one document.
    """

    def __init__(self, *, message_id: str, model: str, streamed: bool) -> None:
        self._message_id = message_id
        self._model = model
        self._streamed = streamed
        self._out: list[bytes] = []
        self._state = State.NEW
        self._block: dict[str, Any] | None = None
        self._pieces: dict[str, list[str]] = {}
        self._content: list[dict[str, Any]] = []
        self._blocks = 0
        self._chars = 0

    @property
    def started(self) -> bool:
        """message_start has been written."""
        return self._state is not State.NEW

    @property
    def done(self) -> bool:
        """The message has ended; nothing may follow."""
        return self._state is State.DONE

    @property
    def block_type(self) -> str | None:
        """The type of the open block."""
        return self._block["type"] if self._block is not None else None

    def take(self) -> bytes:
        """What has been written since the last call."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def ping(self) -> None:
        """Write a `ping`; a document has none."""
        self._event("ping", {})

    def text(self, text: str) -> None:
        """Write text, in the open text block or a new one; nothing for ""."""
        if not text:
            return
        self._in_block("text", {"type": "text", "text": ""})
        self._delta("text_delta", text)

    def thinking(self, thinking: str) -> None:
        """Write thinking, in the open thinking block or a new one; nothing for ""."""
        if not thinking:
            return
        self._in_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._delta("thinking_delta", thinking)

    def signature(self, signature: str) -> None:
        """Sign the open thinking block, or one without text; the last thing before it closes."""
        self._in_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._delta("signature_delta", signature)
        self.close_block()

    def open_tool_use(
        self, tool_id: str, name: str, *, kind: Literal["tool_use", "server_tool_use"] = "tool_use"
    ) -> None:
        """Open a call; its input follows by `tool_input`."""
        self._open({"type": kind, "id": tool_id, "name": name, "input": {}})

    def tool_input(self, partial_json: str) -> None:
        """Write a piece of the open call's input."""
        self._delta("input_json_delta", partial_json)

    def whole_block(self, block: dict[str, Any]) -> None:
        """Write a block that has no deltas, such as `web_search_tool_result`."""
        self._open(block)
        self.close_block()

    def close_block(self) -> None:
        """Close the open block, if there is one. Thinking that nobody signed gets the empty signature."""
        if self._block is None:
            return
        if self._block["type"] == "thinking" and "signature_delta" not in self._pieces:
            self._delta("signature_delta", "")
        self._event("content_block_stop", {"index": self._blocks - 1})
        if not self._streamed:
            self._content.append(_folded(self._block, self._pieces))
        self._block = None

    def finish(self, stop_reason: StopReason, usage: dict[str, int], *, stop_sequence: str | None = None) -> None:
        """End the message. `usage` is the whole of it: Anthropic's counts are cumulative."""
        self._start()
        self.close_block()
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        # Written first: if it cannot be, the message has not ended yet, and can still fail.
        document = b"" if self._streamed else dumps({**self._envelope(usage), **delta, "content": self._content})
        self._event("message_delta", {"delta": delta, "usage": usage})
        self._event("message_stop", {})
        self._out.append(document)

    def fail(self, error: CcrError) -> None:
        """End a stream, of which something has gone out, with `error`; nothing may follow.

        The open block is closed first, but for a call: a client takes a closed call for a complete one and runs it, cut
        arguments and all (docs/adr/0007-a-broken-call-stays-open.md).
        """
        if self.block_type != "tool_use":
            self.close_block()
        self._event("error", {"error": {"type": error.error_type, "message": error.message}})

    def _start(self) -> None:
        if self._state is State.NEW:
            message = {**self._envelope({"input_tokens": 0, "output_tokens": 0}), "content": []}
            self._event("message_start", {"message": message})

    def _envelope(self, usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def _in_block(self, kind: str, empty: dict[str, Any]) -> None:
        if self.block_type != kind:
            self._open(empty)

    def _open(self, block: dict[str, Any]) -> None:
        self._start()
        self.close_block()
        self._event("content_block_start", {"index": self._blocks, "content_block": block})
        self._blocks += 1
        self._block = block
        self._pieces = {}

    def _delta(self, kind: str, piece: str) -> None:
        key = DELTAS.get(self.block_type or "", {}).get(kind)
        if key is None:
            raise IllegalEvent(f"a {kind} in {self.block_type or 'no block'}")
        if self._streamed:
            self._pieces[kind] = []
        else:
            self._pieces.setdefault(kind, []).append(piece)
            self._chars += len(piece)
            if self._chars > MAX_DOCUMENT_CHARS:
                raise ProviderError(f"The answer is longer than {MAX_DOCUMENT_CHARS} characters; ask for a stream.")
        self._event("content_block_delta", {"index": self._blocks - 1, "delta": {"type": kind, key: piece}})

    def _event(self, name: str, fields: dict[str, Any]) -> None:
        following = TRANSITIONS[self._state].get(name)
        if following is None:
            raise IllegalEvent(f"{name} while {self._state.value}")
        if self._streamed:
            self._out.append(encode(name, dumps({"type": name, **fields})))
        self._state = following


def _folded(block: dict[str, Any], pieces: dict[str, list[str]]) -> dict[str, Any]:
    """A block with its deltas taken in, as the SDK's accumulation does it."""
    folded = dict(block)
    for kind, key in DELTAS.get(block["type"], {}).items():
        joined = "".join(pieces.get(kind, []))
        if kind == "input_json_delta":
            folded["input"] = parse_partial(joined)
        else:
            folded[key] = joined
    return folded
