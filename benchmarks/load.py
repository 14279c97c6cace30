"""What a client sees of a proxy: streams over raw sockets, as many at once as wanted, and when each event came."""

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httptools

STAMP = re.compile(rb"sent at (\d{18}) ")


@dataclass(slots=True)
class Seen:
    """One answer.

    Attributes:
        first_byte_ms: From the request's last byte to the first of the answer's body.
        took_ms: To its end.
        delays_ms: Of each paced event, from the upstream's sending.
        status: The HTTP status.
        tail: The last bytes of the body.
        size_bytes: The length of the body.
    """

    first_byte_ms: float = 0.0
    took_ms: float = 0.0
    delays_ms: list[float] = field(default_factory=list)
    status: int = 0
    tail: bytes = b""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go.

    Attributes:
        port: Of 127.0.0.1.
        path: The request's path.
        prefix: What stands before the upstream's words in `model`, which chooses the provider.
        headers: Beside host, length and type.
    """

    port: int
    path: str = "/v1/messages"
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Client(asyncio.Protocol):
    """One connection, one request at a time; `answering` is set when the first of an answer's body has come."""

    def __init__(self) -> None:
        self.answering = asyncio.Event()
        self._seen = Seen()
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's is of a class of its own
        """Begin."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The answer ends here, or broke off."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"the connection broke: {exc}"))

    async def ask(self, request: bytes) -> Seen:
        """Send `request`; return its answer."""
        self._seen = Seen()
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._began_ns = time.perf_counter_ns()
        self.transport.write(request)
        await self._done
        self._seen.took_ms = (time.perf_counter_ns() - self._began_ns) / 1e6
        self._seen.status = self._parser.get_status_code()
        return self._seen

    def data_received(self, data: bytes) -> None:
        """More of the answer."""
        now_ns = time.perf_counter_ns()
        self._seen.delays_ms += [(now_ns - int(sent)) / 1e6 for sent in STAMP.findall(data)]
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._seen.size_bytes:
            self._seen.first_byte_ms = (time.perf_counter_ns() - self._began_ns) / 1e6
            self.answering.set()
        self._seen.size_bytes += len(body)
        self._seen.tail = (self._seen.tail + body)[-200:]

    def on_message_complete(self) -> None:
        """The end."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def request(target: Target, what: str, body_kb: float = 195, *, stream: bool = True) -> bytes:
    """The bytes of a request for `what` (the upstream's words: `burst-300`), of about `body_kb` in its body."""
    body = json.dumps(_body(f"{target.prefix}{what}", int(body_kb * 1000), stream=stream)).encode()
    fields = {"host": f"127.0.0.1:{target.port}", "content-type": "application/json", **target.headers}
    fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _body(model: str, size_bytes: int, *, stream: bool) -> dict[str, Any]:
    """A conversation as a coding agent has it: a long system prompt, tools, and results of calls."""
    words = 'The quick brown fox reads a file of 3 kB, "quotes" it\nand goes on. '
    properties = {f"field_{number}": {"type": "string", "description": words} for number in range(6)}
    schema = {"type": "object", "properties": properties, "required": ["field_0"]}
    tools = [{"name": f"tool_{n}", "description": words * 4, "input_schema": schema} for n in range(15)]
    fixed = len(json.dumps(tools)) + 12_000
    messages: list[dict[str, Any]] = [{"role": "user", "content": words}]
    turn_bytes = 3_400
    for number in range(max((size_bytes - fixed) // turn_bytes, 1)):
        call = {"type": "tool_use", "id": f"toolu_{number:05}", "name": "tool_1", "input": {"field_0": words}}
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": words * (2_900 // len(words))}
        messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    missing = max(size_bytes - fixed - turn_bytes * (len(messages) // 2), 0)
    messages[0]["content"] += "x" * missing
    system = [{"type": "text", "text": words * (10_000 // len(words)), "cache_control": {"type": "ephemeral"}}]
    limits = {"max_tokens": 32_000, "stream": stream}
    return {"model": model, **limits, "system": system, "tools": tools, "messages": messages}


async def streams(target: Target, payload: bytes, at_once: int, each: int = 1) -> Sequence[Seen]:
    """Send `payload` `each` times on every one of `at_once` connections; all answers, which must be whole."""
    loop = asyncio.get_running_loop()

    async def one() -> list[Seen]:
        _, client = await loop.create_connection(Client, "127.0.0.1", target.port)
        try:
            return [await client.ask(payload) for _ in range(each)]
        finally:
            client.transport.close()

    seen = [answer for answers in await asyncio.gather(*(one() for _ in range(at_once))) for answer in answers]
    for answer in seen:
        assert answer.status == 200, f"status {answer.status}: {answer.tail!r}"
        assert b"message_stop" in answer.tail or b"[DONE]" in answer.tail or answer.tail.endswith(b"}"), answer.tail
    return seen
