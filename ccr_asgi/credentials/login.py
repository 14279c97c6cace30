"""A Codex login as its file holds it: read, judged, renewed and written back as bytes; no I/O.

    {"auth_mode"?, "OPENAI_API_KEY": null, "tokens": {"id_token", "access_token", "refresh_token", "account_id"?},
     "last_refresh": "2026-11-23T00:08:21.734070939Z"}

The tokens are JWTs, which nobody here verifies: who accepts them does. What cannot be used is returned, not raised: a
traceback would hold the file's content among its variables.
"""

import binascii
import json
import math
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ccr_asgi.credentials.base import SecretHeaders

REFRESH_BEFORE_S = 60.0
"""A token is renewed this long before its end: later than the CLI does (300 s), so that a running CLI goes first."""
MAX_AGE_S = 8 * 86_400.0
"""A token that does not tell its end is renewed when it is this old, as the CLI does."""

TOKEN_NAMES = ("id_token", "access_token", "refresh_token")

_CLAIMS = "https://api.openai.com/auth"
"""The claim of both JWTs that holds, among others, `chatgpt_account_id`."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why there is no login, and what to do about it.

    Attributes:
        problem: What is the matter, as the rest of a sentence that begins with the file's path.
        remedy: What to do.
        half_written: Somebody may be writing the file at this moment.
    """

    problem: str
    remedy: str = "run `codex login`"
    half_written: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """A ChatGPT login.

    Attributes:
        document: The file's whole content, unknown fields included, in the file's order.
        account_id: For the header `chatgpt-account-id`; None if neither file nor tokens tell it.
        expires_at: When the access token ends by its own claim; seconds since 1970, None if it does not say.
        refreshed_at: `last_refresh`, likewise.
    """

    document: Mapping[str, Any]
    access_token: str
    refresh_token: str | None
    account_id: str | None
    expires_at: float | None
    refreshed_at: float | None

    def __repr__(self) -> str:
        return "Login(***)"

    def headers(self) -> SecretHeaders:
        """What authenticates a request to the Codex backend."""
        headers = SecretHeaders([(b"authorization", b"Bearer " + self.access_token.encode("ascii"))])
        if self.account_id is not None:
            headers.append((b"chatgpt-account-id", self.account_id.encode("ascii")))
        return headers

    def is_due(self, now_s: float) -> bool:
        """Whether it is time for new tokens, by a clock that says `now_s`."""
        if self.expires_at is not None:
            return self.expires_at - now_s <= REFRESH_BEFORE_S
        return self.refreshed_at is not None and now_s - self.refreshed_at >= MAX_AGE_S

    def is_expired(self, now_s: float) -> bool:
        """Whether the access token says itself that it has ended."""
        return self.expires_at is not None and self.expires_at <= now_s

    def has_tokens_of(self, other: "Login") -> bool:
        """Whether both stand for the same tokens, whatever else their files say."""
        return (self.access_token, self.refresh_token) == (other.access_token, other.refresh_token)

    def renewed(self, reply: Mapping[str, Any], now_s: float) -> "Login":
        """This login with the tokens of the token endpoint's reply; those that it does not give stay."""
        return self._with(reply, datetime.fromtimestamp(now_s, UTC).isoformat().replace("+00:00", "Z"))

    def with_tokens_of(self, other: "Login") -> "Login":
        """This file's content, but for the tokens and their date."""
        return self._with(other.document["tokens"], other.document.get("last_refresh"))

    def to_bytes(self) -> bytes:
        """The file's content, as the CLI would write it: two spaces, no line break at the end."""
        return json.dumps(self.document, indent=2).encode("ascii")

    def _with(self, newer: Mapping[str, Any], last_refresh: object) -> "Login":
        given = {name: newer[name] for name in TOKEN_NAMES if _sendable(newer.get(name)) is not None}
        tokens = {**self.document["tokens"], **given}
        return _login({**self.document, "tokens": tokens, "last_refresh": last_refresh}, tokens["access_token"])


def read_login(content: bytes) -> Login | Unusable:
    """The login in a file with this content, or why there is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Unusable("is not JSON", half_written=True)
    if not isinstance(document, dict):
        return Unusable("is no login file of Codex")
    if not isinstance(document.get("tokens"), dict):
        if document.get("OPENAI_API_KEY"):
            return Unusable(
                "holds an API key and no ChatGPT login",
                'run `codex login`, or give the provider that key as apiKey, with type "openai-responses"',
            )
        return Unusable("holds no login")
    if (access_token := _sendable(document["tokens"].get("access_token"))) is None:
        return Unusable("holds no access token")
    return _login(document, access_token)


def claims_of(token: object) -> dict[str, Any]:
    """What a JWT says, unverified; nothing if it is none."""
    try:
        payload = str(token).split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _login(document: Mapping[str, Any], access_token: str) -> Login:
    tokens = document["tokens"]
    claims = claims_of(access_token)
    expires_at = claims.get("exp")
    known = isinstance(expires_at, int | float) and not isinstance(expires_at, bool) and math.isfinite(expires_at)
    account_ids = (tokens.get("account_id"), _account_id(claims), _account_id(claims_of(tokens.get("id_token"))))
    return Login(
        document=document,
        access_token=access_token,
        refresh_token=_sendable(tokens.get("refresh_token")),
        account_id=next((found for value in account_ids if (found := _sendable(value)) is not None), None),
        expires_at=expires_at if known else None,
        refreshed_at=_timestamp(document.get("last_refresh")),
    )


def _account_id(claims: Mapping[str, Any]) -> object:
    ours = claims.get(_CLAIMS)
    return ours.get("chatgpt_account_id") if isinstance(ours, dict) else None


def _sendable(value: object) -> str | None:
    """`value` if it can stand in a header field, which one with a line break, say, must not."""
    if isinstance(value, str) and value and all("!" <= character <= "~" for character in value):
        return value
    return None


def _timestamp(text: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
