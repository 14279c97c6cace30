"""The few ASGI moves that every layer here makes: bodies read once and replayed, headers edited, answers sent."""

from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from ccr_asgi.errors import CcrError, escape_html, to_anthropic, to_sse_event
from ccr_asgi.wire.json_codec import dumps

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Header fields that speak of one connection and are never forwarded (RFC 9110, section 7.6.1)."""

Headers = list[tuple[bytes, bytes]]

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""On every answer of ours: no browser may guess that it is something else than it says."""

TAIL_BYTES = 256
"""How much of a stream's end is remembered: enough for Anthropic's last event, `message_stop`, padded as it may be."""


class ClientDisconnected(Exception):
    """The client left before it had sent its whole body."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a request header (`name` in lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def with_headers(scope: Scope, headers: Headers) -> Scope:
    """A copy of `scope` with other headers; the original is left as it was."""
    return {**scope, "headers": headers}


def with_body_length(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Headers:
    """`headers` with the one content-length that `body` has, where the old one stood."""
    kept: Headers = []
    placed = False
    for name, value in headers:
        if name.lower() not in (b"content-length", b"transfer-encoding"):
            kept.append((name, value))
        elif not placed:
            kept.append((b"content-length", b"%d" % len(body)))
            placed = True
    return kept if placed else [*kept, (b"content-length", b"%d" % len(body))]


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """`headers` without the hop-by-hop fields, those that `connection` names among them."""
    headers = list(headers)
    dropped = HOP_BY_HOP
    for name, value in headers:
        if name.lower() == b"connection":
            dropped = dropped | {token.strip().lower() for token in value.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


async def read_body(receive: Receive) -> bytes:
    """Read a whole request body.

    Raises:
        ClientDisconnected: The client left before its end.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return bytes(message.get("body", b""))
    pieces = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()
    raise ClientDisconnected


def replay(body: bytes, receive: Receive) -> Receive:
    """A fresh `receive` that gives `body` whole, then hands on the real one (so that a disconnect is seen).

    What has been given is not kept here: a stream may be open for a long time.
    """
    kept: bytes | None = body
    del body

    async def receive_again() -> Message:
        nonlocal kept
        if kept is None:
            return await receive()
        given, kept = kept, None
        return {"type": "http.request", "body": given, "more_body": False}

    return receive_again


def raw_target(scope: Scope) -> bytes:
    """The request target as the client wrote it, less the prefix that we are mounted under, with its query.

    Percent-encoding is kept byte for byte. Only a lone trailing `?` is lost: ASGI does not carry it.
    """
    path = raw_path(scope)
    query = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def raw_path(scope: Scope) -> bytes:
    """The path of `raw_target`, without the query; b"" if the client asked for the bare mount point."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:  # optional in ASGI
        raw = quote(scope["path"]).encode("ascii")
    raw = raw.partition(b"?")[0]
    prefix = scope.get("root_path", "").rstrip("/").encode("utf-8")
    if not prefix:
        return raw
    for end in range(len(prefix), min(len(raw), 3 * len(prefix)) + 1):
        # Each byte of the prefix may stand encoded, so its raw length is not known beforehand.
        if raw[end : end + 1] in (b"", b"/") and unquote_to_bytes(raw[:end]) == prefix:
            return raw[end:]
    return raw  # a server that gives paths without their root_path


def has_dot_segment(raw: bytes) -> bool:
    """Whether a raw path holds a `.` or `..` segment, literal or encoded: no honest client sends one."""
    return b"." in (decoded := unquote_to_bytes(raw)) and not {b".", b".."}.isdisjoint(
        decoded.replace(b"\\", b"/").split(b"/")
    )


async def send_body(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole answer; content-length is added."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_json(send: Send, value: object, *, status: int = 200, request_id: str | None = None) -> None:
    """Send `value` as JSON that no browser can take for a page."""
    headers = [(b"content-type", b"application/json"), NOSNIFF]
    if request_id is not None:
        headers.append((b"request-id", request_id.encode("ascii")))
    await send_body(send, status, headers, escape_html(dumps(value)))


async def send_error(
    send: Send, error: CcrError, request_id: str, *, extra: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send `error` as Anthropic's error JSON, with `extra` headers."""
    response = to_anthropic(error, request_id)
    await send_body(send, response.status, [*response.headers, NOSNIFF, *extra], response.body)


class ErrorResponder:
    """Sends one answer on, and can still turn it into an error: JSON before its start, an event inside a stream.

    One is made for each request by the layer that renders errors.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False
        self.complete = False
        self._event_stream = False
        self._tail = b"\n\n"

    async def send(self, message: Message) -> None:
        """Send on one message of the layers below."""
        if message["type"] == "http.response.start":
            self.started = True
            self._event_stream = _is_plain_event_stream(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
            if self._event_stream:
                self._tail = (self._tail + message.get("body", b"")[-TAIL_BYTES:])[-TAIL_BYTES:]
        await self._send(message)

    async def render(self, error: CcrError, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Tell the client of `error` in the way that is still open, with `extra` headers if it is one that has any.

        Raises:
            CcrError: `error` itself, when the answer is in the middle of something that no error fits into: the
                server then cuts the connection, which is the only honest end left.
        """
        if not self.started:
            await send_error(self._send, error, self._request_id, extra=extra)
        elif self.complete:
            return
        elif self._event_stream and self._tail.endswith((b"\n\n", b"\r\n\r\n")):
            # The message may be complete, and only the connection's end was not clean.
            event = b"" if b"event: message_stop" in self._tail else to_sse_event(error, self._request_id)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            raise error


def _is_plain_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    found = {name.lower(): value for name, value in headers}
    return (
        found.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        and b"content-length" not in found
        and found.get(b"content-encoding", b"identity") == b"identity"
    )
