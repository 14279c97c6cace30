"""The readers that refuse what is not of the form."""

from typing import Any

import pytest

from ccr_asgi.errors import RequestError
from ccr_asgi.formats import fields
from ccr_asgi.formats.fields import Shape, check, describe, optional, refuse, required

FITTING: list[tuple[Shape[Any], list[Any], list[Any]]] = [
    (fields.STRING, ["", "a"], [None, 1, [], {}, True]),
    (fields.BOOLEAN, [True, False], [None, 0, 1, "true"]),
    (fields.OBJECT, [{}, {"a": 1}], [None, [], "a"]),
    (fields.ARRAY, [[], [1]], [None, {}, "a", ()]),
    (fields.INTEGER, [0, -1, 10**400], [None, True, 1.0, "1"]),
    (fields.NUMBER, [0, 0.5, 10**400], [None, False, "1", float("inf"), float("nan")]),
]


@pytest.mark.parametrize(("shape", "fitting", "others"), FITTING, ids=[shape.accepted for shape, _, _ in FITTING])
def test_shapes(shape: Shape[Any], fitting: list[Any], others: list[Any]) -> None:
    assert all(check(value, shape, "p") == value for value in fitting)
    for value in others:
        with pytest.raises(RequestError, match=rf"^p: found .*; accepted: {shape.accepted}\.$"):
            check(value, shape, "p")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (-3, "the number -3"),
        (1.5, "the number 1.5"),
        (2**64 - 1, "the number 18446744073709551615"),
        (2**64, "a very large number"),
        pytest.param(10**5000, "a very large number", id="10**5000"),
        ("it's", 'the string "it\'s"'),
        ("x" * 40, f"the string '{'x' * 40}'"),
        ("x" * 41, f"the string '{'x' * 40}…'"),
        ("x" * 99, f"the string '{'x' * 40}…'"),
        ([1], "an array"),
        ({"a": 1}, "an object"),
    ],
)
def test_values_in_words(value: Any, expected: str) -> None:
    assert describe(value) == expected


def test_absent_and_null_are_told_apart_where_it_matters() -> None:
    assert optional({"a": None}, "a", fields.STRING) is optional({}, "a", fields.STRING) is None
    with pytest.raises(RequestError, match=r"^a: found null; accepted: a string\.$"):
        required({"a": None}, "a", fields.STRING)
    with pytest.raises(RequestError, match=r"^o\.a: found nothing; accepted: a string\.$"):
        required({}, "a", fields.STRING, "o")


def test_the_body_itself_has_a_name() -> None:
    assert refuse("", "an array", "an object").message == "body: found an array; accepted: an object."
