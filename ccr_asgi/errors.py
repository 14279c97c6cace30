"""The exceptions of this package, and the one way they become Anthropic error bodies.

Everything that can go wrong while a request is served is a `CcrError`: it knows the HTTP status and the Anthropic
error type that the client shall see, and carries a message written for a person.

    CcrError
     ├── RequestError            the client's request cannot be served as it is          400
     │    ├── AuthenticationError    a credential is missing or refused                  401
     │    ├── PermissionDenied       a foreign host, origin or peer                      403
     │    ├── NotFound               no such page or endpoint                            404
     │    ├── MethodNotAllowed       our page, another method                            405
     │    ├── RequestTooLarge        the body is over the limit                          413
     │    ├── UnsupportedEncoding    the body is compressed                              415
     │    ├── BudgetSpent            a budget of the configuration is used up            429
     │    └── HeadersTooLarge        the header fields are over the limit                431
     ├── ProviderError           what a converter made of a provider's refusal      any status
     └── UpstreamError           the upstream's raw refusal, or no answer at all
          ├── UpstreamUnreachable    nothing was received: safe to send again            502
          ├── UpstreamCut            the answer ended before its end                     502
          └── UpstreamTimeout        silence for longer than the limit                   504
    ConfigError                  the configuration is unusable (start-up, never a response)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

RawHeaders = Sequence[tuple[bytes, bytes]]

ERROR_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "api_error",
    502: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error type for each status that we send (anthropic SDK, `anthropic.types.shared`)."""

SHOWN_CHARS = 500
"""How much of an upstream's text an error message may show."""


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, key, what was found and what is accepted."""


class CcrError(Exception):
    """A failure that the client is told about.

    Args:
        message: For a person; never holds a secret or one of our internals.
        status: The HTTP status to answer with; the class's own when left out.
        error_type: Anthropic's `error.type`; derived from the status when left out.
        retry_after_s: Seconds for the `retry-after` header.
        should_retry: Value of the `x-should-retry` header, which the Anthropic SDKs and Claude Code obey; None sends
            none.
    """

    status = 500

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error_type: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.status if status is None else status
        self.error_type = error_type or ERROR_TYPES.get(self.status, "api_error")
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry


class RequestError(CcrError):
    """The client's request cannot be served as it is."""

    status = 400


class AuthenticationError(RequestError):
    """A credential is missing or was refused; a retry cannot mend it."""

    status = 401

    def __init__(self, message: str) -> None:
        super().__init__(message, should_retry=False)


class PermissionDenied(RequestError):
    """The peer, the host or the origin may not use this server."""

    status = 403


class NotFound(RequestError):
    """There is no such page or endpoint."""

    status = 404


class MethodNotAllowed(RequestError):
    """One of our own pages was asked with a method it does not have."""

    status = 405


class RequestTooLarge(RequestError):
    """The request's body is larger than `limits.bodyMb`."""

    status = 413


class UnsupportedEncoding(RequestError):
    """The request's body is compressed; it is never inflated."""

    status = 415


class BudgetSpent(RequestError):
    """A budget of the configuration is used up; a retry cannot mend it before it begins anew.

    Args:
        message: For a person.
        begins_anew_s: Seconds until the budget begins anew.
    """

    status = 429

    def __init__(self, message: str, *, begins_anew_s: float) -> None:
        super().__init__(message, retry_after_s=begins_anew_s, should_retry=False)


class HeadersTooLarge(RequestError):
    """The request's header fields are larger than 64 KB in total."""

    status = 431


class ProviderError(CcrError):
    """A provider's refusal or failure, in Anthropic's terms (made by `Conversion.error` and the stream machines).

    Attributes:
        code: The provider's own word for it, which its conversion may know how to mend; None if it gave none.
    """

    status = 502
    code: str | None = None


class UpstreamError(CcrError):
    """The upstream refused, before the first byte reached the client: its status, headers and first 64 KB.

    Raised by `UpstreamApp` on converted legs only (a passthrough leg sends the upstream's own answer), and turned
    into a `ProviderError` by the conversion. Shown as it is, it is a plain 502.
    """

    status = 502

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int | None = None,
        headers: RawHeaders = (),
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status
        self.headers = headers
        self.body = body


class UpstreamUnreachable(UpstreamError):
    """No byte of an answer was received: refused, unresolved, or closed before the status line."""


class UpstreamCut(UpstreamError):
    """The connection ended in the middle of an answer."""


class UpstreamTimeout(UpstreamError):
    """The upstream was silent for longer than its limit."""

    status = 504


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error as it goes to the client: `headers` are complete for a JSON answer but for content-length."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def to_anthropic(error: CcrError, request_id: str) -> ErrorResponse:
    """Render `error` as Anthropic's error JSON: `{"type": "error", "error": {type, message}, "request_id"}`."""
    body = msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": error.error_type, "message": _printable(error.message)},
            "request_id": request_id,
        }
    )
    headers = [(b"content-type", b"application/json"), (b"request-id", request_id.encode("ascii", "replace"))]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(0, round(error.retry_after_s))))
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    return ErrorResponse(error.status, headers, escape_html(body))


def to_sse_event(error: CcrError, request_id: str) -> bytes:
    """Render `error` as the `event: error` that ends an Anthropic stream which has already started."""
    return b"event: error\ndata: " + to_anthropic(error, request_id).body + b"\n\n"


def escape_html(json_bytes: bytes) -> bytes:
    """Write `<`, `>` and `&` of a JSON document as escapes, so that no browser can read it as a page."""
    return json_bytes.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")


def _printable(text: str) -> str:
    # Lone surrogates cannot be encoded; an error about a bad body must not fail on the bad body's text.
    return text.encode("utf-8", "replace").decode("utf-8")
