"""JSON that was cut off, read as far as it goes."""

from typing import Any

from ccr_asgi.wire.json_codec import loads

_CLOSERS = {"{": "}", "[": "]"}


def parse_partial(text: str) -> dict[str, Any]:
    """The object that `text` is, or begins to be: what was not finished is left out, down to an empty object.

    A call's arguments can be cut off by the token limit; the official SDKs read them in the same way.
    """
    try:
        value = loads(text)
    except ValueError:
        value = _parse_repaired(text)
    return value if isinstance(value, dict) else {}


def _parse_repaired(text: str) -> Any:
    """Parse up to the last place where all that was begun can simply be closed."""
    open_brackets: list[str] = []
    cut, closing = 0, ""
    in_string = escaped = False
    for position, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            open_brackets.append(_CLOSERS[char])
            cut, closing = position + 1, "".join(reversed(open_brackets))
        elif char in "}]" and open_brackets:
            open_brackets.pop()
            cut, closing = position + 1, "".join(reversed(open_brackets))
        elif char == ",":
            cut, closing = position, "".join(reversed(open_brackets))
    try:
        return loads(text[:cut] + closing)
    except ValueError:
        return {}
