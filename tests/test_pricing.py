"""Prices: which list, which model in it, which tier and time; and the exact sum that tokens come to."""

import decimal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import genai_prices
import pytest
from genai_prices import data
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
)
from hypothesis import given
from hypothesis import strategies as st

from ccr_asgi.config import Cost
from ccr_asgi.pricing import MAX_MODEL_CHARS, Price, PriceBook, Rates, cost_micro_usd

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BOOK = PriceBook({})
HAIKU = Rates(Decimal(1), Decimal("0.1"), Decimal("1.25"), Decimal(2), Decimal(5))

PARTS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


def cost(rates: Rates, **counts: int | None) -> int | None:
    """What these cost, a part that is not named being unknown."""
    return cost_micro_usd(rates, **{f"{part}_tokens": counts.get(part) for part in PARTS})


def find(model: str, book: PriceBook = BOOK, **changes: Any) -> Price | None:
    """The price of `model` today, at a provider of which nothing is known but what `changes` say."""
    asked = {"price_list": None, "provider": None, "host": None, "at": NOW, "input_total_tokens": 0, **changes}
    return book.find(model=model, **asked)


def found(model: str, book: PriceBook = BOOK, **changes: Any) -> Price:
    """As `find`, and there is one."""
    price = find(model, book, **changes)
    assert price is not None
    return price


# what tokens cost


@pytest.mark.parametrize(
    ("rates", "counts", "expected"),
    [
        pytest.param(HAIKU, {"input": 1_000_000}, 1_000_000, id="one USD"),
        # 1,234 x 1 + 5,678 x 0.1 + 900 x 1.25 + 20,000 x 2 + 345 x 5 = 1,234 + 567.8 + 1,125 + 40,000 + 1,725
        pytest.param(
            HAIKU,
            {"input": 1_234, "cache_read": 5_678, "cache_write_5m": 900, "cache_write_1h": 20_000, "output": 345},
            44_652,
            id="each part at its own rate",
        ),
        # 1,000 x 0.35 + 9,000 x 0.35 + 100 x 0.75
        pytest.param(
            Rates(input=Decimal("0.35"), output=Decimal("0.75")),
            {"input": 1_000, "cache_read": 9_000, "output": 100},
            3_575,
            id="cached input costs input",
        ),
        pytest.param(
            Rates(input=Decimal(3)), {"cache_write_5m": 10, "cache_write_1h": 20}, 90, id="and so does what is written"
        ),
        pytest.param(
            Rates(input=Decimal(2), cache_write_5m=Decimal("2.5")), {"cache_write_1h": 100}, 250, id="1 h as 5 min"
        ),
        pytest.param(HAIKU, {"cache_read": 5}, 0, id="half rounds down to even"),
        pytest.param(HAIKU, {"cache_read": 15}, 2, id="half rounds up to even"),
        pytest.param(HAIKU, {"cache_read": 4, "cache_write_5m": 2}, 3, id="rounded once: 0.4 + 2.5"),
        pytest.param(HAIKU, {"input": 0, "output": 0}, 0, id="no tokens cost nothing"),
        pytest.param(HAIKU, {"input": 7, "output": None}, 7, id="unknown beside known is 0"),
        pytest.param(HAIKU, {}, None, id="nothing is known"),
        pytest.param(Rates(input=Decimal(1)), {"input": 5, "output": 1}, None, id="output without a price"),
        pytest.param(Rates(input=Decimal(1)), {"input": 5, "output": 0}, 5, id="no output, and no price for it"),
        pytest.param(Rates(output=Decimal(1)), {"cache_read": 1, "output": 9}, None, id="cached input without a price"),
    ],
)
def test_tokens_cost_what_one_reckons_by_hand(rates: Rates, counts: dict[str, int], expected: int | None) -> None:
    assert cost(rates, **counts) == expected


def test_the_sum_is_exact_whatever_the_decimal_context_of_the_application() -> None:
    rates = Rates(input=Decimal("0.30000000000000004"), output=Decimal(75))
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact])):
        assert cost(rates, input=2**31 - 1, output=2**31 - 1) == 161705518619  # 75.30000000000000004 x 2147483647


USD_PER_MTOK = st.decimals(0, 500, places=4)
RATES = st.builds(Rates, *[USD_PER_MTOK] * 5)
COUNTS = st.fixed_dictionaries(dict.fromkeys(PARTS, st.integers(0, 2**31 - 1)))


