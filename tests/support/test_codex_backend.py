"""The backend that stands in for Codex's is as strict as the tests that lean on it need it to be."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.codex_backend import CLIENT_ID, CodexBackend
from tests.support.codex_login import ACCOUNT_ID
from tests.support.fake_upstream import FakeUpstream, Gate
from tests.support.raw_http import RawClient, RawResponse


@pytest.fixture
def backend(fake_upstream: FakeUpstream) -> CodexBackend:
    return CodexBackend(fake_upstream, says="Ripe.")


@pytest.fixture
def client(backend: CodexBackend) -> Iterator[RawClient]:
    with RawClient(backend.upstream.url) as client:
        yield client


def ask(client: RawClient, access_token: str, account: str = ACCOUNT_ID) -> RawResponse:
    send_turn(client, access_token, account)
    return client.read_response()


def send_turn(client: RawClient, access_token: str, account: str = ACCOUNT_ID) -> None:
    headers = [("authorization", f"Bearer {access_token}"), ("chatgpt-account-id", account)]
    client.send_request("POST", "/backend-api/codex/responses", headers, b"{}")


def redeem(client: RawClient, refresh_token: str) -> RawResponse:
    send_redemption(client, refresh_token)
    return client.read_response()


def send_redemption(client: RawClient, refresh_token: str) -> None:
    form = {"client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": refresh_token}
    client.send_request("POST", "/oauth/token", [("content-type", "application/json")], json.dumps(form).encode())


def error_code(answer: RawResponse) -> str:
    assert answer.status == 401
    code: str = answer.json()["error"]["code"]
    return code


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def test_only_the_newest_access_token_is_honoured(client: RawClient, backend: CodexBackend) -> None:
    old = backend.sign_in()["tokens"]
    assert b"Ripe." in ask(client, old["access_token"]).body
    new = redeem(client, old["refresh_token"]).json()
    assert error_code(ask(client, old["access_token"])) == "token_invalidated"
    assert ask(client, new["access_token"]).status == 200
    assert error_code(ask(client, new["access_token"], "another-account")) == "token_invalidated"
    assert (len(backend.turns), len(backend.refreshes)) == (4, 1)


def test_a_refresh_token_is_good_for_one_rotation(client: RawClient, backend: CodexBackend) -> None:
    old = backend.sign_in()["tokens"]
    new = redeem(client, old["refresh_token"]).json()
    assert error_code(redeem(client, old["refresh_token"])) == "refresh_token_reused"
    assert redeem(client, new["refresh_token"]).status == 200


def test_a_token_lives_as_long_as_it_says(client: RawClient, backend: CodexBackend) -> None:
    old = backend.sign_in(life_s=-100)["tokens"]
    assert error_code(ask(client, old["access_token"])) == "token_expired"
    backend.life_s = 200
    new = redeem(client, old["refresh_token"]).json()
    lived = claims(new["access_token"])["exp"] - claims(old["access_token"])["exp"]
    assert isinstance(lived, int), "the CLI takes a token with a fraction of a second for one without an end"
    assert lived >= 300
    assert new["expires_in"] == 200
    assert claims(new["access_token"])["https://api.openai.com/auth"]["chatgpt_account_id"] == ACCOUNT_ID


def test_a_revoked_token_is_refused_until_the_next_rotation(client: RawClient, backend: CodexBackend) -> None:
    old = backend.sign_in()["tokens"]
    backend.revoke()
    assert error_code(ask(client, old["access_token"])) == "token_invalidated"
    assert ask(client, redeem(client, old["refresh_token"]).json()["access_token"]).status == 200


def test_answers_wait_at_their_gates(client: RawClient, backend: CodexBackend) -> None:
    tokens = backend.sign_in()["tokens"]
    turn, refresh = Gate(), Gate()
    backend.hold_turns(turn)
    backend.hold_refreshes(refresh)
    with RawClient(backend.upstream.url) as other:
        send_turn(other, tokens["access_token"])
        assert turn.reached.wait()
        send_redemption(client, tokens["refresh_token"])
        assert refresh.reached.wait()
        refresh.open()
        assert client.read_response().json()["access_token"] == backend.tokens["access_token"] != tokens["access_token"]
        turn.open()
        assert other.read_response().status == 200, "what came before the rotation is judged by what held then"


def test_it_has_no_other_pages(client: RawClient) -> None:
    assert client.request("GET", "/backend-api/codex/models").status == 404
