"""What stands below a middleware under test, and the Starlette application that holds nothing but the two."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from ccr_asgi.asgi import read_body
from ccr_asgi.exchange import SCOPE_KEY, Exchange

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


def answering(
    *pieces: bytes,
    status: int = 200,
    content_type: bytes = b"application/json",
    headers: Headers = (),
    end: bool = True,
) -> Answer:
    """An answer in these pieces; without `end` the application returns as if its upstream had been cut."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        head = [(b"content-type", content_type), *headers]
        await send({"type": "http.response.start", "status": status, "headers": head})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if end:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return answer


def raising(error: BaseException, *pieces: bytes, content_type: bytes = b"text/event-stream") -> Answer:
    """Raises `error`, after these pieces if there are any."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if pieces:
            await answering(*pieces, content_type=content_type, end=False)(scope, receive, send)
        raise error

    return answer


class Below:
    """Reads each request whole and remembers it, then gives the next of `answers`; the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers) or [answering(b"{}")]
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.bodies.append(await read_body(receive))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await answer(scope, receive, send)

    @property
    def exchange(self) -> Exchange:
        """The exchange of the last request."""
        exchange = self.scopes[-1][SCOPE_KEY]
        assert isinstance(exchange, Exchange)
        return exchange

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the last request."""
        return list(self.scopes[-1]["headers"])

    def header(self, name: bytes) -> bytes | None:
        """A header field of the last request."""
        return dict(self.headers).get(name)


def alone(middleware: Any, below: Answer, **options: Any) -> Starlette:
    """A Starlette application with one middleware of ours over `below`."""
    return Starlette(routes=[Mount("/", app=below)], middleware=[Middleware(middleware, **options)])


async def passes_other_scopes_on(middleware: Any, **options: Any) -> bool:
    """Whether lifespan and websocket scopes reach the layer below as they are."""
    seen: list[Scope] = []

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> dict[str, Any]:
        raise AssertionError("a layer that passes a scope on has no business with its messages")

    async def send(message: Any) -> None:
        raise AssertionError("a layer that passes a scope on has no business with its messages")

    scopes: list[dict[str, Any]] = [{"type": "lifespan"}, {"type": "websocket", "headers": []}]
    for scope in scopes:
        await middleware(below, **options)(scope, receive, send)
    return len(seen) == len(scopes) and all(given is got for given, got in zip(scopes, seen, strict=True))
