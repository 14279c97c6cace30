"""Refusals of the Responses API and of the subscription's backend: what the client is shown of each."""

import json
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.errors import ProviderError
from ccr_asgi.formats.openai_responses_errors import LOGIN_HINT, Refusals
from tests.formats.golden import FIXTURES
from tests.formats.responses_answers import INPUT_TOKENS, NOW_S

FOLDERS = sorted((FIXTURES / "openai-responses-errors").iterdir())
Headers = list[tuple[bytes, bytes]]


def refusals(*, login: bool = True, secrets: tuple[str, ...] = ()) -> Refusals:
    return Refusals("p", login=login, secrets=secrets, estimate=lambda: INPUT_TOKENS, now=lambda: NOW_S)


def http(status: int, error: object, headers: Headers | None = None, *, login: bool = True) -> ProviderError:
    return refusals(login=login).http(status, headers or [], json.dumps({"error": error}).encode())


def seen(error: ProviderError) -> dict[str, Any]:
    """All that a client or a retry goes by."""
    return {
        "status": error.status,
        "type": error.error_type,
        "message": error.message,
        "retry_after_s": error.retry_after_s,
        "should_retry": error.should_retry,
        "code": error.code,
    }


def read_http(raw: bytes) -> tuple[int, Headers, bytes]:
    head, _, body = raw.partition(b"\n\n")
    status, *lines = head.split(b"\n")
    fields = [line.partition(b": ") for line in lines]
    return int(status.split()[1]), [(name, value) for name, _, value in fields], body


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_golden(folder: Path) -> None:
    """`answer.http` is what the backend sent; `error.json` what becomes of it."""
    error = refusals().http(*read_http((folder / "answer.http").read_bytes()))
    assert seen(error) == json.loads((folder / "error.json").read_text("utf-8"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_same_within_a_stream(folder: Path) -> None:
    """An error object tells the same inside a 200, but for what only headers tell."""
    _, _, body = read_http((folder / "answer.http").read_bytes())
    expected = json.loads((folder / "error.json").read_text("utf-8"))
    if expected["code"] in (None, "invalid_request_error", "unsupported_value"):
        return  # the status told what it is
    error = seen(refusals().event(json.loads(body)))
    assert {**error, "retry_after_s": None} == {**expected, "retry_after_s": None}


# Quotas and rates


@pytest.mark.parametrize(
    ("told", "wait_s", "words"),
    [
        ({"resets_in_seconds": 60}, 60, "It resets at 2026-11-23 00:21 UTC, in 1 min."),
        ({"resets_at": NOW_S + 7200}, 7200, "It resets at 2026-11-23 02:20 UTC, in 2 h."),
        ({"resets_at": NOW_S + 1, "resets_in_seconds": 7201}, 7201, "It resets at 2026-11-23 00:20 UTC, in 2 h 1 min."),
        ({"resets_in_seconds": 90_000.5}, 90_001, "It resets at 2026-11-24 01:20 UTC, in 1 d 1 h."),
        ({"resets_in_seconds": 86_400}, 86_400, "It resets at 2026-11-24 00:20 UTC, in 1 d."),
        ({"resets_in_seconds": 86_340}, 86_340, "It resets at 2026-11-24 00:19 UTC, in 23 h 59 min."),
        ({"resets_in_seconds": 3540}, 3540, "It resets at 2026-11-23 01:19 UTC, in 59 min."),
        ({"resets_in_seconds": 0}, 0, "It resets at 2026-11-23 00:20 UTC, in a moment."),
        (
            {"resets_in_seconds": 10**11 - 1},
            10**11 - 1,
            "It resets at 5195-10-08 10:06 UTC, in 1157407 d 9 h.",
        ),
        ({"resets_in_seconds": 10**11}, None, ""),
        ({"resets_at": NOW_S - 100}, 0, "It resets at 2026-11-23 00:18 UTC, in a moment."),
        ({"resets_at": None, "resets_in_seconds": "60"}, None, ""),
        ({"resets_in_seconds": True}, None, ""),
        ({"resets_in_seconds": -1}, None, ""),
        ({"resets_at": 1e300}, None, ""),
        ({}, None, ""),
    ],
)
def test_a_quota_tells_when_it_resets(told: dict[str, Any], wait_s: int | None, words: str) -> None:
    limit = {"type": "usage_limit_reached", "message": "No more.", "plan_type": "plus", **told}
    found = [http(429, limit), refusals().event({"type": "error", "error": limit}), refusals().event(limit)]
    for error in found:
        assert seen(error) == {
            "status": 429,
            "type": "rate_limit_error",
            "message": f"p: No more. {words}".strip(),
            "retry_after_s": wait_s,
            "should_retry": False,
            "code": "usage_limit_reached",
        }


@pytest.mark.parametrize(
    ("message", "headers", "wait_s"),
    [
        ("Slow down.", [(b"retry-after", b"7")], 7),
        ("Slow down.", [(b"Retry-After", b"3600")], 60),
        ("Please try again in 11.054s.", [], 12),
        ("Please try again in 2m.", [], 60),
        ("Please try again in 900ms.", [], 1),
        ("Slow down.", [], None),
    ],
)
@pytest.mark.parametrize("code", ["rate_limit_exceeded", "slow_down", None])
def test_a_rate_limit_waits_a_minute_at_most(
    message: str, headers: Headers, wait_s: int | None, code: str | None
) -> None:
    error = http(429, {"code": code, "message": message}, headers)
    assert (error.status, error.error_type, error.retry_after_s) == (429, "rate_limit_error", wait_s)
    assert error.should_retry is None
    if code and not headers:
        told = refusals().event({"code": code, "message": message})
        assert (told.status, told.retry_after_s) == (429, wait_s)


def test_an_overload_may_last_longer_than_a_minute() -> None:
    assert http(503, {"message": "no"}, [(b"retry-after", b"3600")]).retry_after_s == 3600


# What no retry mends


@pytest.mark.parametrize("code", ["cyber_policy", "bio_policy", "invalid_prompt"])
def test_a_policy_is_not_tried_again(code: str) -> None:
    for error in (http(400, {"code": code, "message": "no"}), refusals().event({"code": code, "message": "no"})):
        assert (error.status, error.error_type, error.should_retry) == (400, "invalid_request_error", False)


def test_a_plan_without_codex_is_no_rate_limit() -> None:
    for login in (True, False):
        error = http(429, {"type": "usage_not_included", "message": "no"}, [(b"retry-after", b"5")], login=login)
        assert (error.status, error.error_type, error.should_retry) == (403, "permission_error", False)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_missing_scopes_are_a_matter_of_the_login(status: int) -> None:
    error = http(status, {"message": "You have insufficient permissions. Missing scopes: api.responses.write."})
    assert (error.status, error.error_type, error.should_retry) == (401, "authentication_error", False)
    assert error.message.endswith(LOGIN_HINT)


def test_missing_scopes_of_a_key_are_not_tried_again() -> None:
    error = http(400, {"message": "Missing scopes: api.responses.write."}, login=False)
    assert (error.status, error.should_retry) == (401, False)


def test_only_the_login_is_told_to_log_in() -> None:
    error = http(401, {"code": "invalid_api_key", "message": "Incorrect API key."}, login=False)
    assert (error.status, error.message, error.should_retry) == (401, "p: Incorrect API key.", False)


# Load and failures


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, {"message": "no"}),
        (503, {"code": "server_is_overloaded", "message": "no"}),
        (400, {"message": "Selected model is at capacity. Please try a different model."}),
        (500, {"message": "At capacity."}),
        (429, {"message": "Selected model is at capacity. Please try a different model."}),
    ],
)
def test_load_is_load(status: int, error: dict[str, Any]) -> None:
    found = http(status, error)
    assert (found.status, found.error_type) == (529, "overloaded_error")


