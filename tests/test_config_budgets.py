"""A budget that makes no sense is refused by its place in the file, with what was found and what is accepted."""

from typing import Any

import pytest

from ccr_asgi.config import BudgetEntry, parse_config
from ccr_asgi.errors import ConfigError

GOOD: list[dict[str, Any]] = [
    {"per": "day", "usd": 5, "then": "block"},
    {"per": "week", "tokens": 1_000_000, "then": "warn", "key": "alice"},
    {"per": "day", "usd": 1, "then": "warn", "key": "team-*", "agentId": "*", "counts": "list"},
    {"per": "day", "usd": 1, "then": "fallback", "provider": "cerebras"},
    {"per": "day", "usd": 1, "then": "fallback", "route": "anthropic"},
    {"per": "day", "usd": 1, "then": "fallback", "provider": "cerebras", "route": "anthropic,claude-haiku-4-5"},
]


def config(*budgets: Any) -> tuple[BudgetEntry, ...]:
    data = {"budgets": list(budgets), "proxyKeys": {"alice": "k"}, "providers": {"cerebras": {"apiKey": "k"}}}
    return parse_config(data).budgets


def test_budgets_are_read() -> None:
    assert config(*GOOD)[1] == BudgetEntry(per="week", tokens=1_000_000, then="warn", key="alice")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"per": "month"}, r"budgets\[1\]\.per: .*accepted: day, week.*month"),
        ({"limit": 5}, r"budgets\[1\]\.limit: there is no such key; accepted: per, then, usd"),
        ({"usd": None}, r"budgets\[1\]: found neither of usd and tokens; accepted is one of them"),
        ({"tokens": 5}, r"budgets\[1\]: found both of usd and tokens"),
        ({"usd": 0}, r"budgets\[1\]\.usd: found 0(\.0)?; it must be more than 0"),
        ({"usd": float("inf")}, r"budgets\[1\]\.usd: found inf"),
        ({"usd": None, "tokens": -1}, r"budgets\[1\]\.tokens: found -1"),
        ({"provider": "cerebra"}, r"budgets\[1\]\.provider: found 'cerebra'; accepted: cerebras, anthropic"),
        ({"key": "bob"}, r"budgets\[1\]\.key: found 'bob'; accepted: alice"),
        ({"route": "anthropic"}, r"budgets\[1\]\.route: it goes only with then 'fallback'; found then 'block'"),
        ({"then": "fallback"}, r"budgets\[1\]: a budget of all providers leaves none to fall back to"),
        ({"then": "fallback", "route": "nobody,m"}, r"budgets\[1\]\.route: found 'nobody'; accepted"),
        (
            {"then": "fallback", "provider": "cerebras", "route": "cerebras,m"},
            r"budgets\[1\]\.route: found 'cerebras,m'; it must lead to another provider",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config(GOOD[0], {**GOOD[0], **wrong})


def test_without_proxy_keys_none_can_have_a_budget() -> None:
    with pytest.raises(ConfigError, match="the configuration names none"):
        parse_config({"budgets": [{**GOOD[0], "key": "alice"}]})
