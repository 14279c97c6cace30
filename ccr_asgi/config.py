"""The configuration: typed, frozen, and strict about what it reads."""

from dataclasses import dataclass, field
from typing import Literal

from ccr_asgi.quirks import Quirks

Kind = Literal["anthropic", "openai-chat", "openai-responses"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A named upstream.

    Attributes:
        name: Its key under `providers`.
        kind: Its wire format (config key `type`).
        base_url: For `anthropic` the origin with an optional path prefix; for the others the full endpoint URL.
        api_key: The provider's own secret; None when none is configured. Never shown by `repr`.
        passthrough: The client's own credential is what the upstream wants (`anthropic` only).
        models: Model names that route here by themselves.
        headers: Extra headers for every request to it.
        quirks: How it differs from its kind.
        key_hint: Where its key was expected ("${CEREBRAS_API_KEY}"), for the error that says it is missing.
    """

    name: str
    kind: Kind
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    passthrough: bool = False
    auth_file: str | None = None
    token_url: str | None = None
    models: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    quirks: Quirks = field(default_factory=Quirks)
    fallback: tuple[str, ...] = ()
    pricing: str | None = None
    key_hint: str | None = None
