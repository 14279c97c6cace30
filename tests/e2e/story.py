"""The story that the end-to-end runs tell: the main session delegates, its subagent works elsewhere and reports.

The main session calls the Agent tool, the subagent calls Bash, both say a last sentence. What is said depends on what
the conversation already holds.
"""

from collections.abc import Mapping
from typing import Any

from tests.e2e.claude_code import ClaudeCode, Run
from tests.e2e.conftest import CHAT_MODEL
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    RecordedRequest,
    ToolCall,
    anthropic_sse,
    chat_completion,
    chat_sse,
    default_answer,
)

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


def assert_the_work_was_done(run: Run, claude: ClaudeCode) -> None:
    assert (run.exit_code, run.result["is_error"]) == (0, False), run.result
    assert (claude.project / "made-by-subagent.txt").read_text() == "marker\n"
    assert run.text.startswith(MAIN_SAYS)
    assert SUBAGENT_SAYS in run.text
