"""What a source of credentials must offer."""

from typing import Protocol

from ccr_asgi.asgi import Headers


class Credentials(Protocol):
    """The headers that authenticate us to one provider."""

    refreshable: bool
    """Whether `force_refresh` can give anything new, so that a 401 is worth a second try."""

    async def headers(self, *, force_refresh: bool = False) -> Headers:
        """The headers to send, names in lower case.

        Raises:
            AuthenticationError: There is no credential, or it was refused for good; the message says what to run.
        """
        ...
