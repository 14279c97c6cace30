"""An Anthropic request as a Responses request, for the ChatGPT subscription's backend and for the public API.

Both are built from an allow-list. The subscription's backend refuses every field that the Codex CLI does not send,
sampling and limits among them, and knows two shapes of body: the full lane, which is the public API's, and the lite
lane, where tools and instructions are items of the input. Observed in the Codex CLI 0.169.0; docs/wire-formats.md says
what becomes of every field.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ccr_asgi.formats.conversation import ConversationReader
from ccr_asgi.formats.fields import (
    ARRAY,
    BOOLEAN,
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    describe,
    optional,
    refuse,
    required,
)
from ccr_asgi.formats.openai_responses_input import Item, input_items, message
from ccr_asgi.formats.openai_responses_tools import (
    function_tools,
    hosted_tools,
    tool_choice,
    tools_without_counterpart,
)
from ccr_asgi.formats.output_format import output_format
from ccr_asgi.formats.parts import PartReader
from ccr_asgi.formats.reasoning_effort import RESPONSES_BUDGETS, reasoning_effort, reasons
from ccr_asgi.formats.system_prompt import join_texts, prompt_texts
from ccr_asgi.formats.tools import Choice, RequestTools
from ccr_asgi.quirks import Quirks, for_model
from ccr_asgi.routing import Route

Lane = Literal["full", "lite"]

DEFAULT_INSTRUCTIONS = "Follow the user's instructions."
"""For a request without a system prompt: the subscription's backend refuses an empty one."""
MIN_OUTPUT_TOKENS = 16
"""The public API's least `max_output_tokens`."""

_NAMESPACE = uuid.UUID("7a3f2f0e-6a55-4d7e-9a0a-2d1c3b0c5e11")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest:
    """A converted request, of which `body` makes what is sent.

    Attributes:
        model: The model that is asked.
        streamed: The client asked for `stream: true`; upstream it is always a stream.
        instructions: The system prompt; may be empty.
        items: The conversation.
        functions: The client's tools.
        hosted: Tools that the provider runs itself; the lite lane takes none.
        choice: What the client demands of the model.
        reasoning: The fields `effort` and `summary`, if any.
        reasons: The model reasons, so that its reasoning is asked for.
        text: The field `text`, if there is something in it.
        sampling: Fields that only the public API takes.
        cache_key: Stable over a session, and nothing of the client's own.
        tool_names: The client's name of each tool, by its upstream name.
        call_ids: The ids of all calls in the conversation.
        quirks: The provider's.
        notes: What was left out although the client asked for it, for the log.
    """

    model: str
    streamed: bool
    instructions: str
    items: list[Item]
    functions: list[dict[str, Any]]
    hosted: list[dict[str, Any]]
    choice: Choice | None
    reasoning: dict[str, str]
    reasons: bool
    text: dict[str, Any]
    sampling: dict[str, Any]
    cache_key: str
    tool_names: Mapping[str, str]
    call_ids: frozenset[str]
    quirks: Quirks
    notes: tuple[str, ...]

    @property
    def has_reasoning_items(self) -> bool:
        """Whether reasoning of earlier turns is sent back."""
        return any(item["type"] == "reasoning" for item in self.items)

    def body(self, lane: Lane, *, with_reasoning_items: bool = True) -> dict[str, Any]:
        """The body for one lane."""
        items = [item for item in self.items if with_reasoning_items or item["type"] != "reasoning"]
        body = self._full(items) if lane == "full" else self._lite(items)
        body |= {"store": False, "stream": True}
        if self.reasons:
            body["include"] = ["reasoning.encrypted_content"]
        body["prompt_cache_key"] = self.cache_key
        if self.text:
            body["text"] = self.text
        return self.quirks.edited(body)

    def _full(self, items: list[Item]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model}
        if self.instructions:
            body["instructions"] = self.instructions
        body["input"] = items
        if tools := [*self.functions, *self.hosted]:
            body |= {"tools": tools, "tool_choice": tool_choice(self.choice)}
            body["parallel_tool_calls"] = self.choice is None or self.choice.parallel
        if self.reasoning:
            body["reasoning"] = self.reasoning
        return body | self.sampling

    def _lite(self, items: list[Item]) -> dict[str, Any]:
        head: list[Item] = []
        # There is no other way here to say that none may be called.
        if self.functions and (self.choice is None or self.choice.kind != "none"):
            head.append({"type": "additional_tools", "role": "developer", "tools": self.functions})
        head.append(message("developer", [{"type": "input_text", "text": self.instructions or DEFAULT_INSTRUCTIONS}]))
        return {
            "model": self.model,
            "input": [*head, *items],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning": {**self.reasoning, "context": "all_turns"},
        }


