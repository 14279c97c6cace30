"""Every row adds up to what its provider told: each recorded answer of each wire format, through the whole product.

What a provider told is read here in the plainest way, out of the bytes of its answer, and not by the product's readers.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.claude import World, body, new_session, providers, tagged, world_in_a_thread
from tests.support.fake_upstream import Answer, FakeUpstream, anthropic_message, anthropic_sse

FIXTURES = Path(__file__).parents[1] / "fixtures"
KINDS = {"openai-chat": "cerebras,gpt-oss-120b", "openai-responses": "openai,gpt-6-sol"}
ANSWERS = {
    f"{kind}/{folder.name}": (kind, answer)
    for kind in KINDS
    for folder in sorted((FIXTURES / kind).iterdir())
    for answer in folder.glob("answer.*")
}
INPUT = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FakeUpstream() as anthropic, FakeUpstream() as chat, FakeUpstream() as third:
        configured = providers(anthropic, chat, third)
        url = f"{chat.url}/v1/responses"
        configured["openai"] = {"type": "openai-responses", "baseUrl": url, "apiKey": "invented-key"}
        with world_in_a_thread(tmp_path_factory.mktemp("world"), {"providers": configured}) as served:
            yield World(served.url, served.database, anthropic, chat, third)


def documents(data: bytes) -> Iterator[Any]:
    """The JSON documents of an answer: the whole of it, or the data of its events."""
    text = data.decode("utf-8", "replace")
    events = [
        "\n".join(line[5:] for line in event.split("\n") if line.startswith("data:")) for event in text.split("\n\n")
    ]
    for candidate in (text, *events):
        try:
            yield json.loads(candidate)
        except ValueError:
            continue


def told(data: bytes) -> dict[str, Any]:
    """The last usage object of an answer, wherever it stands in it; empty if there is none."""
    found: dict[str, Any] = {}
    for document in documents(data):
        pending = [document]
        while pending:
            node = pending.pop()
            if isinstance(node, list):
                pending += node
            elif isinstance(node, dict):
                usage = node.get("usage")
                if isinstance(usage, dict) and ({"prompt_tokens", "input_tokens"} & usage.keys()):
                    found = usage
                pending += [value for key, value in node.items() if key != "usage"]
    return found


def assert_adds_up(row: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
    total = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = usage.get("completion_tokens", usage.get("output_tokens"))
    assert sum(row[part] or 0 for part in INPUT) == total
    assert row["output_tokens"] == output
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    assert row["reasoning_tokens"] == details.get("reasoning_tokens")
    assert row["estimated"] == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_row_adds_up_to_what_a_converted_provider_told(world: World, name: str, stream: bool) -> None:
    kind, path = ANSWERS[name]
    data = path.read_bytes()
    content_type = "text/event-stream" if path.suffix == ".sse" else "application/json"
    world.chat.on(lambda _: True, Answer(data, headers=[("content-type", content_type)]))
    session = new_session()
    world.post(tagged(KINDS[kind], stream=stream), session=session)
    row, usage = world.row(session), told(data)
    if row["outcome"] == "ok" and usage and row["estimated"] == 0:
        assert_adds_up(row, usage)
    elif row["outcome"] == "ok":
        assert not {"prompt_tokens", "input_tokens"} <= usage.keys()
        assert row["estimated"] == 1, "tokens that nobody told are marked as an estimate"


ANTHROPIC_USAGES: dict[str, dict[str, Any]] = {
    "plain": {"input_tokens": 11, "output_tokens": 7},
    "cache read": {"input_tokens": 3, "cache_read_input_tokens": 90_000, "output_tokens": 70},
    "cache write": {"input_tokens": 3, "cache_creation_input_tokens": 500, "output_tokens": 1},
    "both kinds of write": {
        "input_tokens": 3,
        "cache_creation_input_tokens": 700,
        "cache_read_input_tokens": 40,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 500},
        "output_tokens": 9,
    },
}


@pytest.mark.parametrize("usage", ANTHROPIC_USAGES.values(), ids=ANTHROPIC_USAGES.keys())
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate", "br", "zstd"])
def test_a_row_adds_up_to_what_anthropic_told(world: World, usage: dict[str, Any], stream: bool, encoding: Any) -> None:
    answer = anthropic_sse(usage=usage) if stream else anthropic_message(usage=usage)
    world.anthropic.on("/v1/messages", answer if encoding is None else answer.compressed(encoding))
    session = new_session()
    world.post(body(stream=stream), ("Accept-Encoding", "gzip, deflate, br, zstd"), session=session)
    row = world.row(session)
    written = usage.get("cache_creation", {"ephemeral_5m_input_tokens": usage.get("cache_creation_input_tokens", 0)})
    assert (row["input_tokens"], row["output_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    assert (row["cache_read_tokens"] or 0) == usage.get("cache_read_input_tokens", 0)
    assert (row["cache_write_5m_tokens"] or 0) == written.get("ephemeral_5m_input_tokens", 0)
    assert (row["cache_write_1h_tokens"] or 0) == written.get("ephemeral_1h_input_tokens", 0)
