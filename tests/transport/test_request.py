import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from ccr_asgi.errors import RawHeaders
from ccr_asgi.transport import Http11Transport
from ccr_asgi.transport.connection import Origin
from ccr_asgi.transport.request import request_head
from tests.support.raw_server import Peer, RawRequest, RawServer
from tests.transport import exchange, request


async def received(transport: Http11Transport, sent_to: httpx.Request, server: "Recorder") -> RawRequest:
    response, _ = await exchange(transport, sent_to)
    assert response.status_code == 200
    return server.requests[-1]


class Recorder(RawServer):
    def __init__(self) -> None:
        super().__init__(self._answer_each)
        self.requests: list[RawRequest] = []
        self.leftovers: list[bytes] = []

    async def _answer_each(self, peer: Peer) -> None:
        try:
            while True:
                self.requests.append(await peer.request())
                await peer.answer(b"ok")
        except asyncio.IncompleteReadError as error:
            self.leftovers.append(error.partial)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/messages?beta=true",
        b"/a%2Fb/%7Ec/%41",
        b"/lone?",
        b"//two//slashes",
        b"/same?a=1&a=2&b&c=",
        b"/dots/../%2e%2e/x/./",
        b"/odd?q=a+b%20c;d|e\"<>{}'[]^`\\#f",
        b"/caf\xc3\xa9",
        b"*",
    ],
)
async def test_the_target_is_sent_as_given(transport: Http11Transport, target: bytes) -> None:
    async with Recorder() as server:
        seen = await received(transport, request("POST", server.url + "/unused", target=target), server)
        assert seen.line == b"POST " + target + b" HTTP/1.1"


async def test_without_a_target_the_url_gives_it(transport: Http11Transport) -> None:
    async with Recorder() as server:
        seen = await received(transport, request("GET", server.url + "/v1/models?limit=20"), server)
        assert seen.line == b"GET /v1/models?limit=20 HTTP/1.1"


