"""The event parser: every way to end a line, to cut a stream, and to be too long."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import UpstreamError
from ccr_asgi.wire.sse import ServerSentEvent, SSEParser, encode


def parse(*chunks: bytes, max_line_bytes: int = 1000) -> list[tuple[bytes, bytes]]:
    """The events of a whole stream, as (name, data)."""
    parser = SSEParser(max_line_bytes=max_line_bytes)
    return [(*event,) for chunk in chunks for event in parser.feed(chunk)] + [(*event,) for event in parser.close()]


def bytewise(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_line_ends_in_lf_crlf_or_cr_however_it_is_cut(end: bytes) -> None:
    stream = b"event: a\ndata: 1\n\ndata: 2\n\n".replace(b"\n", end)
    assert parse(stream) == parse(*bytewise(stream)) == [(b"a", b"1"), (b"message", b"2")]


def test_line_ends_may_be_mixed() -> None:
    assert parse(b"data: 1\r\ndata: 2\rdata: 3\n\r\n") == [(b"message", b"1\n2\n3")]


def test_a_crlf_split_over_two_chunks_is_one_line_end() -> None:
    assert parse(b"data: 1\r", b"\ndata: 2\r", b"", b"\n\r", b"\n") == [(b"message", b"1\n2")]


def test_an_event_that_ends_in_cr_is_not_held_back_for_a_line_feed() -> None:
    assert SSEParser().feed(b"data: 1\r\r") == [ServerSentEvent(b"message", b"1")]


def test_a_byte_order_mark_counts_at_the_beginning_alone() -> None:
    mark = b"\xef\xbb\xbf"
    assert parse(*bytewise(mark + b"data: 1\n\n")) == [(b"message", b"1")]
    assert parse(b"data: 1\n\n" + mark + b"data: 2\n\n") == [(b"message", b"1")]


def test_several_data_lines_are_joined_by_line_feeds() -> None:
    assert parse(b"data: a\ndata:\ndata: b\n\n") == [(b"message", b"a\n\nb")]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"data:x", b"x"),
        (b"data: x", b"x"),
        (b"data:  x", b" x"),
        (b"data", b""),
        (b"data:", b""),
        (b"data:a:b", b"a:b"),
    ],
)
def test_one_space_behind_the_colon_may_be_missing(line: bytes, data: bytes) -> None:
    assert parse(line + b"\n\n") == [(b"message", data)]


def test_comments_unknown_fields_and_blank_lines_are_passed_over() -> None:
    assert parse(b": keep-alive\n\n\nid: 7\nretry: 5\ndat: x\ndata: 1\n:\n\n") == [(b"message", b"1")]


def test_a_name_belongs_to_one_event_and_makes_none_alone() -> None:
    assert parse(b"event: a\n\ndata: 1\n\nevent: b\ndata: 2\n\n") == [(b"message", b"1"), (b"b", b"2")]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_event_without_a_blank_line_counts(end: bytes) -> None:
    assert parse(b"event: a\ndata: 1" + end) == [(b"a", b"1")]


def test_the_end_adds_nothing_to_a_stream_that_was_whole() -> None:
    assert parse(b"data: 1\n\n") == [(b"message", b"1")]
    assert parse() == []


def test_a_character_cut_by_a_chunk_stays_whole() -> None:
    data = "é 漢字 😀".encode()
    assert parse(*bytewise(b"data: " + data + b"\n\n")) == [(b"message", data)]


@pytest.mark.parametrize("cut", [0, 6, 10])
def test_a_line_over_the_limit_is_refused_whole_or_in_pieces(cut: int) -> None:
    assert parse(b"data: 1234\n\n", max_line_bytes=10) == [(b"message", b"1234")]
    parser = SSEParser(max_line_bytes=10)
    parser.feed(b"data: 12345"[:cut])
    with pytest.raises(UpstreamError, match="more than 10 bytes"):
        parser.feed(b"data: 12345\n"[cut:])


def test_a_line_without_an_end_is_refused_before_it_ends() -> None:
    parser = SSEParser(max_line_bytes=10)
    parser.feed(b": 34567890")
    with pytest.raises(UpstreamError):
        parser.feed(b"x")


def test_many_short_lines_cannot_grow_one_event_without_bound() -> None:
    parser = SSEParser(max_line_bytes=10)
    parser.feed(b"data: 1234\ndata: 6789\n")
    with pytest.raises(UpstreamError):
        parser.feed(b"data:\n")


def test_the_limit_is_one_events_not_the_streams() -> None:
    assert len(parse(b"data: 1234\n\n" * 50, max_line_bytes=10)) == 50


def feed_bytewise(length: int) -> float:
    """Processor seconds to take a line of `length` bytes, byte by byte."""
    parser, began_s = SSEParser(), time.process_time()
    for _ in range(length):
        parser.feed(b"x")
    return time.process_time() - began_s


def test_time_grows_with_the_bytes_alone() -> None:
    # Eight times the bytes take about eight times the time; quadratic work would take 64 times as long.
    short_s = min(feed_bytewise(125_000) for _ in range(3))
    assert feed_bytewise(1_000_000) < 30 * short_s


def test_a_line_of_8_mb_in_single_bytes_takes_little_more_memory_than_it_is_long() -> None:
    parser, length = SSEParser(), 8 * 1024 * 1024
    parser.feed(b"data: ")
    tracemalloc.start()
    try:
        for _ in range(length // 64):
            parser.feed(b"x" * 64)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * length
    [event] = parser.feed(b"\n\n")
    assert len(event.data) == length


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12)))
def test_any_bytes_are_read_alike_however_they_are_cut(chunks: list[bytes]) -> None:
    assert parse(*chunks) == parse(b"".join(chunks)) == parse(*bytewise(b"".join(chunks)))


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"data", b"event", b":", b" ", b"\n", b"\r", b"\xef\xbb\xbf", b"x"])))
def test_any_stream_shaped_bytes_are_read_alike_however_they_are_cut(parts: list[bytes]) -> None:
    assert parse(*parts) == parse(b"".join(parts)) == parse(*bytewise(b"".join(parts)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ping", "error"]), st.binary().filter(lambda d: not set(d) & {10, 13}))))
def test_what_is_encoded_is_parsed_again(events: list[tuple[str, bytes]]) -> None:
    stream = b"".join(encode(name, data) for name, data in events)
    assert parse(stream) == [(name.encode(), data) for name, data in events]