@pytest.mark.parametrize(
    ("status", "shown", "kind"),
    [(500, 502, "api_error"), (502, 502, "api_error"), (520, 502, "api_error"), (504, 504, "timeout_error")],
)
@pytest.mark.parametrize("body", [b"", b"<html>cloudflare</html>", b'{"error":{"message":"no"}}', b"{", b"[" * 60_000])
def test_a_failing_backend(status: int, shown: int, kind: str, body: bytes) -> None:
    error = refusals().http(status, [], body)
    assert (error.status, error.error_type) == (shown, kind)
    assert "<" not in error.message


@pytest.mark.parametrize("reported", [None, "no", 7, [], {}, {"error": None}, {"error": []}, {"message": {}}])
def test_an_error_of_any_form_is_one(reported: object) -> None:
    assert refusals().event(reported).status == 502


# Pages


PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"


@pytest.mark.parametrize("header", [b"cf-ray", b"CF-Ray"])
def test_a_page_for_browsers_is_not_shown(header: bytes) -> None:
    error = refusals().http(403, [(header, b"abc-FRA")], PAGE)
    assert (error.status, error.error_type, error.should_retry) == (403, "permission_error", False)
    assert "made for browsers" in error.message


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (403, [], PAGE),
        (403, [(b"age", b"0"), (b"date", b"x")], PAGE),
        (400, [(b"cf-ray", b"abc")], PAGE),
        (403, [(b"cf-ray", b"abc")], b'{"error": {"message": "Country not supported"}}'),
        (404, [(b"cf-ray", b"abc")], PAGE),
    ],
)
def test_other_refusals_are_told_in_their_own_way(status: int, headers: Headers, body: bytes) -> None:
    error = refusals().http(status, headers, body)
    assert error.status == status
    assert "made for browsers" not in error.message
    assert "<" not in error.message


def test_a_refusal_that_came_through_cloudflare_is_told_whatever_it_quotes() -> None:
    body = b'{"error": {"message": "Not <yet> in your country."}}'
    assert refusals().http(403, [(b"cf-ray", b"abc")], body).message == "p: Not <yet> in your country."


# Context and secrets


def test_a_prompt_that_is_too_long_is_told_with_the_backend_s_numbers() -> None:
    message = "This model's maximum context length is 272000 tokens, however you requested 300000 tokens."
    for error in (
        http(400, {"code": "context_length_exceeded", "message": message}),
        refusals().event({"code": "context_length_exceeded", "message": message}),
    ):
        assert (error.status, error.message) == (400, "prompt is too long: 300000 tokens > 272000 maximum")


def test_secrets_are_blanked_out() -> None:
    made = refusals(secrets=("hush-hush",))
    for error in (made.http(400, [], b'{"detail": "bad hush-hush"}'), made.event({"message": "bad hush-hush"})):
        assert error.message == "p: bad ***"


def test_the_present_is_the_clock_s() -> None:
    headers = [(b"retry-after", b"Mon, 23 Nov 2026 00:20:30 GMT")]
    assert http(429, {"message": "no"}, headers).retry_after_s == 30
