"""A record's value: what was billed, what it is worth at list price, and what was saved; figures reckoned by hand."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ccr_asgi.config import Config, Cost, parse_config
from ccr_asgi.pricing import Valuation
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.valuation import Valuer
from tests.usage.records import record

CONFIG = parse_config(
    {
        "providers": {
            "anthropic": {"passthrough": True},
            "claude-by-key": {"type": "anthropic", "baseUrl": "https://api.anthropic.com", "apiKey": "invented"},
            "cerebras": {"apiKey": "invented"},
            "fast": {"type": "openai-chat", "baseUrl": "https://api.cerebras.ai/v1/x", "apiKey": "invented"},
            "local": {"type": "openai-chat", "baseUrl": "http://localhost:8000/v1/x", "apiKey": "invented"},
            "priced": {
                "type": "openai-chat",
                "baseUrl": "http://localhost:8000/v1/x",
                "apiKey": "invented",
                "pricing": "groq",
            },
            "codex": {},
        }
    }
)
NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOTHING = Valuation()
TOKENS = Tokens(input=2_000, cache_read=30_000, cache_write_5m=0, cache_write_1h=400, output=500, reasoning=100)
# On Claude Haiku 4.5 at 1, 0.1, 1.25, 2 and 5 USD: 2,000 + 3,000 + 0 + 800 + 2,500
ON_HAIKU = 8_300
# On gpt-oss-120b at Cerebras at 0.35, without cache prices, and 0.75 USD: 32,400 x 0.35 + 375
ON_GPT_OSS = 11_715


def request(**changes: Any) -> UsageRecord:
    """A request for Claude Haiku that Cerebras answered, with `changes`."""
    told = {"requested_model": "claude-haiku-4-5-20251001", "tokens": TOKENS, "started_at": NOW, **changes}
    return record(**told)


def value(changed: UsageRecord, config: Config = CONFIG, costs: Mapping[str, Cost] | None = None) -> Valuation:
    """What `changed` is worth; `costs` are the configuration's prices by model."""
    return Valuer(config.providers, costs or {}).value(changed)


def amounts(valuation: Valuation) -> tuple[int | None, int | None, int | None]:
    """Billed, list value, saved."""
    return valuation.billed_micro_usd, valuation.list_micro_usd, valuation.saved_micro_usd


# who answered


def test_a_delegated_request_is_billed_at_its_providers_list_and_a_loss_is_shown() -> None:
    valuation = value(request())
    assert amounts(valuation) == (ON_GPT_OSS, ON_GPT_OSS, ON_HAIKU - ON_GPT_OSS)
    assert valuation.price is not None
    assert (valuation.price.price_list, valuation.price.model) == ("cerebras", "gpt-oss-120b")
    assert valuation.baseline is not None
    assert (valuation.baseline.price_list, valuation.baseline.model) == ("anthropic", "claude-haiku-4-5")


@pytest.mark.parametrize("provider", ["fast", "cerebras"])
def test_a_provider_is_known_by_name_or_by_host(provider: str) -> None:
    assert value(request(provider=provider)).list_micro_usd == ON_GPT_OSS


def test_the_pricing_key_names_the_list() -> None:
    # Groq: 0.15, cached 0.075, 0.60: (2,000 + 400) x 0.15 + 30,000 x 0.075 + 500 x 0.6
    assert value(request(provider="priced", model="openai/gpt-oss-120b")).list_micro_usd == 360 + 2_250 + 300


def test_a_provider_in_no_list_has_no_price_and_saves_an_unknown_amount() -> None:
    valuation = value(request(provider="local"))
    assert amounts(valuation) == (None, None, None)
    assert valuation.price is None


def test_a_provider_that_is_no_longer_configured_is_known_by_its_name() -> None:
    bare = parse_config({})
    assert value(request(), bare).list_micro_usd == ON_GPT_OSS
    assert value(request(provider="codex", model="gpt-5.1-codex", subscription=True), bare).list_micro_usd == ON_GPT_5_1


# Claude itself


@pytest.mark.parametrize(("subscription", "billed"), [(True, 0), (False, ON_HAIKU)])
def test_a_passthrough_on_the_model_that_was_asked_for_saves_nothing(subscription: bool, billed: int) -> None:
    served = request(provider="anthropic", model="claude-haiku-4-5-20251001", subscription=subscription)
    valuation = value(served)
    assert amounts(valuation) == (billed, ON_HAIKU, 0)
    assert valuation.price == valuation.baseline


def test_a_passthrough_by_another_claude_model_saves_the_difference_in_list_value() -> None:
    # Claude Opus 4.5 at 5, 0.5, 10 and 25 USD: 10,000 + 15,000 + 4,000 + 12,500
    asked = request(requested_model="claude-opus-4-5", provider="anthropic", model="claude-haiku-4-5")
    assert amounts(value(asked)) == (ON_HAIKU, ON_HAIKU, 41_500 - ON_HAIKU)
    assert amounts(value(replace(asked, subscription=True))) == (0, ON_HAIKU, 41_500 - ON_HAIKU)


def test_claude_by_a_key_of_its_own_is_priced_as_anthropic() -> None:
    assert amounts(value(request(provider="claude-by-key", model="claude-haiku-4-5"))) == (ON_HAIKU, ON_HAIKU, 0)


# a subscription elsewhere

# gpt-5.1 at 1.25, cached 0.125, 10 USD: (2,000 + 400) x 1.25 + 30,000 x 0.125 + 500 x 10
ON_GPT_5_1 = 3_000 + 3_750 + 5_000


