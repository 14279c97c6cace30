"""JSON that was cut off, read as far as it goes."""

import re
from typing import Any

from ccr_asgi.wire.json_codec import loads

_CLOSERS = {"{": "}", "[": "]"}
_MARK = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\],]', re.DOTALL)
"""A whole string, the quote of one without an end, or a mark between values."""

_OPEN_STRING = r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
_CUT_STRING = rf"{_OPEN_STRING}(?:\\(?:u[0-9a-fA-F]{{0,3}})?)?"
_CUT_NUMBER = r"-?(?:(?:0|[1-9]\d*)(?:\.\d*|(?:\.\d+)?[eE][+-]?\d*)?)?"
_CUT_WORD = r"t(?:r(?:u)?)?|f(?:a(?:l(?:s)?)?)?|n(?:u(?:l)?)?"
_CUT_VALUE = rf"(?:{_CUT_STRING}|{_CUT_NUMBER}|{_CUT_WORD})"
_CUT_MEMBER = rf'(?:{_CUT_STRING}|{_OPEN_STRING}"\s*(?::\s*{_CUT_VALUE})?)?'
_NEXT = {
    "}": ('"":0', re.compile(rf"\s*{_CUT_MEMBER}")),
    "]": ("0", re.compile(rf"\s*{_CUT_VALUE}")),
}
"""For an object and an array: what could stand next in it, and the form of what does when it was cut off."""


def parse_partial(text: str) -> dict[str, Any]:
    """The object that `text` is, or begins to be: what was not finished is left out, down to an empty object."""
    try:
        value = read_partial(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_partial(text: str) -> Any:
    """The object or array that `text` is, or begins to be, without what was not finished.

    A call's arguments can be cut off by the token limit; the official SDK reads them in the same way (`jiter.from_json`
    with `partial_mode=True`), but for what JSON does not have, such as NaN or text behind the end.

    Raises:
        ValueError: However it went on, it would not be JSON.
    """
    try:
        return loads(text)
    except ValueError:
        cut, closing = _last_mark(text)
    try:
        return loads(text + closing)  # it was cut behind a whole value
    except ValueError:
        if not closing:
            raise
    following, cut_off = _NEXT[closing[0]]
    if not cut_off.fullmatch(text, cut):
        raise ValueError("not the beginning of JSON")
    loads(text[:cut] + following + closing)
    return loads(text[:cut].removesuffix(",") + closing)


def _last_mark(text: str) -> tuple[int, str]:
    """The end of the last mark that is not part of a string, and what closes the brackets that are open there."""
    end, closers = 0, list[str]()
    for mark in _MARK.finditer(text):
        match mark[0]:
            case '"':
                break
            case "{" | "[" as bracket:
                closers.append(_CLOSERS[bracket])
            case "}" | "]":
                del closers[-1:]
            case ",":
                pass
            case _:
                continue
        end = mark.end()
    return end, "".join(reversed(closers))
