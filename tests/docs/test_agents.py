"""docs/agents.md: its agents are those that are installed, its prices those of the price list that it names."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version

import pytest

from ccr_asgi.cli_agents import examples
from ccr_asgi.config import parse_config
from ccr_asgi.pricing import PriceBook, Rates, cost_micro_usd
from tests.support.server import CHECKOUT

PAGE = (CHECKOUT / "docs/agents.md").read_text()
WRITTEN_FOR = re.search(r"`genai-prices` ([\d.]+) as installed on (\d{4}-\d{2}-\d{2})", PAGE)
PRICES = PriceBook({})


def rows(header: str) -> Iterator[list[str]]:
    """The cells of the table whose first line begins with `header`."""
    table = PAGE.partition(f"\n| {header}")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def rates(link: str) -> Rates:
    provider, _, model = link.partition(",")
    assert WRITTEN_FOR
    at = datetime.fromisoformat(WRITTEN_FOR[2]).replace(tzinfo=UTC)
    price = PRICES.find(price_list=None, provider=provider, host=None, model=model, at=at, input_total_tokens=16_000)
    assert price is not None, link
    return price.rates


def waiting_usd(rates: Rates, turns: int) -> float:
    """What the page's half hour costs: every turn sends again what was sent before."""
    sizes = [8_000 + 130 * turn for turn in range(turns)]
    written = {"cache_write_1h_tokens" if rates.cache_write_1h else "cache_write_5m_tokens": sizes[-1]}
    cost = cost_micro_usd(
        rates,
        input_tokens=0,
        cache_read_tokens=sum(sizes[:-1]),
        output_tokens=100 * turns,
        **{"cache_write_5m_tokens": None, "cache_write_1h_tokens": None, **written},
    )
    assert cost is not None
    return cost / 1_000_000


def test_the_agents_are_those_that_are_installed() -> None:
    told = {name: link for name, _, link in rows("agent | for")}
    assert told == {agent.name: f"{agent.provider},{agent.model}" for agent in examples(parse_config({}))}


@pytest.mark.skipif(
    WRITTEN_FOR is not None and version("genai-prices") != WRITTEN_FOR[1],
    reason="the page tells the prices of another version of the list, by name and date",
)
class TestPrices:
    """They are those of the list."""

    @pytest.mark.parametrize(("link", "told"), [(row[1], row[2:5]) for row in rows("tier")])
    def test_of_a_model(self, link: str, told: list[str]) -> None:
        found = rates(link)
        assert [found.input, found.cache_read, found.output] == [
            None if cell == "–" else Decimal(cell) for cell in told
        ]  # fmt: skip

    @pytest.mark.parametrize(("link", "many", "few"), list(rows("watcher runs on")))
    def test_of_half_an_hour(self, link: str, many: str, few: str) -> None:
        assert [f"{waiting_usd(rates(link), turns):.4f}" for turns in (60, 4)] == [many, few]
