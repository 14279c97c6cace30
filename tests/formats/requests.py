"""Short ways to write requests and to convert them."""

from typing import Any

import pytest

from ccr_asgi.config import Provider
from ccr_asgi.errors import RequestError
from ccr_asgi.formats.openai_chat_request import ChatRequest, convert
from ccr_asgi.quirks import Quirks
from ccr_asgi.routing import Route

PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"


def route(model: str | None = "m", quirks: Quirks | None = None, **provider: Any) -> Route:
    """A route to a plain provider, or to one with `quirks`."""
    entry = Provider("plain", "openai-chat", "http://127.0.0.1:1/v1", quirks=quirks or Quirks(), **provider)
    return Route(entry, model, "tag")


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": _content(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": _content(content)}


def system(*content: Any) -> dict[str, Any]:
    return {"role": "system", "content": _content(content)}


def _content(content: tuple[Any, ...]) -> Any:
    """A string alone stays one; beside others it becomes a block."""
    if len(content) == 1 and isinstance(content[0], str):
        return content[0]
    return [text(entry) if isinstance(entry, str) else entry for entry in content]


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def use(call_id: str, name: str = "T", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def result(call_id: str, *content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": _content(content), **fields}


def image(url: str | None = None) -> dict[str, Any]:
    source = {"type": "url", "url": url} if url else {"type": "base64", "media_type": "image/png", "data": PNG}
    return {"type": "image", "source": source}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **fields}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "claude-x", "max_tokens": 100, "messages": list(messages) or [user("hi")], **fields}


def converted(*messages: dict[str, Any], quirks: Quirks | None = None, model: str = "m", **fields: Any) -> ChatRequest:
    return convert(body(*messages, **fields), route(model, quirks))


def sent(*messages: dict[str, Any], quirks: Quirks | None = None, model: str = "m", **fields: Any) -> dict[str, Any]:
    """The Chat Completions body of a request."""
    return converted(*messages, quirks=quirks, model=model, **fields).body


def conversation(*messages: dict[str, Any], quirks: Quirks | None = None, **fields: Any) -> list[dict[str, Any]]:
    """The Chat Completions messages of a request."""
    found: list[dict[str, Any]] = sent(*messages, quirks=quirks, **fields)["messages"]
    return found


def refusal(request: dict[str, Any], quirks: Quirks | None = None) -> str:
    """The message of the 400 that a request is answered with."""
    with pytest.raises(RequestError) as caught:
        convert(request, route(quirks=quirks))
    assert caught.value.status == 400
    assert caught.value.error_type == "invalid_request_error"
    return caught.value.message
