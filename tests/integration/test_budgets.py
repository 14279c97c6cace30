"""Budgets over real sockets: what the client is told, where its requests go, and that many at once overrun little."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.usage.writer import UsageWriter
from tests.integration.claude import (
    CHAT_MODEL,
    THIRD_MODEL,
    World,
    body,
    headers,
    new_session,
    providers,
    soon,
    tagged,
    world_in_a_process,
    world_in_a_thread,
)
from tests.support.fake_upstream import FakeUpstream
from tests.support.raw_http import RawClient, RawResponse

COSTS = {CHAT_MODEL: {"input": 1000.0, "output": 10_000.0}}
COST_USD = 0.081
"""What an answer of the chat provider costs: 11 tokens in, 7 out."""

Start = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def world_with(tmp_path: Path) -> Start:
    """Starts a world whose server holds to such budgets."""

    def start(*budgets: dict[str, Any], **more: Any) -> AbstractContextManager[World]:
        usage = {"database": str(tmp_path / "usage.db"), "costs": COSTS}
        return world_in_a_thread(tmp_path, {"budgets": list(budgets), "usage": usage, **more})

    return start


def limit(usd: float, then: str, **said: Any) -> dict[str, Any]:
    return {"per": "day", "usd": usd, "then": then, **said}


def told(response: RawResponse) -> str | None:
    found = response.header("x-ccr-budget")
    return found.decode() if found is not None else None


def ended(world: World, content: bytes, *more: tuple[str, str]) -> RawResponse:
    """The answer to a request that is over for the server as well: its last byte comes a moment before that."""
    session = new_session()
    response = world.post(content, *more, session=session)
    world.row(session)
    return response


def spend(world: World) -> None:
    """One request at the chat provider."""
    assert ended(world, tagged()).status == 200


def test_blocking_is_a_429_that_no_client_tries_again(world_with: Start) -> None:
    with world_with(limit(0.1, "block", provider="cerebras")) as world:
        spend(world)
        spend(world)
        session = new_session()
        refused = world.post(tagged(), session=session)
        assert (refused.status, refused.header("x-should-retry")) == (429, b"false")
        assert 0 < int(refused.header("retry-after") or 0) <= 25 * 3600
        error = refused.json()["error"]
        assert error["type"] == "rate_limit_error"
        assert "0.1 USD per day at cerebras is used up: 0.16 USD spent" in error["message"]
        assert len(world.chat.arriving) == 2, "nobody was asked"
        row = world.row(session)
        assert (row["provider"], row["attempts"], row["outcome"], row["status"]) == (None, 0, "error", 429)
        assert world.post(body()).status == 200, "it covers no other provider"
        with RawClient(world.url) as client:
            counted = client.request("POST", "/v1/messages/count_tokens", headers(session), tagged())
        assert counted.status == 200, "counting costs nothing"


def test_a_warning_stands_in_a_header_and_in_the_json(world_with: Start) -> None:
    with world_with(limit(0.05, "warn"), limit(100, "block")) as world:
        assert told(ended(world, tagged())) is None
        assert told(ended(world, tagged())) == "0.05 USD per day: 162% used; then=warn"
        assert told(world.post(body())) == "0.05 USD per day: 324% used; then=warn", "also on what passes through"
        assert [budget["used_up"] for budget in json.loads(_get(world, "/api/quota"))["budgets"]] == [True, False]


def _get(world: World, target: str) -> bytes:
    with RawClient(world.url) as client:
        return client.request("GET", target).body


def test_the_json_tells_how_budgets_stand(world_with: Start) -> None:
    with world_with(limit(0.1, "block", provider="cerebras"), {"per": "week", "tokens": 36, "then": "warn"}) as world:
        spend(world)
        first, second = json.loads(_get(world, "/api/quota"))["budgets"]
        assert {name: first[name] for name in ("label", "usd", "spent", "used_percent", "used_up", "unpriced")} == {
            "label": "0.1 USD per day at cerebras",
            "usd": 0.1,
            "spent": COST_USD,
            "used_percent": 81.0,
            "used_up": False,
            "unpriced": 0,
        }
        assert (second["tokens"], second["spent"], second["used_percent"]) == (36, 18, 50.0)
        assert first["began_at"] < first["resets_at"] <= second["resets_at"]


def test_falling_back_goes_where_the_budget_says(world_with: Start) -> None:
    route = f"moonshot,{THIRD_MODEL}"
    with world_with(limit(0.05, "fallback", provider="cerebras", route=route)) as world:
        spend(world)
        session = new_session()
        answered = world.post(tagged(), session=session)
        assert (answered.status, told(answered)) == (200, "0.05 USD per day at cerebras: 162% used; then=fallback")
        assert [request.json()["model"] for request in world.third.requests] == [THIRD_MODEL]
        row = world.row(session)
        assert (row["provider"], row["route_reason"], row["attempts"]) == ("moonshot", "budget", 1)


def test_falling_back_takes_the_provider_s_next_link(tmp_path: Path) -> None:
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        configured = providers(anthropic, chat, third)
        configured["cerebras"]["fallback"] = [f"moonshot,{THIRD_MODEL}", "anthropic"]
        settings = {
            "providers": configured,
            "usage": {"database": str(tmp_path / "usage.db"), "costs": COSTS},
            "budgets": [limit(0.05, "fallback", provider="cerebras")],
        }
        with world_in_a_thread(tmp_path, settings) as world:
            spend(world)
            answered = world.post(tagged())
            assert (answered.status, answered.header("x-ccr-provider")) == (200, None), "it passed through untouched"
            assert (len(chat.requests), len(third.requests), len(anthropic.requests)) == (1, 1, 0)


def test_subagents_may_have_a_budget_of_their_own(world_with: Start) -> None:
    agent = ("x-claude-code-agent-id", "a1b2")
    with world_with(limit(0.05, "block", agentId="*")) as world:
        assert [ended(world, tagged()).status for _ in range(2)] == [200, 200]
        assert [ended(world, tagged(), agent).status for _ in range(2)] == [200, 429]
        assert world.post(tagged()).status == 200


def test_a_proxy_key_may_have_a_budget_of_its_own(world_with: Start) -> None:
    keys = {"alice": "key-of-alice", "bob": "key-of-bob"}
    with world_with(limit(0.05, "block", key="alice"), proxyKeys=keys) as world:
        statuses = {
            name: [ended(world, tagged(), ("x-ccr-key", key)).status for _ in range(2)] for name, key in keys.items()
        }
        assert statuses == {"alice": [200, 429], "bob": [200, 200]}
        assert world.post(tagged()).status == 200


def test_what_was_spent_before_a_start_counts(world_with: Start) -> None:
    with world_with() as world:
        spend(world)
    with world_with(limit(0.05, "block")) as world:
        assert world.post(tagged()).status == 429


# Many at once

LIMIT_USD = 10 * COST_USD


@pytest.fixture
def slow_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that reach the database only when the server stops, long after their requests have ended."""

    async def gather(writer: UsageWriter) -> None:
        await writer._stopping.wait()

    monkeypatch.setattr(UsageWriter, "_gather", gather)


