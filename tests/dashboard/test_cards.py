"""The cards: what each says of a summary, and what has changed."""

from dataclasses import replace

import pytest

from ccr_asgi.dashboard.cards import Card, cards
from ccr_asgi.dashboard.queries import Summary
from ccr_asgi.dashboard.totals import NOTHING, Totals

TOTALS = Totals(
    requests=200, errors=10, cancelled=3, truncated=2, subscription=120, timed=190,
    input_tokens=1_000, cache_read_tokens=90_000, cache_write_5m_tokens=6_000, cache_write_1h_tokens=3_000,
    output_tokens=20_000, reasoning_tokens=4_000,
    billed_micro_usd=500_000, list_micro_usd=2_000_000, saved_micro_usd=1_000_000,
)  # fmt: skip


def card(label: str, summary: Summary) -> Card:
    return next(card for card in cards(summary) if card.label == label)


def of(totals: Totals, previous: Totals | None = None) -> Summary:
    return Summary(totals, previous, 1_200.0, 3_000.0, False)


def shown(label: str, totals: Totals, previous: Totals | None = None) -> tuple[str, str, str]:
    """The figure of a card, its change and the tone of that."""
    found = card(label, of(totals, previous))
    return found.number.words, found.change.words if found.change else "", found.change.tone if found.change else ""


def test_their_order() -> None:
    assert [card.number.name for card in cards(of(TOTALS))] == [
        "billed", "list", "saved", "requests", "tokens", "cache-hit", "error-rate", "ttft-p50",
    ]  # fmt: skip


def test_each_has_its_exact_value_under_the_name_of_the_json() -> None:
    values = {card.number.field: card.number.value for card in cards(of(TOTALS))}
    assert values == {
        "billed_usd": 0.5,
        "list_usd": 2.0,
        "saved_usd": 1.0,
        "requests": 200,
        "total_tokens": 120_000,
        "cache_hit_ratio": 0.9,
        "error_ratio": 0.05,
        "ttft_p50_ms": 1_200.0,
    }
    times = card("Time to first token", of(TOTALS))
    assert times.second is not None
    assert (times.second.name, times.second.words, times.second.value) == ("ttft-p95", "3.0 s", 3_000.0)


def test_what_no_price_is_known_of_is_never_0() -> None:
    unpriced = replace(TOTALS, billed_micro_usd=None, billed_unpriced=7, list_micro_usd=None, list_unpriced=7)
    for label in ("Billed", "List value"):
        found = card(label, of(unpriced))
        assert (found.number.words, found.number.value, found.number.quiet) == ("no price", None, True)
    some = card("Billed", of(replace(TOTALS, billed_unpriced=7)))
    assert (some.number.words, some.notes) == ("$0.50", ["120 by subscription", "7 more without a price"])


def test_a_subscription_is_said_in_place_of_0() -> None:
    free = replace(TOTALS, billed_micro_usd=0)
    found = card("Billed", of(free))
    assert (found.number.words, found.number.value, found.number.quiet) == ("subscription", 0.0, True)
    assert card("List value", of(free)).notes == ["$2.00 covered by subscription"]
    assert card("List value", of(replace(free, list_micro_usd=0))).notes == []
    assert card("Billed", of(replace(free, subscription=0))).number.words == "$0.00"


def test_without_a_request_nothing_is_known() -> None:
    for found in cards(Summary(NOTHING, None, None, None, False)):
        assert found.number.words in ("–", "0")
        assert found.change is None


@pytest.mark.parametrize(
    ("label", "now", "before", "change"),
    [
        ("Billed", {}, {"billed_micro_usd": 400_000}, ("▲ 25 %", "")),
        ("Billed", {}, {"billed_micro_usd": 1_000_000}, ("▼ 50 %", "")),
        ("Billed", {}, {"billed_micro_usd": 501_000}, ("unchanged", "")),
        ("Billed", {}, {"billed_micro_usd": 0}, ("", "")),
        ("Billed", {}, {"billed_micro_usd": None}, ("", "")),
        ("Billed", {}, {"billed_micro_usd": 10_000}, ("▲ ×50", "")),
        ("Saved", {}, {"saved_micro_usd": 800_000}, ("▲ 25 %", "good")),
        ("Saved", {}, {"saved_micro_usd": 2_000_000}, ("▼ 50 %", "bad")),
        ("Saved", {}, {"saved_micro_usd": -5}, ("", "")),
        ("Requests", {}, {"requests": 100}, ("▲ 100 %", "")),
        ("Error rate", {}, {"errors": 4}, ("▲ 3.0 pt", "bad")),
        ("Error rate", {}, {"errors": 20}, ("▼ 5.0 pt", "good")),
        ("Error rate", {}, {"requests": 0, "errors": 0}, ("", "")),
        ("Cache hits", {}, {"input_tokens": 11_000}, ("▲ 8.2 pt", "good")),
        ("Cache hits", {}, {}, ("unchanged", "")),
    ],
)
def test_changes(label: str, now: dict[str, int], before: dict[str, int | None], change: tuple[str, str]) -> None:
    totals = replace(TOTALS, **now)
    _, words, tone = shown(label, totals, replace(TOTALS, **before))  # type: ignore[arg-type]  # names of counts
    assert (words.replace("\N{NO-BREAK SPACE}", " "), tone) == change


def test_less_time_to_the_first_token_is_welcome() -> None:
    summary = Summary(TOTALS, TOTALS, 1_000.0, 3_000.0, True, 2_000.0, 4_000.0)
    found = card("Time to first token", summary)
    assert found.change is not None
    assert (found.change.tone, found.change.before, found.notes) == ("good", "2.0 s", ["estimated"])


def test_parts_stand_below_the_sum() -> None:
    parts = card("Tokens", of(TOTALS)).parts
    assert [(part.field, part.words) for part in parts] == [
        ("input_tokens", "1,000 in"),
        ("output_tokens", "20\N{NO-BREAK SPACE}k out"),
        ("reasoning_tokens", "4,000 reasoning"),
    ]
    assert len(card("Tokens", of(replace(TOTALS, reasoning_tokens=0))).parts) == 2
