"""The servers are run the way the promises need it."""

import asyncio
import logging.config
import signal
from collections.abc import Iterator

import pytest

import ccr_asgi
from ccr_asgi import serving
from ccr_asgi.serving import Drained
from tests.support import asgi


@pytest.fixture
def servers_own() -> Iterator[list[int]]:
    """The signals that a server's own handler of SIGTERM has got."""
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    yield got
    signal.signal(signal.SIGTERM, before)


async def _hanging(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    await send({"type": "http.response.body"})


async def test_what_still_runs_after_the_drain_is_ended(servers_own: list[int]) -> None:
    app = Drained(_hanging, drain_s=0)
    async with asgi.lifespan(app):
        assert (await asgi.request(app)).complete
        call = asgi.start(app, path="/hang")
        await call.until(lambda response: response.started)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(asyncio.CancelledError):
            await call.end()
    assert servers_own == [signal.SIGTERM]


async def test_a_drain_is_patient(servers_own: list[int]) -> None:
    app = Drained(_hanging, drain_s=3600)
    async with asgi.lifespan(app):
        signal.raise_signal(signal.SIGTERM)
        assert (await asgi.request(app)).complete
    assert servers_own == [signal.SIGTERM]


async def test_a_server_without_a_handler_is_drained_too() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    app = Drained(_hanging, drain_s=0)
    async with asgi.lifespan(app):
        call = asgi.start(app, path="/hang")
        await call.until(lambda response: response.started)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(asyncio.CancelledError):
            await call.end()


def test_a_worker_of_granian_drains_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[object, float]] = []
    monkeypatch.setitem(vars(ccr_asgi), "app", "the application")
    monkeypatch.setattr(serving, "Drained", lambda app, drain_s: made.append((app, drain_s)))
    monkeypatch.setenv("CCR_ASGI_TIMEOUTS__DRAINS", "7")
    serving.drained_app()
    assert made == [("the application", 7)]


def test_the_logs_of_the_servers_are_of_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    configurator = logging.config.DictConfigurator(serving.LOG_CONFIG)
    formatter = configurator.configure_formatter(configurator.config["formatters"]["line"])
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nb", None, None)
    assert "\n" not in formatter.format(record)
    assert set(serving.LOG_CONFIG["loggers"]) == {"ccr_asgi", "uvicorn", "uvicorn.error", "_granian"}  # type: ignore[call-overload]
