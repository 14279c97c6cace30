"""An ASGI server's side of one request, without a server: for unit tests of a middleware or an application.

`request` runs an application to its end. `start` leaves it running, so that a test can look at what has been sent so
far, hold back the body, or leave. Both check what a server would refuse: one start, bytes after it, nothing after the
end, lower-case names.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.support.signals import PATIENCE_S

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[str | bytes, str | bytes]]


@dataclass
class Response:
    """What an application has sent."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The status; an AssertionError if the answer never started, as for the headers."""
        return int(self._start["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The raw header list, in order."""
        return list(self._start["headers"])

    @property
    def pieces(self) -> list[bytes]:
        """The body as it was sent, empty pieces left out."""
        return [message["body"] for message in self.messages[1:] if message.get("body")]

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self.pieces)

    @property
    def started(self) -> bool:
        """The status has been sent."""
        return bool(self.messages)

    @property
    def complete(self) -> bool:
        """The last piece has been sent, and said to be the last."""
        return len(self.messages) > 1 and not self.messages[-1].get("more_body", False)

    def header(self, name: str) -> bytes | None:
        """The first value of a header field."""
        return next((value for key, value in self.headers if key == name.lower().encode()), None)

    @property
    def _start(self) -> Message:
        assert self.messages, "the application sent nothing"
        return self.messages[0]


class Call:
    """One request to an application that runs in a task of its own.

    Awaiting methods of a call raise what the application raised; `leave` makes `receive` say `http.disconnect`.
    """

    def __init__(self, app: App, scope: Scope, body: Sequence[bytes], *, more_to_come: bool = False) -> None:
        self.scope = scope
        self.response = Response()
        self.received: list[Message] = []
        self._body: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._left = False
        self._sent = asyncio.Condition()
        for index, piece in enumerate(body):
            self.feed(piece, last=not more_to_come and index == len(body) - 1)
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def feed(self, piece: bytes, *, last: bool = False) -> None:
        """Let a piece of the request's body arrive."""
        self._body.append({"type": "http.request", "body": piece, "more_body": not last})
        self._arrived.set()

    def leave(self) -> None:
        """Close the client's side."""
        self._left = True
        self._arrived.set()

    async def until(self, seen: Callable[[Response], bool]) -> Response:
        """Wait until the answer so far is as wanted, or raise what ended the application before that."""

        async def watch() -> None:
            async with self._sent:
                await self._sent.wait_for(lambda: seen(self.response))

        watching = asyncio.ensure_future(watch())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait((watching, self._task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
        if not seen(self.response):
            await self._task
            raise AssertionError(f"the application ended with {self.response}")
        return self.response

    async def end(self) -> Response:
        """Wait for the application's end; its exceptions come out here."""
        async with asyncio.timeout(PATIENCE_S):
            await self._task
        return self.response

    async def cancel(self) -> None:
        """End the application as a server does that is being shut down."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _receive(self) -> Message:
        while not (self._body or self._left or self.response.complete):
            self._arrived.clear()
            await self._arrived.wait()
        message = self._body.popleft() if self._body else {"type": "http.disconnect"}
        self.received.append(message)
        return message

    async def _send(self, message: Message) -> None:
        ended = self.response.complete
        assert not ended, f"{message['type']} was sent after the end"
        if self._left:
            return  # as uvicorn: what is sent after a disconnect is lost without a word
        _check(message, "http.response.body" if self.response.started else "http.response.start")
        async with self._sent:
            self.response.messages.append(message)
            self._sent.notify_all()
        if self.response.complete:
            self._arrived.set()


def _check(message: Message, expected: str) -> None:
    assert message["type"] == expected, f"{message['type']} was sent where {expected} belongs"
    for name, value in message.get("headers", ()):
        assert isinstance(name, bytes), name
        assert isinstance(value, bytes), value
        assert name == name.lower(), name
    assert isinstance(message.get("body", b""), bytes), message


def start(
    app: App,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Headers = (),
    body: bytes | Sequence[bytes] = b"",
    more_to_come: bool = False,
    query: bytes = b"",
    raw_path: bytes | None = None,
    root_path: str = "",
    client: tuple[str, int] | None = ("127.0.0.1", 50_000),
    state: dict[str, Any] | None = None,
) -> Call:
    """Begin a request; a body given as a sequence arrives in as many messages.

    Args:
        path: Percent-encoded as on the wire; the scope's `path` is its decoded form, `root_path` being part of it.
        more_to_come: The body goes on after `body`: the test will `feed` the rest.
    """
    wire_path = raw_path if raw_path is not None else path.encode("ascii")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(wire_path.decode("latin-1")),
        "raw_path": wire_path,
        "query_string": query,
        "root_path": root_path,
        "headers": [(_bytes(name).lower(), _bytes(value)) for name, value in _with_host(headers)],
        "client": client,
        "server": ("127.0.0.1", 3456),
        "extensions": {},
        "state": {} if state is None else state,
    }
    pieces = [body] if isinstance(body, bytes) else list(body)
    return Call(app, scope, pieces, more_to_come=more_to_come)


async def request(
    app: App,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Headers = (),
    body: bytes | Sequence[bytes] = b"",
    query: bytes = b"",
    raw_path: bytes | None = None,
    root_path: str = "",
    client: tuple[str, int] | None = ("127.0.0.1", 50_000),
    state: dict[str, Any] | None = None,
) -> Response:
    """Make a request and wait for the application's end; whatever it raises is raised."""
    call = start(
        app,
        method,
        path,
        headers=headers,
        body=body,
        query=query,
        raw_path=raw_path,
        root_path=root_path,
        client=client,
        state=state,
    )
    return await call.end()


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
    """Run an application's lifespan around a block; gives the `state` that it filled."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    running = asyncio.ensure_future(app(scope, inbox.get, outbox.put))

    async def step(name: str) -> None:
        inbox.put_nowait({"type": f"lifespan.{name}"})
        said = asyncio.ensure_future(outbox.get())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((said, running), return_when=asyncio.FIRST_COMPLETED)
        if not said.done():
            said.cancel()
            await running
            raise AssertionError(f"the application ended before {name} was complete")
        assert said.result()["type"] == f"lifespan.{name}.complete", said.result()

    await step("startup")
    try:
        yield state
    finally:
        await step("shutdown")
        await running


def _with_host(headers: Headers) -> list[tuple[str | bytes, str | bytes]]:
    fields = list(headers)
    if any(_bytes(name).lower() == b"host" for name, _ in fields):
        return fields
    return [("host", "127.0.0.1:3456"), *fields]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
