"""The ASGI driver behaves as a server does, and refuses what one would refuse."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.support import asgi


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {request.url.path} ".encode() + await request.body())


async def _counts(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """An application that says one thing and then waits for its client to leave."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"1", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    scope["state"]["seen_leaving"] = True


async def _failing(request: Request) -> PlainTextResponse:
    raise LookupError("from the application")


@asynccontextmanager
async def _started(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"colour": "red"}


def _application() -> Starlette:
    routes = [
        Route("/echo", _echo, methods=["POST"]),
        Mount("/counts", _counts),
        Route("/failing", _failing),
    ]
    return Starlette(routes=routes, lifespan=_started)


async def test_a_request_runs_to_its_end_and_its_body_may_come_in_pieces() -> None:
    response = await asgi.request(_application(), "POST", "/m/echo", root_path="/m", body=[b"a", b"", b"b"])
    assert (response.status, response.body, response.complete) == (200, b"POST /m/echo ab", True)
    assert response.header("content-length") == b"15"


async def test_a_body_can_be_held_back() -> None:
    call = asgi.start(_application(), "POST", "/echo", body=b"a", more_to_come=True)
    call.feed(b"b", last=True)
    assert (await call.end()).body.endswith(b"ab")


async def test_a_client_can_leave_in_the_middle() -> None:
    state: dict[str, Any] = {}
    call = asgi.start(_counts, state=state)
    response = await call.until(lambda so_far: so_far.body == b"1")
    assert not response.complete
    call.leave()
    await call.end()
    assert state == {"seen_leaving": True}


async def test_the_applications_exceptions_come_out() -> None:
    with pytest.raises(LookupError, match="from the application"):
        await asgi.request(_application(), path="/failing")
    call = asgi.start(_application(), path="/failing")
    with pytest.raises(LookupError, match="from the application"):
        await call.until(lambda so_far: so_far.status == 200 if so_far.complete else False)


async def test_what_a_server_would_refuse_is_refused() -> None:
    async def body_first(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await send({"type": "http.response.body", "body": b""})

    async def after_the_end(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await PlainTextResponse("x")(scope, receive, send)
        await send({"type": "http.response.body", "body": b"y"})

    with pytest.raises(AssertionError, match=r"http\.response\.start belongs"):
        await asgi.request(body_first)
    with pytest.raises(AssertionError, match="after the end"):
        await asgi.request(after_the_end)


async def test_a_lifespan_gives_its_state() -> None:
    async with asgi.lifespan(_application()) as state:
        assert state == {"colour": "red"}
