"""JSON in and out, behind one seam.

msgspec does the work; where it refuses what other JSON parsers take (lone surrogates, which Claude Code can send when
it cuts a file in the middle of an emoji), the standard library has a second try.
"""

import json
import math
from typing import Any, NoReturn

import msgspec

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def loads(data: bytes | str, *, odd_numbers: bool = False) -> Any:
    """Parse one JSON document.

    Args:
        data: The document.
        odd_numbers: Take `NaN`, `Infinity` and numbers beyond all bounds, for null. Python servers write them (a
            log probability, say), and beside them stands what must not be lost.

    Raises:
        ValueError: It is not JSON, not UTF-8, nested too deeply, or has a number of that kind; the message says where.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _loads_slowly(data, odd_numbers=odd_numbers)


def dumps(value: object) -> bytes:
    """Write `value`, which `loads` could have returned, as compact UTF-8 JSON; lone surrogates become escapes.

    Raises:
        RecursionError: It is nested too deeply.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _loads_slowly(data: bytes | str, *, odd_numbers: bool) -> Any:
    constant, number = (_null, _finite_or_null) if odd_numbers else (_refuse_constant, _finite)
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, parse_constant=constant, parse_float=number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # it could not be written again
        raise ValueError(f"{text[:20]} is beyond all bounds")
    return value


def _null(_name: str) -> None:
    return None


def _finite_or_null(text: str) -> float | None:
    value = float(text)
    return None if math.isinf(value) else value
