"""Which provider and model serve a request: pure functions over the configuration."""

from dataclasses import dataclass
from typing import Literal

from ccr_asgi.config import Provider

Reason = Literal["default", "tag", "model-pair", "model-name"]


@dataclass(frozen=True, slots=True)
class Route:
    """One way to serve a request.

    Attributes:
        provider: Who is asked.
        model: The model name that goes upstream; None leaves the client's own (passthrough).
        reason: Why: nothing asked for another ("default"), a tag in the system prompt ("tag"), a model of the form
            "provider,model" ("model-pair"), or a model name listed under exactly one provider ("model-name").
    """

    provider: Provider
    model: str | None
    reason: Reason
