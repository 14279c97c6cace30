"""Which models a provider offers now, as its own endpoint tells: lists in configurations go stale."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from ccr_asgi.asgi import Headers
from ccr_asgi.config import Provider
from ccr_asgi.credentials.base import Credentials
from ccr_asgi.errors import AuthenticationError, UpstreamError
from ccr_asgi.wire.json_codec import loads

CODEX_CLIENT_VERSION = "0.169.0"
"""Codex's backend shows the models that this version of its CLI knows how to use."""
MAX_BYTES = 8 * 1024 * 1024

_ENDINGS: Mapping[str, str] = {"openai-chat": "/chat/completions", "openai-responses": "/responses"}


def models_url(provider: Provider) -> str:
    """Where `provider` lists its models: beside the endpoint that it is asked at."""
    parts = urlsplit(provider.base_url)
    if provider.chatgpt_login:
        path = parts.path.removesuffix("/responses").rstrip("/") + "/models"
        return urlunsplit(parts._replace(path=path, query=f"client_version={CODEX_CLIENT_VERSION}"))
    if provider.kind == "anthropic":
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/v1/models", query="limit=1000"))
    path = parts.path.rstrip("/").removesuffix(_ENDINGS[provider.kind]) + "/models"
    return urlunsplit(parts._replace(path=path, query=""))


async def offered_models(
    provider: Provider, credentials: Credentials | None, transport: httpx.AsyncBaseTransport
) -> list[str]:
    """The ids of the models that `provider` lists, in its order.

    Args:
        provider: Whom to ask.
        credentials: Its own; None asks without any.
        transport: Carries the one request.

    Raises:
        AuthenticationError: There is no usable credential, or the provider refuses it.
        UpstreamError: It cannot be reached, or answers something else than a list of models.
    """
    headers: Headers = [(b"accept", b"application/json")]
    if credentials is not None:
        headers += await credentials.headers()
    if provider.kind == "anthropic":
        headers.append((b"anthropic-version", b"2023-06-01"))
    url = models_url(provider)
    status, body = await _get(url, headers, transport)
    if status in (401, 403):
        raise AuthenticationError(f"{provider.name} refuses the credential ({status} at {url}).")
    if status != 200:
        raise UpstreamError(f"{provider.name} answered {status} at {url}.")
    if (found := _ids(body)) is None:
        raise UpstreamError(f"{provider.name} answered with something else than a list of models at {url}.")
    return found


async def _get(url: str, headers: Headers, transport: httpx.AsyncBaseTransport) -> tuple[int, bytes]:
    request = httpx.Request("GET", url, headers=headers)
    try:
        response = await transport.handle_async_request(request)
        try:
            body = b""
            async for chunk in response.stream:  # type: ignore[union-attr]  # a transport's streams are asynchronous
                body += chunk
                if len(body) > MAX_BYTES:
                    raise UpstreamError(f"More than {MAX_BYTES} bytes at {url}.")
        finally:
            await response.aclose()
    except httpx.HTTPError as error:
        raise UpstreamError(f"{url} cannot be reached: {error}.") from None
    return response.status_code, body


def _ids(body: bytes) -> list[str] | None:
    """OpenAI and Anthropic say `data: [{id}]`, Codex's backend `models: [{slug}]`, some a bare list."""
    try:
        said: Any = loads(body)
    except ValueError:
        return None
    listed = (
        said
        if isinstance(said, list)
        else next(
            (said[key] for key in ("data", "models") if isinstance(said, dict) and isinstance(said.get(key), list)),
            None,
        )
    )
    if listed is None:
        return None
    entries = (entry for entry in listed if isinstance(entry, dict))
    names = (entry.get("id") or entry.get("slug") or entry.get("name") for entry in entries)
    return [name for name in names if isinstance(name, str)]
