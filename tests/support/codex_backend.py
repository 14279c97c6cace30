"""ChatGPT's side of a Codex login: an endpoint that rotates tokens, and a backend that answers to the newest one only.

    backend = CodexBackend(fake_upstream)
    auth_file.write_text(json.dumps(backend.sign_in(life_s=200)))

It is stricter than the world needs to be: each rotation ends the life of both tokens before it, so whoever goes on with
an old one is found out.
"""

import time
from datetime import UTC, datetime
from typing import Any

from tests.support.codex_login import ACCOUNT_ID, TEN_DAYS_S, jwt, refusal
from tests.support.fake_upstream import Answer, FakeUpstream, Gate, RecordedRequest, json_answer, responses_completed
from tests.support.provider_answers import TEXT

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
"""The public client id of the Codex CLI, which a login belongs to."""
# Without the user's id the CLI (0.169.0) does not survive a change of tokens in the middle of a turn.
_ACCOUNT = {"chatgpt_account_id": ACCOUNT_ID, "chatgpt_plan_type": "plus", "chatgpt_user_id": "user-invented"}


class CodexBackend:
    """The rules of a `FakeUpstream` that stands for the backend and its token endpoint.

    Attributes:
        says: The text of every answer.
        life_s: How long the access tokens of later rotations live, by their own claim.
        tokens: The newest tokens, which alone are honoured, by the names that they have in the file.
        secrets: All tokens so far, of every kind.
    """

    def __init__(self, upstream: FakeUpstream, *, says: str = TEXT) -> None:
        self.upstream = upstream
        self.says = says
        self.life_s = TEN_DAYS_S
        self.base_url = f"{upstream.url}/backend-api"
        self.responses_url = f"{self.base_url}/codex/responses"
        self.token_url = f"{upstream.url}/oauth/token"
        self.tokens: dict[str, str] = {}
        self.secrets: list[str] = []
        self._number = 0
        self._ends_at = 0.0
        self._revoked = False
        self._held_refreshes: list[Gate] = []
        self._held_turns: list[Gate] = []
        upstream.on(lambda request: request.path.startswith("/backend-api/"), json_answer({"detail": "Not Found"}, 404))
        upstream.on("/codex/responses", self._turn)
        upstream.on("/oauth/token", self._refresh)

    def sign_in(self, *, life_s: float = TEN_DAYS_S) -> dict[str, Any]:
        """A login file as the CLI writes it, whose access token lives for `life_s` seconds (or ended so long ago)."""
        self._rotate(life_s)
        an_hour_ago = datetime.fromtimestamp(time.time() - 3600, UTC).isoformat().replace("+00:00", "Z")
        return {
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": None,
            "tokens": {**self.tokens, "account_id": ACCOUNT_ID},
            "last_refresh": an_hour_ago,
        }

    def revoke(self) -> None:
        """Refuse the newest access token too, though it is not expired; a rotation mends that."""
        self._revoked = True

    def hold_refreshes(self, *gates: Gate) -> None:
        """Let the next answers of the token endpoint stop after their heads at these gates, one each."""
        self._held_refreshes += gates

    def hold_turns(self, *gates: Gate) -> None:
        """The same for answers of the backend; whether they are refusals is settled before the gate."""
        self._held_turns += gates

    @property
    def turns(self) -> list[RecordedRequest]:
        """The requests for a model's answer so far."""
        return [request for request in self.upstream.requests if request.path.endswith("/codex/responses")]

    @property
    def refreshes(self) -> list[RecordedRequest]:
        """The requests for new tokens so far."""
        return [request for request in self.upstream.requests if request.path == "/oauth/token"]

    def _turn(self, request: RecordedRequest) -> Answer:
        return _held(self._refusal(request) or responses_completed(self.says), self._held_turns)

    def _refusal(self, request: RecordedRequest) -> Answer | None:
        presented = (request.header("authorization"), request.header("chatgpt-account-id"))
        if presented != (f"Bearer {self.tokens['access_token']}".encode(), ACCOUNT_ID.encode()) or self._revoked:
            return json_answer(refusal("token_invalidated"), 401)
        return json_answer(refusal("token_expired"), 401) if self._ends_at <= time.time() else None

    def _refresh(self, request: RecordedRequest) -> Answer:
        asked = request.json()
        assert (asked["client_id"], asked["grant_type"]) == (CLIENT_ID, "refresh_token")
        assert (request.header("content-type") or b"").startswith(b"application/json")
        if asked["refresh_token"] != self.tokens["refresh_token"]:
            return _held(json_answer(refusal("refresh_token_reused"), 401), self._held_refreshes)
        self._rotate(self.life_s)
        granted = {**self.tokens, "expires_in": int(self.life_s), "token_type": "bearer"}
        return _held(json_answer(granted), self._held_refreshes)

    def _rotate(self, life_s: float) -> None:
        self._number += 1
        self._revoked = False
        self._ends_at = time.time() + life_s
        # An `exp` with a fraction is none to the CLI (0.169.0), though RFC 7519 allows it.
        claims = {"exp": int(self._ends_at), "https://api.openai.com/auth": _ACCOUNT}
        self.tokens = {
            "id_token": jwt({"jti": f"id-{self._number}", **claims}),
            "access_token": jwt({"jti": f"access-{self._number}", **claims}),
            "refresh_token": f"rt_invented_{self._number}",
        }
        self.secrets += self.tokens.values()


def _held(answer: Answer, gates: list[Gate]) -> Answer:
    return answer.inserting(0, gates.pop(0)) if gates else answer
