"""Providers' refusals in Anthropic's terms: status, type, wording, and when to come back."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr_asgi.errors import ERROR_TYPES, SHOWN_CHARS, ProviderError, RawHeaders, to_anthropic
from ccr_asgi.formats.openai_errors import from_event, from_http

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def refused(
    status: int = 400,
    body: object = b"",
    headers: RawHeaders = (),
    *,
    secrets: tuple[str, ...] = (),
    now: datetime | None = NOON,
) -> ProviderError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_http("acme", status, headers, data, secrets=secrets, now=now)


def said(text: object) -> dict[str, Any]:
    """OpenAI's form."""
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}


# The table


@pytest.mark.parametrize(
    ("status", "shown", "error_type", "should_retry"),
    [
        (400, 400, "invalid_request_error", None),
        (401, 401, "authentication_error", False),
        (402, 402, "billing_error", False),
        (403, 403, "permission_error", False),
        (404, 404, "not_found_error", None),
        (405, 400, "invalid_request_error", None),
        (408, 504, "timeout_error", None),
        (409, 400, "invalid_request_error", None),
        (413, 413, "request_too_large", None),
        (422, 400, "invalid_request_error", None),
        (429, 429, "rate_limit_error", None),
        (499, 400, "invalid_request_error", None),
        (500, 502, "api_error", None),
        (501, 502, "api_error", None),
        (502, 502, "api_error", None),
        (503, 529, "overloaded_error", None),
        (504, 504, "timeout_error", None),
        (520, 502, "api_error", None),
        (529, 529, "overloaded_error", None),
        (301, 502, "api_error", None),
        (399, 502, "api_error", None),
        (599, 502, "api_error", None),
        (100, 502, "api_error", None),
    ],
)
def test_a_status_becomes_anthropic_s(status: int, shown: int, error_type: str, should_retry: bool | None) -> None:
    error = refused(status, said("no"))
    assert (error.status, error.error_type, error.should_retry) == (shown, error_type, should_retry)
    assert error.message == "acme: no"


@pytest.mark.parametrize("words", ["insufficient_quota", "You exceeded your current quota, please check your plan"])
def test_a_quota_that_is_used_up_is_not_worth_a_retry(words: str) -> None:
    assert refused(429, said(words)).should_retry is False
    assert [refused(status, said(words)).should_retry for status in (400, 404, 503, 529)] == [None] * 4


# The words


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no"}},
        {"error": {"message": {"detail": "no"}}},
        {"error": "no"},
        {"message": "no", "type": "invalid_request_error"},
        {"detail": "no"},
        {"detail": [{"loc": ["body"], "msg": "no", "type": "missing"}]},
        {"detail": [{"msg": "no"}, {"msg": "neither"}, {"msg": "nor"}]},
        [{"error": {"code": 400, "message": "no"}}],
        {"error": {"code": 5}, "message": "no"},
        {"error": {"message": " "}, "detail": "no"},
        {"error": None, "message": "  no\n"},
        {"success": False, "errors": [{"code": 10000, "message": "no"}], "messages": []},
        b"no",
        b"  no\r\n",
    ],
)
def test_the_provider_s_own_words_are_found(body: object) -> None:
    assert refused(400, body).message == "acme: no"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("the model is busy", ": the model is busy"),
        ('{"error": {"message": "the model is busy", "code": 429}}', ": the model is busy"),
        ("[]", ""),
        ("", ""),
        ("<html>Bad gateway</html>", ""),
        ({"error": "busy"}, ""),
        (None, ""),
    ],
)
def test_the_words_of_a_provider_behind_the_provider_are_told(raw: object, told: str) -> None:
    error = {"code": 429, "message": "Provider returned error", "metadata": {"provider_name": "b", "raw": raw}}
    assert refused(429, {"error": error}).message == f"acme: Provider returned error{told}"
    assert from_event("acme", {"error": error}).message == f"acme: Provider returned error{told}"