@given(rates=RATES, one=COUNTS, other=COUNTS)
def test_cost_adds_up_but_for_the_rounding(rates: Rates, one: dict[str, int], other: dict[str, int]) -> None:
    both = cost(rates, **{part: one[part] + other[part] for part in PARTS})
    first, second = cost(rates, **one), cost(rates, **other)
    assert both is not None
    assert first is not None
    assert second is not None
    assert abs(both - first - second) <= 1
    assert max(first, second) <= both
    exact = sum(Fraction(getattr(rates, part)) * one[part] for part in PARTS)
    assert first == round(exact)


# which list


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"provider": "cerebras"}, "cerebras"),
        ({"provider": "Cerebras"}, "cerebras"),
        ({"provider": "fast", "host": "api.cerebras.ai"}, "cerebras"),
        ({"provider": "fast", "host": "https://api.cerebras.ai/v1/chat/completions"}, "cerebras"),
        ({"provider": "fast", "host": "http://API.cerebras.ai:8080"}, "cerebras"),
        ({"provider": "fast", "host": "https://router.huggingface.co/groq/openai/v1"}, "huggingface_groq"),
        ({"provider": "groq", "host": "api.cerebras.ai"}, "groq"),
        ({"price_list": "openrouter", "provider": "groq", "host": "api.cerebras.ai"}, "openrouter"),
        ({"price_list": "none", "provider": "groq", "host": "api.cerebras.ai"}, None),
        ({"provider": "codex", "host": "http://localhost:9"}, "openai"),
        ({"provider": "mine", "host": "https://chatgpt.com/backend-api/codex/responses"}, "openai"),
        ({"provider": "my-openai-proxy", "host": "http://localhost:8000/v1"}, None),
        ({"provider": "mine", "host": "/"}, None),
        ({"provider": "mine"}, None),
        ({}, None),
    ],
)
def test_the_list_is_chosen_by_key_then_name_then_host(told: dict[str, str], expected: str | None) -> None:
    asked = {"price_list": None, "provider": None, "host": None} | told
    assert BOOK.choose_list(**asked) == expected


def test_a_model_costs_what_its_provider_asks_and_nothing_at_one_that_is_unknown() -> None:
    at_cerebras = found("gpt-oss-120b", provider="cerebras")
    assert at_cerebras.rates == Rates(input=Decimal("0.35"), output=Decimal("0.75"))
    elsewhere = found("openai/gpt-oss-120b", provider="groq")
    assert elsewhere.rates.input == Decimal("0.15")
    assert find("gpt-oss-120b", provider="mine", host="http://localhost:8000") is None


# which model


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("anthropic", "claude-haiku-4-5", "claude-haiku-4-5"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("anthropic", "claude-opus-5-5[1m]", "claude-opus-5-5"),
        ("anthropic", "claude-opus-5-5-20261001[1m]", "claude-opus-5-5"),
        ("anthropic", "claude-opus-4-20300101", "claude-opus-4-0"),
        ("openai", "gpt-5.3-codex", "gpt-5.3-codex"),
        ("openai", "gpt-5.3-codex-2026-02-09", "gpt-5.3-codex"),
        ("openai", "gpt-4o-2024-05-13[1m]", "gpt-4o-2024-05-13"),
        ("codex", "gpt-5.1-codex-max", "gpt-5.1"),
        ("azure", "gpt-5", "gpt-5"),
        ("cerebras", "GPT-OSS-120B", "gpt-oss-120b"),
    ],
)
def test_a_name_leads_to_its_model(provider: str, model: str, expected: str) -> None:
    assert found(model, provider=provider).model == expected


@pytest.mark.parametrize(
    "model", ["", "claude-of-tomorrow", "[1m]", "-20260101", "claude-haiku-4-5" + "x" * MAX_MODEL_CHARS]
)
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert find(model, provider="anthropic") is None


def test_a_retired_model_keeps_its_last_known_price() -> None:
    assert found("llama-3.3-70b", provider="cerebras").rates == Rates(input=Decimal("0.85"), output=Decimal("1.2"))


def test_a_model_that_is_listed_without_a_price_has_none() -> None:
    assert find("qwen-3-coder-480b", provider="cerebras") is None


# the parts


def test_anthropic_prices_both_lives_of_a_cache_entry() -> None:
    assert found("claude-haiku-4-5", provider="anthropic").rates == HAIKU


def test_openai_prices_cached_input() -> None:
    rates = found("gpt-5.1-codex", provider="codex").rates
    assert rates == Rates(input=Decimal("1.25"), cache_read=Decimal("0.125"), output=Decimal(10))
    # 2,000 x 1.25 + 8,000 x 0.125 + 300 x 10
    assert cost(rates, input=2_000, cache_read=8_000, output=300) == 6_500


