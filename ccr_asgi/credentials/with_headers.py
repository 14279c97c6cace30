"""Any credentials, with the further header fields that the configuration names."""

from ccr_asgi.asgi import Headers
from ccr_asgi.credentials.base import Credentials, SecretHeaders


class WithHeaders:
    """Sends `extra` beside what `credentials` give.

    Args:
        credentials: The source that is asked.
        extra: Names and values, sent as they are.
    """

    def __init__(self, credentials: Credentials, extra: tuple[tuple[str, str], ...]) -> None:
        self.refreshable = credentials.refreshable
        self._credentials = credentials
        self._extra = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in extra]

    def __repr__(self) -> str:
        return f"WithHeaders({self._credentials!r})"

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        """Both; see `Credentials.headers`."""
        own_refused = None if refused is None else refused[: -len(self._extra)]
        return SecretHeaders([*await self._credentials.headers(refused=own_refused), *self._extra])
