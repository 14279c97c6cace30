"""The body is read once, and what the other layers need is read out of it."""

import re
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.asgi import header
from ccr_asgi.errors import RequestError
from ccr_asgi.exchange import Exchange, is_messages_request, json_object, with_exchange
from ccr_asgi.routing import TAG_NAME, find_tag
from ccr_asgi.wire.json_codec import loads

_TAG_BYTES = TAG_NAME.encode("ascii")
_OLD_USER_ID = re.compile(r"_session_([0-9a-fA-F-]{36})$")


class _Peek(msgspec.Struct):
    """The few fields that every request is asked for; skipping the rest is what makes a big body cheap."""

    model: Any = None
    stream: Any = None
    metadata: Any = None


class _PeekWithSystem(_Peek):
    system: Any = None


_peek = msgspec.json.Decoder(_Peek)
_peek_with_system = msgspec.json.Decoder(_PeekWithSystem)


class TagExtractionMiddleware:
    """Reads a Messages or count_tokens request's body and notes its model, stream flag, session and routing tag.

    The body goes on unchanged. Requests to any other path are not read at all. A body that is not a JSON object with a
    `model` is a 400 here, before any upstream is asked.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or not is_messages_request(scope):
            await self.app(scope, receive, send)
            return
        await with_exchange(self._extract, scope, receive, send)

    async def _extract(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchange.session_id = header(scope, b"x-claude-code-session-id")
        body = await exchange.body(receive)
        read_body_fields(body, exchange)
        await self.app(scope, exchange.replay(body), send)


def read_body_fields(body: bytes, exchange: Exchange) -> None:
    """Note on `exchange` what the body says of model, stream flag, session and tag.

    Raises:
        RequestError: It is not a JSON object, or has no usable `model`.
    """
    fields = _fields(body)
    exchange.streamed = fields.get("stream") is True
    exchange.session_id = exchange.session_id or _session_id(fields.get("metadata"))
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        found = "is missing" if model is None else f"is {model!r:.100}"
        raise RequestError(f"`model` {found}: it must be a non-empty string.")
    exchange.requested_model = model
    exchange.tag = find_tag(fields.get("system"))


def _fields(body: bytes) -> dict[str, Any]:
    # The tag's name cannot be written otherwise in JSON but with \u escapes of letters, which nobody sends.
    decoder = _peek_with_system if _TAG_BYTES in body else _peek
    try:
        return msgspec.structs.asdict(decoder.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return json_object(body)


def _session_id(metadata: object) -> str | None:
    """Claude Code's session out of `metadata.user_id`: JSON since 2.1, `user_…_session_<uuid>` before."""
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user_id, str):
        return None
    if match := _OLD_USER_ID.search(user_id):
        return match[1]
    try:
        session_id = loads(user_id).get("session_id")
    except (ValueError, AttributeError):
        return None
    return session_id if isinstance(session_id, str) else None
