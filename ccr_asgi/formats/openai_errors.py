"""What a provider's refusal becomes for an Anthropic client; docs/wire-formats.md has the table.

Providers agree on little: OpenAI nests the error, Cerebras and others send it flat, some answer with FastAPI's
`detail`, some with a page of HTML. The client is shown the provider's own words, shortened, without HTML and without
keys.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ccr_asgi.errors import SHOWN_CHARS, ProviderError, RawHeaders
from ccr_asgi.wire.json_codec import loads

STATUSES: Mapping[int, int] = {
    400: 400,
    401: 401,
    402: 402,
    403: 403,
    404: 404,
    408: 504,
    413: 413,
    422: 400,
    429: 429,
    503: 529,
    504: 504,
    529: 529,
}
"""The status that the client gets for a provider's; any other 4xx is a 400, anything else a 502."""

HINTS: Mapping[int, str] = dict.fromkeys((404, 405), " Is baseUrl the full URL of the endpoint?")
"""What to look at when a provider gives a status and no reason."""

NOT_MENDED_BY_RETRY = frozenset({401, 402, 403})

CODES: Mapping[str, int] = {
    "authentication_error": 401,
    "bio_policy": 400,
    "context_length_exceeded": 400,
    "cyber_policy": 400,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_encrypted_content": 400,
    "invalid_prompt": 400,
    "invalid_request": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_quota_exceeded": 429,
    "server_is_overloaded": 529,
    "service_unavailable": 529,
    "slow_down": 429,
    "timeout": 504,
    "token_expired": 401,
    "token_invalidated": 401,
    "token_quota_exceeded": 429,
    "too_many_requests_error": 429,
    "usage_limit_reached": 429,
    "usage_not_included": 403,
}
"""Status for the `code` or `type` of an error object that comes without one, inside a stream or a 200."""

_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size|context window|prompt is too long"
    r"|(?:maximum|available|max) (?:context|prompt|model) (?:length|size)|maximum model length|maximum number of tokens"
    r"|reduce the length|exceeded model token limit|token count .{0,40}exceeds|prompt exceeds"
    r"|too many (?:input )?tokens",
    re.IGNORECASE,
)
"""How providers say that the context is full: OpenAI, Cerebras, Groq, vLLM, llama.cpp, OpenRouter, Mistral, xAI,
Google, Moonshot, Zhipu."""
_NUMBER = r"(?<![\w.-])(\d{1,3}(?:,\d{3}){1,3}|\d{3,12})(?![\w-])"
_NUMBERS = re.compile(_NUMBER)
_MAXIMUM = re.compile(
    rf"(?:(?:length|size|limit|maximum|at most|tokens allowed)(?: (?:is|of|in))?:?|>) ?\(?{_NUMBER}"
    rf"|{_NUMBER} (?:maximum|limit|max)",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"insufficient_quota|billing_hard_limit|exceeded your current quota", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"\d{1,9}(?:\.\d*)?")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?) ?(ms|milli|s|m|h|d)[a-z]*", re.IGNORECASE)
_TRY_AGAIN = re.compile(rf"(?:try again|retry) (?:in|after) ((?:{_DURATION.pattern} ?)+)", re.IGNORECASE)
_UNITS_S = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_KEY = re.compile(
    r"\b(?:sk|csk|pk|gsk|xai|nvapi|hf|key|api)[-_](?=[\w*-]{0,99}[\d*])[\w*-]{8,}|\bAIza[\w-]{20,}|\beyJ[\w-]{8,}[\w.-]*"
    r"|(?i:bearer)\s+[\w.~+/=-]{8,}"
)
_HTML = re.compile(r"^\s*<|<(?:html|!doctype|head|body|title|center|h1|p|br)\b", re.IGNORECASE)
_NESTED = 8
"""How deep a message may stand in an error document."""


def from_http(
    provider: str,
    status: int,
    headers: RawHeaders,
    body: bytes,
    *,
    secrets: Sequence[str] = (),
    now: datetime | None = None,
    estimate: Callable[[], int] | None = None,
) -> ProviderError:
    """The error for an answer that is not 2xx.

    Args:
        provider: The provider's name, which the message begins with.
        status: Its HTTP status.
        headers: Its header fields, for the time to wait.
        body: Its first 64 KB.
        secrets: Texts that are blanked out of the message, whatever they look like.
        now: The time that an HTTP date is compared with; by default the present.
        estimate: Asked for the prompt's tokens where it is too long and the provider gives no number.
    """
    found = {name.lower(): value.decode("latin-1") for name, value in headers}
    plain = body.decode("utf-8", "replace")
    document: object = None
    try:
        document = loads(body)
        text = _message(document)
    except ValueError:
        text = "" if plain.lstrip().startswith(("{", "[")) else plain  # no JSON, or JSON whose end was cut off
    return _error(
        provider,
        STATUSES.get(status, 400 if 400 <= status < 500 else 502),
        _without_html(text) or f"The provider answered with status {status}.{HINTS.get(status, '')}",
        marks=plain,
        code=_code(document),
        wait_s=_wait_s(found, now) if status in (429, 503, 529) else None,
        secrets=secrets,
        estimate=estimate,
    )


def from_event(
    provider: str, error: object, *, secrets: Sequence[str] = (), estimate: Callable[[], int] | None = None
) -> ProviderError:
    """The error for an error object inside a stream, or for a 200 whose body is one."""
    outer = error if isinstance(error, dict) else {}
    inner = outer.get("error")
    places = [inner, outer] if isinstance(inner, dict) else [outer]
    named = [place.get(key) for place in places for key in ("status_code", "status", "code", "type")]
    status = next((found for found in map(_status_of, named) if found is not None), 502)
    text = _without_html(error if isinstance(error, str) else _message(error)) or "The provider reported an error."
    return _error(
        provider,
        status,
        text,
        marks=str(error),
        code=_code(error),
        wait_s=None,
        secrets=secrets,
        estimate=estimate,
    )


