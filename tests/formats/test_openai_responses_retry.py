"""What a Responses conversion tries a second time: the other lane, and a request without earlier reasoning."""

import json
from collections.abc import Sequence

import pytest

from ccr_asgi.config import Provider
from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut
from ccr_asgi.formats.base import Conversion, ConversionContext, UpstreamRequest
from ccr_asgi.formats.openai_responses import Lanes, OpenAiResponses
from ccr_asgi.quirks import PRESETS, quirks_from_mapping
from tests.formats.requests import assistant, body, text, user
from tests.formats.responses_answers import completed, failed, said, sse, words
from tests.formats.responses_requests import CODEX, Refusal, begin, refused, route

LITE_HEADER = (b"x-openai-internal-codex-responses-lite", b"true")

NOT_FOUND: Refusal = (
    404,
    {"error": {"message": "Model not found gpt-6-sol", "type": "invalid_request_error", "code": None}},
)
NO_LITE: Refusal = (400, {"error": {"message": "Not supported when using X-OpenAI-Internal-Codex-Responses-Lite."}})
NO_CONTEXT: Refusal = (
    400,
    {"error": {"message": "Unknown parameter: 'reasoning.context'.", "code": "unknown_parameter"}},
)
WRONG_LANE = [NOT_FOUND, NO_LITE, NO_CONTEXT]
UNREADABLE: Refusal = (
    400,
    {"error": {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted_content"}},
)
MINE = assistant({"type": "thinking", "thinking": "t", "signature": "ccr-reasoning:gAAA"}, text("a"))


def again(conversion: Conversion, answer: Refusal) -> UpstreamRequest:
    """The request that is sent after a refusal."""
    changed = conversion.retry(refused(conversion, answer))
    assert changed is not None
    return changed


def lane(request: UpstreamRequest) -> str:
    """The lane of a request: its header and its body must agree."""
    header, sent = LITE_HEADER in request.headers, json.loads(request.body)
    assert header == ("instructions" not in sent) == ("context" in sent.get("reasoning", {}))
    return "lite" if header else "full"


def item_types(request: UpstreamRequest) -> list[str]:
    return [item["type"] for item in json.loads(request.body)["input"]]


@pytest.mark.parametrize(
    ("model", "setting", "expected"),
    [
        ("gpt-6-sol", "auto", "full"),
        ("gpt-6-luna", "auto", "lite"),
        ("gpt-5.6-luna", "auto", "lite"),
        ("gpt-5.5", "auto", "full"),
        ("my-model", "auto", "full"),
        ("gpt-6-luna", "full", "full"),
        ("gpt-6-sol", "lite", "lite"),
    ],
)
def test_the_first_lane(model: str, setting: str, expected: str) -> None:
    assert lane(begin(model=model, quirks=quirks_from_mapping(CODEX, {"lane": setting})).request) == expected


def test_a_retry_is_made_of_the_body_read_again() -> None:
    source = body(user("hello"), model="gpt-6-sol")
    context = ConversionContext("msg_1", "session-1", read_again=lambda: source)
    conversion = OpenAiResponses().begin(dict(source), route(), context)
    changed = again(conversion, NOT_FOUND)
    assert lane(changed) == "lite"
    assert json.loads(changed.body)["prompt_cache_key"] == json.loads(conversion.request.body)["prompt_cache_key"]


def test_the_public_api_has_one_lane() -> None:
    assert (
        lane(begin(model="gpt-6-luna", quirks=PRESETS["openai"], login=False, request=body(system="s")).request)
        == "full"
    )


@pytest.mark.parametrize("answer", WRONG_LANE)
@pytest.mark.parametrize(("model", "other"), [("gpt-6-sol", "lite"), ("gpt-6-luna", "full")])
def test_the_other_lane_is_tried_once(answer: Refusal, model: str, other: str) -> None:
    conversion = begin(model=model)
    assert lane(again(conversion, answer)) == other
    assert all(conversion.retry(refused(conversion, entry)) is None for entry in WRONG_LANE)


@pytest.mark.parametrize("setting", ["full", "lite"])
def test_a_lane_that_was_set_is_never_left(setting: str) -> None:
    conversion = begin(quirks=quirks_from_mapping(CODEX, {"lane": setting}))
    assert all(conversion.retry(refused(conversion, entry)) is None for entry in WRONG_LANE)


def test_the_other_lane_is_remembered_only_after_it_has_answered() -> None:
    format_ = OpenAiResponses()
    first = begin(format_=format_)
    again(first, NOT_FOUND)
    assert lane(begin(format_=format_).request) == "full"
    first.stream("text/event-stream")
    assert lane(begin(format_=format_).request) == "lite"


def test_what_is_remembered_is_for_one_model_of_one_provider() -> None:
    format_ = OpenAiResponses()
    first = begin(format_=format_)
    again(first, NOT_FOUND)
    first.stream("text/event-stream")
    assert lane(begin(model="gpt-6.1-sol", format_=format_).request) == "full"
    other = Provider("q", "openai-responses", "http://127.0.0.1:2", quirks=CODEX, auth_file="x")
    assert Lanes().choose(other, "gpt-6-sol") == "full"
    full = begin(quirks=quirks_from_mapping(CODEX, {"lane": "full"}), format_=format_)
    assert lane(full.request) == "full"


def test_a_remembered_lane_can_be_left_again() -> None:
    format_ = OpenAiResponses()
    for expected in ("lite", "full"):
        conversion = begin(format_=format_)
        assert lane(again(conversion, NOT_FOUND)) == expected
        conversion.stream("text/event-stream")
        assert lane(begin(format_=format_).request) == expected


def test_an_answer_on_the_first_lane_teaches_nothing() -> None:
    format_ = OpenAiResponses()
    begin(model="gpt-6-luna", quirks=quirks_from_mapping(CODEX, {"lane": "full"}), format_=format_).stream("")
    assert lane(begin(model="gpt-6-luna", format_=format_).request) == "lite"


def test_a_thousand_models_are_remembered_and_the_oldest_is_forgotten_first() -> None:
    lanes, provider = Lanes(), route().provider
    for number in range(1_001):
        lanes.remember(provider, f"m-{number}", "lite")
    assert [lanes.choose(provider, f"m-{number}") for number in (0, 1, 1_000)] == ["full", "lite", "lite"]


def test_what_was_used_last_is_the_newest_knowledge() -> None:
    lanes, provider = Lanes(), route().provider
    for name in ("m-first", *(f"m-{number}" for number in range(999)), "m-first", "m-last"):
        lanes.remember(provider, name, "lite")
    assert [lanes.choose(provider, name) for name in ("m-first", "m-0")] == ["lite", "full"]


# Reasoning that cannot be read


def test_the_request_is_tried_once_without_reasoning() -> None:
    conversion = begin(body(user("q"), MINE, user("r")))
    assert item_types(conversion.request) == ["message", "reasoning", "message", "message"]
    changed = again(conversion, UNREADABLE)
    assert item_types(changed) == ["message", "message", "message"]
    assert json.loads(changed.body)["include"] == ["reasoning.encrypted_content"]
    assert changed.headers == conversion.request.headers
    assert conversion.retry(refused(conversion, UNREADABLE)) is None


def test_without_reasoning_in_it_there_is_nothing_to_leave_out() -> None:
    conversion = begin()
    assert conversion.retry(refused(conversion, UNREADABLE)) is None


def test_a_failure_before_any_content_is_mended_too() -> None:
    conversion = begin(body(user("q"), MINE, user("r")))
    with pytest.raises(ProviderError) as caught:
        conversion.stream("text/event-stream").feed(sse(failed("invalid_encrypted_content", "Cannot verify.")))
    assert caught.value.code == "invalid_encrypted_content"
    changed = conversion.retry(caught.value)
    assert changed is not None
    assert "reasoning" not in item_types(changed)


@pytest.mark.parametrize("order", [[NOT_FOUND, UNREADABLE], [UNREADABLE, NOT_FOUND]])
def test_both_can_be_mended_in_one_request(order: Sequence[Refusal]) -> None:
    conversion = begin(body(user("q"), MINE, user("r")))
    again(conversion, order[0])
    changed = again(conversion, order[1])
    assert lane(changed) == "lite"
    assert item_types(changed) == ["message"] * 4
    assert all(conversion.retry(refused(conversion, entry)) is None for entry in (*WRONG_LANE, UNREADABLE))


@pytest.mark.parametrize(
    "answer",
    [
        (400, {"detail": "Unsupported parameter: max_output_tokens"}),
        (400, {"detail": "The 'gpt-x' model is not supported when using Codex with a ChatGPT account."}),
        (400, {"error": {"code": "context_length_exceeded", "message": "Too long."}}),
        (401, {"error": {"code": "token_expired", "message": "Model not found"}}),
        (403, {"error": {"message": "no"}}),
        (404, {"detail": "Not Found"}),
        (429, {"error": {"type": "usage_limit_reached", "message": "no"}}),
        (500, {"error": {"message": "Model not found"}}),
        (503, {"error": {"code": "server_is_overloaded", "message": "no"}}),
    ],
)
def test_nothing_else_is_tried_again(answer: Refusal) -> None:
    conversion = begin(body(user("q"), MINE, user("r")))
    assert conversion.retry(refused(conversion, answer)) is None


@pytest.mark.parametrize("error", [CcrError("Model not found", status=404), UpstreamCut("Model not found")])
def test_what_the_provider_did_not_say_is_not_mended(error: CcrError) -> None:
    assert begin().retry(error) is None


def test_the_answer_to_a_second_request_is_read_afresh() -> None:
    conversion = begin(body(user("q"), MINE, user("r")))
    first = conversion.stream("text/event-stream", [(b"openai-model", b"first")])
    with pytest.raises(ProviderError):
        first.feed(sse(said(0, "x"), failed("invalid_encrypted_content", "no")))
    machine = conversion.stream("text/event-stream")
    assert json.loads(machine.feed(sse(*words(0, "Hi"), completed(model="second"))))["content"][0]["text"] == "Hi"
    assert conversion.extra.served_model == "second"
