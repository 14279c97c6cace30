"""What the features cost a request that passes through: usage capture, and fallback, rules, budgets where configured.

    python -m benchmarks.features [--rounds 30] [--each 20]

The whole stack in this process, on an upstream that is a list of bytes: a body of 195 KB, a stream of 300 events. The
stacks are asked in turn, round by round; figures are medians of processor time for one request, in the event loop's
thread, and in the process until the rows are in the database. `straight` is the same stack with the least in place
of RoutingMiddleware that could route at all, `no usage` the stack without UsageCaptureMiddleware.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ccr_asgi import application
from ccr_asgi.exchange import get_exchange
from ccr_asgi.routing import Route, RoutingTable

EVENTS = 300
BODY = json.dumps(
    {"model": "claude-haiku-4-5", "stream": True, "messages": [{"role": "user", "content": "x" * 195_000}]}
)
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "some words "}}
EVENT = b"event: content_block_delta\ndata: " + json.dumps(DELTA).encode() + b"\n\n"
LINKS: Mapping[str, Any] = {"cerebras": {"apiKey": "k"}}
CONFIGURED: Mapping[str, Mapping[str, Any]] = {
    "straight": {},
    "off": {},
    "no usage": {},
    "fallback": {"providers": {**LINKS, "anthropic": {"fallback": ["cerebras,gpt-oss-120b"]}}},
    "rules": {"providers": LINKS, "rules": [{"agentId": "*", "model": "*opus*", "route": "cerebras,gpt-oss-120b"}]},
    "budgets": {"providers": LINKS, "budgets": [{"per": "day", "usd": 1000, "counts": "list", "then": "block"}]},
}


class Events(httpx.AsyncByteStream):
    """The upstream's answer."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(EVENTS):
            yield EVENT


class Upstream(httpx.AsyncBaseTransport):
    """Answers at once."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=[("content-type", "text/event-stream")], stream=Events())


class Straight:
    """Sends everything to the default provider."""

    def __init__(self, app: ASGIApp, *, table: RoutingTable, **_: Any) -> None:
        self.app = app
        self._route = Route(table.providers[table.default], None, "default")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = get_exchange(scope)
        exchange.route = self._route
        exchange.attempts += 1
        await self.app(scope, receive, send)


def stack(name: str, folder: Path) -> application.Application:
    """One candidate, on a database of its own."""
    settings = {**CONFIGURED[name], "usage": {"database": str(folder / f"{name}.db")}}
    routing = Straight if name == "straight" else application.RoutingMiddleware
    with (
        mock.patch.object(application, "RoutingMiddleware", routing),
        _without_usage() if name == "no usage" else nullcontext(),
        mock.patch("ccr_asgi.runtime.Runtime.transport", return_value=Upstream()),
    ):
        return application.create_app(settings)


def _without_usage() -> AbstractContextManager[Any]:
    return mock.patch.object(application, "UsageCaptureMiddleware", lambda app, **_: app)


async def ask(app: application.Application) -> None:
    """One request, to its end."""
    messages: Iterator[Message] = iter([{"type": "http.request", "body": BODY.encode(), "more_body": False}])
    left = asyncio.Event()

    async def receive() -> Message:
        for message in messages:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    headers = [(b"host", b"localhost"), (b"content-length", b"%d" % len(BODY)), (b"authorization", b"Bearer x")]
    scope = {"type": "http", "method": "POST", "path": "/v1/messages", "query_string": b"", "headers": headers}
    await app({**scope, "client": ("127.0.0.1", 1), "http_version": "1.1"}, receive, send)
    left.set()


Took = dict[str, list[tuple[float, float]]]


async def measure(apps: Mapping[str, application.Application], rounds: int, each: int) -> Took:
    """Processor time of one request in ms, of the loop's thread and of the process, by candidate and round.

    The first round, which warms up, is left out.
    """
    took: Took = {name: [] for name in apps}
    for number in range(rounds + 1):
        names = list(apps)
        random.shuffle(names)
        for name in names:
            began_s, process_s = time.thread_time(), time.process_time()
            for _ in range(each):
                await ask(apps[name])
            loop_ms = (time.thread_time() - began_s) / each * 1000
            while apps[name]._runtime.usage().writer.queued:  # noqa: ASYNC110 -- the writer tells nobody
                await asyncio.sleep(0.05)
            if number:
                took[name].append((loop_ms, (time.process_time() - process_s) / each * 1000))
    return took


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--each", type=int, default=20)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:

        async def run() -> Took:
            apps = {name: stack(name, Path(folder)) for name in CONFIGURED}
            for app in apps.values():
                await app._runtime.start()  # one after the other: migrations of one process do not run side by side
            try:
                return await measure(apps, args.rounds, args.each)
            finally:
                for app in apps.values():
                    await app._runtime.stop()

        took = asyncio.run(run())
    off = [statistics.median(values) for values in zip(*took["off"], strict=True)]
    for name, values in took.items():
        loop_ms, process_ms = (statistics.median(each) for each in zip(*values, strict=True))
        say(
            f"{name:10} loop {loop_ms:6.3f} ms, {loop_ms / off[0]:.3f} of off   "
            f"process {process_ms:6.3f} ms, {process_ms / off[1]:.3f} of off"
        )


if __name__ == "__main__":
    main()
