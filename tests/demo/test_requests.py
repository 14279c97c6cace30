"""A visitor's request gets a sentence, or the agent it asks for; nothing that a real client would carry out."""

import json
from typing import Any

import pytest

from ccr_asgi.demo.requests import reply_for
from ccr_asgi.demo.story import Reply, prompt

TOLD = "Available agents:\n- fast-dev: writes code\n- code-reader: reads it"
TOOLS = [{"name": "Bash"}, {"name": "Agent"}]


def visit(words: Any, *, tools: Any = TOOLS, role: str = "user", **fields: Any) -> Reply:
    messages = [{"role": "system", "content": TOLD}, {"role": role, "content": words}]
    return reply_for({"model": "m", "messages": messages, "tools": tools, **fields}, 4000)


def text(words: str) -> list[dict[str, Any]]:
    reminder = "<system-reminder>the code-reader agent</system-reminder>"
    return [{"type": "text", "text": reminder}, {"type": "text", "text": words}]


@pytest.mark.parametrize("words", ["Use the fast-dev agent.", 'ask a "fast-dev" subagent', "any agent? fast-dev agent"])
def test_an_agent_that_is_asked_for_is_started(words: str) -> None:
    for said in (words, text(words)):
        reply = visit(said)
        assert reply.calls == "Agent"
        assert json.loads(reply.arguments)["subagent_type"] == "fast-dev"
        assert json.loads(reply.arguments)["run_in_background"] is False


def test_the_tool_may_have_its_older_name() -> None:
    assert visit("the fast-dev agent", tools=[{"name": "Task"}]).calls == "Task"


@pytest.mark.parametrize(
    ("words", "tools"),
    [
        ("hello", TOOLS),
        ("the other-one agent", TOOLS),  # of whom nobody has told
        ("the fast-dev agent", [{"name": "Bash"}]),
        ("the fast-dev agent", None),
        ("the fast-dev agent", ["Agent"]),
        ([{"type": "tool_result", "content": "the fast-dev agent"}], TOOLS),
        ([*text("the fast-dev agent"), {"type": "tool_result", "content": "done"}], TOOLS),
        ([{"type": "image"}, "the fast-dev agent"], TOOLS),
        (None, TOOLS),
    ],
)
def test_anything_else_gets_a_sentence(words: Any, tools: Any) -> None:
    reply = visit(words, tools=tools)
    assert reply.calls is None
    assert reply.status == 200
    assert reply.input_tokens == 1000
    assert reply.output_tokens > 0


def test_only_the_users_words_count() -> None:
    assert visit("the fast-dev agent", role="assistant").calls is None
    assert reply_for({"messages": ["the fast-dev agent"], "tools": TOOLS}, 1).calls is None
    assert reply_for({}, 1).input_tokens == 1


def test_the_last_settled_answer_counts() -> None:
    first, last = Reply(output_tokens=1), Reply(output_tokens=2)
    messages = [{"role": "user", "content": prompt(first)}, {"role": "user", "content": [{"text": prompt(last)}]}]
    assert reply_for({"messages": messages}, 1) == last