def convert(body: dict[str, Any], route: Route, session_id: str | None = None) -> ResponsesRequest:
    """Convert a client's request, which is any JSON object at all, for `route`.

    Raises:
        RequestError: It is not of Anthropic's form, or asks for what the Responses API has no counterpart of; the
            message names the JSON path, what was found and what is accepted.
    """
    provider, quirks = route.provider, route.provider.quirks
    model = route.model if route.model is not None else required(body, "model", STRING)
    tools = RequestTools(body, quirks.drop_schema_keywords)
    items = _items(body, model, quirks, tools)
    instructions = join_texts(prompt_texts(body))
    notes = [f"server tools left out: {', '.join(found)}"] if (found := tools_without_counterpart(tools)) else []
    if stops := optional(body, "stop_sequences", ARRAY):
        notes.append(f"stop sequences left out: {len(stops)}")
    sampling = _sampling(body, quirks)
    if provider.chatgpt_login:
        instructions, sampling = instructions or DEFAULT_INSTRUCTIONS, {}
    return ResponsesRequest(
        model=model,
        streamed=optional(body, "stream", BOOLEAN) or False,
        instructions=instructions,
        items=items,
        functions=function_tools(tools, quirks.strict),
        hosted=hosted_tools(tools),
        choice=tools.choice(body),
        reasoning=_reasoning(body, model, quirks),
        reasons=reasons(model, quirks),
        text=_text(body, model, quirks),
        sampling=sampling,
        cache_key=_cache_key(session_id or instructions + json.dumps(items[0])),
        tool_names=tools.names.client,
        call_ids=frozenset(item["call_id"] for item in items if item["type"] == "function_call"),
        quirks=quirks,
        notes=tuple(notes),
    )


def _items(body: dict[str, Any], model: str, quirks: Quirks, tools: RequestTools) -> list[Item]:
    source = required(body, "messages", ARRAY)
    if not source:
        raise refuse("messages", "an empty array", "at least one message")
    images, pdf = quirks.takes_images(model), quirks.takes_pdf(model)
    reader = ConversationReader(PartReader(model, images=images, pdf=pdf, names=tools.names), tools.names)
    reader.read(source)
    if items := list(input_items(reader.turns)):
        return items
    raise refuse("messages", "no content that can be sent", "at least one message with text, an image or a tool call")


def _reasoning(body: dict[str, Any], model: str, quirks: Quirks) -> dict[str, str]:
    fields = {}
    if effort := reasoning_effort(body, model, quirks, RESPONSES_BUDGETS, effort_first=True):
        fields["effort"] = effort
    thinking = optional(body, "thinking", OBJECT) or {}
    if thinking.get("type") in ("enabled", "adaptive") and reasons(model, quirks):
        fields["summary"] = "auto"
    return fields


def _text(body: dict[str, Any], model: str, quirks: Quirks) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if (described := output_format(body, quirks)) is not None:
        fields["format"] = {"type": "json_schema", **described}
    if verbosity := for_model(quirks.verbosity, model, None):
        fields["verbosity"] = verbosity
    return fields


def _sampling(body: dict[str, Any], quirks: Quirks) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    max_tokens = optional(body, "max_tokens", INTEGER)
    if max_tokens is not None:
        if max_tokens < 1:
            raise refuse("max_tokens", describe(max_tokens), "an integer of 1 or more")
        cap = quirks.max_tokens_cap
        fields["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, max_tokens if cap is None else min(max_tokens, cap))
    for name in ("temperature", "top_p"):
        if (value := optional(body, name, NUMBER)) is not None:  # 0 is a value
            fields[name] = value
    return fields


def _cache_key(source: str) -> str:
    """A UUID for a session, without the client's own id in it: that is nobody else's business."""
    return str(uuid.uuid5(_NAMESPACE, source.encode("utf-8", "replace").decode()))
