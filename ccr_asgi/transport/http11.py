"""One request, one answer: httpx's transport interface over the parts beside this file."""

import asyncio
import ssl
from collections.abc import AsyncIterable
from typing import cast

import httpx

from ccr_asgi.transport.answer import PIECE_BYTES, Answer
from ccr_asgi.transport.connection import Origin, Pool
from ccr_asgi.transport.dial import Dialer
from ccr_asgi.transport.request import framed, request_head


class Http11Transport(httpx.AsyncBaseTransport):
    """Sends each request as it is given and hands out the answer as it arrives; one pool for each running event loop.

    Added to the request's header fields are only `Host` (first, from the URL) and the framing of a body, each unless
    given. `request.extensions["target"]` holds the exact request target if it is not to be taken from the URL. The
    response's stream yields what has arrived as soon as something has; its `__anext__` may be cancelled and called
    again with nothing lost. Whoever gets a response calls its stream's `aclose()`.

    What is raised is in the package's docstring.

    Args:
        connect_timeout_s: Seconds for name, connection, proxy and TLS together.
        write_timeout_s: Seconds without the upstream taking a byte of the request.
        idle_timeout_s: Seconds without a byte from the upstream, once the request has been sent.
        keepalive_s: Seconds that a connection may rest before it is closed.
        proxy: URL of an HTTP proxy (`http://user:password@host:port`). The environment is not asked.
        ca_file: PEM file of certificate authorities to trust beside the system's and certifi's.
        ssl_context: Used as it is, in place of all that.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        write_timeout_s: float = 30.0,
        idle_timeout_s: float = 300.0,
        keepalive_s: float = 5.0,
        proxy: str | None = None,
        ca_file: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._write_timeout_s = write_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._keepalive_s = keepalive_s
        self._dialer = Dialer(connect_timeout_s, proxy, ca_file, ssl_context)
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return once the answer's head is there."""
        origin = Origin.of(request.url)
        body = request.stream
        whole = b"".join(body) if isinstance(body, httpx.ByteStream) else None
        head, length = request_head(request, whole, self._dialer.absolute_form(request.url))
        pool = self._pool()
        connection = pool.take(origin) or await self._dialer.connect(origin, pool)
        answer = Answer(connection, request.method, self._idle_timeout_s)
        try:
            if whole is not None and length is not None and length <= PIECE_BYTES:
                answer.send(head + whole, self._write_timeout_s)
            else:
                answer.send(framed(head, cast(AsyncIterable[bytes], body), length), self._write_timeout_s)
            await answer.begun()
        except BaseException:
            await answer.aclose()
            raise
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": answer.reason}
        return httpx.Response(answer.status, headers=answer.headers, stream=answer, extensions=extensions)

    async def aclose(self) -> None:
        """Close every connection, busy ones too; those of other running loops are closed by their loop."""
        pools, self._pools = self._pools, {}
        for loop, pool in pools.items():
            if loop is asyncio.get_running_loop():
                pool.close()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pool.close)
        await asyncio.sleep(0)  # a loop closes an aborted socket on its next round

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        if (pool := self._pools.get(loop)) is None:
            self._pools = {known: its for known, its in self._pools.items() if not known.is_closed()}
            pool = self._pools[loop] = Pool(self._keepalive_s)
        return pool
