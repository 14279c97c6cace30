"""Budgets as pure functions: when they hold, whom they cover, how they are called, what they make of a request."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ccr_asgi.budgets import Asker, Standing, afford, covers, label, period
from ccr_asgi.config import BudgetEntry, Provider
from ccr_asgi.errors import BudgetSpent, to_anthropic
from ccr_asgi.routing import Reason, Route

NOW = datetime(2026, 3, 29, 9, 30, tzinfo=UTC)  # a Sunday; clocks go forward in Europe
MIDNIGHT = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def budget(**said: Any) -> BudgetEntry:
    return BudgetEntry(**{"per": "day", "then": "block", **({} if "tokens" in said else {"usd": 5.0}), **said})


def standing(spent_usd: float = 5.0, place: int = 0, **said: Any) -> Standing:
    return Standing(budget(**said), place, round(spent_usd * 1_000_000), 0, *period(budget(**said), NOW))


def test_a_day_is_that_of_this_machine_s_clock_whose_hours_it_has() -> None:
    assert period(budget(), NOW) == (MIDNIGHT, MIDNIGHT + timedelta(hours=23))


def test_a_week_begins_on_monday() -> None:
    began_at, resets_at = period(budget(per="week"), NOW)
    assert (began_at, resets_at) == (
        datetime(2026, 3, 22, 23, 0, tzinfo=UTC),
        datetime(2026, 3, 29, 22, 0, tzinfo=UTC),
    )
    assert period(budget(per="week"), resets_at)[0] == resets_at


@pytest.mark.parametrize(
    ("said", "provider", "asker", "covered"),
    [
        ({}, "cerebras", Asker(), True),
        ({}, None, Asker(), False),
        ({"provider": "cerebras"}, "cerebras", Asker(), True),
        ({"provider": "cerebras"}, "codex", Asker(), False),
        ({"agent_id": "*"}, "cerebras", Asker(), False),
        ({"agent_id": "*"}, "cerebras", Asker(agent_id=""), False),
        ({"agent_id": "*"}, "cerebras", Asker(agent_id="a1"), True),
        ({"agent_id": "b*"}, "cerebras", Asker(agent_id="a1"), False),
        ({"key": "alice"}, "cerebras", Asker(key="alice"), True),
        ({"key": "alice"}, "cerebras", Asker(key="bob"), False),
        ({"key": "alice"}, "cerebras", Asker(), False),
        ({"then": "fallback", "route": "codex, gpt"}, "cerebras", Asker(), True),
        ({"then": "fallback", "route": "codex, gpt"}, "codex", Asker(), False),
    ],
)
def test_whom_a_budget_covers(said: dict[str, Any], provider: str | None, asker: Asker, covered: bool) -> None:
    assert covers(budget(**said), provider, asker) is covered


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "5 USD per day"),
        ({"usd": 0.5, "counts": "list", "per": "week"}, "0.5 USD of list value per week"),
        ({"tokens": 2_000_000, "counts": "list", "provider": "codex"}, "2,000,000 tokens per day at codex"),
        ({"agent_id": "*"}, "5 USD per day by subagents"),
        ({"agent_id": "a*", "key": "alice"}, "5 USD per day by agents a* with key alice"),
    ],
)
def test_a_budget_has_a_name_in_words(said: dict[str, Any], words: str) -> None:
    assert label(budget(**said)) == words


def test_limits_are_in_the_unit_of_what_is_spent() -> None:
    assert (standing(4.999999).limit, standing(4.999999).used_up, standing().used_up) == (5_000_000, False, True)
    tokens = Standing(budget(tokens=200), 0, 50, 0, NOW, NOW)
    assert (tokens.limit, tokens.used_percent) == (200, 25.0)


# What becomes of a request

PROVIDERS = {
    "cerebras": Provider("cerebras", "openai-chat", "http://c", api_key="k"),
    "codex": Provider("codex", "openai-responses", "http://x", api_key="k"),
    "anthropic": Provider("anthropic", "anthropic", "http://a", passthrough=True),
    "keyless": Provider("keyless", "openai-chat", "http://k"),
}


def link(words: str, reason: Reason = "budget") -> Route:
    name, _, model = words.partition(",")
    return Route(PROVIDERS[name], model or None, reason)


CHAIN = [link("cerebras,m", "tag"), link("codex,gpt", "fallback"), link("anthropic", "fallback")]


def asked(*standings: Standing, chain: list[Route] = CHAIN) -> list[tuple[str, str]]:
    """Whom a request asks, and why."""
    return [(route.provider.name, route.reason) for route in afford(chain, standings, Asker(), link, NOW).links]


def test_what_is_not_used_up_or_does_not_cover_changes_nothing() -> None:
    chain = [("cerebras", "tag"), ("codex", "fallback"), ("anthropic", "fallback")]
    assert asked() == chain
    assert asked(standing(4.9), standing(9, provider="keyless"), standing(9, key="alice")) == chain
    assert afford(CHAIN, [standing(4.9)], Asker(), link, NOW).used_up == []


def test_a_warning_is_only_told() -> None:
    verdict = afford(CHAIN, [standing(7.5, then="warn")], Asker(), link, NOW)
    assert verdict.links == CHAIN
    assert verdict.header() == b"5 USD per day: 150% used; then=warn"


def test_a_name_beyond_ascii_does_not_break_the_header() -> None:
    verdict = afford(CHAIN, [standing(then="warn", agent_id=None, provider=None)], Asker(), link, NOW)
    verdict.used_up = [replace(verdict.used_up[0], budget=budget(key="zoë", then="warn"))]
    assert verdict.header() == b"5 USD per day with key zo?: 100% used; then=warn"


def test_blocking_refuses_whatever_the_chain_has_left() -> None:
    with pytest.raises(BudgetSpent) as raised:
        asked(standing(5.034, place=2, provider="cerebras"))
    answer = to_anthropic(raised.value, "req_1")
    assert (answer.status, dict(answer.headers)[b"x-should-retry"]) == (429, b"false")
    assert dict(answer.headers)[b"retry-after"] == b"45000"
    assert raised.value.error_type == "rate_limit_error"
    assert raised.value.message == (
        "The budget of 5 USD per day at cerebras is used up: 5.03 USD spent. It begins anew on Monday, 2026-03-30 at "
        "00:00 (CEST). It is budgets[2].usd in the configuration of ccr-asgi."
    )


def test_tokens_are_told_as_tokens() -> None:
    with pytest.raises(BudgetSpent, match=r"1,234 tokens spent.*budgets\[0\]\.tokens"):
        asked(Standing(budget(tokens=1000), 0, 1234, 0, *period(budget(), NOW)))


def test_a_link_further_on_that_is_blocked_is_left_out() -> None:
    assert asked(standing(provider="codex")) == [("cerebras", "tag"), ("anthropic", "fallback")]


def test_falling_back_takes_the_next_link() -> None:
    spent = standing(then="fallback", provider="cerebras")
    assert asked(spent) == [("codex", "budget"), ("anthropic", "fallback")]
    assert asked(spent, standing(provider="codex")) == [("anthropic", "budget")]
    verdict = afford(CHAIN, [spent, standing(then="warn", provider="codex")], Asker(), link, NOW)
    assert [s.budget.then for s in verdict.used_up] == ["fallback", "warn"]


def test_falling_back_takes_the_budget_s_own_route_first() -> None:
    spent = standing(then="fallback", route="anthropic")
    assert asked(spent) == [("anthropic", "budget"), ("anthropic", "fallback")]


def test_with_nothing_to_fall_back_to_it_blocks() -> None:
    alone = CHAIN[:1]
    with pytest.raises(BudgetSpent, match="per day at cerebras"):
        asked(standing(then="fallback", provider="cerebras"), chain=alone)
    with pytest.raises(BudgetSpent, match="per day is used up"):
        asked(standing(then="fallback", route="keyless,m"), chain=alone)
    spent = standing(then="fallback", provider="cerebras", route="codex,gpt")
    with pytest.raises(BudgetSpent, match="per day at cerebras"):
        asked(spent, standing(provider="codex"), chain=alone)


def test_two_budgets_that_lead_to_each_other_end() -> None:
    there = standing(then="fallback", provider="cerebras", route="codex,gpt")
    back = standing(then="fallback", provider="codex", route="cerebras,m")
    with pytest.raises(BudgetSpent, match="at cerebras"):
        asked(there, back, chain=CHAIN[:2])
    assert asked(there, back) == [("anthropic", "budget")]
