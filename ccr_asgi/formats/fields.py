"""Reading a client's JSON with types checked: what is wrong is refused by its path, what was found, what is accepted.

A request body is any JSON object at all. These readers are the only place where its types are tested, so that a
converter never meets a KeyError or an AttributeError. JSON null counts as absent for optional fields, as the SDK's
`Optional` types have it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ccr_asgi.errors import RequestError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SHOWN_CHARS = 40
"""How much of a wrong string an error shows; the rest may be somebody's secret."""


@dataclass(frozen=True, slots=True)
class Shape(Generic[T_co]):
    """A JSON type: what it is called in an error, and the test for it."""

    accepted: str
    fits: Callable[[Any], bool]


STRING: Shape[str] = Shape("a string", lambda value: isinstance(value, str))
BOOLEAN: Shape[bool] = Shape("true or false", lambda value: isinstance(value, bool))
OBJECT: Shape[dict[str, Any]] = Shape("an object", lambda value: isinstance(value, dict))
ARRAY: Shape[list[Any]] = Shape("an array", lambda value: isinstance(value, list))
INTEGER: Shape[int] = Shape("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool))
NUMBER: Shape[float] = Shape(
    "a number", lambda value: INTEGER.fits(value) or (isinstance(value, float) and math.isfinite(value))
)


def refuse(path: str, found: str, accepted: str) -> RequestError:
    """The 400 for a field at `path`; `found` and `accepted` are phrases for a person."""
    return RequestError(f"{path or 'body'}: found {found}; accepted: {accepted}.")


def check(value: object, shape: Shape[T], path: str) -> T:
    """`value` itself, which stands at `path`, if it is of `shape`; a RequestError if not."""
    if shape.fits(value):
        return value  # type: ignore[return-value]  # `fits` has just established T
    raise refuse(path, describe(value), shape.accepted)


def required(fields: Mapping[str, Any], key: str, shape: Shape[T], path: str = "") -> T:
    """The value of `key` in the object at `path`; absent or of another type is a RequestError."""
    if key not in fields:
        raise refuse(join(path, key), "nothing", shape.accepted)
    return check(fields[key], shape, join(path, key))


def optional(fields: Mapping[str, Any], key: str, shape: Shape[T], path: str = "") -> T | None:
    """The value of `key` in the object at `path`, None when absent or null; another type is a RequestError."""
    value = fields.get(key)
    return None if value is None else check(value, shape, join(path, key))


def join(path: str, key: str) -> str:
    """The path of `key` in the object at `path` ("" is the body itself)."""
    return f"{path}.{key}" if path else key


def describe(value: object) -> str:
    """A JSON value in words, short enough for an error message."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {value if len(value) <= SHOWN_CHARS else value[:SHOWN_CHARS] + '…'!r}"
        case int() if value.bit_length() > 64:  # its decimal form may be refused by Python, which is slow at it
            return "a very large number"
        case int() | float():
            return f"the number {value}"
        case list():
            return "an array"
    return "an object"
