"""What Claude Code sends, in form; and the world that these tests send it into: a server with three providers."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import ccr_asgi
from ccr_asgi import runtime
from ccr_asgi.usage.writer import UsageWriter
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient, RawResponse
from tests.support.server import HttpName, RunningServer, ServerName, read_rows, running_server, serve_app

TARGET = "/v1/messages?beta=true"
MODEL = "claude-haiku-4-5"
CHAT_MODEL = "gpt-oss-120b"
CHAT_KEY = "key-of-the-chat-provider"
THIRD_MODEL = "kimi-k2"
THIRD_KEY = "key-of-the-third-party"
BEARER = "Bearer planted-oauth-credential"

TAG = f"<CCR-SUBAGENT-MODEL>cerebras,{CHAT_MODEL}</CCR-SUBAGENT-MODEL>"

Headers = list[tuple[str, str]]


def tag(content: str) -> str:
    """The routing tag with this content."""
    return f"<CCR-SUBAGENT-MODEL>{content}</CCR-SUBAGENT-MODEL>"


def body(prompt: str = "hi", *, stream: bool = True, model: str = MODEL, system: Any = None, **fields: Any) -> bytes:
    """A Messages request."""
    document: dict[str, Any] = {"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": prompt}]}
    if system is not None:
        document["system"] = system
    if stream:
        document["stream"] = True
    return json.dumps({**document, **fields}).encode()


def tagged(content: str = f"cerebras,{CHAT_MODEL}", **fields: Any) -> bytes:
    """A Messages request of a tagged agent."""
    return body(system=f"{tag(content)}\nYou write code.", **fields)


def headers(session: str, *more: tuple[str, str]) -> Headers:
    """Claude Code's headers, with this session's id."""
    return [
        ("Accept", "application/json"),
        ("Authorization", BEARER),
        ("Content-Type", "application/json"),
        ("User-Agent", "claude-cli/2.1.330 (external, cli)"),
        ("X-Claude-Code-Session-Id", session),
        ("anthropic-beta", "oauth-2025-04-20"),
        ("anthropic-version", "2023-06-01"),
        *more,
    ]


def new_session() -> str:
    """An id that no other request has."""
    return str(uuid4())


def soon(condition: Callable[[], bool], timeout: float = 30.0) -> bool:
    """Whether `condition` comes true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def row_of(database: Path, session: str, timeout: float = 30.0) -> dict[str, Any]:
    """The one row of a session.

    Raises:
        AssertionError: There is none after `timeout` seconds, or more than one.
    """
    rows: list[dict[str, Any]] = []

    def written() -> bool:
        rows[:] = [row for row in read_rows(database) if row["session_id"] == session]
        return bool(rows)

    assert soon(written, timeout), f"no row of session {session} in {timeout} s"
    assert len(rows) == 1, rows
    return rows[0]


def chunks_until(client: RawClient, end: bytes) -> bytes:
    """Read chunks of a body until they end with `end`."""
    seen = b""
    while not seen.endswith(end):
        chunk = client.read_chunk()
        assert chunk, f"the body ended before {end!r}: {seen!r}"
        seen += chunk
    return seen


def events(stream: bytes) -> list[dict[str, Any]]:
    """The events of an Anthropic stream, whose grammar of lines is checked."""
    found = []
    assert stream.endswith(b"\n\n"), stream[-200:]
    for block in stream.split(b"\n\n")[:-1]:
        name, data = block.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode(), block
        found.append(event)
    return found


@dataclass
class World:
    """A running server, and the providers that it knows.

    Attributes:
        anthropic: Where everything goes that asks for nothing else.
        chat: "cerebras", of type openai-chat.
        third: "moonshot", of type anthropic with a key of its own.
    """

    url: str
    database: Path
    anthropic: FakeUpstream
    chat: FakeUpstream
    third: FakeUpstream
    server: RunningServer | None = None

    def forget(self) -> None:
        """Begin a test: what earlier ones scripted for the providers and asked of them is forgotten."""
        for upstream in (self.anthropic, self.chat, self.third):
            upstream.requests.clear()
            upstream.arriving.clear()
            upstream._scripted.clear()
            upstream._rules.clear()

    def post(self, content: bytes, *more: tuple[str, str], session: str = "", target: str = TARGET) -> RawResponse:
        """Send a Messages request as Claude Code does, and read the answer."""
        with RawClient(self.url) as client:
            return client.request("POST", target, headers(session or new_session(), *more), content)

    def row(self, session: str, timeout: float = 30.0) -> dict[str, Any]:
        """The one row of a session."""
        return row_of(self.database, session, timeout)

    @property
    def contacts(self) -> int:
        """How many requests have begun to come to any provider."""
        return sum(len(upstream.arriving) for upstream in (self.anthropic, self.chat, self.third))


def providers(anthropic: FakeUpstream, chat: FakeUpstream, third: FakeUpstream) -> dict[str, Any]:
    """The configuration of a world's providers."""
    return {
        "anthropic": {"baseUrl": anthropic.url, "passthrough": True},
        "cerebras": {"baseUrl": f"{chat.url}/v1/chat/completions", "apiKey": CHAT_KEY, "models": [CHAT_MODEL]},
        "moonshot": {
            "type": "anthropic",
            "baseUrl": f"{third.url}/anthropic",
            "apiKey": THIRD_KEY,
            "models": [THIRD_MODEL],
        },
    }


@contextmanager
def world_in_a_thread(folder: Path, config: Mapping[str, Any] | None = None) -> Iterator[World]:
    """A world whose server is a thread of this process: quick to start, and quick to write its rows."""
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeUpstream() as anthropic,
        FakeUpstream() as chat,
        FakeUpstream() as third,
    ):
        patch.setattr(runtime, "UsageWriter", partial(UsageWriter, commit_interval_s=0.01))
        database = folder / "usage.db"
        settings = {
            "providers": providers(anthropic, chat, third),
            "usage": {"database": str(database)},
            **(config or {}),
        }
        with serve_app(ccr_asgi.create_app(settings)) as served:
            yield World(served.url, database, anthropic, chat, third)


@contextmanager
def world_in_a_process(
    folder: Path,
    *,
    server: ServerName = "uvicorn",
    http: HttpName = "httptools",
    arguments: tuple[str, ...] = (),
    config: Mapping[str, Any] | None = None,
) -> Iterator[World]:
    """A world whose server runs as its users run it."""
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        settings = {"providers": providers(anthropic, chat, third), **(config or {})}
        with running_server(settings, tmp_path=folder, server=server, http=http, arguments=arguments) as running:
            yield World(running.url, running.database, anthropic, chat, third, running)
