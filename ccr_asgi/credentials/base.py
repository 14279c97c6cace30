"""What a source of credentials must offer."""

from typing import Protocol

from ccr_asgi.asgi import Headers


class SecretHeaders(list[tuple[bytes, bytes]]):
    """Header fields whose `repr` shows their names alone, for logs and tracebacks that show variables."""

    def __repr__(self) -> str:
        return ", ".join(f"{str(name, 'ascii')}: ***" for name, _ in self)


class Credentials(Protocol):
    """The headers that authenticate us to one provider."""

    refreshable: bool
    """Whether there may be others when the provider refuses these, so that a 401 is worth another try."""

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        """The headers to send, names in lower case.

        Args:
            refused: What an earlier call gave and the provider has answered with 401; others are wanted.

        Raises:
            AuthenticationError: There is no credential (or no other one), or it was refused for good; the message says
                what to run.
            UpstreamError: Another one cannot be had for the moment.
        """
        ...
