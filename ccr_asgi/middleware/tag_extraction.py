"""The body is read once, and what the other layers need is read out of it."""

import re
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from ccr_asgi.asgi import header
from ccr_asgi.errors import RequestError
from ccr_asgi.exchange import Exchange, is_messages_request, json_object, with_exchange
from ccr_asgi.routing import TAG_NAME, find_tag, system_texts
from ccr_asgi.wire.json_codec import loads

_TAG_BYTES = TAG_NAME.encode("ascii")
_FOLDER_BYTES = b"orking directory: "
_FOLDER = re.compile(r"^[ \t]*+(?:- )?(?:Primary w|W)orking directory: (.+)$", re.MULTILINE)
"""The line that tells Claude Code's folder: in a system message near the start since 2.1.300, before in the system
prompt. No space in it can be read in two ways: over a million of them that would take a day."""
_FIRST_MESSAGES = 4
_OLD_USER_ID = re.compile(r"_session_([0-9a-fA-F-]{36})$")


class _Peek(msgspec.Struct):
    """The few fields that every request is asked for; skipping the rest is what makes a big body cheap."""

    model: Any = None
    stream: Any = None
    metadata: Any = None


class _PeekWithSystem(_Peek):
    system: Any = None


class _PeekWithMessages(_PeekWithSystem):
    messages: list[msgspec.Raw] = []


_peek = msgspec.json.Decoder(_Peek)
_peek_with_system = msgspec.json.Decoder(_PeekWithSystem)
_peek_with_messages = msgspec.json.Decoder(_PeekWithMessages)


class TagExtractionMiddleware:
    """Reads a Messages or count_tokens request's body: its model, stream flag, session, project and routing tag.

    Args:
        app: The layers below.
        project: Note the name of the folder that Claude Code works in, which its own text tells.

    The body goes on unchanged. Requests to any other path are not read at all. A body that is not a JSON object with a
    `model` is a 400 here, before any upstream is asked.
    """

    def __init__(self, app: ASGIApp, *, project: bool = True) -> None:
        self.app = app
        self._project = project

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or not is_messages_request(scope):
            await self.app(scope, receive, send)
            return
        await with_exchange(self._extract, scope, receive, send)

    async def _extract(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchange.session_id = header(scope, b"x-claude-code-session-id")
        await self.app(scope, await self._read(receive, exchange), send)

    async def _read(self, receive: Receive, exchange: Exchange) -> Receive:
        body = await exchange.body(receive)
        read_body_fields(body, exchange, project=self._project)
        return exchange.replay(body)


def read_body_fields(body: bytes, exchange: Exchange, *, project: bool = False) -> None:
    """Note on `exchange` what the body says of model, stream flag, session, tag and, if wanted, project.

    Raises:
        RequestError: It is not a JSON object, or has no usable `model`.
    """
    wants_folder = project and _FOLDER_BYTES in body
    fields = _fields(body, with_messages=wants_folder)
    exchange.streamed = fields.get("stream") is True
    exchange.session_id = exchange.session_id or _session_id(fields.get("metadata"))
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        found = "is missing" if model is None else f"is {model!r:.100}"
        raise RequestError(f"`model` {found}: it must be a non-empty string.")
    exchange.requested_model = model
    exchange.tag = find_tag(fields.get("system"))
    if wants_folder:
        exchange.project = _folder(fields)


def _fields(body: bytes, *, with_messages: bool) -> dict[str, Any]:
    # The tag's name cannot be written otherwise in JSON but with \u escapes of letters, which nobody sends.
    decoder: msgspec.json.Decoder[Any] = _peek_with_system if _TAG_BYTES in body else _peek
    if with_messages:
        decoder = _peek_with_messages
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


def _folder(fields: dict[str, Any]) -> str | None:
    """The name of the folder that the client works in; only its own words count, not what a user or a tool says."""
    texts = list(system_texts(fields.get("system")))
    messages = fields.get("messages")
    for entry in messages[:_FIRST_MESSAGES] if isinstance(messages, list) else ():
        message = loads(bytes(entry)) if isinstance(entry, msgspec.Raw) else entry
        if isinstance(message, dict) and message.get("role") == "system":
            texts += system_texts(message.get("content"))
    for text in texts:
        if match := _FOLDER.search(text):
            return re.split(r"[/\\]", match[1].strip().rstrip("/\\"))[-1] or None
    return None
