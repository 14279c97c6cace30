import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from ccr_asgi.transport import Http11Transport
from ccr_asgi.transport.answer import HIGH_WATER_BYTES, MAX_HEAD_BYTES, Answer
from tests.support.raw_server import Peer, RawServer
from tests.support.skipping_loop import skip
from tests.transport import body_of, exchange, request

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SECRET = b"sk-ant-invented"
IDLE_S = 300.0
"""What `Http11Transport` waits for an upstream unless told otherwise."""
skipping = pytest.mark.asyncio(loop_factories=["asyncio"])
"""For tests that `skip` time: only that loop's clock can be moved."""


def answering(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A script that gives one answer to each request of a connection, and closes it after the last."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        peer.close()

    return script


async def upstream_waits(stream: Answer) -> None:
    """Return when the upstream has been made to wait for the reader."""
    while stream._connection.reading:  # noqa: ASYNC110 -- it announces nothing
        await asyncio.sleep(0)


@pytest.fixture
async def impatient() -> AsyncIterator[Http11Transport]:
    transport = Http11Transport(idle_timeout_s=0.15, write_timeout_s=0.15)
    yield transport
    await transport.aclose()


# What is handed out


async def test_the_head_is_handed_out_as_it_came(transport: Http11Transport) -> None:
    head = (
        b"HTTP/1.1 529 Site is overloaded\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty:\r\n"
        b"X-Spaces: \t a  b \t\r\nX-Latin: caf\xe9\r\nSet-Cookie: a=1\r\n\r\n"
    )
    async with RawServer(answering(head)) as server:
        response, body = await exchange(transport, request("GET", server.url))
        assert response.status_code == 529
        assert response.extensions == {"http_version": b"HTTP/1.1", "reason_phrase": b"Site is overloaded"}
        assert response.headers.raw == [
            (b"Content-Length", b"0"),
            (b"Set-Cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"X-Empty", b""),
            (b"X-Spaces", b"a  b"),
            (b"X-Latin", b"caf\xe9"),
            (b"Set-Cookie", b"a=1"),
        ]
        assert body == b""


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (CHUNKED + b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", b"no"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_bodies_of_every_framing(transport: Http11Transport, answer: bytes, body: bytes, bytewise: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for at in range(0, len(answer), 1 if bytewise else len(answer)):
            await peer.send(answer[at : at + 1] if bytewise else answer)
            await asyncio.sleep(0)
        peer.close()

    async with RawServer(script) as server:
        response, got = await exchange(transport, request("POST", server.url, [], b"x"))
        assert got == body
        assert all(name.lower() != b"trailer" for name, _ in response.headers.raw)


async def test_nothing_is_decompressed_followed_or_remembered(transport: Http11Transport) -> None:
    packed = gzip.compress(b"hello")
    redirect = (
        b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nSet-Cookie: id=1; Path=/\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(packed), packed)
    )
    seen = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            seen.append(await peer.request())
            await peer.send(redirect)

    async with RawServer(script) as server:
        for _ in range(2):
            response, body = await exchange(transport, request("GET", server.url + "/here"))
            assert (response.status_code, body) == (307, packed)
    assert [(one.line, one.fields[1:]) for one in seen] == [(b"GET /here HTTP/1.1", [])] * 2


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("HEAD", CHUNKED),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_with_their_head(transport: Http11Transport, method: str, head: bytes) -> None:
    async with RawServer(answering(head, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")) as server:
        _, body = await exchange(transport, request(method, server.url))
        assert body == b""
        _, body = await exchange(transport, request("GET", server.url))
        assert body == b"hi"
        assert server.connections == 1


async def test_interim_answers_are_passed_over(transport: Http11Transport) -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    )
    async with RawServer(answering(answer)) as server:
        response, body = await exchange(transport, request("GET", server.url))
        assert (response.status_code, response.extensions["reason_phrase"]) == (200, b"OK")
        assert response.headers.raw == [(b"Content-Length", b"2")]
        assert body == b"hi"


async def test_large_heads_are_taken_but_not_endless_ones(transport: Http11Transport) -> None:
    many = b"".join(b"X-%d: %b\r\n" % (number, b"v" * 500) for number in range(400))
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Long: " + b"l" * 100_000 + b"\r\n" + many + b"\r\n"
    async with RawServer(answering(large)) as server:
        response, _ = await exchange(transport, request("GET", server.url))
        assert len(response.headers.raw) == 402
        assert response.headers["x-long"] == "l" * 100_000

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while not peer.writer.is_closing():
            peer.writer.write(b"X: " + b"y" * 10_000 + b"\r\n")
            await asyncio.sleep(0)

    async with RawServer(endless) as server:
        with pytest.raises(httpx.RemoteProtocolError, match=str(MAX_HEAD_BYTES)):
            await transport.handle_async_request(request("GET", server.url))


# Streams


async def test_each_event_comes_out_alone_and_at_once(transport: Http11Transport) -> None:
    go_on = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for number in range(5):
            await go_on.acquire()  # the next event is written only when the one before was read
            await peer.send(b"8\r\ndata: %d\n\r\n" % number)
        await go_on.acquire()
        await peer.send(b"0\r\n\r\n")

    async with RawServer(script) as server:
        response = await transport.handle_async_request(request("GET", server.url))
        go_on.release()
        events = []
        async for chunk in body_of(response):
            events.append(chunk)
            go_on.release()
        assert events == [b"data: %d\n" % number for number in range(5)]


async def test_a_cancelled_read_loses_nothing(transport: Http11Transport) -> None:
    go_on = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for number in range(50):
            await go_on.acquire()
            await peer.send(b"2\r\n%02d\r\n" % number)
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        body = b""
        for turn in range(50):
            reading = asyncio.ensure_future(anext(stream))
            for _ in range(turn % 10 + 1):  # cancelled before, in and after the loop's round in which the bytes come
                await asyncio.sleep(0)
                if turn % 2:
                    go_on.release()
            if not turn % 2:
                go_on.release()
            reading.cancel()
            body += b"".join(
                got for got in await asyncio.gather(reading, return_exceptions=True) if isinstance(got, bytes)
            )
        async for chunk in stream:
            body += chunk
        assert body == b"".join(b"%02d" % number for number in range(50))


async def test_a_reader_that_stops_makes_the_upstream_stop(transport: Http11Transport) -> None:
    total = 64 * 1024 * 1024
    piece = b"x" * 65536
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while written < total:
            await peer.send(piece)
            written += len(piece)

    async with RawServer(script) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        got = len(await anext(stream))
        before = -1
        while before != written:  # until the writer stands still: at once if it is stopped, else at the end
            before = written
            await asyncio.sleep(0.2)
        assert written < total / 2
        held = len(await anext(stream))
        assert held < HIGH_WATER_BYTES * 3
        got += held
        async for chunk in stream:
            got += len(chunk)
        assert got == total


async def test_many_stalled_streams_block_nobody(transport: Http11Transport) -> None:
    async def script(peer: Peer) -> None:
        sent = await peer.request()
        if sent.line.startswith(b"GET /stall"):
            await peer.send(CHUNKED)
            await peer.gone()
        else:
            await peer.answer(b"alive")

    async with RawServer(script) as server:
        stalled = [await transport.handle_async_request(request("GET", server.url + "/stall")) for _ in range(150)]
        _, body = await exchange(transport, request("GET", server.url + "/live"))
        assert body == b"alive"
        for response in stalled:
            await body_of(response).aclose()


# Silence


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200"])
async def test_silence_before_the_head(impatient: Http11Transport, before: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(before)
        await peer.gone()

    async with RawServer(script) as server:
        with pytest.raises(httpx.ReadTimeout):
            await impatient.handle_async_request(request("GET", server.url))


@skipping
async def test_silence_in_the_body_comes_after_what_came(transport: Http11Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        assert await anext(stream) == b"hello"
        await skip(IDLE_S + 10)
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                await anext(stream)


@skipping
async def test_every_byte_starts_the_clock_anew(transport: Http11Transport) -> None:
    took: asyncio.Queue[None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(10):
            await peer.send(b"1\r\nx\r\n")
            await took.get()
        await peer.send(b"0\r\n\r\n")

    async with RawServer(script) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        for _ in range(10):
            assert await anext(stream) == b"x"
            await skip(IDLE_S / 2)
            took.put_nowait(None)
        assert [chunk async for chunk in stream] == []


@skipping
async def test_the_clients_own_slowness_is_no_silence_of_the_upstream(transport: Http11Transport) -> None:
    size = 8 * 1024 * 1024

    async def script(peer: Peer) -> None:
        assert (await peer.request()).body == b"slow"
        await skip(IDLE_S / 2)
        await peer.answer(b"x" * size)

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"sl"
        await skip(IDLE_S + 10)
        yield b"ow"

    async with RawServer(script) as server:
        response = await transport.handle_async_request(request("POST", server.url, [], slow_body()))
        stream = body_of(response)
        got = len(await anext(stream))
        await upstream_waits(stream)
        await skip(IDLE_S + 10)
        async for chunk in stream:
            got += len(chunk)
        assert got == size


@skipping
async def test_after_a_pause_of_the_reader_the_upstream_has_all_its_time(transport: Http11Transport) -> None:
    go_on = asyncio.Event()
    more = b"x" * (HIGH_WATER_BYTES + 10_000)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"%x\r\n%b\r\n" % (len(more), more))
        await go_on.wait()
        await skip(IDLE_S * 3 / 4)
        await peer.send(b"0\r\n\r\n")

    async with RawServer(script) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        await upstream_waits(stream)
        await skip(IDLE_S + 10)  # checked here, when only the reader is waited for
        await skip(IDLE_S * 3 / 4)
        go_on.set()
        assert b"".join([chunk async for chunk in stream]) == more


async def test_an_upstream_that_stops_reading(impatient: Http11Transport) -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's streams wrap a read transport
        await asyncio.Event().wait()

    async with RawServer(script) as server:
        with pytest.raises(httpx.WriteTimeout):
            await impatient.handle_async_request(request("POST", server.url, [], b"x" * 40_000_000))


# Cut, reset, malformed


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("before", "error"),
    [
        (b"", httpx.ReadError),
        (b"H", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Len", httpx.RemoteProtocolError),
        (b"HTTP/1.1 100 Continue\r\n\r\n", httpx.RemoteProtocolError),
    ],
)
async def test_an_end_before_the_head(
    transport: Http11Transport, before: bytes, error: type[Exception], reset: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(before)
        await asyncio.sleep(0.05)  # a reset throws away what the client has not read yet
        end = peer.reset if reset else peer.close
        end()

    async with RawServer(script) as server:
        with pytest.raises(error) as caught:
            await transport.handle_async_request(request("POST", server.url, [(b"x-api-key", SECRET)], b"x"))
        assert type(caught.value) is error
        assert SECRET.decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "reset"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", True),
        (CHUNKED + b"9\r\n", False),
        (CHUNKED + b"9\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
    ],
)
async def test_a_cut_body_is_handed_out_and_then_raises(transport: Http11Transport, start: bytes, reset: bool) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start + b"data: 1\n\n")
        await asyncio.sleep(0.05)
        end = peer.reset if reset else peer.close
        end()
        gone.set()

    async with RawServer(script) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        await gone.wait()
        await asyncio.sleep(0.05)  # read only after the end: nothing may have been thrown away
        assert await anext(stream) == b"data: 1\n\n"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(stream)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 999 Odd\r\n\r\nhi",
    ],
)
async def test_malformed_heads(transport: Http11Transport, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with RawServer(script) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await transport.handle_async_request(request("GET", server.url))


async def test_a_malformed_chunk_ends_the_body_with_an_error(transport: Http11Transport) -> None:
    async with RawServer(answering(CHUNKED + b"3\r\nabc\r\nxyz\r\n")) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        assert await anext(stream) == b"abc"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(stream)


async def test_reading_after_aclose_is_no_clean_end(transport: Http11Transport) -> None:
    async with RawServer(answering(CHUNKED)) as server:
        stream = body_of(await transport.handle_async_request(request("GET", server.url)))
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(httpx.StreamClosed):
            await anext(stream)


# An answer before the request's end


@pytest.mark.parametrize("end", ["stay", "close", "reset"])
async def test_an_early_answer_is_read_while_the_upload_runs(transport: Http11Transport, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.answer(b"too large", b"413 Too Large")
        if end == "stay":
            await peer.gone()
        elif end == "reset":
            await asyncio.sleep(0.05)
            peer.reset()

    async with RawServer(script) as server:
        for _ in range(2):
            response, body = await exchange(transport, request("POST", server.url, [], b"x" * 30_000_000))
            assert (response.status_code, body) == (413, b"too large")
        assert server.connections == 2  # the rest of an upload must not be taken for the next request


async def test_an_answer_goes_on_when_the_upload_is_never_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's streams wrap a read transport
        await peer.send(CHUNKED)
        for _ in range(10):
            await asyncio.sleep(0.05)
            await peer.send(b"1\r\nx\r\n")
        await peer.send(b"0\r\n\r\n")
        await asyncio.Event().wait()

    transport = Http11Transport(write_timeout_s=0.1)
    async with RawServer(script) as server:
        _, body = await exchange(transport, request("POST", server.url, [], b"x" * 40_000_000))
        assert body == b"x" * 10
    await transport.aclose()
