import asyncio
import base64
import socket
import ssl
from typing import Any

import httpx
import pytest

from ccr_asgi.transport import Http11Transport
from tests.support.raw_server import Peer, RawServer
from tests.support.skipping_loop import skip
from tests.transport import CERTIFICATE, body_of, exchange, request
from tests.transport.test_connection import numbered

USER = "proxy-user:p%40ss"
AUTHORIZATION = (b"Proxy-Authorization", b"Basic " + base64.b64encode(b"proxy-user:p@ss"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# The network


async def test_refused(transport: Http11Transport) -> None:
    port = free_port()
    with pytest.raises(httpx.ConnectError, match=f"127.0.0.1:{port} could not be connected to"):
        await transport.handle_async_request(request("GET", f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("url", ["http://nowhere.invalid", "http://" + "a" * 70 + ".example"])
async def test_a_name_that_is_none(transport: Http11Transport, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def resolve(host: str, *args: object, **kwargs: object) -> list[Any]:
        return getaddrinfo(host)

    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        monkeypatch.setattr(loop, "getaddrinfo", resolve)
    with pytest.raises(httpx.ConnectError):
        await transport.handle_async_request(request("GET", url))


@pytest.mark.parametrize("through_proxy", [False, True])
@pytest.mark.asyncio(loop_factories=["asyncio"])  # whose clock can be moved
async def test_the_time_limit_covers_tls_and_proxy(through_proxy: bool) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def silent(peer: Peer) -> None:
        reached.set()
        await peer.gone()
        gone.set()

    async with RawServer(silent) as server:
        proxy = server.url if through_proxy else None
        transport = Http11Transport(connect_timeout_s=60.0, proxy=proxy)
        asking = asyncio.create_task(transport.handle_async_request(request("GET", f"https://127.0.0.1:{server.port}")))
        await reached.wait()
        await skip(61.0)
        with pytest.raises(httpx.ConnectTimeout):
            await asking
        await gone.wait()


# TLS


async def test_tls_with_a_certificate_authority_of_ones_own(
    transport: Http11Transport, server_tls: ssl.SSLContext
) -> None:
    server_tls.set_alpn_protocols(["h2", "http/1.1"])
    chosen = []

    async def script(peer: Peer) -> None:
        chosen.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await numbered(peer)

    async with RawServer(script, tls=server_tls) as server:
        for _ in range(2):
            _, body = await exchange(transport, request("POST", server.url, [], b"x" * 300_000))
            assert body == b"0"
        assert chosen == ["http/1.1"]
        await transport.aclose()


async def test_tls_streams_and_stops_for_a_slow_reader(transport: Http11Transport, server_tls: ssl.SSLContext) -> None:
    size = 20_000_000
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        sent = await peer.request()
        assert len(sent.body) == 3_000_000
        await peer.answer(b"x" * size)
        await peer.gone()
        gone.set()

    async with RawServer(script, tls=server_tls) as server:
        for read_all in (True, False):
            sent = request("POST", server.url, [], b"x" * 3_000_000)
            stream = body_of(await transport.handle_async_request(sent))
            got = 0
            async for chunk in stream:
                got += len(chunk)
                await asyncio.sleep(0.001)
                if not read_all:
                    break
            await stream.aclose()
            assert (got == size) is read_all
            if read_all:
                await transport.aclose()
            async with asyncio.timeout(20):
                await gone.wait()
            gone.clear()


async def test_an_unknown_certificate_is_refused(server_tls: ssl.SSLContext) -> None:
    async with RawServer(numbered, tls=server_tls) as server:
        transport = Http11Transport()
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            await transport.handle_async_request(request("GET", server.url))


async def test_a_certificate_for_another_name_is_refused(
    transport: Http11Transport, server_tls: ssl.SSLContext
) -> None:
    async with RawServer(numbered, tls=server_tls) as server:
        url = server.url.replace("localhost", "127.0.0.2")
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(request("GET", url))


async def test_a_given_tls_context_is_used(server_tls: ssl.SSLContext) -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    transport = Http11Transport(ssl_context=context)
    async with RawServer(numbered, tls=server_tls) as server:
        assert (await exchange(transport, request("GET", server.url)))[1] == b"0"
        await transport.aclose()


# Through a proxy


async def test_plain_requests_go_to_the_proxy_in_absolute_form() -> None:
    seen = []

    async def proxy(peer: Peer) -> None:
        for _ in range(2):
            seen.append(await peer.request())
            await peer.answer(b"from the proxy")

    async with RawServer(proxy) as server:
        transport = Http11Transport(proxy=server.url.replace("http://", f"http://{USER}@"))
        for _ in range(2):
            sent = request("GET", "http://api.example:81/", [(b"x", b"1")], target=b"/a%2Fb?")
            assert (await exchange(transport, sent))[1] == b"from the proxy"
        assert seen[0].line == b"GET http://api.example:81/a%2Fb? HTTP/1.1"
        assert seen[0].fields == [(b"Host", b"api.example:81"), (b"x", b"1"), AUTHORIZATION]
        assert seen[1] == seen[0]
        await transport.aclose()


async def test_encrypted_requests_go_through_a_tunnel(server_tls: ssl.SSLContext) -> None:
    heads = []
    inside = []

    async def script(peer: Peer) -> None:
        inside.append(await peer.request())
        await peer.answer(b"from inside")

    async with RawServer(script, tls=server_tls) as origin:

        async def tunnel(peer: Peer) -> None:
            heads.append(await peer.head())
            await peer.send(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
            try:
                await asyncio.gather(_pump(peer.reader, writer), _pump(reader, peer.writer))
            finally:
                writer.transport.abort()

        async with RawServer(tunnel) as server:
            transport = Http11Transport(proxy=server.url.replace("http://", f"http://{USER}@"), ca_file=CERTIFICATE)
            assert (await exchange(transport, request("POST", origin.url, [], b"hello")))[1] == b"from inside"
            await transport.aclose()
        target = b"localhost:%d" % origin.port
        assert heads == [(b"CONNECT " + target + b" HTTP/1.1", [(b"Host", target), AUTHORIZATION])]
        assert inside[0].fields == [(b"Host", target), (b"Content-Length", b"5")]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200", b"x" * 100_000],
)
async def test_a_proxy_that_refuses(answer: bytes) -> None:
    async def proxy(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        peer.close()

    async with RawServer(proxy) as server:
        transport = Http11Transport(proxy=server.url.replace("http://", f"http://{USER}@"))
        with pytest.raises(httpx.ConnectError, match="the proxy") as caught:
            await transport.handle_async_request(request("GET", "https://api.example"))
        assert not any(secret in str(caught.value) for secret in ("proxy-user", "p@ss", "p%40ss"))


@pytest.mark.parametrize("proxy", ["https://u:secret@proxy.example", "socks5://proxy.example", "proxy.example", ""])
def test_other_proxies_are_refused_at_once(proxy: str) -> None:
    with pytest.raises(ValueError, match="http://") as caught:
        Http11Transport(proxy=proxy)
    assert "secret" not in str(caught.value)
