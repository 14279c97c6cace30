"""What the choice of the HTTP client costs a proxy: CPU of the proxy process per request, as ratios within one run.

    python -m benchmarks.transport [--rounds 5]

Three processes on this machine: an upstream, a proxy that does nothing but forward (raw ASGI on uvicorn, httptools and
uvloop), and this one, which makes the load and asks the proxy for its CPU time before and after. One request is a body
of 195 KB and a stream of 300 events, each in a chunk of its own: `burst`, all in one write, or `paced`, 5 ms apart.
`large` is a burst again, with a body of 2 MB.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import cpu_count
from typing import Any

import httptools
import httpx
import uvicorn
import uvloop

from ccr_asgi.transport import Http11Transport

BODY = b'{"model":"claude","messages":[' + b'"' + b"x" * 195_000 + b'"' + b"]}"
EVENTS = [
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word %03d "}}\n\n' % number
    for number in range(300)
]
PACE_S = 0.005
LARGE_BODY = BODY * 10
LOADS = {"burst": (1, 300, BODY), "paced": (16, 1, BODY), "large": (1, 50, LARGE_BODY)}
"""Concurrent connections, requests on each of them, and the body of each request."""

Forward = Callable[[str, bytes, bytes], AbstractAsyncContextManager[AsyncIterable[bytes]]]
"""From the upstream's origin, the target and the body to the answer's chunks."""

HEADERS = [(b"content-type", b"application/json"), (b"x-api-key", b"invented"), (b"accept", b"text/event-stream")]


# The clients


def over_httpx(transport: httpx.AsyncBaseTransport) -> Forward:
    @asynccontextmanager
    async def forward(origin: str, target: bytes, body: bytes) -> AsyncIterator[AsyncIterable[bytes]]:
        fields = [
            (b"host", origin.removeprefix("http://").encode()),
            *HEADERS,
            (b"content-length", b"%d" % len(body)),
        ]
        stream = httpx.ByteStream(body)
        request = httpx.Request("POST", origin, headers=fields, stream=stream, extensions={"target": target})
        response = await transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            yield response.stream
        finally:
            await response.stream.aclose()

    return forward


def over_aiohttp() -> Forward:
    import aiohttp
    import yarl

    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def forward(origin: str, target: bytes, body: bytes) -> AsyncIterator[AsyncIterable[bytes]]:
        if not sessions:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
                timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_read=300),
            )
            sessions.append(session)
        headers = [(name.decode(), value.decode()) for name, value in HEADERS]
        url = yarl.URL(origin + target.decode(), encoded=True)
        async with sessions[0].post(url, headers=headers, data=body, allow_redirects=False) as response:
            yield response.content.iter_any()

    return forward


def over_httptools() -> Forward:
    """The floor: the least that can work, without a time limit, a check or an error in it."""
    idle: list[_Floor] = []

    @asynccontextmanager
    async def forward(origin: str, target: bytes, body: bytes) -> AsyncIterator[AsyncIterable[bytes]]:
        host, _, port = origin.removeprefix("http://").partition(":")
        if idle:
            connection = idle.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(_Floor, host, int(port))
        fields = [(b"host", origin.removeprefix("http://").encode()), *HEADERS, (b"content-length", b"%d" % len(body))]
        head = b"POST " + target + b" HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
        connection.begin(head, body)
        yield connection
        idle.append(connection)

    return forward


class _Floor(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def begin(self, head: bytes, body: bytes) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.chunks: list[bytes] = []
        self.complete = False
        self.news: asyncio.Future[None] | None = None
        self.transport.write(head)
        self.transport.write(body)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if self.news is not None and not self.news.done():
            self.news.set_result(None)

    def on_body(self, data: bytes) -> None:
        self.chunks.append(data)

    def on_message_complete(self) -> None:
        self.complete = True

    def __aiter__(self) -> "_Floor":
        return self

    async def __anext__(self) -> bytes:
        while not self.chunks:
            if self.complete:
                raise StopAsyncIteration
            self.news = asyncio.get_running_loop().create_future()
            await self.news
        chunks, self.chunks = self.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


CLIENTS: dict[str, Callable[[], Forward]] = {
    "hand-made httptools client (floor)": over_httptools,
    "Http11Transport (ours)": lambda: over_httpx(Http11Transport()),
    "aiohttp directly": over_aiohttp,
    "httpx's own transport": lambda: over_httpx(httpx.AsyncHTTPTransport()),
}


# The proxy and the upstream


def proxy_app(forward: Forward, origin: str) -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        chunks: AbstractAsyncContextManager[AsyncIterable[bytes]]
        if scope["path"] == "/cpu":
            chunks = _once(json.dumps(time.process_time()).encode())
        else:
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            chunks = forward(origin, scope["raw_path"], body)
        async with chunks as answer:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async for chunk in answer:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@asynccontextmanager
async def _once(data: bytes) -> AsyncIterator[AsyncIterable[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    yield chunks()


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads a request, answers with the events, as often as it is asked."""
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS]
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            if b"/paced" in head:
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(PACE_S)
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"".join(pieces) + b"0\r\n\r\n")
            await writer.drain()
    writer.close()


