"""A Chat Completions answer as an Anthropic one: chunks or one document in, events or one message out."""

from collections.abc import Callable, Mapping
from typing import Any

from ccr_asgi.errors import ProviderError, UpstreamCut
from ccr_asgi.formats.answer_machine import (
    AnswerContext,
    AnswerMachine,
    ToldUsage,
    count,
    mapping,
    objects,
    read_json,
)
from ccr_asgi.formats.message_writer import StopReason
from ccr_asgi.formats.openai_chat_calls import Calls
from ccr_asgi.formats.openai_errors import from_event
from ccr_asgi.wire.sse import ServerSentEvent

STOP_REASONS: Mapping[str, StopReason] = {
    "length": "max_tokens",
    "model_length": "max_tokens",  # Mistral's, where the context is full
    "content_filter": "refusal",
}
"""finish_reason to stop_reason, where the answer was cut off. Any other ends with tool_use if a call was made, else
with end_turn: providers are not to be trusted there (some say "stop" after a call)."""

_DONE = b"[DONE]"


class ChatStream(AnswerMachine):
    """Turns one Chat Completions answer into what the client asked for; see `StreamMachine`."""

    def __init__(self, request: AnswerContext) -> None:
        super().__init__(request)
        self._calls = Calls(
            self._writer,
            request.tool_names,
            taken_ids=request.taken_ids,
            id_prefix=request.id_prefix,
            complain=self._complain,
        )
        self._usage: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._announced = False  # [DONE] has been

    def _told_usage(self) -> ToldUsage:
        usage = self._usage
        return ToldUsage(
            total_input=count(usage, "prompt_tokens"),
            cache_read=_cached(usage) or 0,
            output=count(usage, "completion_tokens"),
            reasoning=count(mapping(usage, "completion_tokens_details"), "reasoning_tokens"),
        )

    def _event(self, event: ServerSentEvent) -> bool:
        if event.data.strip() == _DONE:
            self._announced = True
            self._finish()
            return True
        chunk = read_json(event.data)
        if event.name == b"error":
            raise self._reported(chunk or event.data.decode("utf-8", "replace"))
        if isinstance(chunk, dict):
            self._chunk(chunk)
        return chunk is not None

    def _whole(self, answer: dict[str, Any]) -> None:
        self._chunk(answer)

    def _ended(self) -> bool:
        return self._finish_reason is not None

    # --- chunks; a whole completion is one chunk that says all

    def _chunk(self, chunk: dict[str, Any]) -> None:
        choices = chunk.get("choices")
        if chunk.get("error") or (choices is None and any(chunk.get(key) for key in ("message", "detail"))):
            raise self._reported(chunk)
        model = chunk.get("model")
        if isinstance(model, str) and model:
            self._extra.served_model = model
        self._usage = mapping(chunk, "usage") or self._usage
        ended_before = self._finish_reason is not None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index") in (0, None, "0"):
                self._choice(choice)
        if ended_before and chunk.get("usage") and not choices:
            self._finish()

    def _choice(self, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if choice.get("error") or reason == "error":  # OpenRouter's, for what the model's own provider did
            raise self._reported(choice)
        self._usage = mapping(choice, "usage") or self._usage
        if delta := mapping(choice, "delta"):
            self._delta(delta, objects(delta, "tool_calls"))
        elif message := mapping(choice, "message"):
            calls = objects(message, "tool_calls")
            self._delta(message, [{**call, "index": place} for place, call in enumerate(calls)])
        if isinstance(reason, str) and reason:
            self._finish_reason = reason

    def _delta(self, delta: dict[str, Any], calls: list[dict[str, Any]]) -> None:
        # Both fields carry the same text where a provider sends both.
        if thinking := _text(delta.get("reasoning")) or _text(delta.get("reasoning_content")):
            self._say(thinking, self._writer.thinking)
        for key in ("content", "refusal"):
            if text := _text(delta.get(key)):
                self._say(text, self._writer.text)
        if not calls and (function := mapping(delta, "function_call")):  # the API's form of 2023
            calls = [{"index": 0, "function": function}]
        for call in calls:
            self._said.add(self._calls.take(call))

    def _say(self, text: str, write: Callable[[str], None]) -> None:
        self._said.add(text)
        self._calls.interleave(lambda: write(text))

    # --- the end

    def _finish(self) -> None:
        if self._finish_reason is None and not self._said.chars:
            raise UpstreamCut(
                f"{self._provider}: the answer ({self._kind_of_content}) ended without a completion in it."
            )
        stop_reason = STOP_REASONS.get(self._finish_reason or "")
        announced = self._announced or self._finish_reason is not None
        self._calls.end(cut_off=stop_reason is not None, announced=announced)
        if stop_reason is None:
            stop_reason = "tool_use" if self._calls.made else "end_turn"
        self._writer.finish(stop_reason, self.usage_so_far())

    def _complain(self, tool: str) -> ProviderError:
        if not tool:
            return ProviderError(f"{self._provider}: the model called a tool without naming it.")
        return ProviderError(f"{self._provider}: the arguments of the call to {tool!r:.100} are not a JSON object.")

    def _reported(self, error: object) -> ProviderError:
        request = self._request
        return from_event(self._provider, error, secrets=request.secrets, estimate=request.estimate_input_tokens)


def _text(value: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        texts = [part.get("text") or part.get("refusal") for part in value if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def _cached(usage: dict[str, Any]) -> int | None:
    """Prompt tokens read from a cache: OpenAI's place for them, else DeepSeek's and Moonshot's."""
    told = count(mapping(usage, "prompt_tokens_details"), "cached_tokens")
    for key in ("prompt_cache_hit_tokens", "cached_tokens"):
        told = count(usage, key) if told is None else told
    return told
