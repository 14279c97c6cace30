"""The promise, kept with the real client: the main session on its subscription, its tagged subagent elsewhere.

The story of every run: the main session calls the Agent tool, the subagent calls Bash, both say a last sentence. The
providers are scripts; the client, its tools and the product are real.
"""

import json
from typing import Any

import pytest

from tests.e2e.claude_code import ClaudeCode, Run
from tests.e2e.conftest import CHAT_KEY, CHAT_MODEL
from tests.e2e.story import (
    AGENT,
    AGENT_PROMPT,
    API_KEY,
    CHAT_USAGE,
    MAIN_USAGE,
    OAUTH,
    OAUTH_TOKEN,
    TAG,
    WRITE,
    all_bytes,
    assert_the_work_was_done,
    is_from_subagent,
    main_session,
    subagent_elsewhere,
    turns,
)
from tests.support.fake_upstream import Answer, FakeUpstream, Fault, anthropic_sse, chat_sse
from tests.support.server import ORDERLY_EXIT, RunningServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def story(anthropic_side: FakeUpstream, chat_side: FakeUpstream) -> None:
    """Both providers know their parts."""
    anthropic_side.on("/v1/messages", main_session)
    chat_side.on("/v1/chat/completions", subagent_elsewhere)


# The control: the story without the product


@pytest.mark.usefixtures("story")
def test_the_client_plays_its_part_without_us(claude: ClaudeCode, anthropic_side: FakeUpstream) -> None:
    claude.write_agent(AGENT, AGENT_PROMPT)
    run = claude.run("Delegate it.", anthropic_side.url, OAUTH)
    assert_the_work_was_done(run, claude)
    assert [is_from_subagent(turn) for turn in turns(anthropic_side)] == [False, True, True, False]


# The story with it


@pytest.mark.usefixtures("story")
def test_a_tagged_subagent_runs_elsewhere(
    claude: ClaudeCode, product: RunningServer, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    claude.write_agent(AGENT, f"{TAG}\n{AGENT_PROMPT}\n")
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    assert_main_session_kept_its_subscription(anthropic_side, run)
    assert_subagent_went_elsewhere(chat_side, anthropic_side)
    assert_nothing_private_went_with_it(chat_side, anthropic_side, run)
    assert_usage_is_true(product.usage_rows(4), run)
    assert product.terminate() == ORDERLY_EXIT["uvicorn"]
    assert OAUTH_TOKEN not in product.log()
    assert CHAT_KEY not in product.log()


def assert_main_session_kept_its_subscription(anthropic_side: FakeUpstream, run: Run) -> None:
    main = turns(anthropic_side)
    assert len(main) == 2
    for turn in main:
        assert turn.target == b"/v1/messages?beta=true"
        assert turn.header("authorization") == f"Bearer {OAUTH_TOKEN}".encode()
        assert turn.header("x-claude-code-session-id") == run.session_id.encode()
        assert not is_from_subagent(turn)
        assert turn.json()["metadata"]
    assert AGENT_PROMPT.encode() not in all_bytes(anthropic_side)
    assert CHAT_KEY.encode() not in all_bytes(anthropic_side)


def assert_subagent_went_elsewhere(chat_side: FakeUpstream, anthropic_side: FakeUpstream) -> None:
    assert [request.target for request in chat_side.requests] == [b"/v1/chat/completions"] * 2
    for turn in chat_side.requests:
        body = turn.json()
        assert turn.header("authorization") == f"Bearer {CHAT_KEY}".encode()
        assert (body["model"], body["stream"]) == (CHAT_MODEL, True)
        assert AGENT_PROMPT in json.dumps(body["messages"][0])
        assert body["messages"][0]["role"] == "system"
        assert {tool["function"]["name"] for tool in body["tools"]} >= {"Bash", "Read"}
    last = chat_side.requests[-1].json()["messages"]
    (call,) = [call for message in last for call in message.get("tool_calls", [])]
    (answer,) = [message for message in last if message["role"] == "tool"]
    assert call["function"]["name"] == "Bash"
    assert json.loads(call["function"]["arguments"]) == WRITE.arguments
    assert answer["tool_call_id"] == call["id"]


def assert_nothing_private_went_with_it(chat_side: FakeUpstream, anthropic_side: FakeUpstream, run: Run) -> None:
    sent = all_bytes(chat_side)
    user = json.loads(turns(anthropic_side)[0].json()["metadata"]["user_id"])
    for private in (OAUTH_TOKEN, run.session_id, user["device_id"], "CCR-SUBAGENT-MODEL", "x-anthropic-billing-header"):
        assert private.encode() not in sent, private
    for turn in chat_side.requests:
        assert "metadata" not in turn.json()
        names = {name.decode().lower() for name, _ in turn.headers}
        private_names = ("anthropic", "x-claude", "x-stainless", "x-api-key", "x-app", "cookie")
        assert not [name for name in names if name.startswith(private_names)]
        assert b"claude" not in (turn.header("user-agent") or b"")


def assert_usage_is_true(rows: list[dict[str, Any]], run: Run) -> None:
    counts = [
        (row["provider"], row["input_tokens"], row["cache_read_tokens"], row["output_tokens"])
        for row in sorted(rows, key=lambda row: (row["provider"], row["output_tokens"]))
    ]
    assert counts == [
        ("anthropic", 101, 1001, 11),
        ("anthropic", 102, 1002, 12),
        ("cerebras", 201, 2000, 21),
        ("cerebras", 2202, 0, 22),
    ]
    for row in rows:
        assert (row["outcome"], row["status"], row["streamed"]) == ("ok", 200, 1)
        assert row["session_id"] == run.session_id
        assert (row["agent_id"] is None) == (row["provider"] == "anthropic")
    elsewhere = [row for row in rows if row["provider"] == "cerebras"]
    assert len({row["agent_id"] for row in elsewhere}) == 1
    assert {row["model"] for row in elsewhere} == {CHAT_MODEL}
    assert all("sonnet" in row["requested_model"] for row in elsewhere)


_BROKEN = {
    "before-content": chat_sse("I was about to say", usage=CHAT_USAGE[0]).inserting(0, Fault.RESET),
    "in-a-text": chat_sse("I was about to say", usage=CHAT_USAGE[0]).inserting(2, Fault.RESET),
    "before-arguments": chat_sse("", tool_calls=[WRITE], usage=CHAT_USAGE[0]).inserting(2, Fault.RESET),
    "in-arguments": chat_sse("", tool_calls=[WRITE], usage=CHAT_USAGE[0]).inserting(3, Fault.RESET),
}


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN.keys())
def test_a_broken_answer_is_mended_by_the_client(
    claude: ClaudeCode, product: RunningServer, chat_side: FakeUpstream, broken: Answer
) -> None:
    chat_side.script(broken)
    claude.write_agent(AGENT, f"{TAG}\n{AGENT_PROMPT}\n")
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    results = [message for message in chat_side.requests[-1].json()["messages"] if message["role"] == "tool"]
    assert len(results) == 1, "half a call was run: a block that is cut off must not look complete"
    rows = [row for row in product.usage_rows(5) if row["provider"] == "cerebras"]
    assert [row["outcome"] for row in rows] == ["error", "ok", "ok"]
    assert [row["input_tokens"] for row in rows[1:]] == [201, 2202]


