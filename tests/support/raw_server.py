"""A server in the test's own event loop whose every byte is scripted.

    async def script(peer: Peer) -> None:            # runs once for each connection
        request = await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await peer.gone()

    async with RawServer(script) as server:
        ... server.url ...

What a script raises fails the test when the server is left; a script that still runs then is cancelled.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class RawRequest:
    """A request as it came: the first line, the fields in order and spelling, and the body with its framing undone."""

    line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of every field called `name`, in any case."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def head(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The first line and the fields of the next request."""
        line, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        return line, [(name, value) for name, _, value in (text.partition(b": ") for text in lines)]

    async def request(self) -> RawRequest:
        """The next request, whole."""
        line, fields = await self.head()
        request = RawRequest(line, fields, b"")
        if request.values(b"transfer-encoding"):
            return RawRequest(line, fields, await self._chunked_body())
        length = int((request.values(b"content-length") or [b"0"])[0])
        return RawRequest(line, fields, await self.reader.readexactly(length))

    async def _chunked_body(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def send(self, data: bytes) -> None:
        """Hand `data` to the kernel."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b"", status: bytes = b"200 OK") -> None:
        """A plain answer, after which the connection stays open."""
        await self.send(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    async def gone(self) -> bytes:
        """Wait until the client closes or resets the connection; what it had sent before that."""
        rest = b""
        try:
            while data := await self.reader.read(1 << 20):
                rest += data
        except ConnectionError:
            pass
        return rest

    def close(self) -> None:
        """Close in an orderly way."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        # Of a copy, for uvloop's own sockets have no setsockopt().
        with socket.fromfd(self.writer.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class RawServer:
    """Runs `script` for each connection to a free port of 127.0.0.1; `connections` counts them."""

    def __init__(self, script: Callable[[Peer], Awaitable[None]], *, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.port = 0
        self._script = script
        self._tls = tls
        self._running: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []

    @property
    def url(self) -> str:
        """The origin, without a slash at its end."""
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 24, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.sleep(0)
        if error is None and self._failures:
            raise self._failures[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, self.connections)
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._run(peer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, peer: Peer) -> None:
        try:
            await self._script(peer)
            peer.close()
            with suppress(ConnectionError):
                await peer.writer.wait_closed()
        except Exception as error:
            self._failures.append(error)
        finally:
            peer.writer.transport.abort()
