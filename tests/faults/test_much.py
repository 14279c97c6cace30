"""Providers that send much, or little that becomes much: it is never held whole, and others are served meanwhile."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.faults.measures import HELD_UP_S, forget_peak, peak_bytes, resident_bytes
from tests.integration.claude import (
    BEARER,
    TARGET,
    World,
    body,
    events,
    headers,
    new_session,
    tagged,
    world_in_a_process,
)
from tests.support.fake_upstream import Answer, anthropic_sse, chat_sse, sse_answer
from tests.support.raw_http import RawClient, fetch

MB = 1024 * 1024
SSE = [("content-type", "text/event-stream")]
both_ways = pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])


def text_event(text: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"%b"}}\n\n' % text
    )


def chat_event(text: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text


def long_stream(converted: bool, text: bytes) -> Answer:
    """A whole stream with one more text delta of `text`."""
    answer = chat_sse() if converted else anthropic_sse()
    return answer.inserting(2, (chat_event if converted else text_event)(text))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    """A process of its own, for memory that an earlier test made it take would hide what this one takes.

    It has served both ways, so that what is loaded once is not measured.
    """
    with world_in_a_process(tmp_path) as world:
        for content in (body(), tagged(), body(stream=False), tagged(stream=False)):
            world.post(content)
        world.forget()
        forget_peak(world)
        yield world


@pytest.mark.fault("8 MB event")
@both_ways
def test_an_event_of_8_mb(fresh: World, converted: bool, seen: Callable[[str], None]) -> None:
    session, text = new_session(), b"q" * (8 * MB)
    before = resident_bytes(fresh)
    (fresh.chat if converted else fresh.anthropic).script(long_stream(converted, text))
    began_s = monotonic()
    response = fresh.post(tagged() if converted else body(), session=session)
    took_s = monotonic() - began_s
    assert response.body.count(b"q" * (8 * MB)) == 1
    assert events(response.body)[-1]["type"] == "message_stop"
    assert fresh.row(session)["outcome"] == "ok"
    grown_mb = (peak_bytes(fresh) - before) / MB
    assert took_s <= HELD_UP_S
    assert grown_mb < 120
    seen(f"{took_s:.1f} s, {grown_mb:.0f} MB")


@pytest.mark.fault("line of more than 16 MB")
@both_ways
def test_an_event_of_17_mb(fresh: World, converted: bool) -> None:
    session = new_session()
    answer = long_stream(converted, b"q" * (17 * MB))
    (fresh.chat if converted else fresh.anthropic).script(answer)
    response = fresh.post(tagged() if converted else body(), session=session)
    assert response.status == 200
    if converted:
        assert events(response.body)[-1]["type"] == "error"
        assert fresh.row(session)["outcome"] == "error"
    else:
        assert response.body == answer.content
        assert fresh.row(session)["output_tokens"] is not None


def bomb(piece: bytes, megabytes: int) -> Iterator[bytes]:
    """gzip of `piece` again and again, unfolding into so many megabytes."""
    machine = zlib.compressobj(9, wbits=31)
    block = piece * (MB // len(piece) + 1)
    for _ in range(megabytes):
        yield machine.compress(block)
    yield machine.flush()


BOMBS: dict[str, tuple[bytes, int]] = {
    "one long line": (b"a" * 1024, 500),
    "comments": (b": aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\n", 100),
    "text": (chat_event(b"a" * 500), 100),
    "Anthropic's text": (text_event(b"a" * 500), 100),
}


@pytest.mark.fault("gzip bomb from a provider")
@both_ways
@pytest.mark.parametrize(("piece", "megabytes"), BOMBS.values(), ids=BOMBS)
def test_an_answer_that_unfolds(
    fresh: World, converted: bool, piece: bytes, megabytes: int, seen: Callable[[str], None]
) -> None:
    """Hundreds of megabytes out of one; others are served meanwhile."""
    before = resident_bytes(fresh)
    content = b"".join(bomb(piece, megabytes))
    upstream = fresh.chat if converted else fresh.anthropic
    upstream.script(Answer(content, headers=[*SSE, ("content-encoding", "gzip")]))
    began_s = monotonic()
    with RawClient(fresh.url) as client:
        client.send_request("POST", TARGET, headers(new_session()), tagged() if converted else body())
        upstream.wait_for_requests(1)
        assert fetch(f"{fresh.url}/healthz").status == 200
        slowest_s = monotonic() - began_s
        response = client.read_response("POST")
    if not converted:
        assert response.body == content
    grown_mb = (peak_bytes(fresh) - before) / MB
    seen(f"{grown_mb:.0f} MB more at the peak, another request {slowest_s:.1f} s")
    assert grown_mb < 120
    assert slowest_s < HELD_UP_S
    assert fresh.post(body()).status == 200


@pytest.mark.fault("gzip bomb from a provider")
@pytest.mark.parametrize("provider", ["anthropic", "cerebras", "moonshot"])
def test_an_error_that_unfolds(fresh: World, provider: str, seen: Callable[[str], None]) -> None:
    """500 MB out of half of one, which are searched for our key on some ways."""
    content, upstream = {
        "anthropic": (body(), fresh.anthropic),
        "cerebras": (tagged(), fresh.chat),
        "moonshot": (tagged("moonshot,kimi-k2"), fresh.third),
    }[provider]
    fresh.post(content)
    forget_peak(fresh)
    before = resident_bytes(fresh)
    answer = b"".join(bomb(b"a" * 1024, 500))
    upstream.script(Answer(answer, 500, [("content-type", "application/json"), ("content-encoding", "gzip")]))
    assert fresh.post(content).status >= 500
    grown_mb = (peak_bytes(fresh) - before) / MB
    seen(f"an error: {grown_mb:.0f} MB")
    assert grown_mb < 60


@pytest.mark.fault("gzip bomb from a provider")
def test_a_list_of_models_that_unfolds(fresh: World, seen: Callable[[str], None]) -> None:
    """It is read to be extended; one that is too long for that goes through as it is."""
    before = resident_bytes(fresh)
    content = b"".join(bomb(b" " * 1024, 500))
    fields = [("content-type", "application/json"), ("content-encoding", "gzip")]
    fresh.anthropic.on("/v1/models", Answer(content, headers=fields))
    response = fetch(f"{fresh.url}/v1/models", headers=[("Authorization", BEARER)])
    assert (response.status, response.body) == (200, content)
    grown_mb = (peak_bytes(fresh) - before) / MB
    seen(f"a list of models: {grown_mb:.0f} MB")
    assert grown_mb < 60


@pytest.mark.fault("gzip bomb from a provider")
def test_an_endless_stream_for_a_client_that_wants_a_document(fresh: World, seen: Callable[[str], None]) -> None:
    """It can only be held whole, and so not for ever."""
    before = resident_bytes(fresh)
    event = chat_event(b"q" * 65_536)
    fresh.chat.script(sse_answer([event] * 1500))  # 100 MB
    response = fresh.post(tagged(stream=False))
    assert (response.status, response.json()["error"]["type"]) == (502, "api_error")
    grown_mb = (peak_bytes(fresh) - before) / MB
    seen(f"100 MB for a document: {grown_mb:.0f} MB")
    assert grown_mb < 120
