"""Every failure has a status, an Anthropic error type, and a rendering that no browser takes for a page."""

import json
import re
from typing import Any

import pytest

from ccr_asgi import errors
from ccr_asgi.errors import (
    AuthenticationError,
    CcrError,
    ProviderError,
    RequestError,
    UpstreamError,
    to_anthropic,
    to_sse_event,
)

CLASSES = [
    (errors.CcrError, 500, "api_error"),
    (errors.RequestError, 400, "invalid_request_error"),
    (errors.AuthenticationError, 401, "authentication_error"),
    (errors.PermissionDenied, 403, "permission_error"),
    (errors.NotFound, 404, "not_found_error"),
    (errors.MethodNotAllowed, 405, "invalid_request_error"),
    (errors.RequestTooLarge, 413, "request_too_large"),
    (errors.UnsupportedEncoding, 415, "invalid_request_error"),
    (errors.HeadersTooLarge, 431, "invalid_request_error"),
    (errors.ProviderError, 502, "api_error"),
    (errors.UpstreamError, 502, "api_error"),
    (errors.UpstreamUnreachable, 502, "api_error"),
    (errors.UpstreamCut, 502, "api_error"),
    (errors.UpstreamTimeout, 504, "timeout_error"),
]


@pytest.mark.parametrize(("kind", "status", "error_type"), CLASSES)
def test_each_class_has_its_status_and_type(kind: type[CcrError], status: int, error_type: str) -> None:
    error = kind("what happened")
    assert (error.status, error.error_type, error.message, str(error)) == (
        status,
        error_type,
        "what happened",
        "what happened",
    )


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^ +[ │├└─]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    defined = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)]
    assert sorted(drawn) == sorted(found.__name__ for found in defined)


@pytest.mark.parametrize(
    ("status", "error_type"),
    [(402, "billing_error"), (422, "invalid_request_error"), (429, "rate_limit_error"), (529, "overloaded_error")],
)
def test_a_status_names_its_type(status: int, error_type: str) -> None:
    assert ProviderError("no", status=status).error_type == error_type


def test_an_unlisted_status_is_an_api_error_unless_its_type_is_given() -> None:
    assert ProviderError("no", status=418).error_type == "api_error"
    assert ProviderError("no", status=418, error_type="overloaded_error").error_type == "overloaded_error"


def test_an_upstream_error_keeps_the_raw_refusal() -> None:
    error = UpstreamError("no", upstream_status=429, headers=[(b"retry-after", b"3")], body=b"{}")
    assert (error.status, error.upstream_status, error.headers, error.body) == (
        502,
        429,
        [(b"retry-after", b"3")],
        b"{}",
    )


def test_the_rendering_is_anthropics_error_json() -> None:
    answer = to_anthropic(RequestError("`model` is missing"), "req_1")
    assert answer.status == 400
    assert json.loads(answer.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "`model` is missing"},
        "request_id": "req_1",
    }
    assert answer.headers == [(b"content-type", b"application/json"), (b"request-id", b"req_1")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"retry_after_s": 2.4}, (b"retry-after", b"2")),
        ({"retry_after_s": -1}, (b"retry-after", b"0")),
        ({"should_retry": False}, (b"x-should-retry", b"false")),
        ({"should_retry": True}, (b"x-should-retry", b"true")),
    ],
)
def test_advice_about_retries_becomes_headers(given: dict[str, Any], expected: tuple[bytes, bytes]) -> None:
    assert expected in to_anthropic(ProviderError("later", status=429, **given), "req_1").headers


def test_a_missing_login_is_not_worth_a_retry() -> None:
    assert (b"x-should-retry", b"false") in to_anthropic(AuthenticationError("log in"), "req_1").headers


def test_no_browser_can_read_an_error_as_a_page_and_the_text_is_whole() -> None:
    text = "<script>alert('a & b')</script> \u2028 \ud83d \U0001f600"
    body = to_anthropic(RequestError(text), "req_1").body
    assert not {b"<", b">", b"&"} & {bytes([byte]) for byte in body}
    assert json.loads(body)["error"]["message"] == text.replace("\ud83d", "?")


def test_inside_a_stream_an_error_is_one_event() -> None:
    event = to_sse_event(RequestError("two\nlines"), "req_1")
    head, data = event.split(b"\n", 1)
    assert head == b"event: error"
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert json.loads(data.removeprefix(b"data: "))["error"]["message"] == "two\nlines"