def listed(monkeypatch: pytest.MonkeyPatch, prices: ModelPrice | list[ConditionalPrice], name: str) -> PriceBook:
    """A book with one list, in which one model `m` stands."""
    model = ModelInfo(id="m", match=ClauseEquals("m"), prices=prices)
    monkeypatch.setattr(data, "providers", [Provider(id=name, name=name, api_pattern="https://none", models=[model])])
    return PriceBook({})


@pytest.mark.parametrize(
    ("name", "prices", "write_5m", "write_1h"),
    [
        ("anthropic", {"cache_write_mtok": "5"}, "5", "8"),
        ("anthropic", {"cache_write_mtok": "5", "cache_write_1h_mtok": "7"}, "5", "7"),
        ("anthropic", {}, None, None),
        ("other", {"cache_write_mtok": "5"}, "5", None),
        ("other", {"cache_write_mtok": "5", "cache_write_5m_mtok": "6"}, "6", None),
    ],
)
def test_what_the_list_does_not_say_of_cache_writes(
    monkeypatch: pytest.MonkeyPatch, name: str, prices: dict[str, str], write_5m: str | None, write_1h: str | None
) -> None:
    told = ModelPrice(input_mtok=Decimal(4), **{key: Decimal(value) for key, value in prices.items()})
    rates = found("m", listed(monkeypatch, told, name), provider=name).rates
    assert rates.cache_write_5m == (write_5m and Decimal(write_5m))
    assert rates.cache_write_1h == (write_1h and Decimal(write_1h))


# tiers and dates


@pytest.mark.parametrize(
    ("input_total_tokens", "usd"), [(0, "1"), (1_000, "1"), (1_001, "2"), (5_000, "2"), (5_001, "3"), (10**9, "3")]
)
def test_a_tier_holds_for_all_tokens_once_its_start_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, input_total_tokens: int, usd: str
) -> None:
    tiers = TieredPrices(Decimal(1), [Tier(5_000, Decimal(3)), Tier(1_000, Decimal(2))])
    book = listed(monkeypatch, ModelPrice(input_mtok=tiers, output_mtok=Decimal(9)), "tiered")
    rates = found("m", book, provider="tiered", input_total_tokens=input_total_tokens).rates
    assert rates == Rates(input=Decimal(usd), output=Decimal(9))


def test_a_long_request_costs_more_at_openai() -> None:
    def rates(input_total_tokens: int) -> Rates:
        return found("gpt-5.4", provider="openai", input_total_tokens=input_total_tokens).rates

    assert (rates(272_000).input, rates(272_000).output) == (Decimal("2.5"), Decimal(15))
    assert (rates(272_001).input, rates(272_001).output) == (Decimal(5), Decimal("22.5"))


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        (datetime(2019, 1, 1, tzinfo=UTC), "1"),
        (datetime(2026, 3, 12, 23, 59, 59, tzinfo=UTC), "1"),
        (datetime(2026, 3, 13, tzinfo=UTC), "2"),
        (NOW, "2"),
    ],
)
def test_a_price_is_that_of_the_day(monkeypatch: pytest.MonkeyPatch, at: datetime, usd: str) -> None:
    prices = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1))),
        ConditionalPrice(StartDateConstraint(date(2026, 3, 13)), prices=ModelPrice(input_mtok=Decimal(2))),
    ]
    assert found("m", listed(monkeypatch, prices, "dated"), provider="dated", at=at).rates.input == Decimal(usd)


def test_a_historic_price_of_claude_depends_on_date_and_length() -> None:
    def usd(at: datetime, input_total_tokens: int) -> Decimal | None:
        return found("claude-opus-4-6", provider="anthropic", at=at, input_total_tokens=input_total_tokens).rates.input

    before = datetime(2026, 3, 12, tzinfo=UTC)
    assert (usd(before, 200_000), usd(before, 200_001), usd(NOW, 200_001)) == (Decimal(5), Decimal(10), Decimal(5))


# the configuration's own prices

COSTS = {
    "gpt-oss-120b": Cost(input=0.6, output=1.2),
    "claude-haiku-4-5": Cost(input=0.9, output=4, cache_read=0.09, cache_write=1.1),
    "free": Cost(input=0, output=0),
}


