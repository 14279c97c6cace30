"""The whole of it in one process: what it is made from, how it starts and stops, and how its file is read again."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Host, Mount, Route
from starlette.types import Receive, Scope, Send

import ccr_asgi
from ccr_asgi import application
from ccr_asgi.application import Application, create_app, lifespan
from ccr_asgi.config import parse_config
from ccr_asgi.errors import ConfigError
from ccr_asgi.runtime import Runtime
from ccr_asgi.usage.writer import UsageWriter
from tests.support import asgi
from tests.support.codex_login import write_login
from tests.support.provider_answers import anthropic_message

ANSWER = anthropic_message("Hello.").content
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
BODY = b'{"model": "claude-x", "messages": [], "max_tokens": 9}'


class Provider(httpx.AsyncBaseTransport):
    """Every upstream at once: notes what it is asked and answers with a message."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return httpx.Response(200, headers=HEADERS, stream=httpx.ByteStream(ANSWER))

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    provider = Provider()
    monkeypatch.setattr("ccr_asgi.runtime.Http11Transport", lambda **options: provider)
    return provider


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file that names a database in a temporary folder; every request looks whether it has changed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(application, "RELOAD_CHECK_S", 0)
    path = tmp_path / "config.json"
    write(path)
    return path


def write(path: Path, **changes: Any) -> None:
    data = {"usage": {"database": str(path.parent / "usage.db")}, **changes}
    path.write_text(json.dumps(data))


def replace(path: Path, content: str | None) -> None:
    path.unlink()
    if content is not None:
        path.write_text(content)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


async def asked(app: asgi.App, model: str = "claude-x", **options: Any) -> asgi.Response:
    body = BODY.replace(b"claude-x", model.encode())
    headers = [("content-length", str(len(body))), ("authorization", "Bearer clients")]
    return await asgi.request(app, "POST", "/v1/messages", headers=headers, body=body, **options)


# what it is made from


def test_it_is_made_from_a_configuration_in_any_form(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config_file, port=4000)
    config = parse_config({"port": 4000})
    assert create_app(config).config is config
    assert create_app({"port": 4000}).config == config
    assert create_app(config_file).config.port == create_app(str(config_file)).config.port == 4000
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(config_file))
    assert create_app().config.source == config_file


def test_a_configuration_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    for config in ({"prot": 1}, tmp_path / "none.json"):
        with pytest.raises(ConfigError):
            create_app(config)


def test_the_stack_is_the_guards(config_file: Path) -> None:
    config = parse_config({"host": "::1", "allowedHosts": ["ccr.example"]})
    assert isinstance(ccr_asgi.build_stack(config, Runtime(config)), ccr_asgi.GuardMiddleware)


# start and end


async def test_what_was_never_started_is_stopped_at_once() -> None:
    await Runtime(parse_config({})).stop()


async def test_a_request_goes_through_and_leaves_a_row(config_file: Path, provider: Provider) -> None:
    app = create_app(config_file)
    async with asgi.lifespan(app):
        response = await asked(app)
        assert (response.status, response.body) == (200, ANSWER)
    (request,) = provider.requests
    assert (request.content, request.headers["authorization"]) == (BODY, "Bearer clients")
    assert request.extensions["target"] == b"/v1/messages"
    assert provider.closed == 1
    async with asgi.lifespan(app):  # once more, in the same loop
        usage = json.loads((await asgi.request(app, path="/api/usage")).body)
    assert "claude-haiku-4-5" in json.dumps(usage)


class Silent(httpx.AsyncBaseTransport):
    """An upstream whose answer begins and then says nothing, as while a model thinks."""

    def __init__(self, beginning: bytes) -> None:
        self.sent: list[bytes] = []
        self._beginning = beginning

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(b"".join(cast(httpx.ByteStream, request.stream)))  # of one piece: that itself, no copy
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=_BegunStream(self._beginning))


class _BegunStream(httpx.AsyncByteStream):
    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._beginning
        await asyncio.Event().wait()


