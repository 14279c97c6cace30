"""What a provider may answer beside what it should: told truly, read safely, and never held whole."""

import json
from time import monotonic
from typing import Any

import pytest

from tests.faults.measures import HELD_UP_S
from tests.faults.test_bad_input import refused
from tests.integration.claude import (
    BEARER,
    CHAT_KEY,
    World,
    body,
    events,
    new_session,
    tagged,
)
from tests.support.fake_upstream import (
    Answer,
    Fault,
    Piece,
    anthropic_error,
    anthropic_message,
    anthropic_sse,
    chat_completion,
    chat_error,
    chat_sse,
    json_answer,
    sse_answer,
)

MB = 1024 * 1024
SSE = [("content-type", "text/event-stream")]
both_ways = pytest.mark.parametrize("converted", [False, True], ids=["passthrough", "converted"])


# Usage


@pytest.mark.fault("cached and absent usage")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_cache_is_counted_apart(world: World, stream: bool) -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 2000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 40,
    }
    session = new_session()
    world.anthropic.script((anthropic_sse if stream else anthropic_message)(usage=usage))
    assert world.post(body(stream=stream), session=session).status == 200
    row = world.row(session)
    found = [row[f"{name}_tokens"] for name in ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")]
    assert found == [10, 2000, 100, 200, 40]


@pytest.mark.fault("cached and absent usage")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_converted_cache_is_no_part_of_the_input(world: World, stream: bool) -> None:
    session = new_session()
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    world.chat.script((chat_sse if stream else chat_completion)(usage=usage))
    assert world.post(tagged(stream=stream), session=session).status == 200
    row = world.row(session)
    assert [row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]] == [36, 64, 7]
    assert not row["estimated"]


@pytest.mark.fault("cached and absent usage")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_an_absent_usage_is_not_made_up(world: World, stream: bool) -> None:
    told, converted = new_session(), new_session()
    document = json.loads(anthropic_message().content)
    del document["usage"]
    world.anthropic.script(json_answer(document))
    assert world.post(body(stream=False), session=told).status == 200
    assert world.row(told)["output_tokens"] is None
    world.chat.script((chat_sse if stream else chat_completion)(usage=None))
    assert world.post(tagged(stream=stream), session=converted).status == 200
    row = world.row(converted)
    assert row["estimated"]
    assert row["output_tokens"] > 0


ODD_USAGE: list[Any] = [None, 7, "many", [], {"input_tokens": "7"}, {"input_tokens": -1, "output_tokens": 1.5}]
ODD_USAGE += [{"input_tokens": 10**30, "output_tokens": True}, {"input_tokens": {}, "cache_creation": 7}]


@pytest.mark.fault("cached and absent usage")
@pytest.mark.parametrize("usage", ODD_USAGE, ids=str)
@both_ways
def test_an_odd_usage_costs_no_row(world: World, usage: Any, converted: bool) -> None:
    session = new_session()
    if converted:
        document = {**json.loads(chat_completion().content), "usage": usage}
        world.chat.script(json_answer(document))
    else:
        document = {**json.loads(anthropic_message().content), "usage": usage}
        world.anthropic.script(json_answer(document))
    content = tagged(stream=False) if converted else body(stream=False)
    assert world.post(content, session=session).status == 200
    assert world.row(session)["outcome"] == "ok"


# Redirects and errors


@pytest.mark.fault("redirect on the passthrough way")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_the_clients_to_follow(world: World, status: int) -> None:
    location = f"{world.third.url}/elsewhere"
    world.anthropic.script(Answer(b"moved", status, [("Location", location)]))
    response = world.post(body())
    assert (response.status, response.header("location"), response.body) == (status, location.encode(), b"moved")
    assert len(world.anthropic.requests) == 1
    assert world.third.arriving == []


