"""What a wire format must offer: converters that know bytes and nothing of sockets.

A format is N lines against Anthropic's Messages API, never against another format. It is pure and synchronous: the
middleware feeds it and sends what it returns. A fourth format is one new file with a `FORMAT` and one line in
`FORMATS` (`ccr_asgi/formats/__init__.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ccr_asgi.config import Provider
from ccr_asgi.errors import CcrError, RawHeaders, RequestError
from ccr_asgi.routing import Route


@dataclass(frozen=True, slots=True)
class ConversionContext:
    """What a conversion may know beside the body and the route.

    Attributes:
        message_id: The `msg_…` id of the answer, unique; generated tool ids are derived from it.
        session_id: The Claude Code session, stable over its requests; None when the client names none.
        read_again: Parses the client's body once more, for the few answers that ask for it. As bytes it waits in a
            fifth of the memory, as long as a stream is open; None has the conversion keep it parsed.
    """

    message_id: str
    session_id: str | None = None
    read_again: Callable[[], dict[str, Any]] | None = None


@dataclass(slots=True)
class UpstreamRequest:
    """A converted request: its JSON body, and headers of its own, which win over the usual ones."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def take_body(self) -> bytes:
        """The body, for whoever sends it: it is not kept here, since a stream may be open for a long time."""
        body, self.body = self.body, b""
        return body


@dataclass(slots=True)
class UsageExtra:
    """What a converted answer tells and Anthropic's wire cannot carry.

    Attributes:
        served_model: The model name that the provider says it used; None if it said nothing.
        reasoning_tokens: Output tokens spent on reasoning, already part of the output tokens; None if not told.
        estimated: The token counts are our own estimate, since the provider sent none.
        unsent: Anthropic's usage object of an answer that ended before it could be sent; None if it was sent.
    """

    served_model: str | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    unsent: dict[str, int] | None = None


class StreamMachine(Protocol):
    """Turns the bytes of one upstream answer into the bytes that the client wants, in the form it asked for.

    For a client with `stream: true` the output is Anthropic SSE, event by event; for `stream: false` nothing comes
    out before `close()` returns the one JSON message. `bytes` in may be cut anywhere. Before anything has come out a
    failure is *raised* as a `CcrError`; afterwards the machine writes the ending itself (open block closed,
    `event: error`), remembers it in `failure`, and ignores all further input.
    """

    failure: CcrError | None
    """The error that ended a stream which had already started; None as long as all is well."""

    @property
    def finished(self) -> bool:
        """`message_stop` or an error has been written; further input is ignored."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Take upstream bytes (decoded from their content encoding); return what is ready for the client."""
        ...

    def idle(self) -> bytes:
        """The upstream is silent: return a `ping` event, or b"" where none may stand (`stream: false`)."""
        ...

    def close(self) -> bytes:
        """The upstream's answer ended cleanly: return the rest. An end that came too early is an error."""
        ...

    def usage_so_far(self) -> dict[str, int]:
        """Anthropic's usage object for what has come by now; for an answer that its client did not wait for."""
        ...

    def fail(self, error: CcrError) -> bytes:
        """The answer broke off because of `error`: raise it if nothing has come out yet, else return the ending."""
        ...


class Conversion(Protocol):
    """One request's conversion; it knows the tool-name map, the session, and what thinking was asked for."""

    request: UpstreamRequest
    extra: UsageExtra

    def stream(self, content_type: str, headers: RawHeaders = ()) -> StreamMachine:
        """A machine for an answer with a 2xx status, of that content type and with those header fields."""
        ...

    def error(self, status: int, headers: RawHeaders, body: bytes) -> CcrError:
        """What the client shall see of an upstream answer that is not 2xx; `body` is its first 64 KB."""
        ...

    def retry(self, error: CcrError) -> UpstreamRequest | None:
        """A changed request that may succeed where the first failed with `error`; None gives up."""
        ...


class Format(Protocol):
    """A wire format."""

    kind: str

    def begin(self, body: dict[str, Any], route: Route, context: ConversionContext) -> Conversion:
        """Convert a client's request, which is any JSON object at all.

        Raises:
            RequestError: It cannot be converted; the message names the field, what was found and what is accepted.
        """
        ...

    def count_tokens(self, body: dict[str, Any], route: Route) -> int:
        """Estimate the input tokens of a request for this provider.

        Raises:
            RequestError: As for `begin`.
        """
        ...


SECRET_CHARS = 8
"""Header values shorter than this are no secrets, and blanking them out would maim a message."""


def secrets_of(provider: Provider) -> tuple[str, ...]:
    """What must not be shown of a provider's configuration, even if the provider itself echoes it."""
    values = [provider.api_key or "", *(value for _, value in provider.headers), *provider.quirks.headers.values()]
    return tuple(value for value in values if len(value) >= SECRET_CHARS)


@contextmanager
def shallow_enough() -> Iterator[None]:
    """Turn the exhaustion of the stack by a deeply nested body into its refusal."""
    try:
        yield
    except RecursionError:
        raise RequestError("body: found JSON nested too deeply; accepted: some hundreds of levels.") from None