CHAT_BEGINNING = b'data: {"choices": [{"index": 0, "delta": {"content": "Hello."}}]}\n\n'
RESPONSES_BEGINNING = b"".join(
    b"data: " + json.dumps(event).encode() + b"\n\n"
    for event in (
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m"}},
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "item_id": "m",
            "content_index": 0,
            "delta": "Hello.",
        },
    )
)


@pytest.mark.parametrize(
    ("model", "fallback", "beginning"),
    [
        ("claude-x", [], b"event: ping\n\n"),
        ("claude-x", ["chat,m"], b"event: ping\n\n"),
        ("private,m", [], b"event: ping\n\n"),
        ("chat,m", [], CHAT_BEGINNING),
        ("codex,m", [], RESPONSES_BEGINNING),
    ],
)
async def test_an_open_stream_holds_no_request_that_nobody_sends_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, fallback: list[str], beginning: bytes
) -> None:
    silent = Silent(beginning)
    monkeypatch.setattr("ccr_asgi.runtime.Http11Transport", lambda **options: silent)
    write_login(tmp_path / "auth.json")
    providers = {
        "anthropic": {"fallback": fallback},
        "private": {"type": "anthropic", "baseUrl": "http://a", "apiKey": "k"},
        "chat": {"type": "openai-chat", "baseUrl": "http://c", "apiKey": "k"},
        "codex": {"authFile": str(tmp_path / "auth.json")},
    }
    asked = {"model": model, "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    body = json.dumps(asked).encode()
    held = sys.getrefcount(body)
    app = create_app({"providers": providers, "usage": {"database": str(tmp_path / "usage.db")}})
    async with asgi.lifespan(app):
        headers = [("host", "localhost"), ("content-length", str(len(body)))]
        call = asgi.start(app, "POST", "/v1/messages", headers=headers, body=body)
        await call.until(lambda response: bool(response.pieces))
        call.received.clear()
        (sent,) = silent.sent
        own = held if sent is body else sys.getrefcount(object())
        assert sys.getrefcount(sent) == own + 2  # `sent`, and the list it is from
        call.leave()
        await call.end()


async def test_the_start_is_told(config_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ccr_asgi"):
        async with asgi.lifespan(create_app(config_file)):
            pass
    assert "provider anthropic: https://api.anthropic.com" in caplog.text
    assert str(config_file) in caplog.text


async def test_websockets_are_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    await create_app({})({"type": "websocket", "path": "/"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_without_a_lifespan_it_starts_with_the_first_request(config_file: Path, provider: Provider) -> None:
    app = create_app(config_file)
    assert (await asked(app)).status == 200
    assert (await asgi.request(app, path="/readyz")).status == 200
    async with app.running():
        pass
    assert provider.closed == 1


async def test_a_database_that_cannot_be_opened_costs_no_request(
    config_file: Path, provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UsageWriter, "stop", partialmethod(UsageWriter.stop, 0.01))  # its patience is tested elsewhere
    database = config_file.parent / "usage.db"
    database.write_bytes(b"this is no database, and somebody may want it back" * 100)
    app = create_app(config_file)
    with caplog.at_level(logging.ERROR, "ccr_asgi"):
        async with asgi.lifespan(app):
            assert (await asked(app)).status == 200
            assert (await asgi.request(app, path="/healthz")).status == 200
            assert (await asgi.request(app, path="/readyz")).status == 503
    assert "Requests are served all the same" in caplog.text
    assert database.read_bytes().startswith(b"this is no database")


async def test_rows_go_to_the_originals_log_too(config_file: Path, provider: Provider) -> None:
    log_file = config_file.parent / "usage.jsonl"
    database = str(config_file.parent / "usage.db")
    write(config_file, usage={"database": database, "logFile": str(log_file)})
    app = create_app(config_file)
    async with asgi.lifespan(app):
        response = await asked(app)
    (line,) = log_file.read_bytes().splitlines()
    assert json.loads(line)["provider"] == "anthropic"
    assert response.status == 200


# mounted


async def _page(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("not asked")


async def test_a_host_starts_and_stops_what_it_mounts(config_file: Path, provider: Provider) -> None:
    first, second = create_app(config_file), create_app(read(config_file))
    inner = Starlette(routes=[Host("ccr.example", app=second)])
    host = Starlette(routes=[Route("/", _page), Mount("/llm", app=first), Mount("/in", app=inner)], lifespan=lifespan)
    async with asgi.lifespan(host):
        response = await asgi.request(
            host, "POST", "/llm/v1/messages", headers=[("content-length", str(len(BODY)))], body=BODY
        )
        assert (response.status, response.body) == (200, ANSWER)
    assert provider.closed == 2
    assert provider.requests[0].extensions["target"] == b"/v1/messages"


async def test_an_application_may_be_its_own_host(config_file: Path, provider: Provider) -> None:
    async with lifespan(create_app(config_file)):
        pass
    assert provider.closed == 1


async def test_a_host_without_any_of_ours_is_told() -> None:
    with pytest.raises(ValueError, match="no ccr_asgi application"):
        async with lifespan(Starlette(routes=[Route("/", _page)])):
            pass


# the file is read again


@pytest.fixture
async def app(config_file: Path, provider: Provider) -> AsyncIterator[Application]:
    app = create_app(config_file)
    async with app.running():
        yield app


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "ccr_asgi.application"):
        yield caplog


LOCAL = {"type": "anthropic", "baseUrl": "http://local", "apiKey": "k", "models": ["local-model"]}


async def test_a_change_holds_for_the_next_request(
    app: Application, config_file: Path, provider: Provider, log: pytest.LogCaptureFixture
) -> None:
    await asked(app, "local-model")
    write(config_file, providers={"local": LOCAL})
    await asked(app, "local-model")
    assert [request.url.host for request in provider.requests] == ["api.anthropic.com", "local"]
    assert provider.requests[1].headers["x-api-key"] == "k"
    assert "authorization" not in provider.requests[1].headers
    assert "providers: local, anthropic" in log.text


@pytest.mark.parametrize("content", ["{", '{"prot": 1}', None])
async def test_a_broken_change_keeps_the_former_and_says_so_once(
    app: Application, config_file: Path, log: pytest.LogCaptureFixture, content: str | None
) -> None:
    replace(config_file, content)
    for _ in range(2):
        assert (await asked(app)).status == 200
    errors = [record for record in log.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the former one stays in force" in errors[0].getMessage()
    assert str(config_file) in errors[0].getMessage()
    write(config_file)
    assert (await asked(app)).status == 200
    assert "was read again" in log.text


async def test_what_needs_a_restart_is_named(
    app: Application, config_file: Path, log: pytest.LogCaptureFixture
) -> None:
    write(config_file, port=4001, host="::1", usage={"database": str(config_file.parent / "other.db")})
    assert (await asked(app)).status == 200
    warned = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert [message.split()[3] for message in warned] == ["host", "port", "usage.database"]
    assert not (config_file.parent / "other.db").exists()


async def test_a_file_that_stays_is_not_read_again(app: Application, log: pytest.LogCaptureFixture) -> None:
    await asked(app)
    assert "was read again" not in log.text


async def test_the_file_is_looked_at_once_a_second_at_most(
    config_file: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(application, "RELOAD_CHECK_S", 3600)
    app = create_app(config_file)
    async with app.running():
        write(config_file, providers={"local": LOCAL})
        await asked(app, "local-model")
    assert provider.requests[0].url.host == "api.anthropic.com"


async def test_a_configuration_that_came_from_no_file_stays(provider: Provider, config_file: Path) -> None:
    app = create_app(read(config_file))
    async with app.running():
        write(config_file, providers={"local": LOCAL})
        await asked(app, "local-model")
    assert provider.requests[0].url.host == "api.anthropic.com"
