"""The simulated providers, asked directly: their answers are those that the official SDKs know."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from ccr_asgi.demo.cast import KINDS, PATHS
from ccr_asgi.demo.providers import simulated_providers
from ccr_asgi.demo.story import Reply, prompt
from tests.support.anthropic_stream import check_stream, sdk_message
from tests.support.asgi import Response, request

APP = simulated_providers(pace=0)
URLS = {**PATHS, "anthropic": PATHS["anthropic"] + "/v1/messages"}
THINKING_AND_CALLING = list(product((False, True), (None, "look_up")))

_CHUNK = TypeAdapter(ChatCompletionChunk)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def reply(**fields: Any) -> Reply:
    return Reply(
        input_tokens=5,
        cache_read_tokens=128,
        output_tokens=700,
        reasoning_tokens=9,
        ttft_ms=10,
        duration_ms=90,
        **fields,
    )


async def ask(provider: str, wanted: Reply, **fields: Any) -> Response:
    message = {"role": "user", "content": prompt(wanted)}
    key = "input" if KINDS[provider] == "openai-responses" else "messages"
    body = json.dumps({"model": "some-model", key: [message], **fields}).encode()
    return await request(APP, "POST", URLS[provider], body=body)


def data_of(stream: bytes) -> Iterator[dict[str, Any]]:
    for block in stream.decode().split("\n\n")[:-1]:
        data = block.rpartition("data: ")[2]
        if data != "[DONE]":
            yield json.loads(data)


def told(response: Response) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in response.headers}


@pytest.mark.parametrize(("thinks", "calls"), THINKING_AND_CALLING)
async def test_anthropic_streams_legally(thinks: bool, calls: str | None) -> None:
    response = await ask("anthropic", reply(thinks=thinks, calls=calls, cache_write_1h_tokens=7), stream=True)
    assert check_stream(response.body)
    message = sdk_message(response.body)
    assert message is not None
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["thinking"] * thinks + ["text"] + ["tool_use"] * (calls is not None)
    assert message["stop_reason"] == ("tool_use" if calls else "end_turn")
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (5, 128, 700)
    assert (usage["cache_creation_input_tokens"], usage["cache_creation"]["ephemeral_1h_input_tokens"]) == (7, 7)
    assert told(response)["anthropic-ratelimit-unified-status"] == "allowed"


async def test_anthropic_answers_whole() -> None:
    message = Message.model_validate_json((await ask("anthropic", reply())).body)
    assert (message.model, message.stop_reason, message.usage.output_tokens) == ("some-model", "end_turn", 700)


@pytest.mark.parametrize(("thinks", "calls"), THINKING_AND_CALLING)
async def test_cerebras_streams_chunks(thinks: bool, calls: str | None) -> None:
    response = await ask("cerebras", reply(thinks=thinks, calls=calls), stream=True)
    assert response.body.endswith(b"data: [DONE]\n\n")
    chunks = [_CHUNK.validate_python(chunk) for chunk in data_of(response.body)]
    assert chunks[-2].choices[0].finish_reason == ("tool_calls" if calls else "stop")
    assert any("reasoning" in (chunk.choices[0].delta.model_extra or {}) for chunk in chunks[:-1]) is thinks
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    begun = [call.function for delta in deltas for call in delta.tool_calls or () if call.id]
    names = [function.name for function in begun if function]
    assert names == ([calls] if calls else [])
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (133, 700, 833)


async def test_cerebras_answers_whole() -> None:
    completion = ChatCompletion.model_validate_json((await ask("cerebras", reply())).body)
    assert (completion.choices[0].finish_reason, completion.usage and completion.usage.total_tokens) == ("stop", 833)


@pytest.mark.parametrize(("thinks", "calls"), THINKING_AND_CALLING)
async def test_codex_streams_events(thinks: bool, calls: str | None) -> None:
    response = await ask("codex", reply(thinks=thinks, calls=calls), stream=True)
    events = list(data_of(response.body))
    known = {kind.model_fields["type"].annotation for kind in get_args(get_args(ResponseStreamEvent)[0])}
    known_types = {name for annotation in known for name in get_args(annotation)}
    assert {event["type"] for event in events} <= known_types
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    items = [event["item"]["type"] for event in events if event["type"] == "response.output_item.done"]
    assert items == ["reasoning"] * thinks + ["message"] + ["function_call"] * (calls is not None)
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"]["total_tokens"] == 833
    assert told(response)["x-codex-plan-type"] == "plus"


@pytest.mark.parametrize("provider", KINDS)
@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_a_refusal_has_its_status(provider: str, status: int) -> None:
    response = await ask(provider, Reply(status), stream=True)
    assert response.status == status
    assert b"The demo has this request fail" in response.body
    assert ("retry-after" in told(response)) is (status == 429)


async def test_another_provider_answers_where_one_refuses() -> None:
    refused = reply(status=429, refused_by="cerebras")
    assert (await ask("cerebras", refused, stream=True)).status == 429
    assert (await ask("codex", refused, stream=True)).status == 200


async def test_an_answer_that_breaks_off_has_no_end() -> None:
    whole, broken = reply(), reply(breaks_off=True)
    stream = (await ask("anthropic", broken, stream=True)).body
    assert b"message_stop" not in stream
    assert 0.3 < len(stream) / len((await ask("anthropic", whole, stream=True)).body) < 0.9


@pytest.mark.parametrize("provider", KINDS)
@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
async def test_what_is_no_request_is_refused(provider: str, body: bytes) -> None:
    assert (await request(APP, "POST", URLS[provider], body=body)).status == 400


async def test_a_client_may_ask_for_models_and_counts() -> None:
    models = json.loads((await request(APP, "GET", "/anthropic/v1/models")).body)
    assert models["first_id"] == models["data"][0]["id"] == "claude-opus-5-5"
    assert "simulated" in models["data"][0]["display_name"]
    chat = json.loads((await request(APP, "GET", "/cerebras/v1/models")).body)
    assert [model["id"] for model in chat["data"]] == ["zai-glm-4.7", "gpt-oss-120b"]
    codex = json.loads((await request(APP, "GET", "/codex/backend-api/codex/models")).body)
    assert [model["slug"] for model in codex["models"]] == ["gpt-6-sol"]
    counted = await request(APP, "POST", "/anthropic/v1/messages/count_tokens", body=b"x" * 400)
    assert json.loads(counted.body) == {"input_tokens": 100}


async def test_nothing_else_is_there() -> None:
    assert (await request(APP, "POST", "/codex/oauth/token")).status == 404
