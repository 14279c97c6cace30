"""Anthropic's own format: a request that is routed to an `anthropic` provider keeps all but what routed it.

Not a converter, and not in `FORMATS`: what comes back is passed through as it is.
"""

from typing import Any

from ccr_asgi.formats.system_prompt import is_billing, without_billing_line
from ccr_asgi.routing import Route, strip_tag, without_suffix


def rewrite(body: dict[str, Any], route: Route, *, own_key: bool) -> dict[str, Any]:
    """The body for a routed request: the route's model, and no tag in the system prompt; all else as it is, in order.

    With `own_key` the provider is a third party that the client's Anthropic account does not concern: `metadata` (the
    user's ids), `safeguards` (paths and rules) and the client's billing line go too. A system text that is emptied goes
    with its block, and an emptied `system` altogether. `body` itself is not changed, and whatever is not of Anthropic's
    form is left for the provider to refuse.
    """
    rewritten = dict(body)
    if route.model is not None:
        rewritten["model"] = without_suffix(route.model)
    if own_key:
        for field in ("metadata", "safeguards"):
            rewritten.pop(field, None)
    system = _system(body.get("system"), own_key=own_key)
    if system or system == body.get("system"):
        return rewritten if "system" not in body else {**rewritten, "system": system}
    del rewritten["system"]
    return rewritten


def _system(system: Any, *, own_key: bool) -> Any:
    if isinstance(system, str):
        stripped = strip_tag(without_billing_line(system) if own_key else system)
        return stripped if stripped == system or stripped.strip() else ""
    if not isinstance(system, list):
        return system
    blocks = []
    for block in system:
        text = block.get("text") if isinstance(block, dict) and block.get("type") == "text" else None
        if not isinstance(text, str):
            blocks.append(block)
        elif not (own_key and is_billing(text)):
            stripped = strip_tag(text)
            if stripped == text:
                blocks.append(block)
            elif stripped.strip():
                blocks.append({**block, "text": stripped})
    return blocks
