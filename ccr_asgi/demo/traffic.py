"""The demo's agents: they send their turns to the server by HTTP, as Claude Code would."""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from logging import getLogger
from typing import Any

import httpx

from ccr_asgi.demo.story import Turn, prompt

logger = getLogger(__name__)

GAP_S = 0.7
"""Seconds between two requests."""
OPENING_TURNS, OPENING_GAP_S = 9, 0.15
"""So many come faster, so that nobody waits for a picture."""
TIMEOUT_S = 60.0

_TOPIC = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
TOOLS = [
    {"name": "look_up", "description": "Look something up.", "input_schema": _TOPIC},
    {"name": "start_agent", "description": "Start an agent.", "input_schema": _TOPIC},
]


async def traffic(url: str, turns: Iterable[Turn], *, pace: float = 1.0) -> None:
    """Send `turns` to the server at `url`, each some time after the one before, and return when all are answered.

    `pace` stretches their times.
    """
    async with new_client(url) as client, asyncio.TaskGroup() as sent:
        for number, turn in enumerate(turns):
            sent.create_task(send(client, turn, pace=pace))
            await asyncio.sleep(pace * (OPENING_GAP_S if number < OPENING_TURNS else GAP_S))


def new_client(url: str) -> httpx.AsyncClient:
    """A client of the server at `url`, and of no other: proxies of the environment are not used."""
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=TIMEOUT_S)


async def send(client: httpx.AsyncClient, turn: Turn, *, pace: float = 1.0) -> None:
    """Send one turn and read its answer, as long as its client stays."""
    patience_s = None if turn.leaves_ms is None else turn.leaves_ms * pace / 1000
    try:
        async with asyncio.timeout(patience_s), asked(client, turn) as answer:
            async for _ in answer.aiter_raw():
                pass
    except TimeoutError:
        logger.debug("A client of the demo has left, as it was to")
    except httpx.HTTPError as error:
        logger.warning("A request of the demo was not answered: %s", type(error).__name__)


def asked(client: httpx.AsyncClient, turn: Turn) -> AbstractAsyncContextManager[httpx.Response]:
    """The answer to one turn, as it begins; leaving the block leaves the answer."""
    return client.stream("POST", "/v1/messages", params={"beta": "true"}, headers=_headers(turn), json=_body(turn))


def _headers(turn: Turn) -> dict[str, str]:
    headers = {
        "authorization": "Bearer simulated",
        "anthropic-version": "2023-06-01",
        "user-agent": "ccr-asgi-demo",
        "x-claude-code-session-id": turn.session_id,
        "x-ccr-project": turn.project,
    }
    if turn.agent_id is not None:
        headers["x-claude-code-agent-id"] = turn.agent_id
    if turn.parent_agent_id is not None:
        headers["x-claude-code-parent-agent-id"] = turn.parent_agent_id
    return headers


def _body(turn: Turn) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": turn.asked_model,
        "max_tokens": 8192,
        "system": [{"type": "text", "text": turn.agent.prompt if turn.agent else "You are the main one of the demo."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt(turn.reply)}]}],
        "tools": TOOLS,
        "thinking": {"type": "adaptive"} if turn.reply.thinks else {"type": "disabled"},
    }
    return {**body, "stream": True} if turn.streamed else body
