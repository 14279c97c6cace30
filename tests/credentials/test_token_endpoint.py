"""One POST to the token endpoint, and what each answer means."""

import gzip
import json
from typing import Any

import httpx
import pytest

from ccr_asgi.credentials import token_endpoint
from ccr_asgi.credentials.login import Login, read_login
from ccr_asgi.credentials.token_endpoint import Outcome, Refused, Renewed, Unavailable, redeem
from ccr_asgi.transport import Http11Transport
from tests.support.codex_login import PATH, login, refusal, tokens
from tests.support.fake_upstream import Answer, FakeUpstream, Fault, json_answer, refused_url


def a_login(**fields: Any) -> Login:
    document = login()
    document["tokens"].update(fields)
    found = read_login(json.dumps(document).encode())
    assert isinstance(found, Login)
    return found


async def outcome_of(answer: Answer, upstream: FakeUpstream, transport: Http11Transport) -> Outcome:
    upstream.on(PATH, answer)
    return await redeem(a_login(), url=upstream.url + PATH, transport=transport)


async def test_the_request_is_the_clis(fake_upstream: FakeUpstream, transport: Http11Transport) -> None:
    assert await outcome_of(json_answer(tokens(2)), fake_upstream, transport) == Renewed(tokens(2))
    (request,) = fake_upstream.requests
    assert (request.method, request.target) == ("POST", b"/oauth/token")
    assert (request.header("content-type"), request.header("accept-encoding")) == (b"application/json", b"identity")
    assert request.json() == {
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "grant_type": "refresh_token",
        "refresh_token": "rt_invented_1",
    }


@pytest.mark.parametrize("reply", [{}, {"access_token": "a"}, {"refresh_token": None, "scope": "openid"}])
async def test_a_reply_may_hold_little(
    fake_upstream: FakeUpstream, transport: Http11Transport, reply: dict[str, Any]
) -> None:
    assert await outcome_of(json_answer(reply), fake_upstream, transport) == Renewed(reply)


async def test_a_reply_that_is_compressed_all_the_same_is_not_lost(
    fake_upstream: FakeUpstream, transport: Http11Transport
) -> None:
    answer = Answer(gzip.compress(json.dumps(tokens(2)).encode()), headers=[("content-encoding", "gzip")])
    assert await outcome_of(answer, fake_upstream, transport) == Renewed(tokens(2))


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (401, refusal("refresh_token_reused"), "refresh_token_reused"),
        (401, refusal("refresh_token_expired"), "refresh_token_expired"),
        (400, refusal("refresh_token_invalidated"), "refresh_token_invalidated"),
        (400, {"error": "invalid_grant", "error_description": "invented"}, "invalid_grant"),
        (403, refusal("invalid_grant"), "invalid_grant"),
        (401, refusal("rt_invented_1"), "status 401"),
        (401, {"detail": "Unauthorized"}, "status 401"),
        (401, [], "status 401"),
        (401, {"error": {"code": 5}}, "status 401"),
    ],
)
async def test_a_refusal_is_for_good(
    fake_upstream: FakeUpstream, transport: Http11Transport, status: int, document: Any, reason: str
) -> None:
    assert await outcome_of(json_answer(document, status), fake_upstream, transport) == Refused(reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (json_answer(refusal("invalid_grant"), 500), "127.0.0.1 answered with status 500"),
        (json_answer(refusal("slow_down"), 429), "127.0.0.1 answered with status 429"),
        (Answer(b"<html>rt_invented_1</html>", 403), "127.0.0.1 answered with status 403"),
        (Answer(b"", 307, [("location", "/elsewhere")]), "127.0.0.1 answered with status 307"),
        (json_answer(["rt_invented_1"]), "the answer of 127.0.0.1 is no JSON object"),
        (Answer(b"no JSON"), "the answer of 127.0.0.1 is no JSON object"),
        (
            Answer(b"no gzip", headers=[("content-encoding", "gzip")]),
            "127.0.0.1 could not be reached, or broke off (De",
        ),
        (Answer([b"{", Fault.CLOSE, b"}"]), "127.0.0.1 could not be reached, or broke off (RemoteProtocolError)"),
        (Answer.raw(Fault.RESET), "127.0.0.1 could not be reached, or broke off (ReadError)"),
    ],
)
async def test_other_failures_may_pass(
    fake_upstream: FakeUpstream, transport: Http11Transport, answer: Answer, reason: str
) -> None:
    outcome = await outcome_of(answer, fake_upstream, transport)
    assert isinstance(outcome, Unavailable)
    assert outcome.reason.startswith(reason)
    assert len(fake_upstream.requests) == 1


async def test_nobody_there(transport: Http11Transport) -> None:
    with refused_url() as url:
        outcome = await redeem(a_login(), url=url, transport=transport)
    assert outcome == Unavailable("127.0.0.1 could not be reached, or broke off (ConnectError)")


@pytest.mark.parametrize(
    "answer", [Answer.raw(Fault.SILENCE), Answer([b"{", Fault.SILENCE, b"}"])], ids=["no head", "half a body"]
)
async def test_silence_is_not_waited_for_in_vain(
    fake_upstream: FakeUpstream, transport: Http11Transport, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(token_endpoint, "POST_S", 0.1)
    outcome = await outcome_of(answer, fake_upstream, transport)
    assert outcome == Unavailable("127.0.0.1 did not answer within 0.1 s")


async def test_a_reply_without_end_is_cut(fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_endpoint, "REPLY_BYTES", 3)
    transport = Http11Transport()
    outcome = await outcome_of(Answer([b'{"a"', b":1", Fault.SILENCE], framing="chunked"), fake_upstream, transport)
    assert outcome == Unavailable("the answer of 127.0.0.1 is no JSON object")
    await transport.aclose()


async def test_without_a_refresh_token_nobody_is_asked(fake_upstream: FakeUpstream, transport: Http11Transport) -> None:
    found = a_login(refresh_token=None)
    assert await redeem(found, url=fake_upstream.url, transport=transport) == Refused("it holds no refresh token")
    assert fake_upstream.requests == []


async def test_any_transport_will_do() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=tokens(2))

    outcome = await redeem(a_login(), url="http://h/t", transport=httpx.MockTransport(answer))
    assert outcome == Renewed(tokens(2))
    assert "invented" not in repr(outcome)