async def test_fields_are_sent_in_order_and_spelling_with_nothing_but_host_added(transport: Http11Transport) -> None:
    fields = [
        (b"x-B", b"2"),
        (b"X-a", b"1"),
        (b"x-A", b"1, 2"),
        (b"X-a", b"1"),
        (b"anthropic-beta", b""),
        (b"x-latin", b"caf\xe9"),
        (b"x-tab", b"a\tb"),
        (b"Cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]
    async with Recorder() as server:
        seen = await received(transport, request("GET", server.url, fields), server)
        assert seen.fields == [(b"Host", b"127.0.0.1:%d" % server.port), *fields]


async def test_a_given_host_stays_where_and_as_it_is(transport: Http11Transport) -> None:
    fields = [(b"x-first", b"1"), (b"hOst", b"api.anthropic.com")]
    async with Recorder() as server:
        seen = await received(transport, request("GET", server.url, fields), server)
        assert seen.fields == fields


@pytest.mark.parametrize(
    ("method", "given", "body", "added"),
    [
        ("GET", [], b"", []),
        ("HEAD", [], b"", []),
        ("POST", [], b"", []),
        ("POST", [(b"content-length", b"0")], b"", []),
        ("POST", [], b"hello", [(b"Content-Length", b"5")]),
        ("POST", [(b"content-length", b"5")], b"hello", []),
        ("POST", [(b"transfer-encoding", b"chunked")], b"hello", []),
        ("DELETE", [], b"hello", [(b"Content-Length", b"5")]),
    ],
)
async def test_framing_of_a_whole_body(
    transport: Http11Transport, method: str, given: RawHeaders, body: bytes, added: RawHeaders
) -> None:
    async with Recorder() as server:
        seen = await received(transport, request(method, server.url, given, body), server)
        assert seen.fields[1:] == [*given, *added]
        assert seen.body == body


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], [(b"Transfer-Encoding", b"chunked")]),
        ([(b"content-length", b"11")], []),
        ([(b"Transfer-Encoding", b"Chunked")], []),
    ],
)
async def test_framing_of_a_streamed_body(transport: Http11Transport, given: RawHeaders, added: RawHeaders) -> None:
    async with Recorder() as server:
        body = chunks(b"hello", b"", b" world")
        seen = await received(transport, request("POST", server.url, given, body), server)
        assert seen.fields[1:] == [*given, *added]
        assert seen.body == b"hello world"


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_536, 200_000, 5_000_003])
async def test_bodies_of_every_size_arrive_whole(transport: Http11Transport, size: int) -> None:
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    async with Recorder() as server:
        assert (await received(transport, request("POST", server.url, [], body), server)).body == body
        pieces = chunks(body[: size // 3], body[size // 3 :])
        assert (await received(transport, request("POST", server.url, [], pieces), server)).body == body
        assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "target", "fields", "body"),
    [
        ("GE T", b"/", [], b""),
        ("GET", b"/a b", [], b""),
        ("GET", b"/a\r\nX: y", [], b""),
        ("GET", b"/\x7f", [], b""),
        ("GET", b"", [], b""),
        ("GET", b"/", [(b"x", b"a\r\nY: z")], b""),
        ("GET", b"/", [(b"x", b"a\nY: z")], b""),
        ("GET", b"/", [(b"x", b"a\x00")], b""),
        ("GET", b"/", [(b"x\r\nY", b"z")], b""),
        ("GET", b"/", [(b"x ", b"z")], b""),
        ("GET", b"/", [(b"", b"z")], b""),
        ("POST", b"/", [(b"content-length", b"5"), (b"Content-Length", b"5")], b"hello"),
        ("POST", b"/", [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], b"hello"),
        ("POST", b"/", [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], b"hello"),
        ("POST", b"/", [(b"transfer-encoding", b"gzip, chunked")], b"hello"),
        ("POST", b"/", [(b"content-length", b"+5")], b"hello"),
        ("POST", b"/", [(b"content-length", b"4")], b"hello"),
        ("GET", b"/", [(b"content-length", b"1")], b""),
    ],
)
async def test_what_would_not_be_one_request_is_never_sent(
    transport: Http11Transport, method: str, target: bytes, fields: RawHeaders, body: bytes
) -> None:
    async with Recorder() as server:
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await transport.handle_async_request(request(method, server.url, fields, body, target))
        assert "Y: z" not in str(caught.value)
        assert server.connections == 0


@pytest.mark.parametrize("parts", [[b"hell"], [b"hello", b"!"], [b"hello!"], []])
async def test_a_streamed_body_of_another_length_ends_the_request(
    transport: Http11Transport, parts: list[bytes]
) -> None:
    gone: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.head()
        gone.set_result(await peer.gone())

    async with RawServer(script) as server:
        sent = request("POST", server.url, [(b"content-length", b"5")], chunks(*parts))
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(sent)
        assert b"hello".startswith(await gone)


async def test_what_the_body_raises_comes_through_and_ends_the_request(transport: Http11Transport) -> None:
    class ClientLeft(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise ClientLeft

    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:
        with pytest.raises(ClientLeft):
            await transport.handle_async_request(request("POST", server.url, [], body()))
        await gone.wait()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/only/a/path", "http:///x"])
async def test_other_urls_are_refused(transport: Http11Transport, url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.handle_async_request(request("GET", url))


def test_an_ipv6_host_and_the_default_ports_are_written_as_http_wants() -> None:
    for url, host, peer in [
        ("http://[::1]:81/x", b"[::1]:81", "[::1]:81"),
        ("https://api.anthropic.com/x", b"api.anthropic.com", "api.anthropic.com:443"),
        ("http://example.org:80/x", b"example.org", "example.org:80"),
        ("https://b\u00fccher.example/x", b"xn--bcher-kva.example", "xn--bcher-kva.example:443"),
    ]:
        head, _ = request_head(request("GET", url), b"")
        assert head == b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        assert Origin.of(httpx.URL(url)).peer == peer
