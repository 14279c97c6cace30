"""The server that the browser looks at, and the same numbers by the other two ways: its JSON, and the file itself."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from ccr_asgi.usage.record import UsageRecord
from tests.browser.seed import store_rows
from tests.integration.claude import body, headers
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient
from tests.support.server import RunningServer, read_rows, running_server

PREFIX = "/llm"
MOUNTED = "tests.integration.hosts:composed"


@dataclass(frozen=True)
class World:
    """A running server, with the providers that it asks.

    Attributes:
        server: Its process.
        prefix: Where it is mounted; "" if it stands alone.
        upstream: Stands where Anthropic and Cerebras do.
        now: When its past ends.
    """

    server: RunningServer
    prefix: str
    upstream: FakeUpstream
    now: datetime

    def url(self, path: str = "") -> str:
        """The address of a page: of the dashboard, or of what stands below it."""
        return f"{self.server.url}{self.prefix}/dashboard{path}"

    def fetch(self, url: str) -> bytes:
        """What a GET is answered with."""
        with build_opener(ProxyHandler({})).open(url, timeout=20) as answer:
            content: bytes = answer.read()
            return content

    def usage(self, query: str = "") -> Any:
        """What `/api/usage` says."""
        return json.loads(self.fetch(f"{self.server.url}{self.prefix}/api/usage{query}"))

    def sql(self, query: str) -> list[dict[str, Any]]:
        """What a query on the file itself gives."""
        return read_rows(self.server.database, query)

    def ask(self, session: str, **fields: Any) -> None:
        """Send a request through the server, as Claude Code does; it is answered by the default answer."""
        with RawClient(self.server.url) as client:
            answer = client.request("POST", f"{self.prefix}/v1/messages", headers(session), body(**fields))
        assert answer.status == 200, answer.body


@contextmanager
def world(folder: Path, past: Sequence[UsageRecord] | None, *, now: datetime, mounted: bool = False) -> Iterator[World]:
    """A server with this past, of which none is an empty database; None leaves the file to the server."""
    with FakeUpstream() as upstream:
        providers = _providers(upstream)
        if past is not None:
            store_rows(folder / "usage.db", past, providers)
        target = MOUNTED if mounted else "ccr_asgi:app"
        with running_server({"providers": providers}, tmp_path=folder, target=target) as server:
            yield World(server, PREFIX if mounted else "", upstream, now)


def _providers(upstream: FakeUpstream) -> dict[str, Any]:
    key = "invented-key"
    chat = {"baseUrl": f"{upstream.url}/v1/chat/completions", "apiKey": key}
    return {
        "anthropic": {"baseUrl": upstream.url, "passthrough": True},
        "cerebras": {**chat, "models": ["gpt-oss-120b", "zai-glm-4.7"]},
        "local": {**chat, "type": "openai-chat"},
    }


def present() -> datetime:
    """Now, as the server has it."""
    return datetime.now(UTC)
