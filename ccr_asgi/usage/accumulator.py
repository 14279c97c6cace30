"""What an answer says about itself, folded from a copy of the bytes that the client gets.

Pure: bytes in, facts out, however they are cut. A stream is never held, an event only until its end has come, and of
the events only those few are decoded whose bytes name one that matters. (They are looked for as bytes, which may err on
the side of decoding: a text delta that quotes `"message_start"` is decoded, seen to be a text delta, and left alone.)

Usage counts of `message_delta` are cumulative and overwrite those of `message_start`, but only those that are present
(`anthropic.lib.streaming._messages.accumulate_event`).
"""

from collections.abc import Iterator
from logging import getLogger
from typing import Any

from ccr_asgi.errors import UpstreamError
from ccr_asgi.usage.record import Tokens
from ccr_asgi.wire import decompress, json_codec

logger = getLogger(__name__)

LOOK_BYTES = 4096
"""Once content has begun, so much is gathered before it is looked at: one event costs as much to look at as ten."""
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A larger JSON answer leaves its usage unknown."""
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""A larger event is passed over."""
MAX_UNFOLDED_BYTES = 16 * 1024 * 1024
"""A compressed chunk that unfolds into more is no message: the copy is read no further, and traffic does not wait."""

_COUNTS = (
    ("input", ("input_tokens",)),
    ("cache_read", ("cache_read_input_tokens",)),
    ("cache_write", ("cache_creation_input_tokens",)),
    ("cache_write_5m", ("cache_creation", "ephemeral_5m_input_tokens")),
    ("cache_write_1h", ("cache_creation", "ephemeral_1h_input_tokens")),
    ("output", ("output_tokens",)),
    ("reasoning", ("output_tokens_details", "thinking_tokens")),
)
"""Our name of each count, and where it stands in Anthropic's usage object (anthropic SDK, `anthropic.types.Usage`)."""


