"""The cards: the figures that sum a window up, each with how it has changed against the equal time before."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ccr_asgi.dashboard.numbers import MISSING, compact, duration, percent, usd, whole
from ccr_asgi.dashboard.queries import Summary
from ccr_asgi.dashboard.totals import Totals

Tone = Literal["good", "bad", ""]

NOTEWORTHY = 0.005
"""A smaller change, as a share, is none."""


@dataclass(frozen=True, slots=True)
class Number:
    """A figure as it is shown, and its exact value.

    Attributes:
        name: As the page calls it.
        field: As the JSON of `/api/usage` calls it.
        words: What is shown.
        value: What is exact; None where nothing is known.
        exactly: More digits than `words`, where it has few.
    """

    name: str
    field: str
    words: str
    value: float | None
    exactly: str = ""

    @property
    def quiet(self) -> bool:
        """It is words rather than a figure."""
        return not any(character.isdigit() for character in self.words)


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure has changed: `▲ 12 %`, whether that is welcome, and what it was."""

    words: str
    tone: Tone
    before: str


@dataclass(frozen=True, slots=True)
class Card:
    """A figure, perhaps a second one, what is to be said of them, and the change of the first."""

    label: str
    number: Number
    change: Change | None
    notes: list[str]
    second: Number | None = None
    second_label: str = ""
    parts: list[Number] = field(default_factory=list)


def cards(summary: Summary) -> list[Card]:
    """The cards of a summary, in their order on the page."""
    return [*_of_money(summary), *_of_requests(summary), _of_times(summary)]


def _of_money(summary: Summary) -> list[Card]:
    totals, before = summary.totals, summary.previous
    by_subscription = [f"{whole(totals.subscription)} by subscription"] if totals.subscription else []
    return [
        Card(
            "Billed",
            _money("billed", totals.billed_micro_usd, totals.billed_unpriced, totals.subscription),
            _change(totals.billed_micro_usd, before.billed_micro_usd if before else None, usd),
            [*by_subscription, *_unpriced(totals.billed_unpriced, totals.billed_micro_usd)],
        ),
        Card(
            "List value",
            _money("list", totals.list_micro_usd, totals.list_unpriced),
            _change(totals.list_micro_usd, before.list_micro_usd if before else None, usd),
            [*_covered(totals), *_unpriced(totals.list_unpriced, totals.list_micro_usd)],
        ),
        Card(
            "Saved",
            _money("saved", totals.saved_micro_usd, totals.saved_unpriced),
            _change(totals.saved_micro_usd, before.saved_micro_usd if before else None, usd, welcome=True),
            ["against the Claude models asked for", *_unpriced(totals.saved_unpriced, totals.saved_micro_usd)],
        ),
    ]


def _of_requests(summary: Summary) -> list[Card]:
    totals, before = summary.totals, summary.previous
    tokens = totals.tokens
    return [
        Card(
            "Requests",
            Number("requests", "requests", whole(totals.requests), totals.requests),
            _change(totals.requests, before.requests if before else None, whole),
            [f"{whole(totals.cancelled)} cancelled, {whole(totals.truncated)} truncated"],
        ),
        Card(
            "Tokens",
            Number("tokens", "total_tokens", compact(tokens), tokens, whole(tokens)),
            _change(tokens, before.tokens if before else None, compact),
            [],
            parts=[_part("input", totals.input_tokens), _part("output", totals.output_tokens)]
            + ([_part("reasoning", totals.reasoning_tokens)] if totals.reasoning_tokens else []),
        ),
        Card(
            "Cache hits",
            Number("cache-hit", "cache_hit_ratio", percent(totals.cache_hit_ratio), totals.cache_hit_ratio),
            _points(totals.cache_hit_ratio, before.cache_hit_ratio if before else None, welcome=True),
            [],
            parts=[_part("cache_read", totals.cache_read_tokens), _part("cache_write", totals.cache_write_tokens)],
        ),
        Card(
            "Error rate",
            Number("error-rate", "error_ratio", percent(totals.error_ratio), totals.error_ratio),
            _points(totals.error_ratio, before.error_ratio if before else None, welcome=False),
            [],
            parts=[Number("", "errors", f"{whole(totals.errors)} failed", totals.errors)],
        ),
    ]


def _of_times(summary: Summary) -> Card:
    p50_ms, p95_ms = summary.ttft_p50_ms, summary.ttft_p95_ms
    return Card(
        "Time to first token",
        Number("ttft-p50", "ttft_p50_ms", duration(p50_ms), p50_ms),
        _change(p50_ms, summary.previous_ttft_p50_ms, duration, welcome=False),
        ["estimated"] if summary.ttft_estimated else [],
        second=Number("ttft-p95", "ttft_p95_ms", duration(p95_ms), p95_ms),
        second_label="at the 95th percentile",
    )


def _money(name: str, micro_usd: int | None, unpriced: int, subscription: int = 0) -> Number:
    """An amount: None is "no price" where something was used, and 0 by subscription is no price of 0 either."""
    if micro_usd is None:
        return Number(name, f"{name}_usd", "no price" if unpriced else MISSING, None)
    words = "subscription" if micro_usd == 0 and subscription else usd(micro_usd)
    return Number(name, f"{name}_usd", words, micro_usd / 1_000_000)


def _covered(totals: Totals) -> list[str]:
    if totals.list_micro_usd is None or totals.billed_micro_usd is None or not totals.subscription:
        return []
    covered = totals.list_micro_usd - totals.billed_micro_usd
    return [f"{usd(covered)} covered by subscription"] if covered > 0 else []


def _unpriced(unpriced: int, micro_usd: int | None) -> list[str]:
    return [f"{whole(unpriced)} more without a price"] if unpriced and micro_usd is not None else []


def _part(name: str, tokens: int | None) -> Number:
    words = {"cache_read": "read", "cache_write": "written", "input": "in", "output": "out"}.get(name, name)
    return Number("", f"{name}_tokens", f"{compact(tokens)} {words}", tokens, whole(tokens))


def _change(
    now: float | None, before: float | None, form: Callable[[Any], str], *, welcome: bool | None = None
) -> Change | None:
    """The change as a share of what was before; `welcome` says whether more is better, None that it is neither."""
    if now is None or not before or before < 0:
        return None
    share = now / before - 1
    words = f"\N{MULTIPLICATION SIGN}{share + 1:.0f}" if share >= 9 else f"{abs(share):.0%}"
    return Change(_arrow(share, words), _tone(share, welcome), form(before))


def _points(now: float | None, before: float | None, *, welcome: bool) -> Change | None:
    """The change of a ratio, in percentage points."""
    if now is None or before is None:
        return None
    words = f"{abs(now - before) * 100:.1f} pt"
    return Change(_arrow(now - before, words), _tone(now - before, welcome), percent(before))


def _arrow(change: float, words: str) -> str:
    if abs(change) < NOTEWORTHY:
        return "unchanged"
    spaced = words.replace("%", "\N{NO-BREAK SPACE}%")
    return f"{'▲' if change > 0 else '▼'}\N{NO-BREAK SPACE}{spaced}"


def _tone(change: float, welcome: bool | None) -> Tone:
    if welcome is None or abs(change) < NOTEWORTHY:
        return ""
    return "good" if (change > 0) is welcome else "bad"
