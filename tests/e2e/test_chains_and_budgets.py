"""Fallback, budgets and rules with the real client: its work goes on elsewhere, or its user reads why it does not."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.claude_code import ClaudeCode
from tests.e2e.conftest import CHAT_KEY, CHAT_MODEL
from tests.e2e.story import (
    AGENT,
    AGENT_PROMPT,
    OAUTH,
    SUBAGENT_SAYS,
    TAG,
    assert_the_work_was_done,
    is_from_subagent,
    main_session,
    subagent_elsewhere,
    turns,
)
from tests.support.fake_upstream import FakeUpstream, chat_error
from tests.support.server import RunningServer, read_rows, running_server

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("story")]

COSTS = {CHAT_MODEL: {"input": 1.0, "output": 10.0}}
COMMAND = Path(sys.executable).with_name("ccr-asgi")

Start = Callable[..., RunningServer]


@pytest.fixture
def story(anthropic_side: FakeUpstream, chat_side: FakeUpstream) -> None:
    """Both providers know their parts."""
    anthropic_side.on("/v1/messages", main_session)
    chat_side.on("/v1/chat/completions", subagent_elsewhere)


@pytest.fixture
def started(anthropic_side: FakeUpstream, chat_side: FakeUpstream, tmp_path: Path) -> Iterator[Start]:
    """Starts the product with more in its configuration; `cerebras` may have more of its own."""
    with ExitStack() as running:

        def start(cerebras: dict[str, Any] | None = None, **more: Any) -> RunningServer:
            own = {"baseUrl": f"{chat_side.url}/v1/chat/completions", "apiKey": CHAT_KEY, **(cerebras or {})}
            anthropic = {"baseUrl": anthropic_side.url, "passthrough": True}
            settings = {"providers": {"anthropic": anthropic, "cerebras": own}, "usage": {"costs": COSTS}, **more}
            return running.enter_context(running_server(settings, tmp_path=tmp_path))

        yield start


def agent(claude: ClaudeCode, *, tagged: bool = True) -> None:
    claude.write_agent(AGENT, f"{TAG}\n{AGENT_PROMPT}\n" if tagged else AGENT_PROMPT)


@pytest.mark.parametrize("status", [429, 500, 529])
def test_a_subagent_goes_on_at_the_next_link(
    status: int, claude: ClaudeCode, started: Start, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    chat_side.script(chat_error(status, "no room", headers=[("retry-after", "600")]))
    agent(claude)
    product = started({"fallback": ["anthropic"]})
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    assert len(chat_side.requests) == 1, "the link rests as long as it asked for"
    assert [is_from_subagent(turn) for turn in turns(anthropic_side)] == [False, True, True, False]
    rows = [row for row in product.usage_rows(4) if row["agent_id"] is not None]
    assert [(row["provider"], row["route_reason"], row["attempts"]) for row in rows] == [
        ("anthropic", "fallback", 2),
        ("anthropic", "fallback", 1),
    ]
    tried = read_rows(product.database, "select provider, status from attempts order by request_id, position")
    assert [tuple(row.values()) for row in tried] == [
        ("cerebras", status if status != 500 else 502),
        ("anthropic", 200),
    ]


def test_a_budget_that_is_used_up_is_told_to_the_user_at_once(
    claude: ClaudeCode, started: Start, chat_side: FakeUpstream
) -> None:
    agent(claude)
    budget = {"per": "day", "usd": 0.0001, "provider": "cerebras", "then": "block"}
    product = started(budgets=[budget])
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert len(chat_side.requests) == 1, "the first turn used it up, and the client asked no more"
    for said in ("429", "The budget of 0.0001 USD per day at cerebras is used up", "begins anew on", "budgets[0].usd"):
        assert said in run.text
    refused = [row for row in product.usage_rows(4) if row["status"] == 429]
    assert [(row["provider"], row["outcome"], row["billed_usd"]) for row in refused] == [(None, "error", None)]
    line = subprocess.run(
        [COMMAND, "statusline"],
        env={"PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": product.url},
        input='{"model": {"display_name": "Haiku"}}',
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert line.startswith("Haiku | budget of 0.0001 USD per day at cerebras ")


def test_a_budget_may_send_a_subagent_on_to_claude(
    claude: ClaudeCode, started: Start, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    agent(claude)
    budget = {"per": "day", "usd": 0.0001, "agentId": "*", "then": "fallback", "route": "anthropic"}
    product = started(budgets=[budget])
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    assert len(chat_side.requests) == 1
    assert [is_from_subagent(turn) for turn in turns(anthropic_side)] == [False, True, False]
    rows = [row for row in product.usage_rows(4) if row["agent_id"] is not None]
    assert [(row["provider"], row["route_reason"]) for row in rows] == [("cerebras", "tag"), ("anthropic", "budget")]


def test_a_rule_sends_untagged_subagents_elsewhere(
    claude: ClaudeCode, started: Start, anthropic_side: FakeUpstream, chat_side: FakeUpstream
) -> None:
    agent(claude, tagged=False)
    product = started(rules=[{"agentId": "*", "tool": "Bash", "route": f"cerebras,{CHAT_MODEL}"}])
    run = claude.run("Delegate it.", product.url, OAUTH)
    assert_the_work_was_done(run, claude)
    assert SUBAGENT_SAYS in run.text
    assert len(chat_side.requests) == 2
    assert not [turn for turn in turns(anthropic_side) if is_from_subagent(turn)]
    rows = [row for row in product.usage_rows(4) if row["provider"] == "cerebras"]
    assert {row["route_reason"] for row in rows} == {"rule"}