def storm(url: str, requests: int, at_once: int) -> Counter[int]:
    """How often each status came."""

    def post(_number: int) -> int:
        with RawClient(url) as client:
            return client.request("POST", "/v1/messages", headers(new_session()), tagged()).status

    with ThreadPoolExecutor(at_once) as pool:
        return Counter(pool.map(post, range(requests)))


@pytest.mark.usefixtures("slow_writer")
@pytest.mark.parametrize(("requests", "at_once"), [(40, 1), (100, 100), (300, 100)])
def test_it_is_overrun_by_no_more_than_what_was_under_way(tmp_path: Path, requests: int, at_once: int) -> None:
    """Ten answers use the limit up; those that are under way by then may end, and nobody else is served.

    One that the client has to the last byte may still be under way for the server, so that even one at a time may be
    one too many.
    """
    settings = {
        "usage": {"database": str(tmp_path / "usage.db"), "costs": COSTS},
        "budgets": [limit(LIMIT_USD, "block")],
    }
    with world_in_a_thread(tmp_path, settings) as world:
        statuses = storm(world.url, requests, at_once)
        assert set(statuses) <= {200, 429}
        assert 10 <= statuses[200] <= 10 + at_once
        assert len(world.chat.requests) == statuses[200]
        assert soon(lambda: storm(world.url, 5, 5) == {429: 5})


def test_several_workers_keep_one_budget(tmp_path: Path) -> None:
    settings = {"usage": {"costs": COSTS}, "budgets": [limit(LIMIT_USD, "block")]}
    with world_in_a_process(tmp_path, server="serve", arguments=("--workers", "2"), config=settings) as world:
        assert storm(world.url, 20, 4)[200] >= 10
        assert soon(lambda: storm(world.url, 20, 4) == {429: 20}), "each worker hears of what the other spent"
