"""Reads one upstream answer, whichever form it comes in, and ends it well whatever happens.

What is the same for every wire format of ours stands here: bytes become events or one document, failures are raised
before the first byte has gone out and written afterwards, and what the provider did not tell is estimated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut
from ccr_asgi.formats.base import UsageExtra
from ccr_asgi.formats.count_tokens import TokenTally
from ccr_asgi.formats.message_writer import MessageWriter
from ccr_asgi.wire.json_codec import loads
from ccr_asgi.wire.sse import ServerSentEvent, SSEParser

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A larger JSON answer is refused."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerContext:
    """The request that an answer belongs to.

    Attributes:
        message_id: The answer's `msg_…` id.
        provider: The provider's name, for messages.
        model: The model's name as the client shall see it.
        streamed: What the client asked for. What the provider sends is told by its first bytes, not by its headers.
        content_type: The answer's, for the message about one that is neither events nor JSON.
        tool_names: The client's name of each tool, by its upstream name; others stay as they are.
        taken_ids: Ids of the calls that the conversation holds already; none is given twice.
        estimate_input_tokens: Asked only where the provider does not tell.
        extra: Is told what Anthropic's wire cannot carry.
        secrets: Blanked out of error messages.
    """

    message_id: str
    provider: str
    model: str
    streamed: bool
    content_type: str
    tool_names: Mapping[str, str]
    taken_ids: frozenset[str] = frozenset()
    estimate_input_tokens: Callable[[], int]
    extra: UsageExtra
    secrets: Sequence[str] = ()

    @property
    def id_prefix(self) -> str:
        """Unique to the answer; ids made for its blocks hold it."""
        return self.message_id.removeprefix("msg_")


class AnswerMachine(ABC):
    """Turns one answer into what the client asked for; see `StreamMachine`. A wire format says what events mean."""

    def __init__(self, request: AnswerContext) -> None:
        self.failure: CcrError | None = None
        self._request = request
        self._provider = request.provider
        self._extra = request.extra
        self._writer = MessageWriter(message_id=request.message_id, model=request.model, streamed=request.streamed)
        self._said = TokenTally()
        self._spoken = False  # bytes have gone out: from here on failures are events
        self._lead = b""
        self._document: bytearray | None = None
        self._parser: SSEParser | None = None

    @property
    def finished(self) -> bool:
        """The message, or its error, is complete."""
        return self._writer.done

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the answer; see `StreamMachine.feed`."""
        return self._guarded(lambda: self._take(chunk))

    def close(self) -> bytes:
        """The answer has ended; see `StreamMachine.close`."""
        return self._guarded(self._end)

    def idle(self) -> bytes:
        """A ping; see `StreamMachine.idle`."""
        if self.finished:
            return b""
        self._writer.ping()
        self._spoken = self._request.streamed
        return self._writer.take()

    def fail(self, error: CcrError) -> bytes:
        """The answer broke off; see `StreamMachine.fail`."""
        if self.finished:
            return b""
        if not self._spoken:
            raise error
        self.failure = error
        self._writer.fail(error)
        return self._writer.take()

    def usage_so_far(self) -> dict[str, int]:
        """Anthropic's usage object for what has come by now, estimated where nothing was told."""
        told = self._told_usage()
        if told.total_input is None or told.output is None:
            self._extra.estimated = True
        cached = told.cache_read + told.cache_write
        total = cached + self._request.estimate_input_tokens() if told.total_input is None else told.total_input
        self._extra.reasoning_tokens = told.reasoning
        return {
            "input_tokens": max(0, total - cached),
            "cache_creation_input_tokens": told.cache_write,
            "cache_read_input_tokens": told.cache_read,
            "output_tokens": self._said.tokens if told.output is None else told.output,
        }

    # --- what a wire format says

    @abstractmethod
    def _event(self, event: ServerSentEvent) -> bool:
        """Take one event; returns False for one that is not JSON, which alone does not end the stream."""

    @abstractmethod
    def _whole(self, answer: dict[str, Any]) -> None:
        """Take the answer that came as one JSON document."""

    @abstractmethod
    def _finish(self) -> None:
        """The answer has ended, and no event has said so: end the message, or raise what is missing."""

    @abstractmethod
    def _ended(self) -> bool:
        """Whether the provider has said how its answer ends, so that spoilt bytes behind that change nothing."""

    @abstractmethod
    def _told_usage(self) -> "ToldUsage":
        """What the provider told of the tokens so far."""

    # --- bytes

    def _guarded(self, step: Callable[[], None]) -> bytes:
        if self.finished:
            return b""
        try:
            step()
        except RecursionError:
            return self._break_off(ProviderError(f"{self._provider}: the answer is JSON that is nested too deeply."))
        except CcrError as error:
            return self._break_off(error)
        out = self._writer.take()
        self._spoken = self._spoken or bool(out)
        return out

    def _break_off(self, error: CcrError) -> bytes:
        return (self._writer.take() if self._spoken else b"") + self.fail(error)

    def _take(self, chunk: bytes) -> None:
        if self._parser is None and self._document is None:
            chunk = self._choose_reader(chunk)
        if self._document is not None:
            self._document += chunk
            if len(self._document) > MAX_DOCUMENT_BYTES:
                raise ProviderError(f"{self._provider}: the answer is longer than {MAX_DOCUMENT_BYTES} bytes.")
        elif self._parser is not None:
            for event in self._parser.feed(chunk):
                if not self.finished:
                    self._event(event)

    def _choose_reader(self, chunk: bytes) -> bytes:
        """Tell from the first bytes what the answer is; returns those to be read, none while they do not tell."""
        start = (self._lead + chunk).removeprefix(_BYTE_ORDER_MARK).lstrip()
        if _BYTE_ORDER_MARK.startswith(start):
            self._lead = start
            return b""
        if start.startswith((b"{", b"[")):
            self._document = bytearray()
        elif start.startswith(b"<"):
            raise ProviderError(
                f"{self._provider}: the answer is a page ({self._kind_of_content}), not a completion. "
                "Is baseUrl the full URL of the endpoint?"
            )
        else:
            self._parser = SSEParser()
        return start

    def _end(self) -> None:
        if self._document is not None:
            self._whole(self._read_document(bytes(self._document)))
        elif self._parser is not None:
            for event in self._parser.close():
                if not self.finished and not self._event(event) and not self._ended():
                    raise UpstreamCut(f"{self._provider}: the answer ended in the middle of an event.")
        if not self.finished:
            self._finish()

    def _read_document(self, data: bytes) -> dict[str, Any]:
        answer = read_json(data)
        if isinstance(answer, list) and answer:
            answer = answer[0]
        if answer is None:
            raise UpstreamCut(f"{self._provider}: the answer is not whole JSON.")
        if not isinstance(answer, dict):
            raise ProviderError(f"{self._provider}: the answer is a JSON {type(answer).__name__}, not a completion.")
        return answer

    @property
    def _kind_of_content(self) -> str:
        return self._request.content_type[:50] or "no content-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldUsage:
    """A provider's usage object: `total_input` holds the cached tokens too; None means that it was not told."""

    total_input: int | None = None
    cache_read: int = 0
    cache_write: int = 0
    output: int | None = None
    reasoning: int | None = None


def read_json(data: bytes) -> Any:
    """What `data` is as JSON; None if it is not. A spoilt character or number is no reason to lose the words beside."""
    try:
        return loads(data.decode("utf-8", "replace"), odd_numbers=True)
    except ValueError:
        return None


def mapping(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`, or an empty one."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def objects(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of the array under `key`."""
    value = parent.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def string(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def count(usage: Mapping[str, Any], key: str) -> int | None:
    """The count under `key`, if it is one."""
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
