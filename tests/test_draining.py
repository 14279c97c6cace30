"""Requests that still run when a server ends have their time, and then they end."""

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest
from starlette.types import ASGIApp

from ccr_asgi.draining import ENDING, Drain
from tests.support import asgi


@pytest.fixture
def servers_own() -> Iterator[list[int]]:
    """The signals that a server's own handlers have got."""
    got: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: got.append(number)) for number in ENDING}
    yield got
    for number, handler in before.items():
        signal.signal(number, handler)


async def _hanging(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    await send({"type": "http.response.body"})


def drained(drain: Drain) -> ASGIApp:
    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await drain.run(_hanging, scope, receive, send)

    return app


@pytest.mark.parametrize("number", ENDING)
async def test_what_still_runs_after_the_drain_is_ended(servers_own: list[int], number: signal.Signals) -> None:
    drain = Drain(lambda: 0)
    drain.await_signals()
    call = asgi.start(drained(drain), path="/hang")
    await call.until(lambda response: response.started)
    signal.raise_signal(number)
    assert not (await call.end()).complete
    assert servers_own == [number]


async def test_a_drain_is_patient(servers_own: list[int]) -> None:
    drain = Drain(lambda: 3600)
    drain.await_signals()
    signal.raise_signal(signal.SIGTERM)
    assert (await asgi.request(drained(drain))).complete
    assert servers_own == [signal.SIGTERM]


async def test_a_server_without_a_handler_is_drained_too(servers_own: list[int]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    drain = Drain(lambda: 0)
    drain.await_signals()
    call = asgi.start(drained(drain), path="/hang")
    await call.until(lambda response: response.started)
    signal.raise_signal(signal.SIGTERM)
    assert not (await call.end()).complete


async def test_a_cancellation_of_the_servers_is_one(servers_own: list[int]) -> None:
    call = asgi.start(drained(Drain(lambda: 0)), path="/hang")
    await call.until(lambda response: response.started)
    call._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.end()


def test_a_request_that_no_task_drives_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """granian steps through coroutines by itself; what it drives is then a wait for a task of ours."""
    ended: list[object] = []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        ended.append(asyncio.current_task())

    async def nothing() -> None:
        raise AssertionError("not called")

    loop = asyncio.new_event_loop()
    try:
        waiting = Drain(lambda: 0).run(app, {}, nothing, nothing)  # type: ignore[arg-type]  # never called
        asyncio.events._set_running_loop(loop)
        try:
            future = waiting.send(None)
        finally:
            asyncio.events._set_running_loop(None)
        loop.run_until_complete(future)
    finally:
        loop.close()
    assert isinstance(ended[0], asyncio.Task)


async def test_in_a_thread_of_another_program_signals_are_left_alone(servers_own: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def start() -> None:
        Drain(lambda: 0).await_signals()

    thread = threading.Thread(target=lambda: asyncio.run(start()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
