"""Redeeming a refresh token: one POST, and what may come of it.

Every outcome is a value. An exception would carry the request, and with it the token, in the variables of its
traceback; and what the endpoint says in its own words may quote the token, so only known codes are handed on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from ccr_asgi.credentials.login import Login
from ccr_asgi.wire.json_codec import dumps, loads

TOKEN_URL = "https://auth.openai.com/oauth/token"  # noqa: S105  # a public address
CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
"""The Codex CLI's, whose login it is (seen in CLI 0.169.0)."""
POST_S = 30.0
"""Seconds for the whole exchange."""
REPLY_BYTES = 1024 * 1024

PERMANENT = frozenset(
    {"refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"},
)
"""Error codes after which the same refresh token need not be tried again."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """New tokens; any of `TOKEN_NAMES` may be absent."""

    reply: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The refresh token is good for nothing any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The endpoint could not be reached, or not be understood; another time it may."""

    reason: str


Outcome = Renewed | Refused | Unavailable


async def redeem(login: Login, *, url: str, transport: httpx.AsyncBaseTransport) -> Outcome:
    """Exchange the refresh token of `login` for new tokens; takes `POST_S` seconds at most, follows no redirect."""
    host = httpx.URL(url).host
    if login.refresh_token is None:
        return Refused("it holds no refresh token")
    try:
        async with asyncio.timeout(POST_S):
            status, body = await _post(_request(login, url), transport)
    except TimeoutError:
        return Unavailable(f"{host} did not answer within {POST_S:g} s")
    except httpx.RequestError as error:
        return Unavailable(f"{host} could not be reached, or broke off ({type(error).__name__})")
    return _outcome(status, _object(body), host)


def _request(login: Login, url: str) -> httpx.Request:
    form = {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": login.refresh_token}
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "ccr-asgi",
    }
    return httpx.Request("POST", url, headers=headers, content=dumps(form))


async def _post(request: httpx.Request, transport: httpx.AsyncBaseTransport) -> tuple[int, bytes]:
    response = await transport.handle_async_request(request)
    body = bytearray()
    try:
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > REPLY_BYTES:
                break
    finally:
        await response.aclose()
    return response.status_code, bytes(body)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        document = loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _outcome(status: int, document: dict[str, Any] | None, host: str) -> Outcome:
    if 200 <= status < 300:
        return Renewed(document) if document is not None else Unavailable(f"the answer of {host} is no JSON object")
    code = _error_code(document or {})
    if 400 <= status < 500 and code in PERMANENT:
        return Refused(code)
    return Refused("status 401") if status == 401 else Unavailable(f"{host} answered with status {status}")


def _error_code(document: Mapping[str, Any]) -> str:
    """`{"error": {"code"}}` as OpenAI writes it, or `{"error"}` as OAuth does (RFC 6749, section 5.2)."""
    error = document.get("error")
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, str) else ""
