"""The system prompt as another provider may see it: without the routing tag and the client's billing line."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ccr_asgi.formats.fields import OBJECT, STRING, check, describe, join, refuse, required
from ccr_asgi.routing import strip_tag

BILLING_PREFIX = "x-anthropic-billing-header:"
"""How Claude Code's first system block begins. It is Anthropic's business, and it changes with every request, which
would spoil the provider's prefix cache."""

TEXT_OR_BLOCKS = "a string or an array of text blocks"

_BILLING_LINE = re.compile(rf"\A\s*{BILLING_PREFIX}[^\n]*\n?")


def prompt_texts(body: Mapping[str, Any]) -> list[str]:
    """The texts of the body's `system`, in order, fit for another provider; blank ones are left out.

    Raises:
        RequestError: `system` is neither a string nor an array of text blocks.
    """
    system = body.get("system")
    if system is None:
        return []
    if isinstance(system, str):
        texts = [without_billing_line(system)]
    elif isinstance(system, list):
        texts = [text for text in text_blocks(system, "system") if not is_billing(text)]
    else:
        raise refuse("system", describe(system), TEXT_OR_BLOCKS)
    return [text for text in map(strip_tag, texts) if text.strip()]


def text_blocks(blocks: list[Any], path: str) -> Iterator[str]:
    """The texts of an array that may hold only text blocks.

    Raises:
        RequestError: An element is no text block.
    """
    for index, element in enumerate(blocks):
        block_path = f"{path}[{index}]"
        block = check(element, OBJECT, block_path)
        kind = required(block, "type", STRING, block_path)
        if kind != "text":
            raise refuse(f"{block_path}.type", describe(kind), "'text'")
        yield required(block, "text", STRING, block_path)


def text_of(fields: Mapping[str, Any], key: str, path: str) -> str:
    """The text of a field that is a string or an array of text blocks; "" when absent or null.

    Raises:
        RequestError: It is anything else.
    """
    value = fields.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise refuse(join(path, key), describe(value), TEXT_OR_BLOCKS)
    return join_texts(list(text_blocks(value, join(path, key))))


def join_texts(texts: list[str]) -> str:
    """Several blocks' texts as one: blank ones left out, a blank line between the others."""
    return "\n\n".join(text for text in texts if text.strip())


def is_billing(text: str) -> bool:
    """Whether a system block is the client's billing line."""
    return text.lstrip().startswith(BILLING_PREFIX)


def without_billing_line(text: str) -> str:
    """A system prompt that is one string, without the billing line it may begin with."""
    return _BILLING_LINE.sub("", text)
