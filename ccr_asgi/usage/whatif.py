"""What stored requests would have cost under another routing table: their own tokens at other prices.

Nothing is asked of any provider. So it holds as far as another model would have done with the same tokens, which is
said with every answer (`ASSUMPTIONS`).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from fnmatch import fnmatchcase
from typing import Any, Literal

from ccr_asgi.usage.batch import Value
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.repricing import Selection, Sums, count, pages, record_of
from ccr_asgi.usage.store import UsageStore

By = Literal["day", "agent", "model"]

ASSUMPTIONS = (
    "The token counts are those of the model that answered. Another model's tokenizer cuts the same text into more or "
    "fewer tokens, often by a tenth or two, and another model says more or less.",
    "What was read from a cache would have been read from one there as well. 'without cache' is the other extreme: all "
    "input at the full price.",
    "Prices are those of each request's date. A subscription bills nothing, whatever of its quota it takes.",
    "A request that used no tokens, as one that failed, costs nothing on any model.",
)
"""What an answer holds for; to be told with it."""


@dataclass(frozen=True, slots=True)
class Move:
    """One line of the other routing table: what some model answered, another one shall answer.

    Attributes:
        provider: Of the requests that it moves; None is any.
        model: The model that answered them, as a pattern, or a part of its name.
        to_provider: Who answers instead.
        to_model: The model there; None is the one that was asked for.
    """

    provider: str | None
    model: str
    to_provider: str
    to_model: str | None

    @classmethod
    def parse(cls, text: str) -> "Move":
        """Read `[provider,]model=provider[,model]`, where a model to the left may be a part of a name or a pattern.

        Raises:
            ValueError: It is not of that form.
        """
        found, equals, instead = text.partition("=")
        to_provider, _, to_model = (part.strip() for part in instead.partition(","))
        provider, comma, model = (part.strip() for part in found.partition(","))
        if not comma:
            provider, model = "", provider
        if not (equals and to_provider and model):
            raise ValueError(f"found {text!r:.200}; accepted is MODEL=PROVIDER,MODEL, as haiku=cerebras,gpt-oss-120b")
        return cls(provider or None, model, to_provider, to_model or None)

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether it moves a stored request."""
        if row["model"] is None or self.provider not in (None, row["provider"]):
            return False
        pattern = self.model if any(sign in self.model for sign in "*?[") else f"*{self.model}*"
        return fnmatchcase(row["model"], pattern)


@dataclass(slots=True)
class Group:
    """Requests of one day, agent or model.

    Attributes:
        name: Which one; None where the requests name none.
        requests: How many there are.
        moved: How many of them the other table moves.
        tokens: All tokens of those.
        now: What all of them cost as they were answered.
        then: What all of them would have cost.
        without_cache: The same, with nothing read from a cache by those that are moved.
    """

    name: str | None
    requests: int = 0
    moved: int = 0
    tokens: int = 0
    now: Sums = field(default_factory=Sums)
    then: Sums = field(default_factory=Sums)
    without_cache: Sums = field(default_factory=Sums)


async def what_if(
    store: UsageStore,
    value: Value,
    moves: Sequence[Move],
    selection: Selection,
    *,
    by: By,
    zone: tzinfo | None = None,
    subscriptions: Collection[str] = (),
    advanced: Callable[[int, int], object] = lambda _done, _all: None,
) -> list[Group]:
    """What the selected requests would have cost, if `moves` had said where they go; the first that fits counts.

    Args:
        store: Started.
        value: Tells what a record is worth; it is called in a thread.
        moves: The other routing table.
        selection: Which requests.
        by: What they are grouped by.
        zone: Where days begin; this machine's own by default.
        subscriptions: The providers that a subscription pays.
        advanced: Called after each page with the requests looked at and all of them.
    """
    groups: dict[str | None, Group] = {}
    done, all_of_them = 0, await count(store, selection)

    def add(page: Sequence[Mapping[str, Any]]) -> None:
        for row in page:
            name = _name(row, by, zone)
            _add(groups.setdefault(name, Group(name)), row, moves, value, subscriptions)

    async for page in pages(store, selection):
        await asyncio.to_thread(add, page)
        done += len(page)
        advanced(done, max(done, all_of_them))
    return sorted(groups.values(), key=lambda group: group.name or "")


def total(groups: Sequence[Group]) -> Group:
    """All groups as one, without a name."""
    whole = Group(None)
    for group in groups:
        whole.requests += group.requests
        whole.moved += group.moved
        whole.tokens += group.tokens
        whole.now.add_sums(group.now)
        whole.then.add_sums(group.then)
        whole.without_cache.add_sums(group.without_cache)
    return whole


def _add(
    group: Group, row: Mapping[str, Any], moves: Sequence[Move], value: Value, subscriptions: Collection[str]
) -> None:
    group.requests += 1
    record = record_of(row)
    if record.tokens == Tokens():
        return
    now = row["billed_now"], row["list_now"], row["saved_now"]
    group.now.add(now)
    move = next((move for move in moves if move.fits(row)), None)
    if move is None:
        group.then.add(now)
        group.without_cache.add(now)
        return
    moved = replace(
        record,
        provider=move.to_provider,
        model=move.to_model or record.requested_model,
        subscription=move.to_provider in subscriptions,
    )
    group.moved += 1
    group.tokens += sum(part or 0 for part in _parts(record))
    for sums, supposed in ((group.then, moved), (group.without_cache, _without_cache(moved))):
        worth = value(supposed)
        sums.add((worth.billed_micro_usd, worth.list_micro_usd, worth.saved_micro_usd))


def _without_cache(record: UsageRecord) -> UsageRecord:
    *inputs, output = _parts(record)
    told = [part for part in inputs if part is not None]
    return replace(record, tokens=Tokens(input=sum(told) if told else None, output=output))


def _parts(record: UsageRecord) -> tuple[int | None, ...]:
    tokens = record.tokens
    return tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h, tokens.output


def _name(row: Mapping[str, Any], by: By, zone: tzinfo | None) -> str | None:
    if by == "day":
        return datetime.fromisoformat(row["started_at"]).astimezone(zone).date().isoformat()
    name: str | None = row["agent_id" if by == "agent" else "model"]
    return name