@pytest.mark.parametrize("metadata", [None, [], {}, "raw"])
def test_metadata_without_words_add_none(metadata: object) -> None:
    assert refused(403, {"error": {"message": "no", "metadata": metadata}}).message == "acme: no"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"5",
        b'{"error": {}}',
        b'{"error": []}',
        b'{"error": {"message": "cut o',
        b"[{",
        b"<!DOCTYPE html><html><body>Bad gateway</body></html>",
        b"  <html>",
        b"Error:<br>nginx",
        b'{"error": {"message": "<html><body>Bad gateway</body></html>"}}',
        b'{"error": ' * 200 + b'"deep"' + b"}" * 200,
        b'{"error": ' * 100_000,
        b"[" * 100_000,
    ],
)
def test_without_words_the_status_is_told_and_never_html(body: bytes) -> None:
    assert refused(502, body).message == "acme: The provider answered with status 502."


@pytest.mark.parametrize(("depth", "found"), [(1, True), (7, True), (8, True), (9, False)])
def test_words_are_sought_eight_objects_deep(depth: int, found: bool) -> None:
    body: object = "no"
    for _ in range(depth):
        body = {"error": body}
    assert (refused(502, body).message == "acme: no") is found


@pytest.mark.parametrize("status", [404, 405])
def test_a_place_that_is_not_there_asks_about_the_url(status: int) -> None:
    said_nothing = refused(status, b"")
    assert said_nothing.message.endswith(f"answered with status {status}. Is baseUrl the full URL of the endpoint?")
    assert "baseUrl" not in refused(status, said("no such model")).message


def test_too_long_a_context_without_numbers_gets_an_estimate() -> None:
    error = from_http("acme", 400, [], b'{"message": "Please reduce the length"}', estimate=lambda: 5_000)
    assert error.message == "prompt is too long: 5000 tokens > 4999 maximum"


def test_the_provider_s_own_code_is_kept() -> None:
    assert refused(400, {"error": {"message": "m", "code": "c", "type": "t"}}).code == "c"
    assert refused(400, {"error": {"message": "m", "code": None, "type": "t"}}).code == "t"
    assert refused(400, {"error": {"message": "m", "code": 5, "type": "t"}}).code == "t"
    assert refused(400, {"error": {"message": "m", "code": "", "type": "t"}}).code == "t"
    assert refused(400, {"error": {"message": "m", "code": 5, "type": ""}}).code is None
    assert refused(400, {"detail": "m"}).code is None


def test_words_are_one_line_without_control_characters() -> None:
    assert refused(400, said("a\r\n\tb  c\x1b[31m\x00\u202e!\ud800")).message == "acme: a b c[31m!"


def test_words_that_are_no_utf_8_do_no_harm() -> None:
    assert refused(400, b"caf\xe9").message == "acme: caf\N{REPLACEMENT CHARACTER}"


def test_long_words_are_shortened() -> None:
    message = refused(400, said("x" * 2000)).message
    assert len(message) == SHOWN_CHARS
    assert message.startswith("acme: xxx")
    assert message.endswith("…")
    assert "…" not in refused(400, said("x" * (SHOWN_CHARS - len("acme: ")))).message


# Keys


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefgh12345678",
        "sk-abcde***********wxyz",
        "csk-abcdefgh12345678",
        "gsk_abcdefgh12345678",
        "xai-abcdefgh12345678",
        "hf_abcdefgh12345678",
        "nvapi-abcdefgh12345678",
        "AIza" + "x" * 35,
        "Bearer abcdefgh.ijklmn_o",
        "bearer   0123456789",
        "e" + "yJhbGciOiJI.e" + "yJzdWIi.c2ln",
    ],
)
def test_what_looks_like_a_key_is_blanked_out(key: str) -> None:
    for text in (f"Incorrect API key provided: {key}. See docs", f"key={key}"):
        message = refused(401, said(text)).message
        assert "***" in message
        assert key.split()[-1] not in message
        assert not set(key.split()[-1].split("-")[1:]) & set(message.split("-"))


