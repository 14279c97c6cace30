"""A provider made of a real socket: it says what the test scripts, goes wrong where the test wants, and remembers all.

    with FakeUpstream() as upstream:
        upstream.script(chat_sse(text="hi"), Answer.raw(Fault.RESET))    # the first two requests, each once
        upstream.on("/v1/messages", anthropic_error(529, "busy"))        # every request for a path
        upstream.on(lambda request: b"x" in request.body, my_function)   # my_function(request) -> Answer

Without a script it answers as the API that the path belongs to (`default_answer`). The HTTP is written out here, on
non-blocking sockets, because a server library would not let an answer break off in the middle of a header.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tests.support.answers import Answer, Delay, Encoding, Fault, Piece, in_pieces, json_answer, sse_answer
from tests.support.fake_connection import Connection, RecordedRequest
from tests.support.provider_answers import (
    ToolCall,
    anthropic_error,
    anthropic_message,
    anthropic_sse,
    chat_completion,
    chat_error,
    chat_sse,
    default_answer,
    responses_completed,
    responses_sse,
)
from tests.support.signals import PATIENCE_S, Gate, Signal

__all__ = [
    "Answer",
    "Delay",
    "Encoding",
    "FakeUpstream",
    "Fault",
    "Gate",
    "Piece",
    "RecordedRequest",
    "Signal",
    "ToolCall",
    "anthropic_error",
    "anthropic_message",
    "anthropic_sse",
    "chat_completion",
    "chat_error",
    "chat_sse",
    "default_answer",
    "in_pieces",
    "json_answer",
    "refused_url",
    "responses_completed",
    "responses_sse",
    "sse_answer",
]


Match = str | Callable[[RecordedRequest], bool]
Reply = Answer | Callable[[RecordedRequest], Answer]


class FakeUpstream:
    """A server in a thread of its own, on a free port of 127.0.0.1; its public methods are for the test's thread."""

    def __init__(self) -> None:
        self.requests: list[RecordedRequest] = []
        self.arriving: list[RecordedRequest] = []
        self.connections = 0
        self.open_connections = 0
        self._news = threading.Condition()
        self._scripted: list[tuple[Match, Reply]] = []
        self._rules: list[tuple[Match, Reply]] = []
        self._failures: list[Exception] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-upstream")
        self._stop = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    def script(self, *replies: Reply, where: Match = lambda request: request.method == "POST") -> None:
        """Answer the next requests (POSTs, or those that `where` matches) with these, one each; before any rule."""
        self._scripted += [(where, reply) for reply in replies]

    def on(self, where: Match, reply: Reply) -> None:
        """Answer every request that `where` matches (a path's end, or a predicate) so; the latest rule wins."""
        self._rules.insert(0, (where, reply))

    def wait_for_requests(self, count: int, timeout: float = PATIENCE_S) -> list[RecordedRequest]:
        """All complete requests so far, once there are at least `count`."""
        return self._wait_until(self.requests, count, timeout)

    def wait_for_arriving(self, count: int, timeout: float = PATIENCE_S) -> list[RecordedRequest]:
        """All requests whose head is there, once there are at least `count`."""
        return self._wait_until(self.arriving, count, timeout)

    def wait_for_body(self, request: RecordedRequest, size: int, timeout: float = PATIENCE_S) -> bytes:
        """The body of a request that is still coming, once it has at least `size` bytes."""
        with self._news:
            if not self._news.wait_for(lambda: len(request.received_body) >= size, timeout):
                raise AssertionError(f"only {len(request.body)} of {size} bytes of the body came in {timeout} s")
            return request.body

    def _wait_until(self, requests: list[RecordedRequest], count: int, timeout: float) -> list[RecordedRequest]:
        with self._news:
            if not self._news.wait_for(lambda: len(requests) >= count, timeout):
                came = [f"{request.method} {request.path}" for request in requests]
                raise AssertionError(f"{count} requests were awaited for {timeout} s; these came: {came}")
            return list(requests)

    # What follows runs in the server's thread.

    def arrived(self, request: RecordedRequest) -> None:
        """A connection tells that a request's head is there."""
        with self._news:
            self.arriving.append(request)
            self._news.notify_all()

    def grew(self, request: RecordedRequest, part: bytes) -> None:
        """A connection tells that a request's body goes on."""
        with self._news:
            request.received_body += part
            self._news.notify_all()

    def completed(self, request: RecordedRequest) -> None:
        """A connection tells that a request is whole."""
        with self._news:
            self.requests.append(request)
            request.complete.set()
            self._news.notify_all()

    def failed(self, error: Exception) -> None:
        """A connection tells of a mistake in the script, or in this class: the end of the test shows it."""
        self._failures.append(error)

    def choose(self, request: RecordedRequest) -> Answer:
        """The answer to a request: the script's next one, else the latest rule's, else the API's usual one."""
        reply: Reply = default_answer(request.method, request.path, request.body)
        for index, (where, scripted) in enumerate(self._scripted):
            if _matches(where, request):
                reply = scripted
                del self._scripted[index]
                break
        else:
            reply = next((rule for where, rule in self._rules if _matches(where, request)), reply)
        return reply if isinstance(reply, Answer) else reply(request)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._accept_until_stopped())

    async def _accept_until_stopped(self) -> None:
        # A callback, not `sock_accept`: a cancelled one can lose a socket that it has just accepted.
        self._loop.add_reader(self._listener, self._accept)
        await self._stop.wait()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # the peer has left again
        task = asyncio.create_task(self._serve(Connection(self, peer, self.connections)))
        self.connections += 1
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(lambda _: peer.close())  # also if it was cancelled before it began

    async def _serve(self, connection: Connection) -> None:
        self.open_connections += 1
        try:
            await connection.serve()
        except EOFError:
            pass  # the peer has left: `disconnected` says so
        except Exception as error:
            self.failed(error)
        finally:
            self.open_connections -= 1


def _matches(where: Match, request: RecordedRequest) -> bool:
    return request.path.endswith(where) if isinstance(where, str) else where(request)


@contextmanager
def refused_url() -> Iterator[str]:
    """A URL whose port is taken but listens to nobody: every connection is refused, and no one else can get it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
