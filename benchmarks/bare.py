"""The least that could do our work: raw ASGI, one client, a tee or a converter, and nothing else.

    python -m benchmarks.bare {floor,prototype} ORIGIN        (says its port first)

`floor` has the cheapest client there is (`benchmarks.transport`); `prototype` has the client of the package, so what
lies between it and the whole app is what the layers cost. Both check nothing, route by the path of the request alone
and keep no row. `/v1/messages` is passed through, `/chat` and `/responses` are converted.
"""

import argparse
import socket
from typing import Any

import msgspec
import uvicorn

from benchmarks.transport import Forward, over_httptools, over_httpx
from ccr_asgi.config import parse_config
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import ConversionContext
from ccr_asgi.routing import Route
from ccr_asgi.transport import Http11Transport
from ccr_asgi.usage.accumulator import UsageAccumulator

_EVENTS = [(b"content-type", b"text/event-stream")]
KINDS = {"/chat": ("openai-chat", b"/v1/chat/completions"), "/responses": ("openai-responses", b"/v1/responses")}


class Bare:
    """The app."""

    def __init__(self, forward: Forward, origin: str) -> None:
        self._forward, self._origin = forward, origin
        self._decoder = msgspec.json.Decoder()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        pieces = []
        while True:
            message = await receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = b"".join(pieces)
        if scope["path"] in KINDS:
            await self._convert(scope["path"], body, send)
        else:
            await self._pass(scope["raw_path"], body, send)

    async def _pass(self, target: bytes, body: bytes, send: Any) -> None:
        usage = UsageAccumulator("text/event-stream", None)
        await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
        async with self._forward(self._origin, target, body) as answer:
            async for chunk in answer:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                usage.feed(chunk)
        await send({"type": "http.response.body", "body": b""})

    async def _convert(self, path: str, body: bytes, send: Any) -> None:
        kind, target = KINDS[path]
        asked = self._decoder.decode(body)
        route = Route(PROVIDERS[kind], asked["model"], "tag")
        conversion = FORMATS[kind].begin(asked, route, ConversionContext("msg_1"))
        machine = conversion.stream("text/event-stream")
        await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
        async with self._forward(self._origin, target, conversion.request.body) as answer:
            async for chunk in answer:
                if out := machine.feed(chunk):
                    await send({"type": "http.response.body", "body": out, "more_body": True})
        await send({"type": "http.response.body", "body": machine.close()})


def _providers() -> dict[str, Any]:
    entries = {kind: {"type": kind, "baseUrl": "http://localhost/", "apiKey": "none"} for kind, _ in KINDS.values()}
    return dict(parse_config({"providers": entries}).providers)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["floor", "prototype"])
    parser.add_argument("origin")
    given = parser.parse_args()
    forward = over_httptools() if given.what == "floor" else over_httpx(Http11Transport())
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        Bare(forward, given.origin), http="httptools", loop="uvloop", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


PROVIDERS = _providers()

if __name__ == "__main__":
    main()