def test_words_about_keys_stay() -> None:
    text = "invalid_api_key: the api_key parameter, sk-something or key-value-store are not known"
    assert refused(401, said(text)).message == f"acme: {text}"


@pytest.mark.parametrize("word", ["sk-", "api_", "key-x-"])
def test_endless_beginnings_of_keys_do_no_harm(word: str) -> None:
    """Where each looked through all that follow it, this would not end within the test's time."""
    assert refused(401, said(word * 200_000)).message.startswith(f"acme: {word * 3}")


def test_secrets_are_blanked_out_whatever_they_look_like() -> None:
    error = refused(401, said("token 'hush hush' and hush2"), secrets=("hush hush", "", "hush2"))
    assert error.message == "acme: token '***' and ***"


def test_a_key_at_the_end_of_what_is_shown_is_not_cut_in_half() -> None:
    text = "x" * (SHOWN_CHARS - 20) + " sk-abcdefgh12345678abcdefgh12345678"
    assert "sk-" not in refused(401, said(text)).message


@settings(deadline=None)
@given(st.text(max_size=300), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=20))
def test_no_text_lets_a_secret_through(text: str, secret: str) -> None:
    error = refused(400, said(f"{text} {secret} {text}"), secrets=(secret,))
    assert secret not in error.message.removeprefix("acme: ")
    assert len(error.message) <= SHOWN_CHARS