@pytest.mark.fault("long error text")
@pytest.mark.parametrize("size", [600, 70_000, 5_000_000])
def test_a_long_error_is_cut(world: World, size: int) -> None:
    world.chat.script(chat_error(400, "lorem " * (size // 6)))
    response = world.post(tagged())
    assert response.status == 400
    assert len(response.json()["error"]["message"]) <= 1000
    assert response.body.count(b"lorem") <= 500 // 6 + 1


@pytest.mark.fault("long error text")
def test_an_error_without_end_is_not_waited_for(world: World) -> None:
    world.chat.script(Answer([b"x" * 70_000, Fault.SILENCE], 500, framing="chunked"))
    began_s = monotonic()
    assert world.post(tagged()).status == 502
    assert monotonic() - began_s < HELD_UP_S


@pytest.mark.fault("error event of Anthropic's")
def test_an_error_event_of_anthropics_goes_through(world: World) -> None:
    session = new_session()
    start, *_ = anthropic_sse().pieces
    failing = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    answer = sse_answer([start, failing])
    world.anthropic.script(answer)
    assert world.post(body(), session=session).body == answer.content
    row = world.row(session)
    assert (row["outcome"], row["error_type"], row["status"]) == ("error", "overloaded_error", 200)


@pytest.mark.fault("error event of Anthropic's")
@pytest.mark.parametrize("status", [500, 529])
def test_an_error_of_anthropics_is_not_asked_again(world: World, status: int) -> None:
    answer = anthropic_error(status, "busy", "overloaded_error", [("x-should-retry", "true")])
    world.anthropic.script(answer)
    response = world.post(body())
    assert (response.status, response.body) == (status, answer.content)
    assert response.header("x-should-retry") == b"true"
    assert len(world.anthropic.requests) == 1


# Answers that are none


NO_ANSWER: dict[str, tuple[Piece, ...]] = {
    "closed": (Fault.CLOSE,),
    "reset": (Fault.RESET,),
    "not HTTP": (b"junk\r\n\r\n", Fault.CLOSE),
    "cut in its head": (b"HTTP/1.1 200 OK\r\nContent-", Fault.CLOSE),
}


@pytest.mark.fault("failure before the first byte")
@pytest.mark.parametrize("pieces", NO_ANSWER.values(), ids=NO_ANSWER)
@both_ways
def test_no_answer_is_an_error_in_anthropics_form(world: World, pieces: tuple[Piece, ...], converted: bool) -> None:
    session, upstream = new_session(), world.chat if converted else world.anthropic
    upstream.on(lambda request: True, Answer.raw(*pieces))
    refused(world.post((tagged if converted else body)(), session=session), 502, "api_error")
    assert 1 <= len(upstream.requests) <= 3
    row = world.row(session)
    assert (row["outcome"], row["status"], row["error_type"]) == ("error", 502, "api_error")
    world.forget()
    assert world.post((tagged if converted else body)()).status == 200


# Content types


def text_of(stream: bytes) -> str:
    """The text of all deltas of an Anthropic stream."""
    return "".join(event["delta"].get("text", "") for event in events(stream) if event["type"] == "content_block_delta")


WRONG_TYPES = ["text/plain", "application/octet-stream", "", "text/event-stream", "application/json; charset=utf-16"]


@pytest.mark.fault("wrong content type")
@pytest.mark.parametrize("content_type", WRONG_TYPES)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("streamed_back", [True, False], ids=["an event stream", "a document"])
def test_a_wrong_content_type(world: World, content_type: str, stream: bool, streamed_back: bool) -> None:
    answer = chat_sse("Hello.") if streamed_back else chat_completion("Hello.")
    fields = [("content-type", content_type)] if content_type else []
    world.chat.script(Answer(answer.content, headers=fields))
    response = world.post(tagged(stream=stream))
    assert response.status in (200, 502)
    if response.status == 502:
        assert response.json()["error"]["type"] == "api_error"
    elif stream:
        assert events(response.body)[-1]["type"] == "message_stop"
        assert text_of(response.body) == "Hello."
    else:
        assert response.json()["content"] == [{"type": "text", "text": "Hello."}]


@pytest.mark.fault("wrong content type")
def test_a_wrong_content_type_of_anthropics_is_counted_too(world: World) -> None:
    session = new_session()
    answer = anthropic_message()
    world.anthropic.script(Answer(answer.content, headers=[("content-type", "text/plain")]))
    assert world.post(body(stream=False), session=session).body == answer.content
    assert world.row(session)["outcome"] == "ok"


# What it says of keys


@pytest.mark.fault("echoed key")
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_key_that_is_echoed_is_not_told(world: World, status: int) -> None:
    answer = chat_error(status, f"what you sent: Authorization: Bearer {CHAT_KEY}, and {BEARER}")
    world.chat.script(answer.with_headers(("x-echo", CHAT_KEY), ("www-authenticate", f"Bearer {CHAT_KEY}")))
    response = world.post(tagged())
    assert CHAT_KEY.encode() not in response.head.raw + response.body