def _code(error: object) -> str | None:
    """The provider's word for an error: `code`, else `type`."""
    outer = error if isinstance(error, dict) else {}
    inner = outer.get("error")
    place = inner if isinstance(inner, dict) else outer
    return next((found for key in ("code", "type") if isinstance(found := place.get(key), str) and found), None)


def _status_of(named: object) -> int | None:
    if isinstance(named, str):
        named = CODES.get(named) or (int(named) if re.fullmatch(r"[0-9]{3}", named) else None)
    if isinstance(named, int) and 400 <= named < 600:
        return STATUSES.get(named, 400 if named < 500 else 502)
    return None


def _error(
    provider: str,
    status: int,
    text: str,
    *,
    marks: str,
    code: str | None,
    wait_s: float | None,
    secrets: Sequence[str],
    estimate: Callable[[], int] | None,
) -> ProviderError:
    if status in (400, 413, 502) and _CONTEXT.search(marks):
        error = ProviderError(_too_long(text, estimate), status=400)
    else:
        should_retry = None
        if status in NOT_MENDED_BY_RETRY or (status == 429 and _QUOTA.search(marks)):
            should_retry = False
        if status == 429 and wait_s is None:
            wait_s = _asked_wait_s(marks)
        # The header takes whole seconds; a client that came a moment too early would be refused again.
        retry_after_s = None if wait_s is None else math.ceil(wait_s)
        shown = f"{provider}: {_without_secrets(text, secrets)}"
        error = ProviderError(_short(shown), status=status, retry_after_s=retry_after_s, should_retry=should_retry)
    error.code = code
    return error


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def _too_long(text: str, estimate: Callable[[], int] | None) -> str:
    """The wording that Claude Code knows, with the provider's numbers where it tells them.

    The client wants two numbers. A prompt that is told to be too long is at least one token longer than the limit.
    """
    numbers = [_int(number) for number in _NUMBERS.findall(text)]
    maxima = [_int(match[1] or match[2]) for match in _MAXIMUM.finditer(text)]
    limit = min(maxima or numbers) if maxima or len(numbers) > 1 else None
    larger = [number for number in numbers if limit is not None and number > limit]
    if limit is not None and larger:
        return f"prompt is too long: {larger[0]} tokens > {limit} maximum"
    if limit is not None:
        return f"prompt is too long: {limit + 1} tokens > {limit} maximum"
    if estimate is not None:
        tokens = estimate()
        return f"prompt is too long: {tokens} tokens > {tokens - 1} maximum"
    return "prompt is too long: the model's context is smaller than the conversation"


def _int(number: str) -> int:
    return int(number.replace(",", ""))


def _message(value: object, depth: int = _NESTED) -> str:
    """The text of an error document: error.message, error, message, detail, errors, whichever comes first."""
    if isinstance(value, list) and value:  # FastAPI's validation errors; Gemini's list of one
        value = value[0]
    if not isinstance(value, dict) or not depth:
        return ""
    for key in ("error", "message", "detail", "msg", "errors"):
        found = value.get(key)
        text = found if isinstance(found, str) else _message(found, depth - 1)
        if text.strip():
            return text + _quoted(value)
    return ""


def _quoted(error: Mapping[str, Any]) -> str:
    """What the provider behind OpenRouter said: OpenRouter's own words are "Provider returned error" at most."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str):
        return ""
    try:
        words = _message(loads(raw))
    except ValueError:
        words = _without_html(raw)
    return f": {words}" if words else ""


def _without_html(text: str) -> str:
    """`text` on one line, or nothing if it is a page."""
    text = " ".join(text.split())
    return "" if _HTML.search(text) else text


def _without_secrets(text: str, secrets: Sequence[str]) -> str:
    """`text` with keys blanked out, and without characters that a terminal would obey."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return "".join(char for char in _KEY.sub("***", text) if char.isprintable())


def _wait_s(headers: Mapping[bytes, str], now: datetime | None) -> float | None:
    """Seconds to wait: `retry-after` as a number or a date, `retry-after-ms`, else the latest `x-ratelimit-reset-*`."""
    value = headers.get(b"retry-after", "").strip()
    told = _duration_s(value) if _PLAIN_NUMBER.fullmatch(value) else _until_s(value, now)
    if told is not None:
        return told
    if _PLAIN_NUMBER.fullmatch(value := headers.get(b"retry-after-ms", "").strip()):  # read by OpenAI's own SDK
        return float(value) / 1000
    exhausted = [
        _duration_s(value)
        for name, value in headers.items()
        if name.startswith(b"x-ratelimit-reset")
        and headers.get(name.replace(b"reset", b"remaining"), "0") in ("0", "0.0")
    ]
    return max((wait for wait in exhausted if wait is not None), default=None)


def _asked_wait_s(text: str) -> float | None:
    match = _TRY_AGAIN.search(text)
    return _duration_s(match[1]) if match else None


def _until_s(date: str, now: datetime | None) -> float | None:
    """Seconds until an HTTP date; None if it is none."""
    try:
        return max(0.0, (parsedate_to_datetime(date) - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _duration_s(text: str) -> float | None:
    """Seconds of "11.054" (Cerebras), "6m0s" or "17ms" (OpenAI)."""
    if _PLAIN_NUMBER.fullmatch(text):
        return float(text)
    parts = _DURATION.findall(text)
    return sum(float(number) * _UNITS_S[unit.lower()] for number, unit in parts) if parts else None