def test_a_configured_price_wins_wherever_the_model_runs() -> None:
    book = PriceBook(COSTS)
    for provider in ("cerebras", "mine"):
        price = found("gpt-oss-120b", book, provider=provider)
        assert (price.source, price.price_list, price.model) == ("config", provider, "gpt-oss-120b")
        assert price.rates == Rates(input=Decimal("0.6"), output=Decimal("1.2"))
    assert found("gpt-oss-120b", book).price_list == "config"
    assert found("llama-3.3-70b", book, provider="cerebras").source.startswith("genai-prices ")


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-haiku-4-5[1m]"])
def test_a_configured_price_has_its_cache_prices_and_holds_for_dated_names(model: str) -> None:
    rates = found(model, PriceBook(COSTS), provider="anthropic").rates
    assert rates == Rates(Decimal("0.9"), Decimal("0.09"), Decimal("1.1"), Decimal("1.1"), Decimal(4))


def test_a_configured_price_of_zero_is_a_price() -> None:
    assert cost(found("free", PriceBook(COSTS)).rates, input=10**6, output=10**6) == 0


# what is stored of a price


def test_a_price_tells_its_source_and_has_an_id_of_its_own() -> None:
    price = found("gpt-oss-120b", provider="cerebras")
    assert price.source == f"genai-prices {genai_prices.__version__}"
    assert price == found("gpt-oss-120b", PriceBook({}), host="api.cerebras.ai")
    others = [
        found("gpt-oss-120b", provider="openai"),
        found("llama-3.3-70b", provider="cerebras"),
        found("gpt-oss-120b", PriceBook({"gpt-oss-120b": Cost(input=0.35, output=0.75)}), provider="cerebras"),
    ]
    assert len({price.id, *(other.id for other in others)}) == 4


def test_an_id_is_that_of_the_price_and_not_of_its_spelling() -> None:
    one, same, more = (PriceBook({"m": Cost(input=value, output=1)}) for value in (1, 1.0, 1.01))
    assert found("m", one).id == found("m", same).id == "37d6c29b8da01f4b"
    assert found("m", more).id != found("m", one).id


# against the reckoning of genai-prices itself


LISTS = ("anthropic", "cerebras", "deepseek", "google", "groq", "moonshotai", "openai", "zai")


def everything_that_is_priced_by_the_token() -> Iterator[tuple[Provider, ModelInfo]]:
    for price_list in data.providers:
        for model in price_list.models if price_list.id in LISTS else ():
            prices = model.get_prices(NOW)
            if prices.input_mtok is not None and prices.output_mtok is not None and prices.requests_kcount is None:
                yield price_list, model


@pytest.mark.parametrize("size", [1, 40])
def test_a_listed_model_costs_what_genai_prices_reckons(size: int) -> None:
    counts = dict(zip(PARTS, [1_001 * size, 7_003 * size, 503 * size, 2_009 * size, 307 * size], strict=True))
    total = sum(counts.values()) - counts["output"]
    usage = genai_prices.Usage(
        input_tokens=total,  # theirs includes the cache
        cache_read_tokens=counts["cache_read"],
        cache_write_tokens=counts["cache_write_5m"] + counts["cache_write_1h"],
        cache_write_5m_tokens=counts["cache_write_5m"],
        cache_write_1h_tokens=counts["cache_write_1h"],
        output_tokens=counts["output"],
    )
    seen = 0
    for price_list, model in everything_that_is_priced_by_the_token():
        price = find(model.id, provider=price_list.id, input_total_tokens=total)
        if price is None or price.model != model.id:
            continue  # an id that its own list matches to another model
        reckoned = model.calc_price(usage, price_list, genai_request_timestamp=NOW).total_price
        assert cost(price.rates, **counts) == round(reckoned * 1_000_000), (price_list.id, model.id)
        seen += 1
    assert seen > 100


# loading


def test_only_looking_for_a_listed_price_imports_genai_prices_and_nothing_asks_the_network() -> None:
    script = """
import socket, sys
from datetime import UTC, datetime

def refused(*args, **kwargs):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refused
from ccr_asgi.config import Cost
from ccr_asgi.pricing import PriceBook

book = PriceBook({"mine": Cost(input=1, output=2)})
asked = dict(price_list=None, provider="cerebras", host=None, at=datetime.now(UTC), input_total_tokens=0)
assert book.find(model="mine", **asked).source == "config"
assert "genai_prices" not in sys.modules
book.load()
assert "genai_prices" in sys.modules
assert book.find(model="gpt-oss-120b", **asked).price_list == "cerebras"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_threads_may_share_a_book() -> None:
    book = PriceBook({})
    with ThreadPoolExecutor(8) as threads:
        threads.submit(book.load)
        prices = list(threads.map(lambda _: found("gpt-oss-120b", book, provider="cerebras"), range(64)))
    assert set(prices) == {found("gpt-oss-120b", provider="cerebras")}