def test_a_session_with_an_api_key_passes_through(
    claude: ClaudeCode, product: RunningServer, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    anthropic_side.on("/v1/messages", lambda _: anthropic_sse("Nothing to delegate.", usage=MAIN_USAGE[0]))
    run = claude.run("Say something.", product.url, {"ANTHROPIC_API_KEY": API_KEY})
    assert (run.exit_code, run.text) == (0, "Nothing to delegate.")
    assert [turn.header("x-api-key") for turn in turns(anthropic_side)] == [API_KEY.encode()]
    assert not chat_side.arriving
    (row,) = product.usage_rows()
    assert (row["provider"], row["input_tokens"], row["output_tokens"]) == ("anthropic", 101, 11)


@pytest.mark.usefixtures("story")
def test_an_unknown_provider_is_told_to_the_user(
    claude: ClaudeCode, product: RunningServer, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    claude.write_agent(AGENT, f"<CCR-SUBAGENT-MODEL>cerebra,{CHAT_MODEL}</CCR-SUBAGENT-MODEL>\n{AGENT_PROMPT}\n")
    run = claude.run("Delegate it.", product.url, OAUTH)
    for said in ("400", "'cerebra'", "anthropic", "cerebras", CHAT_MODEL):
        assert said in run.text
    assert not chat_side.arriving
    assert not [turn for turn in turns(anthropic_side) if is_from_subagent(turn)]
    refused = [row for row in product.usage_rows(3) if row["provider"] is None]
    assert refused
    assert {(row["status"], row["outcome"], row["error_type"]) for row in refused} == {
        (400, "error", "invalid_request_error")
    }


@pytest.mark.usefixtures("story")
def test_a_tag_outside_the_prompt_does_not_route(
    claude: ClaudeCode, product: RunningServer, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    (claude.project / "CLAUDE.md").write_text(f"{TAG}\n\nThe rules of the orchard.\n")
    claude.write_agent(AGENT, AGENT_PROMPT, description=f"{TAG} Writes a marker into a file.")
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    assert not chat_side.arriving
    main, *_, last = seen = turns(anthropic_side)
    assert [is_from_subagent(turn) for turn in seen] == [False, True, True, False]
    assert b"The rules of the orchard" in seen[1].body, "the client no longer sends CLAUDE.md to subagents"
    assert all(TAG.encode() in turn.body for turn in seen), "the tag was taken out of a request that passes through"
    assert f"{TAG} Writes a marker" in json.dumps(main.json())
    assert last.header("authorization") == f"Bearer {OAUTH_TOKEN}".encode()
