"""An invented ChatGPT login, its file, and a token endpoint that takes each refresh token once, as the real one does.

endpoint = TokenEndpoint(fake_upstream)
write_login(path, ends_in_s=-1)       # login number 1, whose access token has ended
...                                   # endpoint.url redeems rt_invented_1, and gives login number 2
"""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

from tests.support.fake_upstream import Answer, FakeUpstream, Gate, RecordedRequest

TEN_DAYS_S = 864_000.0
ACCOUNT_ID = "11111111-2222-4333-8444-invented0001"
PATH = "/oauth/token"

started_s = int(time.time())
"""The ends of tokens are reckoned from here, which every test sets anew: so those of the same number and length are the
same tokens all along a test."""


def jwt(claims: Any) -> str:
    """An unsigned JWT."""
    return ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)) + ".invented"


def access_token(number: int = 1, *, ends_in_s: float | None = TEN_DAYS_S, **claims: Any) -> str:
    """The access token of login `number`; without `exp` if it has no end."""
    end: dict[str, float] = {} if ends_in_s is None else {"exp": started_s + ends_in_s}
    return jwt({"number": number, **end, **claims})


def refresh_token(number: int = 1) -> str:
    """The refresh token of login `number`."""
    return f"rt_invented_{number}"


def tokens(number: int = 1, **of_access_token: Any) -> dict[str, str]:
    """What the endpoint gives."""
    return {
        "id_token": jwt({"id": number}),
        "access_token": access_token(number, **of_access_token),
        "refresh_token": refresh_token(number),
    }


def login(number: int = 1, **of_access_token: Any) -> dict[str, Any]:
    """The content of an auth.json, in the CLI's order."""
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {**tokens(number, **of_access_token), "account_id": ACCOUNT_ID},
        "last_refresh": "2026-11-23T00:08:21.734070939Z",
    }


def write_login(path: Path, number: int = 1, **of_access_token: Any) -> dict[str, Any]:
    """Write login `number` as the CLI does; what was written."""
    document = login(number, **of_access_token)
    replace(path, json.dumps(document, indent=2).encode())
    return document


def replace(path: Path, content: bytes) -> None:
    """Replace a file as a whole, by a rename."""
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.write_bytes(content)
    fresh.chmod(0o600)
    os.replace(fresh, path)


def number_of(bearer: bytes) -> int:
    """Which login an `authorization` value belongs to."""
    payload = bearer.split(b".")[1]
    return int(json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["number"])


class TokenEndpoint:
    """Rotates logins at `/oauth/token` of a fake upstream, from number 1 on; a spent token is refused as reused.

    Args:
        gate: Holds every answer back until the test opens it; the token counts as redeemed by then.
        ends_in_s: How long the access tokens last that it issues.
    """

    def __init__(self, upstream: FakeUpstream, *, gate: Gate | None = None, ends_in_s: float = TEN_DAYS_S) -> None:
        self.url = upstream.url + PATH
        self.current = 1
        self._upstream = upstream
        self._gate = [gate] if gate is not None else []
        self._ends_in_s = ends_in_s
        upstream.on(PATH, self._answer)

    @property
    def requests(self) -> list[RecordedRequest]:
        """Who has come."""
        return [request for request in self._upstream.requests if request.path == PATH]

    def _answer(self, request: RecordedRequest) -> Answer:
        status, reply = 401, refusal("refresh_token_reused")
        if request.json()["refresh_token"] == refresh_token(self.current):
            self.current += 1
            status, reply = 200, tokens(self.current, ends_in_s=self._ends_in_s)
        body = json.dumps(reply).encode()
        return Answer([*self._gate, body], status, [("content-type", "application/json")])


def refusal(code: str) -> dict[str, Any]:
    """The endpoint's answer when it does not want to."""
    return {"error": {"message": "invented", "type": "invalid_request_error", "param": None, "code": code}}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
