"""The promise, kept with the real client: the main session on its subscription, its tagged subagent elsewhere.

The story of every run: the main session calls the Agent tool, the subagent calls Bash, both say a last sentence. The
providers are scripts; the client, its tools and the product are real.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.claude_code import ClaudeCode, Run
from tests.e2e.conftest import CHAT_KEY, CHAT_MODEL
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Fault,
    RecordedRequest,
    ToolCall,
    anthropic_sse,
    chat_completion,
    chat_sse,
    default_answer,
)
from tests.support.server import ORDERLY_EXIT, RunningServer

pytestmark = pytest.mark.e2e

OAUTH_TOKEN = "sk-ant-oat01-invented-for-this-test"
API_KEY = "sk-ant-api03-invented-for-this-test"
OAUTH = {"ANTHROPIC_AUTH_TOKEN": OAUTH_TOKEN}

AGENT = "marker-writer"
AGENT_PROMPT = "You write the marker of the orchard into its file."
TAG = f"<CCR-SUBAGENT-MODEL>cerebras,{CHAT_MODEL}</CCR-SUBAGENT-MODEL>"

DELEGATE = ToolCall(
    "Agent",
    {
        "description": "write a marker",
        "prompt": "Write it now.",
        "subagent_type": AGENT,
        "run_in_background": False,
    },
)
WRITE = ToolCall("Bash", {"command": "echo marker > made-by-subagent.txt", "description": "Write the marker"})
SUBAGENT_SAYS = "The marker stands in its file."
MAIN_SAYS = "The subagent has reported: "

MAIN_USAGE: list[Mapping[str, Any]] = [
    {"input_tokens": 101, "cache_read_input_tokens": 1001, "cache_creation_input_tokens": 0, "output_tokens": 11},
    {"input_tokens": 102, "cache_read_input_tokens": 1002, "cache_creation_input_tokens": 0, "output_tokens": 12},
]
CHAT_USAGE: list[Mapping[str, Any]] = [
    {
        "prompt_tokens": 2201,
        "completion_tokens": 21,
        "total_tokens": 2222,
        "prompt_tokens_details": {"cached_tokens": 2000},
    },
    {"prompt_tokens": 2202, "completion_tokens": 22, "total_tokens": 2224},
]


# The two scripts: what is said depends on what the conversation already holds


def main_session(request: RecordedRequest) -> Answer:
    """Delegate first; then repeat what came back, so that the user reads it."""
    body = request.json()
    if not body.get("tools"):
        return default_answer(request.method, request.path, request.body)
    if is_from_subagent(request):
        return subagent_at_anthropic(body)
    if (report := tool_result(body)) is None:
        return anthropic_sse("I delegate.", tool_use=[DELEGATE], usage=MAIN_USAGE[0])
    return anthropic_sse(MAIN_SAYS + report, usage=MAIN_USAGE[1])


def subagent_at_anthropic(body: dict[str, Any]) -> Answer:
    if tool_result(body) is None:
        return anthropic_sse(None, tool_use=[WRITE])
    return anthropic_sse(SUBAGENT_SAYS)


def subagent_elsewhere(request: RecordedRequest) -> Answer:
    body = request.json()
    if not body["stream"]:  # how the client asks again after a broken stream
        return chat_completion(None, tool_calls=[WRITE], usage=CHAT_USAGE[0])
    if any(message["role"] == "tool" for message in body["messages"]):
        return chat_sse(SUBAGENT_SAYS, usage=CHAT_USAGE[1])
    return chat_sse("", tool_calls=[WRITE], reasoning="A marker is wanted.", usage=CHAT_USAGE[0])


def tool_result(body: dict[str, Any]) -> str | None:
    """The text of the last tool result of a conversation; None if there is none."""
    blocks = [block for message in body["messages"] for block in blocks_of(message["content"])]
    results = [block for block in blocks if block["type"] == "tool_result"]
    return "".join(block.get("text", "") for block in blocks_of(results[-1]["content"])) if results else None


def blocks_of(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def is_from_subagent(request: RecordedRequest) -> bool:
    return request.header("x-claude-code-agent-id") is not None


def turns(side: FakeUpstream, path: str = "/v1/messages") -> list[RecordedRequest]:
    return [request for request in side.requests if request.path == path]


def all_bytes(side: FakeUpstream) -> bytes:
    return b"".join(bytes(request.raw) for request in side.arriving)


@pytest.fixture
def story(anthropic_side: FakeUpstream, chat_side: FakeUpstream) -> None:
    """Both providers know their parts."""
    anthropic_side.on("/v1/messages", main_session)
    chat_side.on("/v1/chat/completions", subagent_elsewhere)


def assert_the_work_was_done(run: Run, claude: ClaudeCode) -> None:
    assert (run.exit_code, run.result["is_error"]) == (0, False), run.result
    assert (claude.project / "made-by-subagent.txt").read_text() == "marker\n"
    assert run.text.startswith(MAIN_SAYS)
    assert SUBAGENT_SAYS in run.text


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
