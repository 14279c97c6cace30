"""Facts folded from an answer's bytes; the official SDK's own folding is the oracle for tokens."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import brotli
import pytest
import zstandard
from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.usage import accumulator as module
from ccr_asgi.usage.accumulator import UsageAccumulator
from ccr_asgi.usage.record import Tokens

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"

USAGE: dict[str, Any] = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 4000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 1,
    "service_tier": "standard",
}
TOLD = Tokens(input=12, cache_read=4000, cache_write_5m=100, cache_write_1h=200, output=1)


def sse(*events: dict[str, Any], line_end: str = "\n") -> bytes:
    lines = [f"event: {event['type']}{line_end}data: {json.dumps(event)}{line_end * 2}" for event in events]
    return "".join(lines).encode()


def start(usage: dict[str, Any] | None = None, model: str = "claude-opus-4-5") -> dict[str, Any]:
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": USAGE if usage is None else usage}
    return {"type": "message_start", "message": message}


def text_block(*texts: str) -> list[dict[str, Any]]:
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts
    ]
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return [block, *deltas, {"type": "content_block_stop", "index": 0}]


def end(usage: dict[str, Any] | None = None, stop_reason: str = "end_turn") -> list[dict[str, Any]]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    usage = {"output_tokens": 50} if usage is None else usage
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


WHOLE = [start(), {"type": "ping"}, *text_block("Hello", " there"), *end()]


def read(chunks: bytes | Iterable[bytes], content_type: str = SSE, encoding: str | None = None) -> UsageAccumulator:
    accumulator = UsageAccumulator(content_type, encoding)
    for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
        accumulator.feed(chunk)
    accumulator.close()
    return accumulator


def facts(accumulator: UsageAccumulator) -> tuple[object, ...]:
    a = accumulator
    return (a.model, a.stop_reason, a.tokens, a.error_type, a.content_seen, a.complete, a.has_usage, a.readable)


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


# Streams


def test_a_stream_tells_everything() -> None:
    told = read(sse(*WHOLE))
    assert told.model == "claude-opus-4-5"
    assert told.stop_reason == "end_turn"
    assert told.tokens == Tokens(input=12, cache_read=4000, cache_write_5m=100, cache_write_1h=200, output=50)
    assert (told.error_type, told.content_seen, told.complete, told.has_usage) == (None, True, True, True)


def test_the_delta_overwrites_only_what_it_has() -> None:
    told = read(sse(start(), *end({"output_tokens": 7, "input_tokens": 20, "cache_read_input_tokens": None})))
    assert told.tokens == Tokens(input=20, cache_read=4000, cache_write_5m=100, cache_write_1h=200, output=7)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_any_line_end_and_any_cut(line_end: str, cut: Callable[[bytes], list[bytes]]) -> None:
    assert facts(read(cut(sse(*WHOLE, line_end=line_end)))) == facts(read(sse(*WHOLE)))


@given(st.data(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_random_cuts_change_nothing(data: st.DataObject, line_end: str) -> None:
    stream = sse(*WHOLE, line_end=line_end)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert facts(read(chunks)) == facts(read(stream))


counts = st.integers(0, 10**7)
start_usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={"cache_read_input_tokens": st.none() | counts, "cache_creation_input_tokens": st.none() | counts},
)
delta_usages = st.fixed_dictionaries(
    {"output_tokens": counts},
    optional={
        "input_tokens": st.none() | counts,
        "cache_read_input_tokens": st.none() | counts,
        "cache_creation_input_tokens": st.none() | counts,
        "output_tokens_details": st.none() | st.fixed_dictionaries({"thinking_tokens": counts}),
    },
)
breakdowns = st.none() | st.fixed_dictionaries(
    {"ephemeral_5m_input_tokens": counts, "ephemeral_1h_input_tokens": counts}
)


def sdk_usage(stream: bytes) -> Any:
    """The usage at the end of `stream`, as the official SDK folds it."""
    snapshot: Any = None
    for event in SSEDecoder().iter_bytes(iter([stream])):
        if (value := event.json())["type"] not in ("ping", "message_stop"):
            snapshot = accumulate_event(event=value, current_snapshot=snapshot, json_bufs={})
    return snapshot.usage


@settings(deadline=None)
@given(start_usages, breakdowns, st.lists(delta_usages, max_size=3))
def test_tokens_are_those_of_the_sdk(
    usage: dict[str, Any], breakdown: dict[str, int] | None, deltas: list[dict[str, Any]]
) -> None:
    if breakdown is not None:
        usage = {**usage, "cache_creation_input_tokens": sum(breakdown.values()), "cache_creation": breakdown}
    stream = sse(start(usage), *text_block("x"), *(event for delta in deltas for event in end(delta)))
    tokens, sdk = read(stream).tokens, sdk_usage(stream)
    assert tokens.input == sdk.input_tokens
    assert tokens.output == sdk.output_tokens
    assert tokens.cache_read == sdk.cache_read_input_tokens
    assert tokens.reasoning == (sdk.output_tokens_details and sdk.output_tokens_details.thinking_tokens)
    if sdk.cache_creation_input_tokens is None:
        assert (tokens.cache_write_5m, tokens.cache_write_1h) == (None, None)
    else:
        assert tokens.cache_write_5m is not None
        assert tokens.cache_write_1h is not None
        assert tokens.cache_write_5m + tokens.cache_write_1h == sdk.cache_creation_input_tokens
        assert min(tokens.cache_write_5m, tokens.cache_write_1h) >= 0


@pytest.mark.parametrize(
    ("usage", "writes"),
    [
        ({}, (None, None)),
        ({"cache_creation_input_tokens": 10}, (10, 0)),
        ({"cache_creation_input_tokens": 0}, (0, 0)),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}}, (3, 4)),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 4}}, (None, 4)),
        ({"cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 4}}, (0, 7)),
        ({"cache_creation_input_tokens": 7, "cache_creation": None}, (7, 0)),
        ({"cache_creation_input_tokens": 7, "cache_creation": "?"}, (7, 0)),
    ],
)
def test_cache_writes(usage: dict[str, Any], writes: tuple[int | None, int | None]) -> None:
    tokens = read(sse(start({"input_tokens": 1, "output_tokens": 1, **usage}))).tokens
    assert (tokens.cache_write_5m, tokens.cache_write_1h) == writes


@pytest.mark.parametrize(
    ("first", "total", "writes"), [((100, 200), 350, (100, 250)), ((200, 100), 350, (250, 100)), ((9, 20), 5, (5, 0))]
)
def test_a_total_that_grew_goes_where_most_went(first: tuple[int, int], total: int, writes: tuple[int, int]) -> None:
    breakdown = {"ephemeral_5m_input_tokens": first[0], "ephemeral_1h_input_tokens": first[1]}
    usage = {"cache_creation_input_tokens": sum(first), "cache_creation": breakdown}
    tokens = read(sse(start(usage), *end({"cache_creation_input_tokens": total}))).tokens
    assert (tokens.cache_write_5m, tokens.cache_write_1h) == writes


def test_reasoning_is_a_part_of_the_output() -> None:
    tokens = read(sse(start(), *end({"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 40}}))).tokens
    assert (tokens.output, tokens.reasoning) == (50, 40)


def test_content_is_seen_when_it_begins() -> None:
    accumulator = UsageAccumulator(SSE, None)
    seen = []
    for event in WHOLE[:3]:
        accumulator.feed(sse(event))
        seen.append(accumulator.content_seen)
    assert seen == [False, False, True]
    assert not accumulator.complete


@pytest.mark.parametrize("count", range(len(WHOLE)))
def test_a_stream_that_breaks_off_is_not_complete_and_keeps_what_it_told(count: int) -> None:
    told = read(sse(*WHOLE[:count]) + sse(WHOLE[count])[:-20])
    assert not told.complete
    assert told.has_usage == (count >= 1)
    assert told.tokens.input == (12 if count >= 1 else None)


def test_the_last_event_counts_without_its_blank_line() -> None:
    told = read(sse(*WHOLE)[:-1])
    assert told.complete
    assert told.tokens.output == 50


def test_text_that_quotes_events_is_text() -> None:
    quoted = sse(start({"input_tokens": 9999}), *end({"output_tokens": 9999})).decode()
    error = json.dumps({"type": "error", "error": {"type": "overloaded_error"}})
    told = read(sse(start(), *text_block(quoted, error, '"error"', "message_stop")))
    assert told.tokens == TOLD
    assert (told.stop_reason, told.error_type, told.complete) == (None, None, False)


def test_a_text_that_is_the_word_error_is_text() -> None:
    told = read(sse(start(), *text_block("error"), *end()))
    assert told.error_type is None
    assert told.complete


def test_an_error_event_names_its_type() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    told = read(sse(start(), *text_block("Hello"), error))
    assert told.error_type == "overloaded_error"
    assert not told.complete


def test_data_may_stand_on_several_lines() -> None:
    lines = json.dumps(start(), indent=1).splitlines()
    told = read(b"event: message_start\n" + "".join(f"data: {line}\n" for line in lines).encode() + b"\n")
    assert told.tokens == TOLD


def test_comments_ids_and_junk_are_passed_over() -> None:
    stream = b": hello\n\nid: 1\nretry: 5\n" + sse(start()) + b'junk\n\ndata: {broken "message_start"\n\n' + sse(*end())
    told = read(stream)
    assert told.complete
    assert told.tokens.output == 50


ODD: list[Any] = [None, True, -1, 1.5, "7", [], {}, 10**30]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_no_shape_disturbs(odd: Any) -> None:
    usage = dict.fromkeys(USAGE, odd)
    events = [
        start(usage),
        {"type": "message_start", "message": odd},
        {"type": "message_delta", "delta": odd, "usage": odd},
        {"type": "message_delta", "delta": {"stop_reason": odd}, "usage": {"output_tokens_details": odd}},
        {"type": "message_start", "message": {"model": odd, "usage": odd}},
        {"type": "error", "error": odd},
        {"type": "error", "error": {"type": odd}},
    ]
    told = read(sse(*events) + b'data: "message_start"\n\ndata: ["message_start"]\n\n')
    assert told.readable
    assert told.tokens == (Tokens(10**30, 10**30, 10**30, 0, 10**30) if odd == 10**30 else Tokens())
    for body in [*events, odd]:
        assert read(json.dumps(body).encode(), JSON).readable


@given(st.lists(st.binary()), st.sampled_from([SSE, JSON, ""]), st.sampled_from([None, "gzip", "br", "zstd", "x"]))
def test_no_bytes_disturb(chunks: list[bytes], content_type: str, encoding: str | None) -> None:
    assert read(chunks, content_type, encoding).tokens == Tokens()


@pytest.mark.parametrize(("answer", "content_type"), [(sse(*WHOLE), SSE), (sse(*WHOLE)[:-2], SSE), (b"{}", JSON)])
def test_a_fault_of_ours_disturbs_nobody(
    answer: bytes, content_type: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_data: bytes) -> None:
        raise RuntimeError("with the answer's text in it")

    monkeypatch.setattr(module, "_parse", fail)
    assert not read(answer, content_type).readable
    assert "cannot be read (RuntimeError)" in caplog.text
    assert "text in it" not in caplog.text


# Large ones


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 2000)
    monkeypatch.setattr(module, "MAX_DOCUMENT_BYTES", 2000)


@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_an_event_that_is_too_large_is_passed_over(
    cut: Callable[[bytes], list[bytes]], line_end: str, small_limits: None
) -> None:
    large = start({"input_tokens": 1}, model="x" * 5000)
    told = read(cut(sse(start(), large, *end(), line_end=line_end)))
    assert told.model == "claude-opus-4-5"
    assert told.tokens.output == 50
    assert told.complete


def test_a_stream_that_ends_in_an_event_that_is_too_large(small_limits: None) -> None:
    told = read(bytewise(sse(start()) + sse(start(model="x" * 5000))[:-1]))
    assert told.model == "claude-opus-4-5"


def test_a_long_stream_is_never_held() -> None:
    chunk = sse(*text_block(*["x" * 1000] * 60))
    accumulator = UsageAccumulator(SSE, None)
    accumulator.feed(sse(start()))
    tracemalloc.start()
    for _ in range(200):
        accumulator.feed(chunk[:30_000])
        accumulator.feed(chunk[30_000:])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10 * len(chunk)


# JSON


MESSAGE = start()["message"] | {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "tool_use"}


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "Application/JSON", "", "text/plain"]
)
@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_a_message_tells_everything(content_type: str, cut: Callable[[bytes], list[bytes]]) -> None:
    told = read(cut(json.dumps(MESSAGE).encode()), content_type)
    assert facts(told) == ("claude-opus-4-5", "tool_use", TOLD, None, True, True, True, True)


def test_content_of_a_message_is_seen_at_its_end() -> None:
    accumulator = UsageAccumulator(JSON, None)
    accumulator.feed(json.dumps(MESSAGE).encode())
    before = accumulator.content_seen
    accumulator.close()
    assert (before, accumulator.content_seen) == (False, True)


def test_a_message_that_breaks_off_tells_nothing() -> None:
    told = read(json.dumps(MESSAGE).encode()[:-1], JSON)
    assert facts(told) == (None, None, Tokens(), None, False, False, False, True)


def test_an_error_body_names_its_type() -> None:
    told = read(b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}', JSON)
    assert facts(told) == (None, None, Tokens(), "rate_limit_error", False, True, False, True)


@pytest.mark.parametrize(("end_of_it", "complete"), [(b"", True), (b"\n", True), (b" 1", False)])
def test_a_message_that_is_too_large_tells_only_that_it_is_whole(
    end_of_it: bytes, complete: bool, small_limits: None
) -> None:
    large = json.dumps({**MESSAGE, "content": "x" * 5000}).encode() + end_of_it
    for chunks in ([large], bytewise(large)):
        assert facts(read(chunks, JSON)) == (None, None, Tokens(), None, False, complete, False, True)


def test_other_answers_tell_nothing() -> None:
    page = read(b"<html><body>502 Bad Gateway</body></html>", "text/html")
    assert facts(page) == (None, None, Tokens(), None, False, False, False, True)
    assert facts(read([], "")) == facts(page)


def test_a_stream_without_its_content_type_is_recognised() -> None:
    assert facts(read(sse(*WHOLE), "")) == facts(read(sse(*WHOLE)))


# Compressed

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_compressed_answers_are_counted_too(encoding: str, cut: Callable[[bytes], list[bytes]]) -> None:
    compress = ENCODINGS[encoding]
    assert facts(read(cut(compress(sse(*WHOLE))), SSE, encoding)) == facts(read(sse(*WHOLE)))
    message = json.dumps(MESSAGE).encode()
    assert facts(read(cut(compress(message)), JSON, encoding)) == facts(read(message, JSON))


def test_identity_is_no_encoding() -> None:
    assert facts(read(sse(*WHOLE), SSE, "identity")) == facts(read(sse(*WHOLE)))


@pytest.mark.parametrize("encoding", [*ENCODINGS, "compress"])
def test_an_encoding_that_cannot_be_read_is_said_once(encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    told = read([sse(*WHOLE), sse(*WHOLE)], SSE, encoding)
    assert not told.readable
    assert told.tokens == Tokens()
    assert caplog.text.count("cannot be read (UpstreamError)") == 1


def test_a_compressed_stream_keeps_what_it_told_before_it_broke() -> None:
    packer = zlib.compressobj(wbits=31)
    begun = packer.compress(sse(start(), *text_block("Hello"))) + packer.flush(zlib.Z_SYNC_FLUSH)
    told = read([begun, b"not gzip"], SSE, "gzip")
    assert told.tokens == TOLD
    assert not told.complete


def test_a_bomb_is_left_alone() -> None:
    bomb = gzip.compress(b"\n" * (40 * 1024 * 1024))
    told = read(bomb, SSE, "gzip")
    assert not told.readable
