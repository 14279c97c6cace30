"""The error layer alone: what is raised below it is told in Anthropic's form, and our internals are not."""

import json
import logging

import pytest

from ccr_asgi.asgi import ClientDisconnected
from ccr_asgi.errors import AuthenticationError, CcrError, ProviderError, RequestError, UpstreamCut
from ccr_asgi.middleware.errors import ErrorMiddleware
from tests.middleware.apps import Below, alone, answering, passes_other_scopes_on, raising
from tests.support import asgi

EVENT = b"event: ping\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (RequestError("what happened"), 400, "invalid_request_error"),
        (AuthenticationError("what happened"), 401, "authentication_error"),
        (ProviderError("what happened", status=529), 529, "overloaded_error"),
        (UpstreamCut("what happened"), 502, "api_error"),
    ],
)
async def test_before_the_answer_an_error_is_the_answer(error: CcrError, status: int, error_type: str) -> None:
    below = Below(raising(error))
    response = await asgi.request(alone(ErrorMiddleware, below), "POST")
    document = json.loads(response.body)
    assert response.status == status
    assert document["error"] == {"type": error_type, "message": "what happened"}
    assert document["request_id"] == below.exchange.request_id
    assert response.header("request-id") == below.exchange.request_id.encode()
    assert below.exchange.error is error


async def test_in_a_stream_an_error_is_its_last_event() -> None:
    below = Below(raising(ProviderError("what happened"), EVENT, EVENT))
    response = await asgi.request(alone(ErrorMiddleware, below), "POST")
    assert response.status == 200
    assert response.pieces[:2] == [EVENT, EVENT]
    assert response.pieces[2].startswith(b"event: error\ndata: ")
    assert json.loads(response.pieces[2].partition(b"data: ")[2])["error"]["message"] == "what happened"
    assert response.complete


@pytest.mark.parametrize(
    "below",
    [
        raising(ProviderError("what happened"), EVENT, b"event: mess"),
        raising(ProviderError("what happened"), b"{", content_type=b"application/json"),
    ],
    ids=["within an event", "within a document"],
)
async def test_where_no_error_fits_the_connection_is_cut(below: asgi.App) -> None:
    call = asgi.start(alone(ErrorMiddleware, below), "POST")
    with pytest.raises(ProviderError):
        await call.end()
    assert not call.response.complete
    assert b"what happened" not in call.response.body


async def test_after_the_end_an_error_is_only_noted() -> None:
    error = ProviderError("too late")

    async def ends_and_raises(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await answering(b"{}")(scope, receive, send)
        raise error

    below = Below(ends_and_raises)
    response = await asgi.request(alone(ErrorMiddleware, below), "POST")
    assert (response.status, response.body) == (200, b"{}")
    assert below.exchange.error is error


async def test_a_defect_of_ours_is_a_plain_500_and_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    below = Below(raising(ZeroDivisionError("our internals")))
    with caplog.at_level(logging.ERROR, "ccr_asgi"):
        response = await asgi.request(alone(ErrorMiddleware, below), "POST")
    assert response.status == 500
    assert json.loads(response.body)["error"]["type"] == "api_error"
    assert b"internals" not in response.body
    assert b"ZeroDivision" not in response.body
    assert "our internals" in caplog.text
    assert below.exchange.request_id in caplog.text


async def test_a_defect_in_a_stream_is_its_last_event(caplog: pytest.LogCaptureFixture) -> None:
    response = await asgi.request(
        alone(ErrorMiddleware, Below(raising(ZeroDivisionError("our internals"), EVENT))), "POST"
    )
    assert response.body.startswith(EVENT + b"event: error\n")
    assert b"internals" not in response.body


async def test_a_client_that_left_is_told_nothing() -> None:
    below = Below(raising(ClientDisconnected()))
    call = asgi.start(alone(ErrorMiddleware, below), "POST")
    assert not (await call.end()).started
    assert below.exchange.disconnected.is_set()
    assert below.exchange.error is None


async def test_what_goes_well_goes_through() -> None:
    below = Below(answering(b"a", b"", b"b", status=201, headers=[(b"x", b"1")]))
    response = await asgi.request(alone(ErrorMiddleware, below), "POST", body=b"c")
    assert (response.status, response.pieces, response.header("x")) == (201, [b"a", b"b"], b"1")
    assert below.bodies == [b"c"]


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(ErrorMiddleware)
