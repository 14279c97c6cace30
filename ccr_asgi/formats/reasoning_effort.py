"""How hard the model shall think: Anthropic's `thinking` and `output_config.effort` as OpenAI's effort levels."""

from typing import Any

from ccr_asgi.formats.fields import INTEGER, OBJECT, STRING, optional, required
from ccr_asgi.quirks import EFFORTS, Quirks, for_model

LOW_BELOW_TOKENS = 4_096
MEDIUM_BELOW_TOKENS = 16_384
"""Thinking budgets below these are low and medium effort, and high from there on."""

_USUAL = ("low", "medium", "high")


def reasoning_effort(body: dict[str, Any], model: str, quirks: Quirks) -> str | None:
    """The `reasoning_effort` for `model`; None leaves the field out.

    What the client wants is brought to the nearest lower level that the model takes. A `thinking.type` or an effort
    that is not known is tuning that nobody here understands, and says nothing.

    Raises:
        RequestError: A field is of the wrong type.
    """
    thinking = optional(body, "thinking", OBJECT) or {}
    kind = required(thinking, "type", STRING, "thinking") if thinking else ""
    wanted = optional(optional(body, "output_config", OBJECT) or {}, "effort", STRING, "output_config")
    if kind == "enabled":
        wanted = _effort_of(required(thinking, "budget_tokens", INTEGER, "thinking"))
    if not quirks.reasoning_effort:
        return None
    if kind == "disabled":
        return for_model(quirks.effort_off, model, None)
    return nearest(wanted, for_model(quirks.efforts, model, _USUAL)) if wanted in EFFORTS else None


def nearest(wanted: str, taken: tuple[str, ...]) -> str | None:
    """The highest level of `taken` that is not above `wanted`, else the lowest one; None if nothing is taken."""
    rank = EFFORTS.index
    not_above = [effort for effort in taken if rank(effort) <= rank(wanted)]
    return max(not_above, key=rank) if not_above else min(taken, key=rank, default=None)


def _effort_of(budget_tokens: int) -> str:
    if budget_tokens < LOW_BELOW_TOKENS:
        return "low"
    return "medium" if budget_tokens < MEDIUM_BELOW_TOKENS else "high"
