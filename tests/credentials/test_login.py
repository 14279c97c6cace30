"""A login as its file holds it: what is taken from it, when it is due, and what of it stays when it is renewed."""

import json
from typing import Any

import pytest

from ccr_asgi.credentials.login import Login, Unusable, claims_of, read_login
from tests.support.codex_login import ACCOUNT_ID, access_token, jwt, login, refresh_token, tokens

CLAIMS = {"https://api.openai.com/auth": {"chatgpt_account_id": "of-the-access-token"}}
ID_CLAIMS = {"https://api.openai.com/auth": {"chatgpt_account_id": "of-the-id-token"}}
T0_S = 1_800_000_000.0


def read(document: Any) -> Login:
    found = read_login(json.dumps(document).encode())
    assert isinstance(found, Login)
    return found


def with_tokens(**fields: Any) -> dict[str, Any]:
    document = login()
    document["tokens"].update(fields)
    return document


def test_a_login_gives_its_two_headers() -> None:
    assert read(with_tokens(access_token="a.b.c")).headers() == [
        (b"authorization", b"Bearer a.b.c"),
        (b"chatgpt-account-id", ACCOUNT_ID.encode()),
    ]


@pytest.mark.parametrize(
    ("fields", "account_id"),
    [
        ({}, ACCOUNT_ID),
        ({"account_id": None, "access_token": jwt(CLAIMS), "id_token": jwt(ID_CLAIMS)}, "of-the-access-token"),
        ({"account_id": "", "access_token": "opaque", "id_token": jwt(ID_CLAIMS)}, "of-the-id-token"),
        ({"account_id": 5, "access_token": jwt({"https://api.openai.com/auth": "x"}), "id_token": None}, None),
        ({"account_id": "a\r\nx-injected: 1"}, None),
    ],
    ids=["by the file", "by the access token", "by the id token", "by nothing", "not sendable"],
)
def test_the_account_is_found_where_it_is(fields: dict[str, Any], account_id: str | None) -> None:
    found = read(with_tokens(**fields))
    assert found.account_id == account_id
    assert [value for name, value in found.headers() if name == b"chatgpt-account-id"] == (
        [account_id.encode()] if account_id else []
    )


@pytest.mark.parametrize(
    ("token", "claims"),
    [
        (jwt({"exp": 1}), {"exp": 1}),
        ("opaque", {}),
        ("a.b.c", {}),
        ("a.é.c", {}),
        (jwt([1]), {}),
        (None, {}),
        (f"a.{'W1tb' * 50_000}.c", {}),
    ],
    ids=["a JWT", "no dots", "no base64", "no ASCII", "no object", "no string", "too deep"],
)
def test_claims_are_those_of_a_jwt(token: object, claims: dict[str, Any]) -> None:
    assert claims_of(token) == claims


@pytest.mark.parametrize(
    ("exp", "last_refresh", "due", "expired"),
    [
        (T0_S + 61, None, False, False),
        (T0_S + 60, None, True, False),
        (T0_S, None, True, True),
        (T0_S + 61, "2000-01-01T00:00:00Z", False, False),
        (None, "2027-01-07T08:00:01Z", False, False),
        (None, "2027-01-07T08:00:00Z", True, False),
        (None, "2027-01-07T08:00:00", True, False),
        (None, "yesterday", False, False),
        (None, None, False, False),
        (True, None, False, False),
        ("1", None, False, False),
        (float("nan"), None, False, False),
    ],
)
def test_a_token_is_due_by_its_end_or_else_by_its_age(exp: Any, last_refresh: Any, due: bool, expired: bool) -> None:
    document = with_tokens(access_token=jwt({} if exp is None else {"exp": exp})) | {"last_refresh": last_refresh}
    found = read(document)
    assert (found.is_due(T0_S), found.is_expired(T0_S)) == (due, expired)


KEY_ONLY = {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-invented", "tokens": None}


@pytest.mark.parametrize(
    ("content", "problem", "half_written"),
    [
        (b"", "is not JSON", True),
        (b'{"tokens": {"acc', "is not JSON", True),
        (b"\xff\xfe\xfa", "is not JSON", True),
        (b"[" * 100_000, "is not JSON", True),
        (b"[]", "is no login file of Codex", False),
        (b"{}", "holds no login", False),
        (b'{"tokens": {}}', "holds no access token", False),
        (b'{"tokens": {"access_token": "a\\nb"}}', "holds no access token", False),
        (json.dumps(KEY_ONLY).encode(), "holds an API key and no ChatGPT login", False),
    ],
)
def test_what_is_no_login_is_said(content: bytes, problem: str, half_written: bool) -> None:
    found = read_login(content)
    assert isinstance(found, Unusable)
    assert (found.problem, found.half_written) == (problem, half_written)
    assert "codex login" in found.remedy


def test_a_key_alone_is_told_where_it_belongs() -> None:
    found = read_login(json.dumps(KEY_ONLY).encode())
    assert isinstance(found, Unusable)
    assert 'as apiKey, with type "openai-responses"' in found.remedy


def test_a_renewal_changes_the_tokens_and_their_date_alone() -> None:
    document = {"later": 1, **login(), "unknown": {"b": [1.5, None], "a": "ü"}}
    document["tokens"] = {"mine": 1, **document["tokens"]}
    renewed = read(document).renewed({**tokens(2), "expires_in": 5}, T0_S + 0.25)
    written = json.loads(renewed.to_bytes())
    assert written == document | {
        "tokens": document["tokens"] | tokens(2),
        "last_refresh": "2027-01-15T08:00:00.250000Z",
    }
    assert list(written) == list(document)
    assert list(written["tokens"]) == list(document["tokens"])
    assert renewed.to_bytes().startswith(b'{\n  "later": 1,\n  "auth_mode"')
    assert (renewed.access_token, renewed.refresh_token) == (tokens(2)["access_token"], "rt_invented_2")


@pytest.mark.parametrize("absent", [None, "", 5, "a\nb"])
@pytest.mark.parametrize("name", ["id_token", "access_token", "refresh_token"])
def test_what_a_reply_does_not_give_stays(name: str, absent: object) -> None:
    old = read(login())
    written = json.loads(old.renewed({**tokens(2), name: absent}, T0_S).to_bytes())["tokens"]
    assert written == {**tokens(2), name: tokens(1)[name], "account_id": ACCOUNT_ID}


def test_the_tokens_of_another_content_of_the_file_are_kept() -> None:
    newer = read(login(2) | {"last_refresh": "2027-01-15T08:00:00Z"})
    kept = read(login(1) | {"added": True}).with_tokens_of(newer)
    assert kept.has_tokens_of(newer)
    expected = login(2) | {"last_refresh": "2027-01-15T08:00:00Z", "added": True}
    assert json.loads(kept.to_bytes()) == expected


def test_the_same_tokens_are_the_same_login() -> None:
    assert read(login()).has_tokens_of(read(login() | {"x": 1}))
    assert not read(login()).has_tokens_of(read(with_tokens(refresh_token="rt")))
    assert not read(login()).has_tokens_of(read(with_tokens(access_token="a")))


def test_nothing_shows_a_token() -> None:
    found = read(login())
    assert repr(found) == "Login(***)"
    assert repr(found.headers()) == "authorization: ***, chatgpt-account-id: ***"
    assert access_token() not in repr([found, found.headers()])
    assert refresh_token() not in repr(found)
