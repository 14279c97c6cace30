"""Short ways to convert requests to the Responses format."""

import json
from typing import Any

import pytest

from ccr_asgi.config import Provider
from ccr_asgi.errors import CcrError, RequestError
from ccr_asgi.formats.base import Conversion, ConversionContext, Format
from ccr_asgi.formats.openai_responses import OpenAiResponses
from ccr_asgi.formats.openai_responses_request import Lane, ResponsesRequest, convert
from ccr_asgi.quirks import PRESETS, Quirks
from ccr_asgi.routing import Route
from tests.formats.requests import body

CODEX = PRESETS["codex"]
CONTEXT = ConversionContext("msg_1", "session-1")

Refusal = tuple[int, dict[str, Any]]
"""The status and the document that a provider answers with."""


def route(model: str | None = "gpt-6-sol", quirks: Quirks = CODEX, *, login: bool = True, **fields: Any) -> Route:
    """A route to the subscription's backend, or to an endpoint with a key."""
    credential: dict[str, Any] = {"auth_file": "~/.codex/auth.json"} if login else {"api_key": "key-invented"}
    url = "http://127.0.0.1:1/responses"
    return Route(Provider("p", "openai-responses", url, quirks=quirks, **credential, **fields), model, "tag")


def converted(
    *messages: dict[str, Any],
    model: str = "gpt-6-sol",
    quirks: Quirks = CODEX,
    login: bool = True,
    session_id: str | None = "session-1",
    **fields: Any,
) -> ResponsesRequest:
    return convert(body(*messages, **fields), route(model, quirks, login=login), session_id)


def sent(*messages: dict[str, Any], lane: Lane = "full", **fields: Any) -> dict[str, Any]:
    """The body for one lane."""
    return converted(*messages, **fields).body(lane)


def items(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The input items."""
    found: list[dict[str, Any]] = sent(*messages, **fields)["input"]
    return found


def refusal(request: dict[str, Any]) -> str:
    """The message of the 400 that a request is answered with."""
    with pytest.raises(RequestError) as caught:
        convert(request, route())
    assert (caught.value.status, caught.value.error_type) == (400, "invalid_request_error")
    return caught.value.message


def begin(
    request: dict[str, Any] | None = None,
    model: str = "gpt-6-sol",
    quirks: Quirks = CODEX,
    *,
    format_: Format | None = None,
    **provider: Any,
) -> Conversion:
    """A conversion; by default of a format that knows nothing of any lane yet."""
    return (format_ or OpenAiResponses()).begin(request or body(), route(model, quirks, **provider), CONTEXT)


def refused(conversion: Conversion, answer: Refusal) -> CcrError:
    return conversion.error(answer[0], [], json.dumps(answer[1]).encode())
