import asyncio
import threading

import httpx
import pytest

from ccr_asgi.transport import Http11Transport
from tests.support.raw_server import Peer, RawServer
from tests.transport import body_of, exchange, request
from tests.transport.test_connection import numbered

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_aclose_closes_busy_and_resting_connections_and_a_later_request_opens_another() -> None:
    gone = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        sent = await peer.request()
        await (peer.answer() if sent.line.startswith(b"GET /rest") else peer.send(CHUNKED))
        await peer.gone()
        gone.release()

    transport = Http11Transport()
    async with RawServer(script) as server:
        busy = await transport.handle_async_request(request("GET", server.url + "/busy"))
        await exchange(transport, request("GET", server.url + "/rest"))
        await transport.aclose()
        await gone.acquire()
        await gone.acquire()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(body_of(busy))
        await exchange(transport, request("GET", server.url + "/rest"))
        assert server.connections == 3
        await transport.aclose()


async def test_aclose_reaches_a_connection_that_is_only_coming_about() -> None:
    transport = Http11Transport()
    async with RawServer(numbered) as server:
        asking = asyncio.create_task(transport.handle_async_request(request("GET", server.url)))
        await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(httpx.ReadError):
            await asking


async def test_aclose_without_a_request() -> None:
    await Http11Transport().aclose()


def test_each_event_loop_has_connections_of_its_own() -> None:
    transport = Http11Transport()

    async def serve_and_ask() -> None:
        async with RawServer(numbered) as server:
            for _ in range(2):
                _, body = await exchange(transport, request("GET", server.url))
                assert body == b"0"
            await transport.aclose()

    async def ask_without_closing() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        async with RawServer(script) as server:
            await exchange(transport, request("GET", server.url))
            await asyncio.sleep(0.01)

    for _ in range(2):
        asyncio.run(serve_and_ask())
        asyncio.run(ask_without_closing())


def test_aclose_reaches_the_loops_of_other_threads() -> None:
    transport = Http11Transport()
    resting, gone = threading.Event(), threading.Event()

    async def serve_and_wait() -> None:
        ended = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.answer()
            await peer.gone()
            ended.set()

        async with RawServer(script) as server:
            await exchange(transport, request("GET", server.url))
            resting.set()
            await ended.wait()
        gone.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve_and_wait()))
    thread.start()
    assert resting.wait(10)
    asyncio.run(transport.aclose())
    assert gone.wait(10)
    thread.join()


async def test_the_environment_and_netrc_are_not_asked(
    transport: Http11Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w") as file:  # noqa: ASYNC230 - a file of one line, in a test
        file.write("machine 127.0.0.1 login u password p\n")
    monkeypatch.setenv("NETRC", netrc)
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.answer()

    async with RawServer(script) as server:
        await exchange(transport, request("GET", server.url))
        assert seen[0].fields == [(b"Host", b"127.0.0.1:%d" % server.port)]
