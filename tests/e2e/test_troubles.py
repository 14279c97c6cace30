"""What the person reads when a subagent's provider is in trouble, and that a long silence is none."""

import pytest

from tests.e2e.claude_code import ClaudeCode
from tests.e2e.story import (
    AGENT,
    AGENT_PROMPT,
    OAUTH,
    TAG,
    assert_the_work_was_done,
    is_from_subagent,
    main_session,
    subagent_elsewhere,
    turns,
)
from tests.support.fake_upstream import Answer, Delay, FakeUpstream, RecordedRequest, chat_error
from tests.support.server import RunningServer

pytestmark = pytest.mark.e2e

THINKS_S = 90


@pytest.fixture
def agent(claude: ClaudeCode, anthropic_side: FakeUpstream) -> None:
    anthropic_side.on("/v1/messages", main_session)
    claude.write_agent(AGENT, f"{TAG}\n{AGENT_PROMPT}\n")


TROUBLES = {
    "key refused": (chat_error(401, "Wrong API key."), 401, "Wrong API key"),
    "rate limit": (chat_error(429, "Too many tokens per minute."), 429, "Too many tokens per minute"),
    "overload": (chat_error(503, "We are overloaded."), 529, "overloaded"),
    "context overflow": (
        chat_error(
            400,
            "This model's maximum context length is 131072 tokens. However, your messages resulted in 140000 tokens.",
            "context_length_exceeded",
        ),
        400,
        "rompt is too long",
    ),
}


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(("answer", "status", "words"), TROUBLES.values(), ids=TROUBLES)
def test_what_a_provider_says_reaches_the_person(
    claude: ClaudeCode,
    product: RunningServer,
    anthropic_side: FakeUpstream,
    chat_side: FakeUpstream,
    answer: Answer,
    status: int,
    words: str,
) -> None:
    chat_side.on("/v1/chat/completions", answer)
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert words in run.text
    assert run.exit_code == 0, "the main session goes on, and tells of it"
    assert not [turn for turn in turns(anthropic_side) if is_from_subagent(turn)], "Anthropic was asked in its place"
    refused = [row for row in product.usage_rows(3) if row["provider"] == "cerebras"]
    assert refused
    assert {(row["status"], row["outcome"]) for row in refused} == {(status, "error")}


@pytest.mark.usefixtures("agent")
@pytest.mark.timeout(THINKS_S + 90)
def test_a_provider_that_thinks_for_a_minute_and_a_half(
    claude: ClaudeCode, product: RunningServer, chat_side: FakeUpstream
) -> None:
    """In real time: it is the client's patience that is tried, and pings that keep it."""

    def slowly(request: RecordedRequest) -> Answer:
        answer = subagent_elsewhere(request)
        return answer.inserting(0, Delay(THINKS_S)) if len(chat_side.requests) == 1 else answer

    chat_side.on("/v1/chat/completions", slowly)
    run = claude.run("Delegate it.", product.url, OAUTH, patience_s=THINKS_S + 60)
    assert_the_work_was_done(run, claude)
    assert len(chat_side.requests) == 2, "the client asked again though nothing was wrong"
    elsewhere = [row for row in product.usage_rows(4) if row["provider"] == "cerebras"]
    assert [row["outcome"] for row in elsewhere] == ["ok", "ok"]
    assert max(row["ttft_ms"] for row in elsewhere) >= THINKS_S * 1000
