"""A request has one exchange: a body read once, a client watched by one task, errors rendered by one layer."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from ccr_asgi.asgi import ClientDisconnected, send_json
from ccr_asgi.errors import RequestError
from ccr_asgi.exchange import SCOPE_KEY, Exchange, ensure_exchange, get_exchange, new_request_id, with_exchange
from tests.support import asgi


class Client:
    """A `receive` that counts, and waits where a server would wait."""

    def __init__(self, *messages: Message) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.calls = 0
        for message in messages:
            self.inbox.put_nowait(message)

    async def receive(self) -> Message:
        self.calls += 1
        return await self.inbox.get()

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})


def whole(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": False}


async def settled() -> None:
    """Every task that can go on has done so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_body_is_read_and_replayed_to_every_leg() -> None:
    client, exchange = Client(whole(b"abc")), Exchange()
    assert await exchange.body(client.receive) == b"abc"
    assert await exchange.body(exchange.replay(b"abc")) == b"abc"
    for leg in (exchange.replay(b"abc"), exchange.replay(b"changed")):
        assert (await leg())["type"] == "http.request"
    assert await exchange.replay(b"changed")() == whole(b"changed")
    await settled()
    assert client.calls == 2  # the body, and one wait for the client's leaving
    exchange.end()


async def test_every_leg_sees_the_client_leave() -> None:
    client, exchange = Client(whole(b"abc")), Exchange()
    await exchange.body(client.receive)
    legs = [exchange.replay(b"abc") for _ in range(2)]
    for leg in legs:
        await leg()
    waiting = [asyncio.ensure_future(leg()) for leg in legs]
    await settled()
    assert not any(wait.done() for wait in waiting)
    client.leave()
    assert await asyncio.gather(*waiting) == [{"type": "http.disconnect"}] * 2
    assert exchange.disconnected.is_set()


async def test_only_the_first_watch_counts() -> None:
    first, second, exchange = Client(), Client(), Exchange()
    exchange.watch(first.receive)
    exchange.watch(second.receive)
    await settled()
    assert (first.calls, second.calls) == (1, 0)
    exchange.end()
    await settled()
    first.leave()
    await settled()
    assert not exchange.disconnected.is_set()


async def test_what_is_not_a_disconnect_is_no_disconnect() -> None:
    client, exchange = Client({"type": "http.request"}, {"type": "http.unheard-of"}), Exchange()
    exchange.watch(client.receive)
    await settled()
    assert not exchange.disconnected.is_set()
    client.leave()
    await settled()
    assert exchange.disconnected.is_set()


async def test_a_disconnect_after_the_answer_is_no_loss() -> None:
    client, exchange = Client(), Exchange()
    exchange.watch(client.receive)
    exchange.answered = True
    client.leave()
    await settled()
    assert not exchange.disconnected.is_set()


async def test_a_failing_receive_tells_nothing() -> None:
    async def receive() -> Message:
        raise RuntimeError("the server's own trouble")

    exchange = Exchange()
    exchange.watch(receive)
    await settled()
    assert not exchange.disconnected.is_set()


async def test_a_client_that_leaves_within_its_body_is_not_watched() -> None:
    client, exchange = Client({"type": "http.request", "body": b"a", "more_body": True}), Exchange()
    client.leave()
    with pytest.raises(ClientDisconnected):
        await exchange.body(client.receive)
    exchange.end()
    assert client.calls == 2


def test_ids_are_unique_and_ours() -> None:
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(request_id.startswith("req_ccr_") and request_id.isascii() for request_id in ids)


async def test_an_exchange_is_made_once_on_a_copy_of_the_scope() -> None:
    scope: dict[str, Any] = {"type": "http"}
    inner, exchange, made = ensure_exchange(scope)
    assert made
    assert SCOPE_KEY not in scope
    assert ensure_exchange(inner) == (inner, exchange, False)
    assert get_exchange(inner) is exchange


def test_asking_for_an_exchange_that_nobody_made_says_what_to_do() -> None:
    with pytest.raises(LookupError, match="no ccr_asgi middleware"):
        get_exchange({"type": "http"})
    with pytest.raises(LookupError):
        get_exchange({"type": "http", SCOPE_KEY: "something else"})


# with_exchange


def layered(*layers: Any) -> asgi.App:
    """An application of layers, each run with the exchange; the innermost is last."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def run(index: int, scope: Scope, receive: Receive, send: Send) -> None:
            async def layer(scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
                async def below(scope: Scope, receive: Receive, send: Send) -> None:
                    await run(index + 1, scope, receive, send)

                await layers[index](below, scope, receive, send, exchange)

            await with_exchange(layer, scope, receive, send)

        await run(0, scope, receive, send)

    return app


async def passing(below: asgi.App, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
    await below(scope, receive, send)


def raising(error: Exception) -> Any:
    async def layer(below: asgi.App, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        raise error

    return layer


async def test_all_layers_share_one_exchange_and_its_end_is_the_end_of_the_watch() -> None:
    seen: list[Exchange] = []

    async def noting(below: asgi.App, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        seen.append(exchange)
        assert get_exchange(scope) is exchange
        if len(seen) < 2:
            await below(scope, receive, send)
        else:
            await exchange.body(receive)
            await send_json(send, {})

    before = asyncio.all_tasks()
    response = await asgi.request(layered(noting, noting), "POST", body=b"x")
    assert response.status == 200
    assert seen[0] is seen[1]
    await settled()
    assert asyncio.all_tasks() == before


async def test_the_layer_that_made_the_exchange_renders_what_is_raised_below() -> None:
    response = await asgi.request(layered(passing, raising(RequestError("no"))))
    assert response.status == 400
    request_id = response.header("request-id")
    assert request_id is not None
    assert json.loads(response.body)["request_id"] == request_id.decode()


async def test_an_inner_layer_raises() -> None:
    caught: list[Exception] = []

    async def catching(below: asgi.App, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        try:
            await below(scope, receive, send)
        except RequestError as error:
            caught.append(error)
            await send_json(send, {}, status=202)

    response = await asgi.request(layered(catching, raising(RequestError("no"))))
    assert (response.status, [str(error) for error in caught]) == (202, ["no"])


async def test_what_is_no_error_of_ours_is_left_to_the_host() -> None:
    error = LookupError("the host's own")
    call = asgi.start(layered(passing, raising(error)))
    with pytest.raises(LookupError) as raised:
        await call.end()
    assert raised.value is error
    assert not call.response.started


async def test_a_client_that_left_is_told_nothing() -> None:
    exchanges: list[Exchange] = []

    async def reading(below: asgi.App, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchanges.append(exchange)
        await exchange.body(receive)

    call = asgi.start(layered(reading), "POST", body=b"a", more_to_come=True)
    call.leave()
    assert not (await call.end()).started
    assert exchanges[0].disconnected.is_set()


async def test_an_error_after_the_client_left_is_noted_and_not_sent() -> None:
    exchanges: list[Exchange] = []

    async def late(below: asgi.App, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchanges.append(exchange)
        exchange.disconnected.set()
        raise RequestError("too late")

    assert not (await asgi.request(layered(late))).started
    assert str(exchanges[0].error) == "too late"
