import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from ccr_asgi.transport import Http11Transport
from ccr_asgi.transport.answer import Answer
from tests.support.raw_server import Peer, RawServer
from tests.transport import body_of, exchange, request

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def numbered(peer: Peer) -> None:
    """Answers each request with the number of its connection."""
    try:
        while True:
            await peer.request()
            await peer.answer(b"%d" % peer.number)
    except asyncio.IncompleteReadError:
        pass


async def ask(transport: Http11Transport, server: RawServer, method: str = "GET", body: bytes = b"") -> bytes:
    _, answer = await exchange(transport, request(method, server.url, [], body))
    return answer


async def test_a_connection_is_kept_for_the_next_request(transport: Http11Transport) -> None:
    async with RawServer(numbered) as server:
        assert [await ask(transport, server, "POST", b"x" * size) for size in (1, 200_000, 0)] == [b"0"] * 3


async def test_concurrent_requests_have_connections_of_their_own(transport: Http11Transport) -> None:
    arrived = 0
    all_there = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal arrived
        await peer.request()
        arrived += 1
        if arrived == 20:
            all_there.set()
        await all_there.wait()
        await peer.answer(b"%d" % peer.number)

    async with RawServer(script) as server:
        assert len(set(await asyncio.gather(*[ask(transport, server) for _ in range(20)]))) == 20


async def test_a_resting_connection_is_closed_in_time() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.gone()
        gone.set()

    transport = Http11Transport(keepalive_s=0.05)
    async with RawServer(script) as server:
        await ask(transport, server)
        await gone.wait()
        await ask(transport, server)
        assert server.connections == 2
        await transport.aclose()


async def test_a_connection_closed_while_it_rested_is_not_used(transport: Http11Transport) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"%d" % peer.number)
        await asyncio.sleep(0)
        peer.close()
        await peer.writer.wait_closed()
        closed.set()

    async with RawServer(script) as server:
        for number in (b"0", b"1", b"2"):
            assert await ask(transport, server) == number
            await closed.wait()
            closed.clear()
            await asyncio.sleep(0.01)
            [pool] = transport._pools.values()
            assert not any(pool.resting.values())


async def test_a_connection_that_is_just_being_closed_is_not_used(transport: Http11Transport) -> None:
    async with RawServer(numbered) as server:
        assert await ask(transport, server) == b"0"
        [pool] = transport._pools.values()
        for connection in pool.open:
            connection.transport.abort()
        assert await ask(transport, server) == b"1"


async def test_a_connection_that_was_lost_before_the_request_raises_at_once(transport: Http11Transport) -> None:
    async with RawServer(numbered) as server:
        await ask(transport, server)
        [pool] = transport._pools.values()
        [connection] = pool.open
        connection.transport.abort()
        await asyncio.sleep(0.01)
        answer = Answer(connection, "GET", idle_timeout_s=60)
        answer.send(b"GET / HTTP/1.1\r\n\r\n", timeout_s=60)
        with pytest.raises(httpx.ReadError):
            await answer.begun()


async def test_writable_means_that_the_kernel_has_taken_all(transport: Http11Transport) -> None:
    async with RawServer(numbered) as server:
        await ask(transport, server)
        [pool] = transport._pools.values()
        [connection] = pool.open
        while connection.writable.is_set():
            connection.transport.write(b"x" * 10_000)
        assert 0 < connection.transport.get_write_buffer_size() <= 10_000


@pytest.mark.parametrize("reset", [False, True])
async def test_a_stale_connection_raises_what_may_be_sent_again(transport: Http11Transport, reset: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"%d" % peer.number)
        if peer.number == 0:
            await peer.request()  # the close crosses the next request on its way
            end = peer.reset if reset else peer.close
            end()

    async with RawServer(script) as server:
        assert await ask(transport, server) == b"0"
        with pytest.raises(httpx.ReadError):
            await ask(transport, server, "POST", b"x")
        assert server.connections == 1  # it was not sent again by itself
        assert await ask(transport, server, "POST", b"x") == b"1"


async def test_a_get_is_not_resent_either(transport: Http11Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.close()

    async with RawServer(script) as server:
        with pytest.raises(httpx.ReadError):
            await ask(transport, server)
        assert server.connections == 1


async def test_bytes_that_nobody_asked_for_are_no_answer(transport: Http11Transport) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"%d" % peer.number)
        if peer.number == 0:
            await asyncio.sleep(0.01)
            await peer.answer(b"poison")
            await peer.gone()
            gone.set()

    async with RawServer(script) as server:
        assert await ask(transport, server) == b"0"
        await gone.wait()
        assert await ask(transport, server) == b"1"


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n", b"hi"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhigarbage", b"hi"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nhi", b""),
        ("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        ("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi and more", b"hi"),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    ],
)
async def test_after_these_answers_a_connection_is_not_kept(
    transport: Http11Transport, method: str, answer: bytes, body: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with RawServer(script) as server:
        for _ in range(2):
            assert await ask(transport, server, method) == body
        assert server.connections == 2


@pytest.mark.parametrize("goodbye", ["close", "reset", "speak"])
async def test_a_server_that_never_reads_a_request(transport: Http11Transport, goodbye: str) -> None:
    async def script(peer: Peer) -> None:
        if goodbye == "speak":
            await peer.send(b"220 smtp.example ESMTP\r\n")
            await peer.gone()
        end = peer.reset if goodbye == "reset" else peer.close
        end()

    async with RawServer(script) as server:
        for _ in range(20):
            with pytest.raises(httpx.TransportError) as caught:
                await ask(transport, server)
            assert not isinstance(caught.value, httpx.TimeoutException)


async def test_aclose_of_an_unread_answer_ends_the_upstream_request(transport: Http11Transport) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\nx\r\n")
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:
        response = await transport.handle_async_request(request("GET", server.url))
        await anext(body_of(response))
        await body_of(response).aclose()
        async with asyncio.timeout(20):
            await gone.wait()


@pytest.mark.parametrize("reading", [True, False])
async def test_cancelling_the_wait_for_the_head_ends_the_upstream_request(
    transport: Http11Transport, reading: bool
) -> None:
    size = 40_000_000
    arrived, gone = asyncio.Event(), asyncio.Event()
    got = b""

    async def script(peer: Peer) -> None:
        nonlocal got
        await (peer.request() if reading else peer.head())
        arrived.set()
        if not reading:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # streams wrap a read transport
            await go_on.wait()
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        got = await peer.gone()
        gone.set()

    go_on = asyncio.Event()
    async with RawServer(script) as server:
        body = b"x" if reading else b"x" * size
        asking = asyncio.create_task(ask(transport, server, "POST", body))
        await arrived.wait()
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0.05)
        [pool] = transport._pools.values()
        assert not pool.open  # though the upstream has not read what was sent before
        go_on.set()
        async with asyncio.timeout(20):
            await gone.wait()
        assert len(got) < size  # what was still to be sent was dropped, not flushed


async def test_a_body_stream_is_closed_when_its_request_is_cancelled(transport: Http11Transport) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"half"
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def script(peer: Peer) -> None:
        await peer.gone()

    async with RawServer(script) as server:
        asking = asyncio.create_task(transport.handle_async_request(request("POST", server.url, [], body())))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await closed.wait()


async def test_a_finished_answer_leaves_no_reader_waiting_and_aclose_keeps_its_connection(
    transport: Http11Transport,
) -> None:
    async with RawServer(numbered) as server:
        response = await transport.handle_async_request(request("GET", server.url))
        await asyncio.sleep(0.01)
        await body_of(response).aclose()  # complete, though not read
        assert await ask(transport, server) == b"0"
