"""`GET /v1/models`: Anthropic's list with ours behind it, or ours alone for a client without a credential.

Claude Code asks for it (`?limit=1000`) when CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY is set, and offers only models
whose id holds "claude" or "anthropic". So ours are listed as `claude/provider,model`, which routes as the pair does.
"""

from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi.asgi import header, raw_path, send_body
from ccr_asgi.config import Provider
from ccr_asgi.errors import CcrError
from ccr_asgi.routing import LISTED_PREFIX
from ccr_asgi.wire.decompress import undone
from ccr_asgi.wire.json_codec import dumps, loads

PATH = b"/v1/models"
MAX_BYTES = 1024 * 1024
"""A longer list, as it comes or unfolded, is handed on as it is."""
_OF_THE_BODY = (b"content-length", b"content-type", b"content-encoding", b"transfer-encoding")
UNKNOWN_DATE = "1970-01-01T00:00:00Z"
"""Nobody tells when the models of other providers were made; Anthropic's documentation gives this date for that."""


class ModelList:
    """Adds the models that the configuration lists to the one answer that tells models.

    Args:
        app: What answers everything else.
        providers: The configuration's. Without models among them nothing is added to any answer.
    """

    def __init__(self, app: ASGIApp, *, providers: Iterable[Provider]) -> None:
        self.app = app
        self._ours = [
            {
                "type": "model",
                "id": f"{LISTED_PREFIX}{provider.name},{model}",
                "display_name": f"{model} ({provider.name})",
                "created_at": UNKNOWN_DATE,
            }
            for provider in providers
            for model in provider.models
            if not provider.passthrough
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        asked = scope["type"] == "http" and scope["method"] == "GET" and raw_path(scope) == PATH
        if not (asked and self._ours):
            await self.app(scope, receive, send)
        elif header(scope, b"authorization") is None and header(scope, b"x-api-key") is None:
            await _send_list(send, 200, [], _page(self._ours))
        else:
            await self.app(scope, receive, _Answer(send, self._ours).send)


class _Answer:
    """Anthropic's answer on its way: held until its end, if it is a list, and sent on with ours in it."""

    def __init__(self, send: Send, ours: list[dict[str, Any]]) -> None:
        self._send = send
        self._ours = ours
        self._held: list[Message] = []
        self._body = bytearray()
        self._passes = False

    async def send(self, message: Message) -> None:
        if not self._passes and message["type"] == "http.response.start":
            self._passes = message["status"] != 200
        if self._passes:
            await self._send(message)
            return
        self._held.append(message)
        self._body += message.get("body", b"")
        if len(self._body) > MAX_BYTES:
            await self._pass_on()
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            if (page := self._extended()) is None:
                await self._pass_on()
            else:
                start = self._held[0]
                await _send_list(self._send, start["status"], start["headers"], page)

    async def _pass_on(self) -> None:
        self._passes = True
        for message in self._held:
            await self._send(message)

    def _extended(self) -> dict[str, Any] | None:
        """The list with ours at its end; None if it is no list, or not its last page."""
        encoding = dict(self._held[0]["headers"]).get(b"content-encoding", b"").decode("latin-1")
        try:
            plain = undone(bytes(self._body), encoding, max_bytes=MAX_BYTES + 1)
            page = loads(plain) if len(plain) <= MAX_BYTES else None
        except (ValueError, CcrError):
            return None
        if not isinstance(page, dict) or not isinstance(page.get("data"), list) or page.get("has_more"):
            return None
        return {**page, **_page([*page["data"], *self._ours])}


def _page(models: list[Any]) -> dict[str, Any]:
    ids = [model.get("id") for model in models if isinstance(model, dict)]
    return {"data": models, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}


async def _send_list(send: Send, status: int, headers: list[tuple[bytes, bytes]], page: dict[str, Any]) -> None:
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_THE_BODY]
    await send_body(send, status, [*kept, (b"content-type", b"application/json")], dumps(page))
