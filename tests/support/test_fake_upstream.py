"""The fake upstream hears every byte, says what is scripted, and goes wrong where it shall."""

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest
import zstandard

from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Fault,
    Gate,
    RecordedRequest,
    in_pieces,
    refused_url,
    sse_answer,
)
from tests.support.raw_http import RawClient, fetch

# The fake upstream: what it hears


def test_a_request_is_recorded_byte_by_byte(fake_upstream: FakeUpstream) -> None:
    with RawClient(fake_upstream.url) as client:
        sent = b"POST /a%20b?x=%22 HTTP/1.1\r\nHost: h\r\nX-Odd:  v \r\nx-odd: 2\r\nContent-Length: 3\r\n\r\nabc"
        client.send(sent)
        client.read_response()
        (request,) = fake_upstream.wait_for_requests(1)
        assert request.raw == sent
        assert request.target == b"/a%20b?x=%22"
        assert request.headers == [(b"Host", b"h"), (b"X-Odd", b"v"), (b"x-odd", b"2"), (b"Content-Length", b"3")]
        assert (request.method, request.path, request.body) == ("POST", "/a%20b", b"abc")
        assert not request.disconnected.is_set()
    assert request.disconnected.wait()


def test_a_chunked_request_is_put_together_as_it_comes(fake_upstream: FakeUpstream) -> None:
    with RawClient(fake_upstream.url) as client:
        client.send(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        (request,) = fake_upstream.wait_for_arriving(1)
        assert fake_upstream.wait_for_body(request, 3) == b"abc"
        assert not fake_upstream.requests
        client.send(b"2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n")
        assert client.read_response().status == 404
    assert request.body == b"abcde"


def test_expect_continue_is_answered_before_the_body(fake_upstream: FakeUpstream) -> None:
    with RawClient(fake_upstream.url) as client:
        client.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.read_head().status == 100
        client.send(b"ok")
        assert client.read_response().status == 404


def test_connections_are_told_apart(fake_upstream: FakeUpstream) -> None:
    with RawClient(fake_upstream.url) as client:
        client.request("HEAD", "/")
        client.request("HEAD", "/")
    fetch(fake_upstream.url, "HEAD")
    places = [(request.connection, request.number_on_connection) for request in fake_upstream.requests]
    assert places == [(0, 0), (0, 1), (1, 0)]


def test_waiting_for_requests_that_do_not_come_says_what_came(fake_upstream: FakeUpstream) -> None:
    fetch(fake_upstream.url, "HEAD")
    with pytest.raises(AssertionError, match=r"HEAD /"):
        fake_upstream.wait_for_requests(2, timeout=0.01)


# The fake upstream: what it says


def test_a_script_comes_before_rules_and_the_latest_rule_wins(fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/x", Answer(b"first rule"))
    fake_upstream.on("/x", lambda request: Answer(b"rule for " + request.body))
    fake_upstream.script(Answer(b"scripted"))
    url = f"{fake_upstream.url}/a/x"
    bodies = [fetch(url, "GET").body, fetch(url, "POST", body=b"1").body, fetch(url, "POST", body=b"2").body]
    assert bodies == [b"rule for ", b"scripted", b"rule for 2"]


def test_a_mistake_in_a_script_fails_the_test_that_wrote_it() -> None:
    def mistaken(request: RecordedRequest) -> Answer:
        raise LookupError("no such turn")

    upstream = FakeUpstream()
    with pytest.raises(LookupError, match="no such turn"), upstream:
        _ask_once(upstream, mistaken)


def _ask_once(upstream: FakeUpstream, reply: Callable[[RecordedRequest], Answer]) -> None:
    upstream.on("/", reply)
    assert fetch(upstream.url).status == 500


def test_headers_are_exact_and_only_framing_is_added(fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/", Answer(b"xy", 529, [("X-One", "1"), ("x-one", "2")]))
    answer = fetch(fake_upstream.url)
    assert answer.head.raw.startswith(b"HTTP/1.1 529 ")
    assert answer.headers == [(b"X-One", b"1"), (b"x-one", b"2"), (b"content-length", b"2")]


@pytest.mark.parametrize("framing", ["content-length", "chunked", "until-close"])
def test_every_framing_carries_the_same_body(fake_upstream: FakeUpstream, framing: Any) -> None:
    fake_upstream.on("/", Answer(in_pieces(b"abcdef", 2), framing=framing))
    with RawClient(fake_upstream.url) as client:
        assert client.request("GET", "/").body == b"abcdef"
        assert fake_upstream.requests[0].answered.wait()
        assert framing != "until-close" or client.is_closed_by_server()


def test_a_gate_holds_the_rest_back(fake_upstream: FakeUpstream) -> None:
    gate = Gate()
    fake_upstream.on("/", sse_answer([b"one", gate, b"two"]))
    with RawClient(fake_upstream.url) as client:
        client.send_request("GET", "/")
        client.read_head()
        assert client.read_chunk() == b"one"
        assert gate.reached.wait()
        assert not fake_upstream.requests[0].answered.is_set()
        gate.open()
        assert (client.read_chunk(), client.read_chunk()) == (b"two", b"")


def test_leaving_at_a_gate_is_seen(fake_upstream: FakeUpstream) -> None:
    gate = Gate()
    fake_upstream.on("/", sse_answer([b"one", gate]))
    client = RawClient(fake_upstream.url)
    client.send_request("GET", "/")
    assert gate.reached.wait()
    client.reset()
    assert fake_upstream.requests[0].disconnected.wait()


async def test_signals_reach_coroutines(fake_upstream: FakeUpstream) -> None:
    gate = Gate()
    fake_upstream.on("/", sse_answer([gate, b"two"]))
    async with httpx.AsyncClient(trust_env=False) as client:
        asking = asyncio.create_task(client.get(fake_upstream.url))
        assert await gate.reached.wait_async()
        gate.open()
        assert (await asking).content == b"two"
    assert await fake_upstream.requests[0].disconnected.wait_async()
    assert not await Gate().reached.wait_async(timeout=0.001)


_CUT: list[tuple[Answer, type[Exception], bytes | None]] = [
    (Answer.raw(Fault.CLOSE), EOFError, b""),
    (Answer.raw(b"HTTP/1.1 200 OK\r\ncont", Fault.CLOSE), EOFError, b"HTTP/1.1 200 OK\r\ncont"),
    (Answer([b"abc", Fault.CLOSE, b"def"]), EOFError, b"abc"),
    (Answer([b"abc", Fault.CLOSE], framing="chunked"), EOFError, b""),
    (Answer([b"abc", Fault.RESET], framing="chunked"), ConnectionResetError, None),
]


@pytest.mark.parametrize(("answer", "error", "seen"), _CUT, ids=["no-status", "in-head", "length", "chunked", "reset"])
def test_an_answer_breaks_off_where_it_says(
    fake_upstream: FakeUpstream, answer: Answer, error: type[Exception], seen: bytes | None
) -> None:
    fake_upstream.on("/", answer)
    with RawClient(fake_upstream.url) as client:
        client.send_request("GET", "/")
        with pytest.raises(error) as broken:
            client.read_response()
        assert seen is None or broken.value.args == (seen,)


def test_a_silent_upstream_ends_when_its_peer_leaves(fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/", Answer.raw(Fault.SILENCE))
    with RawClient(fake_upstream.url) as client:
        client.send_request("GET", "/")
        (request,) = fake_upstream.wait_for_requests(1)
    assert request.disconnected.wait()


def test_a_stale_connection_is_closed_without_a_word(fake_upstream: FakeUpstream) -> None:
    fake_upstream.on("/", Answer(b"ok", then_close=True))
    with RawClient(fake_upstream.url) as client:
        answer = client.request("GET", "/")
        assert answer.header("connection") is None
        assert client.is_closed_by_server()


def test_compressed_pieces_can_be_read_one_by_one(fake_upstream: FakeUpstream) -> None:
    gate = Gate()
    fake_upstream.on("/", sse_answer([b"data: 1\n\n", gate, b"data: 2\n\n"]).compressed("gzip"))
    inflate = zlib.decompressobj(wbits=31)
    with RawClient(fake_upstream.url) as client:
        client.send_request("GET", "/")
        assert client.read_head().header("content-encoding") == b"gzip"
        assert inflate.decompress(client.read_chunk()) == b"data: 1\n\n"
        gate.open()
        assert inflate.decompress(client.read_chunk()) == b"data: 2\n\n"


def test_every_encoding_is_what_its_name_says() -> None:
    plain = Answer(in_pieces(b"hello " * 100, 7))
    assert gzip.decompress(plain.compressed("gzip").content) == plain.content
    assert zlib.decompress(plain.compressed("deflate").content) == plain.content
    assert brotli.decompress(plain.compressed("br").content) == plain.content
    assert zstandard.ZstdDecompressor().decompressobj().decompress(plain.compressed("zstd").content) == plain.content


def test_a_refused_url_refuses() -> None:
    with refused_url() as url, pytest.raises(ConnectionRefusedError):
        RawClient(url)
