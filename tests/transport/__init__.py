"""Tests of ccr_asgi/transport, all of them over real sockets; and the few things they share."""

from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import httpx

from ccr_asgi.errors import RawHeaders
from ccr_asgi.transport import Http11Transport
from ccr_asgi.transport.answer import Answer

CERTIFICATE = str(Path(__file__).parent.parent / "fixtures" / "tls" / "localhost.pem")


def request(
    method: str,
    url: str,
    headers: RawHeaders = (),
    body: bytes | AsyncIterable[bytes] = b"",
    target: bytes | None = None,
) -> httpx.Request:
    """A request as the forwarder makes it."""
    stream = httpx.ByteStream(body) if isinstance(body, bytes) else _Streamed(body)
    extensions = {} if target is None else {"target": target}
    return httpx.Request(method, url, headers=list(headers), stream=stream, extensions=extensions)


async def exchange(transport: Http11Transport, sent: httpx.Request) -> tuple[httpx.Response, bytes]:
    """Send and read all."""
    response = await transport.handle_async_request(sent)
    stream = body_of(response)
    try:
        return response, b"".join([chunk async for chunk in stream])
    finally:
        await stream.aclose()


def body_of(response: httpx.Response) -> Answer:
    """The response's stream, for a reader with types."""
    assert isinstance(response.stream, Answer)
    return response.stream


class _Streamed(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._chunks)
