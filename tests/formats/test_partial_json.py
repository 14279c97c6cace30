"""Cut JSON: read as the official SDK reads it, and refused where no end could make it JSON."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jiter import from_json

from ccr_asgi.formats.partial_json import parse_partial, read_partial

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (' {"a": 1} ', {"a": 1}),
        ('{"a": 1, "b": "x', {"a": 1}),
        ('{"a": 1, "b": "x"', {"a": 1, "b": "x"}),
        ('{"a": 1, "b": "x\\', {"a": 1}),
        ('{"a": 1, "b": "x\\u00', {"a": 1}),
        ('{"a": 1, "b": "{[,', {"a": 1}),
        ('{"a": 1, "b": "x\\"{', {"a": 1}),
        ('{"a": 1, "b"', {"a": 1}),
        ('{"a": 1, "b":', {"a": 1}),
        ('{"a": 1, "b" : ', {"a": 1}),
        ('{"a": 1,', {"a": 1}),
        ('{"a": 12', {"a": 12}),
        ('{"a": 1.', {}),
        ('{"a": 1.5e', {}),
        ('{"a": 1e+', {}),
        ('{"a": -', {}),
        ('{"a": tru', {}),
        ('{"a": fals', {}),
        ('{"a": nul', {}),
        ('{"a": true', {"a": True}),
        ('{"a": [1, 2', {"a": [1, 2]}),
        ('{"a": [1, "x", "y', {"a": [1, "x"]}),
        ('{"a": [1, tr', {"a": [1]}),
        ('{"a": [', {"a": []}),
        ('{"a": {"b": 1}', {"a": {"b": 1}}),
        ('{"a": {"b": 1}, "c', {"a": {"b": 1}}),
        ('{"a": {"b": [1, {"c": "d", "e', {"a": {"b": [1, {"c": "d"}]}}),
        ("{", {}),
        ('{"', {}),
        ("[1, 2", [1, 2]),
    ],
)
def test_what_was_not_finished_is_left_out(text: str, value: object) -> None:
    assert read_partial(text) == value == from_json(text.encode(), partial_mode=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        '"x',
        "tru",
        '{"a"}',
        '{"a" 1',
        '{"a": x',
        '{"a": 01',
        '{"a": 1 2',
        '{"a": 1, 2',
        '{"a": 1,, "b',
        '{, "a',
        '{"a": [,',
        '{"a": {} "b',
        '{"a": "\n',
        '{"a": "\\x',
        '{"a": "\\u00g',
        '{"a": 1] ',
        '{"a": [1}',
        "{'a",
        '{"a": tx',
        '{"a": 1}}',
        '{"a": 1} x',
        '{"a": NaN',
    ],
)
def test_what_no_end_could_make_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each parser has its own words
        read_partial(text)
    assert parse_partial(text) == {}


@pytest.mark.parametrize(("text", "value"), [('{"a": 1, "b', {"a": 1}), ("[1, 2", {}), ("[1]", {}), ("null", {})])
def test_a_calls_input_is_an_object_whatever_came(text: str, value: object) -> None:
    assert parse_partial(text) == value


def test_a_number_beyond_all_bounds_is_left_out() -> None:
    assert read_partial('{"a": 1, "b": 1e999') == {"a": 1}


def test_a_lone_surrogate_is_kept() -> None:
    assert read_partial('{"a": "\\ud83d", "b') == {"a": "\ud83d"}


@settings(deadline=None)
@given(st.dictionaries(TEXTS, TREES, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_every_beginning_is_read_as_the_sdk_reads_it(value: dict[str, Any], escaped: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    for length in range(1, len(text) + 1):
        assert read_partial(text[:length]) == from_json(text[:length].encode(), partial_mode=True)


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]",:\\u0dt1e-. \n')))
def test_anything_else_is_a_value_error(text: str) -> None:
    try:
        value = read_partial(text)
    except ValueError:
        assert parse_partial(text) == {}
    else:
        assert parse_partial(text) == (value if isinstance(value, dict) else {})