# The length of the context


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            "130000 tokens > 128000 maximum",
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens (8000 in the "
            "messages, 2000 in the completion). Please reduce the length of the messages or completion.",
            "10000 tokens > 8192 maximum",
        ),
        (
            "Please reduce the length of the messages or completion. Current length is 140000 while limit is 131072",
            "140000 tokens > 131072 maximum",
        ),
        ("prompt is too long: 210,000 tokens > 200,000 maximum", "210000 tokens > 200000 maximum"),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "1200000 tokens > 1048576 maximum",
        ),
        (
            "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
            "40000 tokens > 32768 maximum",
        ),
        (
            "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
            "140000 tokens > 131072 maximum",
        ),
        ("too many tokens: 9000 of 8000", "9000 tokens > 8000 maximum"),
        ("the request exceeds the available context size (4096 tokens)", "4097 tokens > 4096 maximum"),
        ("maximum context length is 8192", "8193 tokens > 8192 maximum"),
        ("maximum context length is 8191", "8192 tokens > 8191 maximum"),
        ("maximum context length is 8192, of which 4000 are left", "8193 tokens > 8192 maximum"),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 12000 tokens (10000 in the "
            "messages, 2000 in the completion).",
            "12000 tokens > 8192 maximum",
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_too_long_a_context_gets_the_wording_that_clients_know(text: str, shown: str, status: int) -> None:
    error = refused(status, said(text))
    assert error.message == f"prompt is too long: {shown}"
    assert (error.status, error.error_type, error.should_retry) == (400, "invalid_request_error", None)


@pytest.mark.parametrize("text", ["Please reduce the length, 9000 is too much", "Please reduce the length"])
def test_one_number_alone_is_no_limit_unless_it_is_called_one(text: str) -> None:
    assert refused(400, said(text)).message.endswith("the model's context is smaller than the conversation")


@pytest.mark.parametrize("code", ["context_length_exceeded", "exceed_context_size_error"])
def test_too_long_a_context_may_be_told_by_its_code_alone(code: str) -> None:
    error = refused(400, {"error": {"message": "Bad request", "code": code}})
    assert error.message == "prompt is too long: the model's context is smaller than the conversation"


@pytest.mark.parametrize("digits", ["9" * 5000, "1,000," * 2000])
def test_endless_numbers_do_no_harm(digits: str) -> None:
    assert refused(400, said(f"maximum context length is {digits}")).message.startswith("prompt is too long")


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_other_statuses_are_not_about_the_context(status: int) -> None:
    assert refused(status, said("reduce the length")).message == "acme: reduce the length"


# When to come back


def waits(headers: dict[str, str], status: int = 429, text: str = "slow down") -> float | None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return refused(status, said(text), raw).retry_after_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        ("0", 0),
        ("2.1", 3),
        (" 7 ", 7),
        ("3600", 3600),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 23 Nov 2026 12:00:30 -0000", None),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert waits({"Retry-After": value}) == seconds


def test_a_date_is_compared_with_the_present() -> None:
    date = [(b"retry-after", b"Mon, 23 Nov 2020 12:00:30 GMT")]
    assert refused(429, b"", date, now=None).retry_after_s == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset-tokens-minute": "11.38"}, 12),
        ({"x-ratelimit-reset-requests": "1s"}, 1),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "17ms"}, 1),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3724),
        ({"x-ratelimit-reset-tokens": "1d"}, 86400),
        ({"x-ratelimit-reset-tokens": "whenever"}, None),
        ({"x-ratelimit-reset-requests-day": "33011.4", "x-ratelimit-reset-tokens-minute": "11.4"}, 33012),
        (
            {
                "x-ratelimit-reset-requests-day": "33011.4",
                "x-ratelimit-remaining-requests-day": "14000",
                "x-ratelimit-reset-tokens-minute": "11.4",
                "x-ratelimit-remaining-tokens-minute": "0",
            },
            12,
        ),
        ({"x-ratelimit-reset-tokens": "5s", "x-ratelimit-remaining-tokens": "100"}, None),
        ({"retry-after": "2", "x-ratelimit-reset-tokens": "50s"}, 2),
        ({"retry-after": "soon", "x-ratelimit-reset-tokens": "50s"}, 50),
        ({"retry-after-ms": "2500"}, 3),
        ({"retry-after": "7", "retry-after-ms": "2500"}, 7),
        ({"retry-after-ms": "1e3", "x-ratelimit-reset-tokens": "50s"}, 50),
    ],
)
def test_the_limit_that_is_used_up_says_when_it_is_new(headers: dict[str, str], seconds: float | None) -> None:
    assert waits(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached. Please try again in 11.054s. Visit us", 12),
        ("Please try again in 6m0s.", 360),
        ("Try again in 250ms", 1),
        ("try again in 500 milliseconds", 1),
        ("please retry after 20 seconds", 20),
        ("retry in 1 minute", 60),
        ("Please retry after 2 hours and be patient", 7200),
        ("please retry later", None),
        ("try again in a while", None),
    ],
)
def test_the_words_may_say_when_to_come_back(text: str, seconds: float | None) -> None:
    assert waits({}, text=text) == seconds


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503, 529])
def test_the_words_of_any_other_error_set_no_time(status: int) -> None:
    assert waits({}, status, text="try again in 20s") is None


def test_headers_count_before_words() -> None:
    assert waits({"retry-after": "1"}, text="try again in 20s") == 1


@pytest.mark.parametrize(("status", "seconds"), [(503, 5), (529, 5), (500, None), (400, None), (401, None)])
def test_only_what_passes_by_itself_has_a_time(status: int, seconds: float | None) -> None:
    assert waits({"retry-after": "5"}, status) == seconds


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_retry_after_can_be_sent_on(value: bytes) -> None:
    error = refused(429, b"", [(b"retry-after", value), (b"x-ratelimit-reset-tokens", value)])
    assert to_anthropic(error, "req_1").status == 429


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(300, 599))
def test_any_body_is_an_error(body: bytes, status: int) -> None:
    error = refused(status, body)
    assert error.status in ERROR_TYPES
    assert len(error.message) <= SHOWN_CHARS
    assert to_anthropic(error, "req_1").body


