"""A provider that costs next to nothing: it answers Messages, Chat Completions and Responses as fast as it can write.

    python -m benchmarks.upstream        (says its port, then serves until it is ended)

The model's name says what comes: `burst-300` is a stream of 300 text events in one write; `paced-300` sends each in a
write of its own, 5 ms apart, with the moment of its sending in the text; `quiet-300` sends half of them, and then
nothing as long as the client stays; `whole-300` is one JSON document. The path says in whose form: it ends in
`/messages`, `/chat/completions` or `/responses`.
"""

import asyncio
import functools
import json
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httptools
import uvloop

PACE_S = 0.005
MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"]*[,/])?(burst|paced|quiet|whole)-(\d+)"')
WORD = "a word and %07d "
STAMP = "sent at %018d "
"""What the text of a paced event says: nanoseconds of the clock that all processes of a machine share."""

Json = dict[str, Any]
USAGE = {"input": 45_000, "output": 600}


def anthropic(texts: Sequence[str]) -> list[bytes]:
    """The events of the Messages API, one for each text and those around them."""
    usage = {"input_tokens": USAGE["input"], "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": usage}
    block = {"type": "text", "text": ""}
    events: list[Json] = [{"type": "message_start", "message": message}]
    events.append({"type": "content_block_start", "index": 0, "content_block": block})
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts
    ]
    events.append({"type": "content_block_stop", "index": 0})
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": USAGE["output"]}})
    events.append({"type": "message_stop"})
    return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)) for event in events]


def chat(texts: Sequence[str]) -> list[bytes]:
    """The chunks of Chat Completions."""

    def chunk(delta: Json, finish_reason: str | None = None, **more: Any) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}

    usage = {"prompt_tokens": USAGE["input"], "completion_tokens": USAGE["output"], "total_tokens": 45_600}
    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": text}) for text in texts)]
    chunks += [chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage}]
    return [*(b"data: %b\n\n" % _json(each) for each in chunks), b"data: [DONE]\n\n"]


def responses(texts: Sequence[str]) -> list[bytes]:
    """The events of the Responses API."""
    at = {"item_id": "i", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": "i", "role": "assistant", "status": "in_progress", "content": []}
    response: Json = {"id": "r", "object": "response", "model": "m", "status": "in_progress", "output": []}
    events: list[Json] = [{"type": "response.created", "response": response}]
    events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
    events.append({"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": ""}})
    events += [{"type": "response.output_text.delta", **at, "delta": text} for text in texts]
    whole = {"type": "output_text", "text": "".join(texts), "annotations": []}
    done = {**item, "status": "completed", "content": [whole]}
    events.append({"type": "response.output_text.done", **at, "text": whole["text"]})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": done})
    usage = {"input_tokens": USAGE["input"], "output_tokens": USAGE["output"], "total_tokens": 45_600}
    end = {**response, "status": "completed", "output": [done], "usage": usage}
    events.append({"type": "response.completed", "response": end})
    numbered = ({**event, "sequence_number": number} for number, event in enumerate(events))
    return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)) for event in numbered]


def _json(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


FORMS: Mapping[str, Callable[[Sequence[str]], list[bytes]]] = {
    "/messages": anthropic,
    "/completions": chat,
    "/responses": responses,
}


@functools.cache
def pieces(ending: str, pace: str, events: int) -> list[bytes]:
    """The events of one answer as chunks of its body; where a moment is to be told, its place is held."""
    text = "sent at @ " if pace == "paced" else None
    texts = [text or WORD % number for number in range(events)]
    found = FORMS[ending](texts)
    if pace == "quiet":
        return [_chunk(b"".join(found[: len(found) // 2]))]
    return found if pace == "paced" else [_chunk(b"".join(found))]


@functools.cache
def document(ending: str, events: int) -> bytes:
    """One JSON document with the text of as many events."""
    text = "".join(WORD % number for number in range(events))
    if ending == "/completions":
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": USAGE["input"], "completion_tokens": USAGE["output"], "total_tokens": 45_600}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _json({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})
    told = {"input_tokens": USAGE["input"], "output_tokens": USAGE["output"]}
    content = [{"type": "text", "text": text}]
    end = {"stop_reason": "end_turn", "stop_sequence": None, "usage": told}
    return _json({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content, **end})


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection: reads requests whole and answers them in turn."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body: list[bytes] = []
        self._pacing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's is of a class of its own
        """Begin."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The proxy or the client is gone."""
        if self._pacing is not None:
            self._pacing.cancel()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        body, target = b"".join(self._body), self._target.partition(b"?")[0].decode()
        self._body, self._target = [], b""
        found = MODEL.search(body)
        if found is None:
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            return
        pace, events = found[1].decode(), int(found[2])
        ending = "/" + target.rpartition("/")[2]
        if pace == "whole":
            answer = document(ending, events)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
            self._transport.write(head + answer)
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = pieces(ending, pace, events)
        if pace == "burst":
            self._transport.write(head + chunks[0] + b"0\r\n\r\n")
        elif pace == "quiet":
            self._transport.write(head + chunks[0])
        else:
            self._transport.write(head)
            self._pace(chunks, 0, asyncio.get_running_loop().time())

    def _pace(self, chunks: list[bytes], number: int, due_s: float) -> None:
        if self._transport.is_closing():
            return
        if number == len(chunks):
            self._transport.write(b"0\r\n\r\n")
            return
        stamped = chunks[number].replace(b"sent at @ ", (STAMP % time.perf_counter_ns()).encode())
        self._transport.write(_chunk(stamped))
        due_s += PACE_S
        self._pacing = asyncio.get_running_loop().call_at(due_s, self._pace, chunks, number + 1, due_s)


async def _serve(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, sock=listener)
    await server.serve_forever()


def main() -> None:
    """Serve on a free port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    uvloop.run(_serve(listener))


if __name__ == "__main__":
    main()
