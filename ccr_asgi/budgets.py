"""What may be spent, and what becomes of a request when it is: pure functions over budgets and what was spent.

A budget covers the requests that fit all it says. It is asked before a provider is: what is under way already goes on,
so that it can be overrun by what the requests under way cost, and by no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from ccr_asgi.config import BudgetEntry
from ccr_asgi.errors import BudgetSpent
from ccr_asgi.routing import Route

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Asker:
    """Who makes a request.

    Attributes:
        agent_id: Claude Code's id of the agent; None for a main session.
        key: The name of the proxy key that came with it.
    """

    agent_id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """One budget, and what was spent of it.

    Attributes:
        budget: As it is configured.
        place: Its place in the configuration, from 0.
        spent: In micro-dollars, or in tokens where the budget is one of tokens.
        unpriced: Requests that used tokens and have no price, so that a budget of money knows nothing of them.
        began_at, resets_at: The day or week that it holds for; UTC, aware.
    """

    budget: BudgetEntry
    place: int
    spent: int
    unpriced: int
    began_at: datetime
    resets_at: datetime

    @property
    def limit(self) -> int:
        """How much may be spent, in the unit of `spent`."""
        return self.budget.tokens if self.budget.tokens is not None else round((self.budget.usd or 0) * MICRO)

    @property
    def used_percent(self) -> float:
        """How much of it is used; 100 and more when it is used up."""
        return 100 * self.spent / self.limit

    @property
    def used_up(self) -> bool:
        """Whether nothing is left."""
        return self.spent >= self.limit


def period(budget: BudgetEntry, now: datetime) -> tuple[datetime, datetime]:
    """The day or the week (from Monday) that `now` is in, as this machine's clock shows it: its begin and end, UTC."""
    midnight = datetime.combine(now.astimezone().date(), datetime.min.time())
    first = midnight - timedelta(days=midnight.weekday()) if budget.per == "week" else midnight
    last = first + timedelta(days=7 if budget.per == "week" else 1)
    # Without a zone they are wall times, of which each gets the offset of its own date.
    return first.astimezone(UTC), last.astimezone(UTC)


def covers(budget: BudgetEntry, provider: str | None, asker: Asker) -> bool:
    """Whether a request of `asker` that `provider` serves counts; what goes where the budget leads never does."""
    if provider is None or provider == exempt(budget) or budget.provider not in (None, provider):
        return False
    return _fits(budget.agent_id, asker.agent_id) and _fits(budget.key, asker.key)


def exempt(budget: BudgetEntry) -> str | None:
    """The provider that a budget leads to when it is used up."""
    return budget.route.partition(",")[0].strip() if budget.route is not None else None


def _fits(pattern: str | None, name: str | None) -> bool:
    return pattern is None or (bool(name) and fnmatchcase(name or "", pattern))


def label(budget: BudgetEntry) -> str:
    """A budget in words, such as `5 USD per day at cerebras`."""
    words = f"{budget.tokens:,} tokens" if budget.tokens is not None else f"{budget.usd:g} USD"
    if budget.counts == "list" and budget.tokens is None:
        words += " of list value"
    words += f" per {budget.per}"
    if budget.provider is not None:
        words += f" at {budget.provider}"
    if budget.agent_id is not None:
        words += " by subagents" if budget.agent_id == "*" else f" by agents {budget.agent_id}"
    return words if budget.key is None else f"{words} with key {budget.key}"


@dataclass(slots=True)
class Verdict:
    """What budgets make of a request.

    Attributes:
        links: Whom it may ask, in this order.
        used_up: The budgets that had a say, each once.
    """

    links: list[Route] = field(default_factory=list)
    used_up: list[Standing] = field(default_factory=list)

    def header(self) -> bytes:
        """The value of `x-ccr-budget`."""
        told = (f"{label(s.budget)}: {s.used_percent:.0f}% used; then={s.budget.then}" for s in self.used_up)
        return ", ".join(told).encode("ascii", "replace")


def afford(
    links: Sequence[Route], standings: Sequence[Standing], asker: Asker, link: Callable[[str], Route], now: datetime
) -> Verdict:
    """Whom a request may ask that would ask `links`, when so much is spent.

    Args:
        links: The route of the request and its fallbacks.
        standings: All budgets.
        asker: Who makes the request.
        link: Makes a route of the "provider,model" of a budget.
        now: Aware.

    Raises:
        BudgetSpent: Nobody: the first link's budget blocks, or all others are used up as well.
    """
    verdict, waiting, seen = Verdict(), list(links), set[tuple[str, str | None]]()
    reason: Standing | None = None
    while waiting:
        candidate = waiting.pop(0)
        seen.add((candidate.provider.name, candidate.model))
        spent = [s for s in standings if s.used_up and covers(s.budget, candidate.provider.name, asker)]
        stopping = next((standing for standing in spent if standing.budget.then == "block"), None)
        turning = next((standing for standing in spent if standing.budget.then == "fallback"), None)
        if not verdict.links:  # what befalls a link that may never be asked is of no interest
            verdict.used_up += [standing for standing in spent if standing not in verdict.used_up]
            if stopping is not None and reason is None:
                raise refusal(stopping, now)
            reason = reason or turning
        if stopping is None and turning is None:
            first = reason is not None and not verdict.links
            verdict.links.append(replace(candidate, reason="budget") if first else candidate)
        elif stopping is None and turning is not None and turning.budget.route is not None:
            other = link(turning.budget.route)
            if other.provider.has_credential and (other.provider.name, other.model) not in seen:
                waiting.insert(0, other)
    if not verdict.links:
        assert reason is not None
        raise refusal(reason, now)
    return verdict


def refusal(standing: Standing, now: datetime) -> BudgetSpent:
    """The error for a budget that is used up."""
    budget, resets_at = standing.budget, standing.resets_at.astimezone()
    unit = "tokens" if budget.tokens is not None else "usd"
    spent = f"{standing.spent:,} tokens" if budget.tokens is not None else f"{standing.spent / MICRO:,.2f} USD"
    return BudgetSpent(
        f"The budget of {label(budget)} is used up: {spent} spent. It begins anew on {resets_at:%A, %Y-%m-%d at %H:%M} "
        f"({resets_at:%Z}). It is budgets[{standing.place}].{unit} in the configuration of ccr-asgi.",
        begins_anew_s=(standing.resets_at - now).total_seconds(),
    )
