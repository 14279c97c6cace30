"""An Anthropic request as a Chat Completions request.

The body is built from an allow-list, never by editing the client's: a provider such as Cerebras refuses properties it
does not know, and what a client adds tomorrow must not leave by itself. docs/wire-formats.md says what becomes of
every field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ccr_asgi.formats.conversation import ConversationReader
from ccr_asgi.formats.fields import (
    ARRAY,
    BOOLEAN,
    INTEGER,
    NUMBER,
    STRING,
    check,
    describe,
    optional,
    refuse,
    required,
)
from ccr_asgi.formats.openai_chat_messages import Message, chat_messages
from ccr_asgi.formats.openai_chat_tools import tool_fields
from ccr_asgi.formats.output_format import output_format
from ccr_asgi.formats.parts import PartReader
from ccr_asgi.formats.reasoning_effort import reasoning_effort
from ccr_asgi.formats.system_prompt import join_texts, prompt_texts
from ccr_asgi.formats.tools import RequestTools
from ccr_asgi.quirks import Quirks
from ccr_asgi.routing import Route

MAX_STOP_SEQUENCES = 4
"""Chat Completions takes no more (openai SDK, `CompletionCreateParams.stop`)."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A converted request.

    Attributes:
        model: The model that is asked.
        body: The Chat Completions body.
        tool_names: The client's name of each tool, by its upstream name.
        call_ids: The ids of all calls in the conversation.
        streamed: The client asked for `stream: true`.
        notes: What was left out although the client asked for it, for the log.
    """

    model: str
    body: dict[str, Any]
    tool_names: Mapping[str, str]
    call_ids: frozenset[str]
    streamed: bool
    notes: tuple[str, ...] = ()


def convert(body: dict[str, Any], route: Route) -> ChatRequest:
    """Convert a client's request, which is any JSON object at all, for `route`.

    Raises:
        RequestError: It is not of Anthropic's form, or asks for what Chat Completions has no counterpart of; the
            message names the JSON path, what was found and what is accepted.
    """
    quirks = route.provider.quirks
    model = route.model if route.model is not None else required(body, "model", STRING)
    notes: list[str] = []
    streamed = optional(body, "stream", BOOLEAN) or False
    tools = RequestTools(body, quirks.drop_schema_keywords)
    if tools.server_tools:
        notes.append(f"server tools left out: {', '.join(tool['type'] for tool in tools.server_tools)}")
    converted: dict[str, Any] = {"model": model, "messages": _messages(body, model, quirks, tools)}
    converted |= _stream_fields(streamed)
    converted |= _sampling_fields(body, quirks, notes)
    if effort := reasoning_effort(body, model, quirks):
        converted["reasoning_effort"] = effort
    converted |= _format_fields(body, quirks)
    converted |= tool_fields(tools, tools.choice(body), quirks)
    call_ids = frozenset(call["id"] for message in converted["messages"] for call in message.get("tool_calls", ()))
    return ChatRequest(model, quirks.edited(converted), tools.names.client, call_ids, streamed, notes=tuple(notes))


def _messages(body: dict[str, Any], model: str, quirks: Quirks, tools: RequestTools) -> list[Message]:
    source = required(body, "messages", ARRAY)
    if not source:
        raise refuse("messages", "an empty array", "at least one message")
    images, pdf = quirks.takes_images(model), quirks.takes_pdf(model)
    reader = ConversationReader(PartReader(model, images=images, pdf=pdf, names=tools.names), tools.names)
    reader.read(source)
    conversation = list(chat_messages(reader.turns))
    if not conversation:
        raise refuse(
            "messages", "no content that can be sent", "at least one message with text, an image or a tool call"
        )
    prompt = join_texts(prompt_texts(body))
    return [{"role": "system", "content": prompt}, *conversation] if prompt else conversation


def _stream_fields(streamed: bool) -> dict[str, Any]:
    # Without include_usage no provider tells the tokens of a stream.
    return {"stream": True, "stream_options": {"include_usage": True}} if streamed else {"stream": False}


def _sampling_fields(body: dict[str, Any], quirks: Quirks, notes: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    max_tokens = optional(body, "max_tokens", INTEGER)
    if max_tokens is not None:
        if max_tokens < 1:
            raise refuse("max_tokens", describe(max_tokens), "an integer of 1 or more")
        cap = quirks.max_tokens_cap
        fields[quirks.max_tokens_field] = max_tokens if cap is None else min(max_tokens, cap)
    for name in ("temperature", "top_p"):
        if (value := optional(body, name, NUMBER)) is not None:  # 0 is a value
            fields[name] = value
    stops = [
        check(stop, STRING, f"stop_sequences[{index}]")
        for index, stop in enumerate(optional(body, "stop_sequences", ARRAY) or [])
    ]
    if stops := [stop for stop in stops if stop]:
        fields["stop"] = stops[:MAX_STOP_SEQUENCES]
        if len(stops) > MAX_STOP_SEQUENCES:
            notes.append(f"stop sequences left out: {len(stops) - MAX_STOP_SEQUENCES}")
    return fields


def _format_fields(body: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    described = output_format(body, quirks)
    return {} if described is None else {"response_format": {"type": "json_schema", "json_schema": described}}
