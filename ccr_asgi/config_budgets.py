"""What is wrong with the budgets of a configuration file."""

import math
from collections.abc import Collection, Sequence

from ccr_asgi.config_file import BudgetEntry
from ccr_asgi.errors import ConfigError

PATTERN_SIGNS = frozenset("*?[")


def check_budgets(
    budgets: Sequence[BudgetEntry], where: str, *, providers: Collection[str], keys: Collection[str]
) -> None:
    """Check what their types do not tell; `providers` and `keys` are the names in the same file.

    Raises:
        ConfigError: A budget makes no sense; the message names it, what was found and what is accepted.
    """
    for place, budget in enumerate(budgets):
        here = f"{where}: budgets[{place}]"
        _check_limit(budget, here)
        _check_name(budget.provider, f"{here}.provider", providers)
        if budget.key is not None and PATTERN_SIGNS.isdisjoint(budget.key):
            _check_name(budget.key, f"{here}.key", keys)
        _check_route(budget, here, providers)


def _check_limit(budget: BudgetEntry, here: str) -> None:
    if (budget.usd is None) == (budget.tokens is None):
        found = "neither" if budget.usd is None else "both"
        raise ConfigError(f"{here}: found {found} of usd and tokens; accepted is one of them.")
    limit = budget.tokens if budget.usd is None else budget.usd
    if limit is None or not 0 < limit < math.inf:
        raise ConfigError(f"{here}.{'tokens' if budget.usd is None else 'usd'}: found {limit}; it must be more than 0.")


def _check_name(found: str | None, here: str, known: Collection[str]) -> None:
    if found is not None and found not in known:
        accepted = f"accepted: {', '.join(known)}" if known else "the configuration names none"
        raise ConfigError(f"{here}: found {found!r:.100}; {accepted}.")


def _check_route(budget: BudgetEntry, here: str, providers: Collection[str]) -> None:
    if budget.route is None:
        if budget.then == "fallback" and budget.provider is None:
            raise ConfigError(
                f"{here}: a budget of all providers leaves none to fall back to: give it a route, which it then does "
                "not count, or a provider, whose own fallback is taken."
            )
        return
    if budget.then != "fallback":
        raise ConfigError(f"{here}.route: it goes only with then 'fallback'; found then {budget.then!r}.")
    leads_to = budget.route.partition(",")[0].strip()
    _check_name(leads_to, f"{here}.route", providers)
    if leads_to == budget.provider:
        raise ConfigError(f"{here}.route: found {budget.route!r:.200}; it must lead to another provider.")
