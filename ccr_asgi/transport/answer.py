"""One exchange on one connection: the request's bytes out, the answer's in, and a clock for silence."""

import asyncio
from collections.abc import AsyncIterator

import httptools
import httpx

from ccr_asgi.transport.connection import Connection

PIECE_BYTES = 64 * 1024
"""How much of a request is handed to the socket at once: asyncio moves what the kernel left over, again and again."""
HIGH_WATER_BYTES = 256 * 1024
"""How much of an answer may wait for its reader before the upstream is made to wait."""
LAST_STATUS = 599
"""Above it there are none (RFC 9110, section 15), and servers cannot send them on."""

MAX_HEAD_BYTES = 1024 * 1024
"""The largest head of an answer, interim answers included."""


class Answer(httpx.AsyncByteStream):
    """An answer as it arrives: once it has `begun()` its status, reason and headers, and its body as an iterator.

    It holds the connection until the body is complete or `aclose()` is called; then it hands it back. One task reads.

    Attributes:
        status: The status code; 0 until it has begun.
        reason: The reason phrase, as it came.
        headers: The fields in their order and spelling.
    """

    def __init__(self, connection: Connection, method: str, idle_timeout_s: float) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._peer = connection.origin.peer
        self._method = method
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._complete = False
        self._error: Exception | None = None
        self._keep_alive = False
        self._surplus = False
        self._head_bytes = 0
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._news: asyncio.Future[None] | None = None
        self._sent = False
        self._upload: asyncio.Task[None] | None = None
        self._idle_timeout_s = idle_timeout_s
        self._last_byte_at = self._loop.time()
        self._idle = self._loop.call_later(idle_timeout_s, self._check_silence)

    # For whoever sends the request and reads the answer

    def send(self, request: bytes | AsyncIterator[bytes], timeout_s: float) -> None:
        """Begin to write `request`, whole or in pieces; it goes on beside the reading: an answer may come early.

        Args:
            request: Head and body as they go over the wire; in pieces, each of which may be large, if it is not small.
            timeout_s: Seconds without the upstream taking a byte after which the exchange fails.
        """
        self._connection.reader = self
        if self._connection.transport.is_closing():
            self.end(None)
        elif isinstance(request, bytes):
            self._connection.transport.write(request)
            self._sent = True
        else:
            self._upload = self._loop.create_task(self._send(request, timeout_s))

    async def begun(self) -> None:
        """Return when the head is there; raises what the package's docstring lists."""
        while not self._begun:
            await self._wait()

    def __aiter__(self) -> "Answer":
        """The body's chunks; a read that was cancelled may be taken up again."""
        return self

    async def __anext__(self) -> bytes:
        """What has arrived of the body, as soon as something has; it never ends in silence before its end."""
        while not self._chunks:
            if self._complete:
                raise StopAsyncIteration
            await self._wait()
        chunks, self._chunks = self._chunks, []
        self._waiting_bytes = 0
        if self._error is None and not self._complete and not self._connection.reading:
            self._last_byte_at = self._loop.time()
            self._connection.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def aclose(self) -> None:
        """End the exchange at once, and the connection with it, unless the answer is complete already."""
        self.fail(httpx.StreamClosed())

    # For the connection

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._last_byte_at = self._loop.time()
        if not self._begun:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._surplus = True
            self.fail(httpx.RemoteProtocolError(f"{self._peer} does not speak HTTP/1.1: {error}"))
        if self._complete:
            self._finish()
        elif not self._begun and self._head_bytes > MAX_HEAD_BYTES:
            self.fail(httpx.RemoteProtocolError(f"{self._peer} sent a head of more than {MAX_HEAD_BYTES} bytes"))
        elif self._waiting_bytes > HIGH_WATER_BYTES:
            self._connection.pause_reading()
        self._tell()

    def end(self, error: Exception | None) -> None:
        """The connection is over: by `error`, or in an orderly way."""
        if error is None and self._begun and self._lasts_until_the_end():
            self._complete = True
            self._finish()
            self._tell()
        elif self._head_bytes == 0:
            self.fail(httpx.ReadError(f"{self._peer} closed the connection before it answered"))
        else:
            self.fail(httpx.RemoteProtocolError(f"{self._peer} closed the connection in the middle of its answer"))

    def fail(self, error: Exception) -> None:
        """Nothing more will come. What has come is still handed out; then `error` is raised."""
        if not self._complete and self._error is None:
            self._error = error
            self._release(reusable=False)
            self._tell()

    # For the parser (httptools)

    def on_message_begin(self) -> None:
        """A status line begins; there should be none after the answer."""
        self._surplus = self._complete

    def on_status(self, text: bytes) -> None:
        """A part of the reason phrase."""
        if not self._begun:
            self.reason += text

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field, of the head or a trailer; trailers are left out, as ASGI servers could not send them."""
        if not self._begun:
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head of the answer, of an interim answer, or of something that nobody asked for."""
        status = self._parser.get_status_code()
        if self._begun:
            return
        if status < 200:
            self.headers, self.reason = [], b""
            return
        if status > LAST_STATUS:
            self._surplus = True
            self.fail(httpx.RemoteProtocolError(f"{self._peer} answered with the status {status}"))
            return
        self.status = status
        self._begun = True
        self._keep_alive = self._parser.should_keep_alive()
        # The parser, which does not know the method, would wait for the body whose length the answer to HEAD tells.
        self._complete = self._method == "HEAD"

    def on_body(self, data: bytes) -> None:
        """Bytes of the body."""
        if self._complete:
            self._surplus = True
        else:
            self._chunks.append(data)
            self._waiting_bytes += len(data)

    def on_message_complete(self) -> None:
        """The end of the answer, or of an interim one."""
        self._complete = self._begun

    # Inside

    async def _send(self, request: AsyncIterator[bytes], timeout_s: float) -> None:
        try:
            async for piece in request:
                view = memoryview(piece)
                for start in range(0, len(view), PIECE_BYTES):
                    await self._write(view[start : start + PIECE_BYTES], timeout_s)
        except Exception as error:
            if not self._begun:  # an answer that has begun says more than why the rest was not sent
                self.fail(error)
        else:
            self._sent = True
            self._last_byte_at = self._loop.time()

    async def _write(self, piece: memoryview, timeout_s: float) -> None:
        self._connection.transport.write(piece)
        if not self._connection.writable.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._connection.writable.wait()
            except TimeoutError:
                raise httpx.WriteTimeout(f"{self._peer} stopped reading the request") from None

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news = self._loop.create_future()
        await self._news

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _lasts_until_the_end(self) -> bool:
        """Whether only the connection's end can end the body (RFC 9112, section 6.3, rules 4 and 8)."""
        fields = [(name.lower(), value) for name, value in self.headers]
        if codings := [value for name, value in fields if name == b"transfer-encoding"]:
            return not codings[-1].lower().endswith(b"chunked")
        return all(name != b"content-length" for name, _ in fields)

    def _finish(self) -> None:
        written = self._sent and self._connection.writable.is_set()
        self._release(reusable=written and self._keep_alive and not self._surplus)

    def _release(self, *, reusable: bool) -> None:
        self._idle.cancel()
        if self._upload is not None:
            self._upload.cancel()
        self._connection.release(reusable=reusable)

    def _check_silence(self) -> None:
        uploading = self._upload is not None and not self._upload.done()
        if uploading or not self._connection.reading:
            self._last_byte_at = self._loop.time()  # it is not the upstream that is waited for
        left_s = self._last_byte_at + self._idle_timeout_s - self._loop.time()
        if left_s > 0:
            self._idle = self._loop.call_later(left_s, self._check_silence)
        else:
            self.fail(httpx.ReadTimeout(f"{self._peer} was silent for {self._idle_timeout_s:g} s"))
