"""A key that stands in the configuration."""

from ccr_asgi.asgi import Headers
from ccr_asgi.config import Kind, Provider
from ccr_asgi.credentials.base import SecretHeaders


class StaticKey:
    """Sends one unchanging key, in the header that the provider's wire format wants it in.

    Args:
        key: The secret; None sends only `extra`.
        kind: The wire format: Anthropic's takes `x-api-key`, the others `authorization: Bearer`.
        extra: Further headers, sent as they are.
    """

    refreshable = False

    def __init__(self, key: str | None, *, kind: Kind = "openai-chat", extra: tuple[tuple[str, str], ...] = ()) -> None:
        self._headers = SecretHeaders((name.lower().encode("ascii"), value.encode("latin-1")) for name, value in extra)
        named = {name for name, _ in self._headers}
        name, prefix = (b"x-api-key", b"") if kind == "anthropic" else (b"authorization", b"Bearer ")
        if key is not None and name not in named:
            self._headers.append((name, prefix + key.encode("latin-1")))

    def __repr__(self) -> str:
        return f"StaticKey({', '.join(str(name, 'ascii') for name, _ in self._headers)}: ***)"

    @classmethod
    def of(cls, provider: Provider) -> "StaticKey":
        """The credentials of a provider that has a key (or needs none)."""
        return cls(provider.api_key, kind=provider.kind, extra=provider.headers)

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        """The same headers each time."""
        return self._headers