class UsageAccumulator:
    """The facts of one answer, from its bytes.

    Args:
        content_type: The answer's `content-type`; where it names neither JSON nor an event stream, the bytes tell.
        content_encoding: The answer's `content-encoding`; None when it has none.

    Attributes:
        model: The model that the answer names.
        stop_reason: Anthropic's stop_reason.
        error_type: The `error.type` of an error body or event.
        content_seen: Content has begun: a stream's first content block, or at `close` the content of a JSON message.
        complete: The end was seen: `message_stop`, or a JSON document that is whole (of one that is too large to be
            read: that it ends with its brace).
        readable: The bytes can be read; False for an unknown or broken encoding, and then the rest tells nothing.
    """

    def __init__(self, content_type: str, content_encoding: str | None) -> None:
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.error_type: str | None = None
        self.content_seen = False
        self.complete = False
        self.readable = True
        self._counts: dict[str, int] = {}
        self._gathered = bytearray()
        self._events: _WholeEvents | None = None
        self._document: _Document | None = None
        self._choose_reader(content_type.partition(";")[0].strip().lower())
        self._decoder: decompress.Decoder | None = None
        if content_encoding and content_encoding.lower() != "identity":
            try:
                self._decoder = decompress.decoder(content_encoding)
            except UpstreamError as error:
                self._go_blind(error)

    @property
    def has_usage(self) -> bool:
        """At least one token count was told."""
        return bool(self._counts)

    @property
    def tokens(self) -> Tokens:
        """The counts told so far, in disjoint parts; what was not told is None."""
        told = self._counts.get
        write_5m, write_1h = _cache_writes(told("cache_write"), told("cache_write_5m"), told("cache_write_1h"))
        return Tokens(told("input"), told("cache_read"), write_5m, write_1h, told("output"), told("reasoning"))

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer, as the client gets them; never raises.

        What they tell may be known only at `close`.
        """
        if self.content_seen and len(self._gathered) + len(chunk) < LOOK_BYTES:
            self._gathered += chunk
            return
        if self._gathered:
            chunk = bytes(self._gathered) + chunk
            self._gathered.clear()
        self._look(chunk)

    def close(self) -> None:
        """The answer has ended, well or not; never raises."""
        if self._gathered:
            self._look(bytes(self._gathered))
        if not self.readable:
            return
        try:
            if self._events is not None:
                self._take_events(self._events.close())
            elif self._document is not None:
                self._take_document(self._document)
        except Exception as error:
            self._go_blind(error)

    def _look(self, chunk: bytes) -> None:
        if not self.readable:
            return
        try:
            if self._decoder is None:
                self._take(chunk)
            else:
                self._unfold(self._decoder.feed(chunk))
        except Exception as error:
            self._go_blind(error)

    def _choose_reader(self, media_type: str) -> None:
        if media_type == "text/event-stream":
            self._events = _WholeEvents()
        elif media_type == "application/json":
            self._document = _Document()

    def _go_blind(self, error: Exception) -> None:
        self.readable = False
        # The kind alone: a parser's text may quote the answer.
        logger.warning("the usage of an answer cannot be read (%s)", type(error).__name__)

    def _unfold(self, pieces: Iterator[bytes]) -> None:
        unfolded_bytes = 0
        for piece in pieces:
            unfolded_bytes += len(piece)
            if unfolded_bytes > MAX_UNFOLDED_BYTES:
                raise UpstreamError("a chunk of the answer unfolds into too much")
            self._take(piece)

    def _take(self, data: bytes) -> None:
        if self._events is not None:
            self._take_events(self._events.feed(data))
        elif self._document is not None:
            self._document.feed(data)
        elif start := data.lstrip():
            self._choose_reader("application/json" if start.startswith(b"{") else "text/event-stream")
            self._take(start)

    def _take_events(self, events: bytes) -> None:
        if not self.content_seen and b'"content_block_' in events:
            self.content_seen = True
        if b'"message_' in events or b'"error"' in events:
            for event in events.split(b"\n\n"):
                if (b'"message_' in event or b'"error"' in event) and len(event) <= MAX_EVENT_BYTES:
                    self._fold_event(_parse(_event_data(event)))

    def _take_document(self, document: "_Document") -> None:
        if document.too_large:
            self.complete = document.ends_with_brace
            return
        value = _parse(bytes(document.data))
        self.complete = bool(value)
        self._fold_error(value)
        self._fold_message(value)
        self.content_seen = bool(value.get("content"))

    def _fold_event(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self._fold_message(_mapping(event, "message"))
            case "message_delta":
                self._fold_message(_mapping(event, "delta"))
                self._fold_usage(_mapping(event, "usage"))
            case "message_stop":
                self.complete = True
            case "error":
                self._fold_error(event)

    def _fold_message(self, message: dict[str, Any]) -> None:
        self.model = _text(message, "model") or self.model
        self.stop_reason = _text(message, "stop_reason") or self.stop_reason
        self._fold_usage(_mapping(message, "usage"))

    def _fold_error(self, body: dict[str, Any]) -> None:
        self.error_type = _text(_mapping(body, "error"), "type") or self.error_type

    def _fold_usage(self, usage: dict[str, Any]) -> None:
        for name, (*parents, key) in _COUNTS:
            place = usage
            for parent in parents:
                place = _mapping(place, parent)
            count = place.get(key)
            if type(count) is int and count >= 0:  # True is an int, and no count
                self._counts[name] = count


class _WholeEvents:
    """Hands on a stream as far as its events are whole, with plain line feeds; keeps no more than one event."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._carriage_return = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> bytes:
        """The events whose end is in `chunk`, with blank lines between them."""
        if b"\r" in chunk or self._carriage_return:
            chunk = self._with_line_feeds(chunk)
        if not self._partial and chunk.endswith(b"\n\n"):
            return chunk  # what nearly every chunk of a live stream is
        # Only the new bytes and the seam are searched, so that a long event costs a straight line.
        if b"\n\n" not in (self._partial[-1:] + chunk if self._partial else chunk):
            self._keep(chunk)
            return b""
        events, _, rest = (bytes(self._partial) + chunk).rpartition(b"\n\n")
        self._partial = bytearray(rest)
        if self._skipping:
            self._skipping = False
            return events.partition(b"\n\n")[2]
        return events

    def close(self) -> bytes:
        """The last event, if the blank line after it never came. What it tells was told all the same."""
        return b"" if self._skipping else bytes(self._partial)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        chunk = self._carriage_return + chunk
        # The last one waits: a line feed that follows belongs to it.
        self._carriage_return = b"\r" if chunk.endswith(b"\r") else b""
        return chunk.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, chunk: bytes) -> None:
        self._partial += chunk
        if self._skipping or len(self._partial) > MAX_EVENT_BYTES + 1:
            self._skipping = True
            del self._partial[:-1]


class _Document:
    """Keeps a JSON answer until it is whole, or of one that is too large only its end."""

    _END_BYTES = 16

    def __init__(self) -> None:
        self.data = bytearray()
        self.too_large = False

    def feed(self, chunk: bytes) -> None:
        self.data += chunk
        if self.too_large or len(self.data) > MAX_DOCUMENT_BYTES:
            self.too_large = True
            del self.data[: -self._END_BYTES]

    @property
    def ends_with_brace(self) -> bool:
        return self.data.rstrip().endswith(b"}")


def _event_data(event: bytes) -> bytes:
    """The payload of one event: its `data` lines joined (WHATWG HTML, 9.2.6)."""
    lines = event.splitlines()
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def _parse(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        value = json_codec.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _text(parent: dict[str, Any], key: str) -> str | None:
    value = parent.get(key)
    return value if isinstance(value, str) else None


def _cache_writes(total: int | None, write_5m: int | None, write_1h: int | None) -> tuple[int | None, int | None]:
    """The cache writes of 5 minutes and of 1 hour, whose sum is `total` wherever a total was told.

    A total without a breakdown is of 5 minutes, the API's default. A `message_delta` may raise the total and repeat no
    breakdown: what came on top is of the kind that most of the breakdown was.
    """
    if total is None:
        return write_5m, write_1h
    known_5m, known_1h = write_5m or 0, write_1h or 0
    if known_1h > known_5m:
        known_5m = min(known_5m, total)
        return known_5m, total - known_5m
    known_1h = min(known_1h, total)
    return total - known_1h, known_1h
