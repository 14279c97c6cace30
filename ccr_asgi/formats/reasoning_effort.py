"""How hard the model shall think: Anthropic's `thinking` and `output_config.effort` as OpenAI's effort levels."""

from typing import Any

from ccr_asgi.formats.fields import INTEGER, OBJECT, STRING, optional, required
from ccr_asgi.quirks import EFFORTS, Quirks, for_model

Budgets = tuple[tuple[int, str], ...]

CHAT_BUDGETS: Budgets = ((4_095, "low"), (16_383, "medium"))
RESPONSES_BUDGETS: Budgets = ((1_024, "low"), (8_192, "medium"), (24_576, "high"))
"""The largest thinking budget, in tokens, that is each effort; a larger one than the last is the next effort up."""

_USUAL = ("low", "medium", "high")


def reasoning_effort(
    body: dict[str, Any],
    model: str,
    quirks: Quirks,
    budgets: Budgets = CHAT_BUDGETS,
    *,
    effort_first: bool = False,
) -> str | None:
    """The effort for `model`; None leaves the field out. Of a budget and an effort the budget counts, or the effort.

    What the client wants is brought to the nearest lower level that the model takes. A `thinking.type` or an effort
    that is not known is tuning that nobody here understands, and says nothing.

    Raises:
        RequestError: A field is of the wrong type.
    """
    thinking = optional(body, "thinking", OBJECT) or {}
    kind = required(thinking, "type", STRING, "thinking") if thinking else ""
    wanted = optional(optional(body, "output_config", OBJECT) or {}, "effort", STRING, "output_config")
    if kind == "enabled" and not (effort_first and wanted):
        wanted = _effort_of(required(thinking, "budget_tokens", INTEGER, "thinking"), budgets)
    if not reasons(model, quirks):
        return None
    if kind == "disabled":
        return for_model(quirks.effort_off, model, None)
    return nearest(wanted, for_model(quirks.efforts, model, _USUAL)) if wanted in EFFORTS else None


def reasons(model: str, quirks: Quirks) -> bool:
    """Whether `model` is known as one that may be told how hard to think."""
    return quirks.reasoning_effort and bool(for_model(quirks.efforts, model, _USUAL))


def nearest(wanted: str, taken: tuple[str, ...]) -> str | None:
    """The highest level of `taken` that is not above `wanted`, else the lowest one; None if nothing is taken."""
    rank = EFFORTS.index
    not_above = [effort for effort in taken if rank(effort) <= rank(wanted)]
    return max(not_above, key=rank) if not_above else min(taken, key=rank, default=None)


def _effort_of(budget_tokens: int, budgets: Budgets) -> str:
    for limit_tokens, effort in budgets:
        if budget_tokens <= limit_tokens:
            return effort
    return EFFORTS[EFFORTS.index(budgets[-1][1]) + 1]
