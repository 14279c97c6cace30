"""What a refusal by OpenAI's Responses API, or by the subscription's backend, becomes for an Anthropic client.

The general rules are those of `openai_errors`; here stands what only these two say. The wordings and codes were
observed with the Codex CLI 0.169.0 and in reports about it; docs/wire-formats.md has the table.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ccr_asgi.errors import ProviderError, RawHeaders
from ccr_asgi.formats.answer_machine import mapping, read_json
from ccr_asgi.formats.openai_errors import from_event, from_http

MAX_WAIT_S = 60
"""A rate limit is told to pass within this time; Claude Code gives up at once when told to wait much longer."""

LOGIN_HINT = "Run `codex login`, then try again."

_NOT_MENDED_BY_RETRY = frozenset({"bio_policy", "cyber_policy", "invalid_prompt", "usage_not_included"})
_CHECK_PAGE = (
    "the backend answered with a page that is made for browsers: it does not take requests from this network now."
)


class Refusals:
    """Makes errors for one provider.

    Args:
        provider: Its name, which every message begins with.
        login: It is the subscription's backend, under the Codex CLI's login.
        secrets: Blanked out of messages.
        estimate: Asked for the prompt's tokens where it is too long and the provider gives no number.
        now: The time in epoch seconds.
    """

    def __init__(
        self,
        provider: str,
        *,
        login: bool,
        secrets: Sequence[str] = (),
        estimate: Callable[[], int] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._login = login
        self._secrets = secrets
        self._estimate = estimate
        self._now = now

    def http(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """The error for an answer that is not 2xx."""
        error = from_http(
            self._provider,
            status,
            headers,
            body,
            secrets=self._secrets,
            estimate=self._estimate,
            now=datetime.fromtimestamp(self._now(), UTC),
        )
        if status == 403 and body.lstrip().startswith(b"<") and any(name.lower() == b"cf-ray" for name, _ in headers):
            return _like(error, message=f"{self._provider}: {_CHECK_PAGE}")
        document = read_json(body)
        return self._in_own_terms(error, document if isinstance(document, dict) else {})

    def event(self, reported: object) -> ProviderError:
        """The error for an error object inside a stream, or for a 200 whose body is one."""
        error = from_event(self._provider, reported, secrets=self._secrets, estimate=self._estimate)
        return self._in_own_terms(error, reported if isinstance(reported, dict) else {})

    def _in_own_terms(self, error: ProviderError, document: Mapping[str, Any]) -> ProviderError:
        if error.code == "usage_limit_reached":
            return self._usage_limit(error, mapping(document, "error") or document)
        if error.code == "usage_not_included":
            return _like(error, status=403, should_retry=False)
        if error.code in _NOT_MENDED_BY_RETRY:
            return _like(error, should_retry=False)
        words = error.message.lower()
        if "missing scopes" in words:
            error = _like(error, status=401, should_retry=False)
        if "at capacity" in words:
            return _like(error, status=529)
        if error.status == 401 and self._login:
            return _like(error, message=f"{error.message} {LOGIN_HINT}", should_retry=False)
        if error.status == 429 and error.retry_after_s is not None:
            return _like(error, retry_after_s=min(MAX_WAIT_S, error.retry_after_s))
        return error

    def _usage_limit(self, error: ProviderError, told: Mapping[str, Any]) -> ProviderError:
        """The quota is used up: when it resets is what a person wants to know."""
        resets_at, wait_s = _number(told, "resets_at"), _number(told, "resets_in_seconds")
        if wait_s is None and resets_at is not None:
            wait_s = max(0.0, resets_at - self._now())
        if wait_s is None:
            return _like(error, status=429, should_retry=False)
        resets_at = self._now() + wait_s if resets_at is None else resets_at
        message = f"{error.message.rstrip('.')}. It resets at {_moment(resets_at)}, in {_duration(wait_s)}."
        return _like(error, message=message, status=429, retry_after_s=math.ceil(wait_s), should_retry=False)


def _like(error: ProviderError, **changes: Any) -> ProviderError:
    """The same error with some of it changed."""
    status = changes.get("status", error.status)
    made = ProviderError(
        changes.get("message", error.message),
        status=status,
        error_type=error.error_type if status == error.status else None,
        retry_after_s=changes.get("retry_after_s", error.retry_after_s),
        should_retry=changes.get("should_retry", error.should_retry),
    )
    made.code = error.code
    return made


def _number(told: Mapping[str, Any], key: str) -> float | None:
    value = told.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11
    return float(value) if usable and value is not None else None


def _moment(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    told = [f"{value} {unit}" for value, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if value]
    return " ".join(told[:2]) or "a moment"
