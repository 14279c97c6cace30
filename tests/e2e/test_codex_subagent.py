"""A subagent on a ChatGPT subscription, with the real client: its reasoning goes with it from call to call."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.claude_code import ClaudeCode
from tests.e2e.conftest import CODEX_MODEL, CODEX_PATH
from tests.e2e.story import (
    AGENT,
    AGENT_PROMPT,
    MAIN_USAGE,
    OAUTH,
    OAUTH_TOKEN,
    SUBAGENT_SAYS,
    WRITE,
    all_bytes,
    assert_the_work_was_done,
    main_session,
)
from tests.support.codex_login import ACCOUNT_ID, access_token, write_login
from tests.support.fake_upstream import Answer, FakeUpstream, RecordedRequest, ToolCall, responses_completed
from tests.support.server import RunningServer

pytestmark = pytest.mark.e2e

TAG = f"<CCR-SUBAGENT-MODEL>codex,{CODEX_MODEL}</CCR-SUBAGENT-MODEL>"
READ_BACK = ToolCall("Bash", {"command": "cat made-by-subagent.txt", "description": "Read it back"})
REASONING = ["gAAAAABinventedReasoningOfTheFirstCall==", "gAAAAABinventedReasoningOfTheSecondCall=="]
USAGE: list[dict[str, Any]] = [
    {
        "input_tokens": 3000 + turn,
        "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 500},
        "output_tokens": 30 + turn,
        "output_tokens_details": {"reasoning_tokens": 20 + turn},
        "total_tokens": 3030 + 2 * turn,
    }
    for turn in range(3)
]


def codex(request: RecordedRequest) -> Answer:
    """Write, read back, report; what comes next depends on how much the conversation holds."""
    results = [item for item in request.json()["input"] if item["type"] == "function_call_output"]
    turn = len(results)
    if turn == 2:
        return responses_completed(SUBAGENT_SAYS, usage=USAGE[2])
    call = (WRITE, READ_BACK)[turn]
    return responses_completed(None, tool_calls=[call], encrypted_reasoning=REASONING[turn], usage=USAGE[turn])


def test_a_subagent_on_codex_keeps_its_reasoning(
    claude: ClaudeCode, product: RunningServer, anthropic_side: FakeUpstream, chat_side: FakeUpstream, tmp_path: Path
) -> None:
    anthropic_side.on("/v1/messages", main_session)
    chat_side.on(CODEX_PATH, codex)
    write_login(tmp_path / "auth.json")
    claude.write_agent(AGENT, f"{TAG}\n{AGENT_PROMPT}\n")
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    first, second, third = (request.json() for request in chat_side.requests)
    assert_reasoning_stands_before_its_call(second["input"], [WRITE])
    assert_reasoning_stands_before_its_call(third["input"], [WRITE, READ_BACK])
    assert "marker" in [item["output"].strip() for item in third["input"] if item["type"] == "function_call_output"]
    assert AGENT_PROMPT in first["instructions"]
    assert {body["prompt_cache_key"] for body in (first, second, third)} == {first["prompt_cache_key"]}
    for request in chat_side.requests:
        assert request.header("authorization") == f"Bearer {access_token()}".encode()
        assert request.header("chatgpt-account-id") == ACCOUNT_ID.encode()
        assert request.header("session-id") == first["prompt_cache_key"].encode()
    sent = all_bytes(chat_side)
    for private in (OAUTH_TOKEN, run.session_id, "CCR-SUBAGENT-MODEL", "x-anthropic-billing-header"):
        assert private.encode() not in sent, private
    assert_usage_adds_up(product.usage_rows(5))


def assert_reasoning_stands_before_its_call(items: list[dict[str, Any]], calls: list[ToolCall]) -> None:
    for call, encrypted in zip(calls, REASONING, strict=False):
        (place,) = [place for place, item in enumerate(items) if item.get("call_id") == call.id and "name" in item]
        assert json.loads(items[place]["arguments"]) == call.arguments
        reasoning = items[place - 1]
        assert (reasoning["type"], reasoning["encrypted_content"]) == ("reasoning", encrypted)
        assert "id" not in reasoning
    assert [item["type"] for item in items].count("reasoning") == len(calls)


def assert_usage_adds_up(rows: list[dict[str, Any]]) -> None:
    elsewhere = sorted((row for row in rows if row["provider"] == "codex"), key=lambda row: str(row["started_at"]))
    assert len(elsewhere) == 3
    assert len(rows) == 3 + len(MAIN_USAGE)
    for row, told in zip(elsewhere, USAGE, strict=True):
        writes = row["cache_write_5m_tokens"] + (row["cache_write_1h_tokens"] or 0)
        assert row["input_tokens"] + row["cache_read_tokens"] + writes == told["input_tokens"]
        assert (row["cache_read_tokens"], writes, row["output_tokens"]) == (2000, 500, told["output_tokens"])
        assert row["reasoning_tokens"] == told["output_tokens_details"]["reasoning_tokens"]
        assert (row["outcome"], row["model"], row["billed_usd"]) == ("ok", CODEX_MODEL, 0)
