"""One connection to a fake upstream: requests are read as bytes, and answers played piece by piece."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.support.answers import Answer, Delay, Fault
from tests.support.signals import Gate, Signal


@dataclass(eq=False)
class RecordedRequest:
    """A request as it came, byte by byte.

    Attributes:
        raw: Every byte of it, head and body, as framed.
        headers: The header fields in their order and spelling.
        connection: Which connection it came on, counted from 0.
        number_on_connection: 0 for the first request of its connection.
        received_at_s: `time.monotonic()` when its head was complete.
        complete: Its body is there.
        answered: The last byte of the answer was handed to the kernel.
        disconnected: The peer closed or reset the connection, after or in the middle of the answer.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    connection: int
    number_on_connection: int
    raw: bytearray = field(repr=False)
    received_body: bytearray = field(default_factory=bytearray, repr=False)
    received_at_s: float = field(default_factory=time.monotonic)
    complete: Signal = field(default_factory=Signal, repr=False)
    answered: Signal = field(default_factory=Signal, repr=False)
    disconnected: Signal = field(default_factory=Signal, repr=False)

    @property
    def body(self) -> bytes:
        """The body without its framing, as far as it has come."""
        return bytes(self.received_body)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def header(self, name: str) -> bytes | None:
        """The first value of a header field, found without regard to case."""
        wanted = name.lower().encode("latin-1")
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Upstream(Protocol):
    """What a connection needs of the upstream that it belongs to."""

    def arrived(self, request: RecordedRequest) -> None:
        """A request's head is there."""

    def grew(self, request: RecordedRequest, part: bytes) -> None:
        """A request's body goes on."""

    def completed(self, request: RecordedRequest) -> None:
        """A request is whole."""

    def choose(self, request: RecordedRequest) -> Answer:
        """The answer to a request."""

    def failed(self, error: Exception) -> None:
        """There is a mistake in the script."""


class Connection:
    """One accepted socket: reads requests, and answers them one after the other."""

    def __init__(self, upstream: Upstream, peer: socket.socket, index: int) -> None:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream = upstream
        self._peer = peer
        self._index = index
        self._unread = bytearray()
        self._raw = bytearray()
        self._more = asyncio.Event()
        self._gone = asyncio.Event()
        self._requests: list[RecordedRequest] = []

    async def serve(self) -> None:
        reading = asyncio.create_task(self._read_to_the_end())
        try:
            while True:
                request = await self._request()
                answer = self._choose(request)
                if not await self._say(answer, request) or answer.closes:
                    return
        except ConnectionError:
            self._peer_left()
        finally:
            # The reader must let go of the descriptor before it is closed, or the loop would watch its next owner.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read_to_the_end(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._peer, 262_144):
                self._unread += data
                self._more.set()
        self._peer_left()

    def _peer_left(self) -> None:
        self._gone.set()
        self._more.set()
        for request in self._requests:
            request.disconnected.set()

    def _choose(self, request: RecordedRequest) -> Answer:
        try:
            return self._upstream.choose(request)
        except Exception as error:
            self._upstream.failed(error)
            return Answer(str(error).encode(), 500)

    async def _say(self, answer: Answer, request: RecordedRequest) -> bool:
        """Play an answer; False if the connection is over."""
        for piece in answer.wire(request.method):
            match piece:
                case bytes():
                    await self._send(piece)
                case Gate():
                    await self._while_peer_stays(piece.pass_through())
                case Delay(seconds):
                    await self._while_peer_stays(asyncio.sleep(seconds))
                case Fault.SILENCE:
                    await self._while_peer_stays(asyncio.Event().wait())
                case Fault.CLOSE:
                    return False
                case Fault.RESET:
                    # A close that lingers for no time at all is a reset (socket(7), SO_LINGER).
                    self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return False
        request.answered.set()
        return True

    async def _while_peer_stays(self, waiting: Coroutine[Any, Any, object]) -> None:
        tasks = asyncio.create_task(waiting), asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if self._gone.is_set():
            raise EOFError

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._peer, data)

    async def _request(self) -> RecordedRequest:
        self._raw = bytearray()
        head = (await self._take_until(b"\r\n\r\n"))[:-4]
        request_line, *lines = head.split(b"\r\n")
        method, _, rest = request_line.partition(b" ")
        fields = [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
        request = RecordedRequest(
            method.decode("latin-1"), rest.rpartition(b" ")[0], fields, self._index, len(self._requests), self._raw
        )
        self._requests.append(request)
        self._upstream.arrived(request)
        if request.header("expect") == b"100-continue":
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self._read_body(request)
        self._upstream.completed(request)
        return request

    async def _read_body(self, request: RecordedRequest) -> None:
        if request.header("transfer-encoding") is not None:
            while size := int((await self._take_until(b"\r\n")).partition(b";")[0], 16):
                self._upstream.grew(request, await self._take(size))
                await self._take(2)
            while await self._take_until(b"\r\n") != b"\r\n":
                pass  # trailers stay in `raw`
            return
        left = int(request.header("content-length") or 0)
        while left:
            part = await self._take_some(left)
            left -= len(part)
            self._upstream.grew(request, part)

    async def _take_until(self, end: bytes) -> bytes:
        while (found := self._unread.find(end)) < 0:
            await self._wait_for_more()
        return await self._take(found + len(end))

    async def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            await self._wait_for_more()
        return await self._take_some(size)

    async def _take_some(self, limit: int) -> bytes:
        while not self._unread:
            await self._wait_for_more()
        taken = bytes(self._unread[:limit])
        del self._unread[:limit]
        self._raw += taken
        return taken

    async def _wait_for_more(self) -> None:
        if self._gone.is_set():
            raise EOFError
        self._more.clear()
        await self._more.wait()