def test_a_chatgpt_login_is_billed_nothing_and_has_a_list_value() -> None:
    delegated = request(provider="codex", model="gpt-5.1-codex", subscription=True)
    assert amounts(value(delegated)) == (0, ON_GPT_5_1, ON_HAIKU)


def test_a_subscription_on_an_unknown_model_is_still_billed_nothing() -> None:
    delegated = request(provider="codex", model="gpt-of-tomorrow", subscription=True)
    assert amounts(value(delegated)) == (0, None, ON_HAIKU)
    assert value(delegated).price is None


# the baseline


@pytest.mark.parametrize(
    ("requested_model", "saved"),
    [
        ("claude-haiku-4-5", ON_HAIKU - ON_GPT_OSS),
        ("claude-haiku-4-5[1m]", ON_HAIKU - ON_GPT_OSS),
        ("openrouter,claude-haiku-4-5", ON_HAIKU - ON_GPT_OSS),
        ("cerebras,gpt-oss-120b", None),
        ("gpt-oss-120b", None),
        ("claude-of-tomorrow", None),
        ("", None),
        (None, None),
    ],
)
def test_saved_needs_a_claude_model_that_was_asked_for(requested_model: str | None, saved: int | None) -> None:
    valuation = value(request(requested_model=requested_model), costs={"gpt-oss-120b": Cost(input=0.35, output=0.75)})
    assert amounts(valuation) == (ON_GPT_OSS, ON_GPT_OSS, saved)
    assert (valuation.baseline is None) == (saved is None)


# tokens


@pytest.mark.parametrize(
    "tokens", [Tokens(), Tokens(reasoning=5), Tokens(input=-1), Tokens(output=2**31)], ids=lambda tokens: repr(tokens)
)
@pytest.mark.parametrize("subscription", [True, False])
def test_without_a_count_that_can_be_true_nothing_is_known(tokens: Tokens, subscription: bool) -> None:
    failed = request(tokens=tokens, outcome="error", subscription=subscription)
    assert value(failed) == NOTHING


def test_a_failed_request_that_used_tokens_has_a_value() -> None:
    assert value(request(outcome="truncated", tokens=Tokens(input=1_000))).list_micro_usd == 350


def test_a_count_that_cannot_be_true_is_left_out_as_it_is_in_the_row() -> None:
    assert value(request(tokens=Tokens(input=1_000, output=-7))).list_micro_usd == 350


def test_a_model_of_an_unknown_name_has_the_price_of_the_one_that_was_asked_for() -> None:
    costs = {"gpt-oss-120b": Cost(input=1.0, output=2.0)}
    aliased = request(model="gpt-oss-120b-fp8-turbo", routed_model="gpt-oss-120b", tokens=Tokens(input=10, output=10))
    assert amounts(value(aliased, costs=costs))[0] == 30
    assert amounts(value(replace(aliased, routed_model=None), costs=costs))[0] is None
    assert amounts(value(replace(aliased, model="gpt-oss-120b", routed_model="free"), costs=costs))[0] == 30


def test_a_request_whose_model_nobody_told_has_no_price() -> None:
    assert amounts(value(request(model=None, requested_model=None))) == (None, None, None)


def test_a_price_that_does_not_cover_what_was_used_is_none() -> None:
    # An embedding model: its output has no price.
    url = "https://api.voyageai.com/v1/x"
    config = parse_config({"providers": {"mine": {"type": "openai-chat", "baseUrl": url, "apiKey": "invented"}}})
    asked = request(provider="mine", model="voyage-3", tokens=Tokens(input=1_000))
    assert value(asked, config).list_micro_usd == 60
    answered = value(replace(asked, tokens=Tokens(input=1_000, output=1)), config)
    assert amounts(answered) == (None, None, None)
    assert answered.price is None


def test_all_input_counts_for_the_tier() -> None:
    # gpt-5.4 costs 2.5 USD up to 272,000 tokens of input, and 5 above; 0.25 and 0.5 if cached.
    long = Tokens(input=2_000, cache_read=270_000, output=0)
    codex = {"provider": "codex", "model": "gpt-5.4"}
    assert value(request(tokens=long, **codex)).list_micro_usd == 5_000 + 67_500
    assert value(request(tokens=replace(long, input=2_001), **codex)).list_micro_usd == 10_005 + 135_000


def test_a_price_is_that_of_the_time_of_the_request() -> None:
    # gpt-5.6-luna: 1 USD until 2026-07-29, then 0.2
    luna = {"provider": "codex", "model": "gpt-5.6-luna", "tokens": Tokens(input=1_000)}
    assert value(request(started_at=datetime(2026, 7, 29, 23, tzinfo=UTC), **luna)).list_micro_usd == 1_000
    assert value(request(started_at=datetime(2026, 7, 30, tzinfo=UTC), **luna)).list_micro_usd == 200


# the configuration's prices


def test_the_originals_costs_win_over_every_list() -> None:
    costs = {"gpt-oss-120b": Cost(input=0.6, output=1.2)}
    # 32,400 x 0.6 + 500 x 1.2
    for provider in ("cerebras", "local"):
        valuation = value(request(provider=provider), costs=costs)
        assert amounts(valuation) == (20_040, 20_040, ON_HAIKU - 20_040)
        assert valuation.price is not None
        assert (valuation.price.source, valuation.price.price_list) == ("config", provider)


def test_a_model_that_is_configured_as_free_saves_all() -> None:
    assert amounts(value(request(provider="local"), costs={"gpt-oss-120b": Cost(input=0, output=0)})) == (
        0,
        0,
        ON_HAIKU,
    )