# Errors inside a stream or a 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"error": {"message": "no"}}, 502),
        ({"error": {"message": "no", "code": 429}}, 429),
        ({"error": {"message": "no", "code": "429"}}, 429),
        ({"error": {"message": "no", "type": "rate_limit_error", "code": None}}, 429),
        ({"error": {"message": "no", "type": "requests", "code": "rate_limit_exceeded"}}, 429),
        ({"error": {"message": "no", "code": "invalid_api_key"}}, 401),
        ({"error": {"message": "no", "type": "server_error"}}, 502),
        ({"error": {"message": "no", "type": "overloaded_error"}}, 529),
        ({"error": {"message": "no"}, "status_code": 503}, 529),
        ({"error": "no", "status_code": 404}, 404),
        ({"object": "error", "message": "no", "code": 400}, 400),
        ({"message": "no", "status": 418}, 400),
        ({"message": "no", "code": 200}, 502),
        ({"message": "no", "code": "9" * 5000}, 502),
        ({"message": "no", "code": True}, 502),
        ({"message": "no", "code": [429]}, 502),
        ("no", 502),
    ],
)
def test_an_error_object_has_a_status_of_its_own(error: object, status: int) -> None:
    found = from_event("acme", error)
    assert (found.status, found.message) == (status, "acme: no")


STATUS_BY_CODE = {
    400: (
        *("bio_policy", "context_length_exceeded", "cyber_policy", "invalid_encrypted_content", "invalid_prompt"),
        *("invalid_request", "invalid_request_error"),
    ),
    401: ("authentication_error", "invalid_api_key", "token_expired", "token_invalidated"),
    403: ("permission_error", "usage_not_included"),
    404: ("model_not_found", "not_found_error"),
    429: (
        *("insufficient_quota", "rate_limit_error", "rate_limit_exceeded", "request_quota_exceeded", "slow_down"),
        *("token_quota_exceeded", "too_many_requests_error", "usage_limit_reached"),
    ),
    504: ("timeout",),
    529: ("overloaded_error", "server_is_overloaded", "service_unavailable"),
    502: ("server_error", "a word of tomorrow"),
}


@pytest.mark.parametrize(
    ("status", "code"), [(status, code) for status, codes in STATUS_BY_CODE.items() for code in codes]
)
@pytest.mark.parametrize("key", ["code", "type"])
def test_a_code_has_a_status(status: int, code: str, key: str) -> None:
    assert from_event("acme", {"error": {"message": "no", key: code}}).status == status


def test_a_code_counts_before_a_type() -> None:
    error = {"error": {"message": "no", "code": "context_length_exceeded", "type": "timeout"}}
    assert from_event("acme", error).status == 400


@pytest.mark.parametrize(
    ("code", "status"), [(399, 502), (400, 400), (418, 400), (499, 400), (500, 502), (599, 502), (600, 502), (601, 502)]
)
def test_a_number_is_a_status_if_it_is_one_of_an_error(code: int, status: int) -> None:
    for told in (code, str(code)):
        assert from_event("acme", {"error": {"message": "no", "code": told}}).status == status


@pytest.mark.parametrize(("code", "status"), [(399, 504), (400, 400), (599, 502), (600, 504), (601, 504)])
def test_a_number_that_is_no_status_lets_the_next_word_tell(code: int, status: int) -> None:
    for told in (code, str(code)):
        error = {"error": {"message": "no", "code": told, "type": "timeout"}}
        assert from_event("acme", error).status == status


@pytest.mark.parametrize("error", [None, 5, [], {}, {"error": {}}, {"error": True}, "<html>Bad gateway</html>"])
def test_an_error_without_words_is_still_one(error: object) -> None:
    found = from_event("acme", error)
    assert (found.status, found.message) == (502, "acme: The provider reported an error.")


def test_an_error_object_keeps_to_the_other_rules() -> None:
    assert from_event("acme", {"error": {"message": "no", "code": 401}}).should_retry is False
    assert from_event("acme", {"error": {"message": "try again in 2s", "code": 429}}).retry_after_s == 2
    assert from_event("acme", {"error": {"message": "hush"}}, secrets=("hush",)).message == "acme: ***"
    found = from_event("acme", {"error": {"message": "maximum context length is 8192"}})
    assert (found.status, found.message) == (400, "prompt is too long: 8193 tokens > 8192 maximum")
