"""A call's arguments as OpenAI's APIs write them: JSON in a string, which may come in pieces and be cut off."""

from typing import Any

from ccr_asgi.formats.partial_json import read_partial
from ccr_asgi.wire.json_codec import dumps, loads


def arguments_object(text: str) -> dict[str, Any] | None:
    """The object that complete arguments are; nothing and null stand for an empty one. None for anything else."""
    if not text.strip():
        return {}
    try:
        value = loads(text)
        if isinstance(value, str):  # encoded twice
            value = loads(value)
    except ValueError:
        return None
    return {} if value is None else value if isinstance(value, dict) else None


def are_cut(text: str) -> bool:
    """Whether the arguments are not complete, though they may have gone on to be."""
    if arguments_object(text) is not None:
        return False
    if not text.startswith("{"):
        return "null".startswith(text) or (text.startswith('"') and not _is_json(text))
    try:
        read_partial(text)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except ValueError:
        return False
    return True


def arguments_text(value: object) -> str:
    """A fragment of arguments; some providers send the object itself.

    A lone surrogate becomes its escape, which means the same in JSON and goes together with the other half, should that
    be in the next fragment.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else dumps(value).decode()
    return text.encode("utf-8", "backslashreplace").decode()
