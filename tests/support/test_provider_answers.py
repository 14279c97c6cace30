"""The builders' answers are read by the official SDKs, which know the wire formats best."""

from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.support.fake_upstream import (
    FakeUpstream,
    ToolCall,
    anthropic_error,
    anthropic_message,
    anthropic_sse,
    chat_completion,
    chat_error,
    chat_sse,
    responses_completed,
    responses_sse,
)

CALL = ToolCall("Bash", {"command": "echo hi"})


def test_anthropic_answers_are_what_the_sdk_reads(fake_upstream: FakeUpstream) -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 40}
    parts: dict[str, Any] = {"tool_use": [CALL], "thinking": "hm", "usage": usage}
    fake_upstream.script(anthropic_message("hi", **parts), anthropic_sse("hi", **parts))
    with anthropic.Anthropic(api_key="invented", base_url=fake_upstream.url, max_retries=0) as client:
        whole = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}])
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}]) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        assert message.content[2].model_dump()["input"] == CALL.arguments
        assert message.stop_reason == "tool_use"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 40)


def test_errors_are_what_the_sdks_read(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script(anthropic_error(529, "busy", "overloaded_error"), chat_error(400, "no such field"))
    with (
        anthropic.Anthropic(api_key="invented", base_url=fake_upstream.url, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match="busy"),
    ):
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}])
    with (
        openai.OpenAI(api_key="invented", base_url=fake_upstream.url, max_retries=0) as other,
        pytest.raises(openai.BadRequestError, match="no such field"),
    ):
        other.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])


def test_chat_answers_are_what_the_sdk_reads(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script(chat_completion("hi", tool_calls=[CALL]), chat_sse("hi", tool_calls=[CALL], reasoning="hm"))
    with openai.OpenAI(api_key="invented", base_url=fake_upstream.url, max_retries=0) as client:
        whole = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
        with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "q"}]) as stream:
            streamed = stream.get_final_completion()
    for completion in (whole, streamed):
        (choice,) = completion.choices
        assert choice.message.content == "hi"
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls or []
        assert call.model_dump()["function"]["arguments"] == CALL.json
        assert completion.usage is not None
        assert completion.usage.total_tokens == 18


def test_responses_answers_are_what_the_sdk_reads(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script(responses_completed("hi", tool_calls=[CALL]))
    with (
        openai.OpenAI(api_key="invented", base_url=fake_upstream.url, max_retries=0) as client,
        client.responses.create(model="m", input="q", stream=True) as stream,
    ):
        events = [event.model_dump() for event in stream]
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in items] == ["message", "function_call"]
    assert items[1]["arguments"] == CALL.json
    assert events[-1]["response"]["usage"]["total_tokens"] == 18


def test_a_transcript_is_cut_into_its_events(tmp_path: Path) -> None:
    transcript = b"event: a\ndata: {}\n\nevent: b\ndata: {"
    (tmp_path / "sse.txt").write_bytes(transcript)
    assert responses_sse(tmp_path / "sse.txt").pieces == [b"event: a\ndata: {}\n\n", b"event: b\ndata: {"]
    assert responses_sse(transcript.decode()).content == transcript
