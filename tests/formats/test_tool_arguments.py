"""Arguments of calls: whole, cut off, and in pieces."""

from typing import Any

import pytest

from ccr_asgi.formats.tool_arguments import are_cut, arguments_object, arguments_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ("{}", {}),
        (' {"a": 1}\n', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('"null"', {}),
        ('"\\"twice\\""', None),
        ('"a"', None),
        ('""', None),
        ("[]", None),
        ("5", None),
        ("0", None),
        ("false", None),
        ('{"a": ', None),
        ("{'a': 1}", None),
    ],
)
def test_whole_arguments_are_an_object(text: str, expected: dict[str, Any] | None) -> None:
    assert arguments_object(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("null", False),
        ('{"a": 1}', False),
        ("{", True),
        ('{"a": 1', True),
        ('{"a": "b', True),
        ('{"a": 1}}', False),
        ("{'a", False),
        ("nul", True),
        ('"{\\"a', True),
        ("[]", False),
        ("[1", False),
        ("5", False),
        ('"a"', False),
    ],
)
def test_cut_arguments_might_have_gone_on(text: str, expected: bool) -> None:
    assert are_cut(text) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ('{"a": ', '{"a": '),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
        ([], "[]"),
        (0, "0"),
        (False, "false"),
        ("\ud83d", "\\ud83d"),
        ("é🎉", "é🎉"),
    ],
)
def test_a_fragment_is_text(value: object, expected: str) -> None:
    assert arguments_text(value) == expected
