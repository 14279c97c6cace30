"""JSON in and out, where msgspec takes it and where it does not."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.wire.json_codec import dumps, loads

LONE = "\ud83d"
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize("data", [b'{"a": [1, 2.5, null, true, "x"]}', '{"a": [1, 2.5, null, true, "x"]}'])
def test_bytes_and_text_are_read(data: bytes | str) -> None:
    assert loads(data) == {"a": [1, 2.5, None, True, "x"]}


def test_output_is_compact_utf_8() -> None:
    assert dumps({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()


@pytest.mark.parametrize("data", [rb'{"a\ud83d": "\ud83d"}', '{"a\ud83d": "\ud83d"}'], ids=["escape", "character"])
def test_lone_surrogates_are_read(data: bytes | str) -> None:
    assert loads(data) == {f"a{LONE}": LONE}


def test_lone_surrogates_are_written_as_escapes() -> None:
    assert dumps({f"a{LONE}": [LONE, "é"]}) == rb'{"a\ud83d":["\ud83d","\u00e9"]}'


def test_the_halves_of_a_pair_are_one_character_for_every_reader() -> None:
    assert json.loads(dumps("\ud83d" + "\ude00")) == "😀"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{} x",
        b"{'a': 1}",
        b'{"a": NaN}',
        b"Infinity",
        b"-Infinity",
        b'"\x01"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each parser has its own words
        loads(data)


@pytest.mark.parametrize("data", [b"1e999", b"[-1e999]", b'{"a\\ud83d": 1e999}'])
def test_a_number_that_could_not_be_written_again_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="beyond all bounds"):
        loads(data)


def test_odd_numbers_are_null_where_they_are_taken() -> None:
    data = b'{"a": NaN, "b": [Infinity, -Infinity, 1e999, -1e999, 1.5], "c": "NaN"}'
    assert loads(data, odd_numbers=True) == {"a": None, "b": [None, None, None, None, 1.5], "c": "NaN"}
    with pytest.raises(ValueError, match="Expecting"):
        loads(b'{"a": nan}', odd_numbers=True)


def test_floats_beside_lone_surrogates_are_read() -> None:
    assert loads(rb'["\ud83d", 1.5e3]') == [LONE, 1500.0]


def test_a_number_of_thousands_of_digits_is_refused_as_a_value_error() -> None:
    with pytest.raises(ValueError, match="digits"):
        loads(b"9" * 5000)


def test_large_whole_numbers_survive() -> None:
    assert loads(dumps(2**80)) == 2**80


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_what_is_nested_too_deeply_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        loads(data)


def test_to_write_what_is_nested_too_deeply_raises_a_recursion_error() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RecursionError):
        dumps(value)


@settings(deadline=None)
@given(TREES)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert loads(dumps(value)) == value


@settings(deadline=None)
@given(st.text(st.characters(categories=None)))  # also lone surrogates
def test_any_text_is_written_as_utf_8_and_read_again(text: str) -> None:
    written = dumps(text)
    written.decode("utf-8")
    assert loads(written) == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@settings(deadline=None)
@given(st.binary() | st.text(st.characters(categories=None)))
def test_anything_else_is_a_value_error(data: bytes | str) -> None:
    with suppress(ValueError):
        loads(data)