async def serve_upstream(listener: socket.socket) -> None:
    server = await asyncio.start_server(upstream, sock=listener, limit=1 << 22)
    await server.serve_forever()


def serve(what: str, origin: str) -> None:
    """Be the upstream or a proxy; says its port first."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    if what == "upstream":
        uvloop.run(serve_upstream(listener))
    else:
        app = proxy_app(CLIENTS[what](), origin)
        config = uvicorn.Config(app, http="httptools", loop="uvloop", log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def serving(what: str, origin: str = "") -> Any:
    command = [sys.executable, "-m", "benchmarks.transport", "--serve", what, "--origin", origin]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# The load


async def ask(port: int, path: str, repeat: int = 1, body: bytes = BODY) -> bytes:
    """Send the request `repeat` times over one connection; the last answer, with its framing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    answer = b""
    for _ in range(repeat):
        writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    return answer


async def cpu_s(port: int) -> float:
    *_, seconds, _, _, _ = (await ask(port, "/cpu", body=b"")).split(b"\r\n")  # before the last chunk, of no bytes
    return float(seconds)


async def measure(port: int) -> dict[str, float]:
    """CPU milliseconds of the proxy per request."""
    used_ms = {}
    for kind, (streams, repeat, body) in LOADS.items():
        before_s = await cpu_s(port)
        answers = await asyncio.gather(*[ask(port, f"/{kind}", repeat, body) for _ in range(streams)])
        used_ms[kind] = (await cpu_s(port) - before_s) * 1000 / (streams * repeat)
        assert all(answer.count(b"event: content_block_delta") == len(EVENTS) for answer in answers)
    return used_ms


def run(rounds: int) -> None:
    clients = [name for name in CLIENTS if importlib.util.find_spec("aiohttp") or "aiohttp" not in name]
    used_ms: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in LOADS} for name in clients}
    with serving("upstream") as upstream_port, contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(serving(name, f"http://127.0.0.1:{upstream_port}")) for name in clients}
        for turn in range(rounds + 1):
            for name, port in ports.items():  # in turn, so that a slow moment of the machine meets all
                for kind, value in uvloop.run(measure(port)).items():
                    if turn > 0:  # the first is for warming up
                        used_ms[name][kind].append(value)
    floor = used_ms[clients[0]]
    print(f"Python {platform.python_version()}, {cpu_count()} cores, median of {rounds} rounds; CPU ms per request\n")
    print("| client | " + " | ".join(f"{kind} | of the floor" for kind in LOADS) + " |")
    print("|---" * (1 + 2 * len(LOADS)) + "|")
    for name, kinds in used_ms.items():
        cells = [
            f"{statistics.median(values):.2f} | {statistics.median(values) / statistics.median(floor[kind]):.2f} x"
            for kind, values in kinds.items()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--origin", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.origin)
    else:
        run(arguments.rounds)


if __name__ == "__main__":
    main()
