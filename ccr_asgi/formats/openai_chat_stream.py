"""A Chat Completions answer as an Anthropic one: chunks or one document in, events or one message out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut
from ccr_asgi.formats.base import ConversionContext, UsageExtra
from ccr_asgi.formats.count_tokens import TokenTally
from ccr_asgi.formats.message_writer import MessageWriter, StopReason
from ccr_asgi.formats.openai_chat_calls import Calls
from ccr_asgi.formats.openai_errors import from_event
from ccr_asgi.wire.json_codec import loads
from ccr_asgi.wire.sse import ServerSentEvent, SSEParser

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A larger JSON answer is refused."""

STOP_REASONS: Mapping[str, StopReason] = {
    "length": "max_tokens",
    "model_length": "max_tokens",  # Mistral's, where the context is full
    "content_filter": "refusal",
}
"""finish_reason to stop_reason, where the answer was cut off. Any other ends with tool_use if a call was made, else
with end_turn: providers are not to be trusted there (some say "stop" after a call)."""

_DONE = b"[DONE]"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ChatStream:
    """Turns one answer into what the client asked for; see `StreamMachine`.

    Args:
        context: Ids for the answer.
        provider: The provider's name, for messages.
        model: The model's name as the client shall see it.
        streamed: What the client asked for. What the provider sends is told by its first bytes, not by its headers.
        content_type: The answer's, for the message about one that is neither events nor JSON.
        tool_names: The client's name of each tool, by its upstream name; others stay as they are.
        taken_ids: Ids of the calls that the conversation holds already; none is given twice.
        estimate_input_tokens: Asked only where the provider does not tell.
        extra: Is told what Anthropic's wire cannot carry.
        secrets: Blanked out of error messages.
    """

    def __init__(
        self,
        *,
        context: ConversionContext,
        provider: str,
        model: str,
        streamed: bool,
        content_type: str,
        tool_names: Mapping[str, str],
        taken_ids: Iterable[str] = (),
        estimate_input_tokens: Callable[[], int],
        extra: UsageExtra,
        secrets: Sequence[str] = (),
    ) -> None:
        self.failure: CcrError | None = None
        self._provider = provider
        self._content_type = content_type
        self._estimate_input_tokens = estimate_input_tokens
        self._extra = extra
        self._secrets = secrets
        self._streamed = streamed
        self._writer = MessageWriter(message_id=context.message_id, model=model, streamed=streamed)
        self._calls = Calls(
            self._writer,
            tool_names,
            taken_ids=taken_ids,
            id_prefix=context.message_id.removeprefix("msg_"),
            complain=self._complain,
        )
        self._said = TokenTally()
        self._spoken = False  # bytes have gone out: from here on failures are events
        self._lead = b""
        self._document: bytearray | None = None
        self._parser: SSEParser | None = None
        self._usage: dict[str, Any] | None = None
        self._finish_reason: str | None = None
        self._announced = False  # [DONE] has been

    @property
    def finished(self) -> bool:
        """The message, or its error, is complete."""
        return self._writer.done

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the answer; see `StreamMachine.feed`."""
        return self._guarded(lambda: self._take(chunk))

    def close(self) -> bytes:
        """The answer has ended; see `StreamMachine.close`."""
        return self._guarded(self._end)

    def idle(self) -> bytes:
        """A ping; see `StreamMachine.idle`."""
        if self.finished:
            return b""
        self._writer.ping()
        self._spoken = self._streamed
        return self._writer.take()

    def fail(self, error: CcrError) -> bytes:
        """The answer broke off; see `StreamMachine.fail`."""
        if self.finished:
            return b""
        if not self._spoken:
            raise error
        self.failure = error
        self._writer.fail(error)
        return self._writer.take()

    def usage_so_far(self) -> dict[str, int]:
        """Anthropic's usage object for what has come by now, estimated where nothing was told."""
        usage = self._usage or {}
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if prompt is None or completion is None:
            self._extra.estimated = True
        cached = _cached(usage) or 0
        if prompt is None:
            prompt = cached + self._estimate_input_tokens()
        if completion is None:
            completion = self._said.tokens
        self._extra.reasoning_tokens = _count(_mapping(usage, "completion_tokens_details"), "reasoning_tokens")
        return {
            "input_tokens": max(0, prompt - cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": completion,
        }

    def _guarded(self, step: Callable[[], None]) -> bytes:
        if self.finished:
            return b""
        try:
            step()
        except RecursionError:
            return self._break_off(ProviderError(f"{self._provider}: the answer is JSON that is nested too deeply."))
        except CcrError as error:
            return self._break_off(error)
        out = self._writer.take()
        self._spoken = self._spoken or bool(out)
        return out

    def _break_off(self, error: CcrError) -> bytes:
        return (self._writer.take() if self._spoken else b"") + self.fail(error)

    # --- bytes

    def _take(self, chunk: bytes) -> None:
        if self._parser is None and self._document is None:
            chunk = self._choose_reader(chunk)
        if self._document is not None:
            self._document += chunk
            if len(self._document) > MAX_DOCUMENT_BYTES:
                raise ProviderError(f"{self._provider}: the answer is longer than {MAX_DOCUMENT_BYTES} bytes.")
        elif self._parser is not None:
            for event in self._parser.feed(chunk):
                self._event(event)

    def _choose_reader(self, chunk: bytes) -> bytes:
        """Tell from the first bytes what the answer is; returns those to be read, none while they do not tell."""
        start = (self._lead + chunk).removeprefix(_BYTE_ORDER_MARK).lstrip()
        if _BYTE_ORDER_MARK.startswith(start):
            self._lead = start
            return b""
        if start.startswith((b"{", b"[")):
            self._document = bytearray()
        elif start.startswith(b"<"):
            raise ProviderError(
                f"{self._provider}: the answer is a page ({self._kind_of_content}), not a completion. "
                "Is baseUrl the full URL of the Chat Completions endpoint?"
            )
        else:
            self._parser = SSEParser()
        return start

    def _end(self) -> None:
        if self._document is not None:
            self._whole(bytes(self._document))
        elif self._parser is not None:
            for event in self._parser.close():
                if not self._event(event) and self._finish_reason is None:
                    raise UpstreamCut(f"{self._provider}: the answer ended in the middle of an event.")
        if not self.finished:
            self._finish()

    def _event(self, event: ServerSentEvent) -> bool:
        """Take one event; returns False for one that is not JSON, which alone does not end the stream."""
        if self.finished:
            return True
        if event.data.strip() == _DONE:
            self._announced = True
            self._finish()
            return True
        chunk = _read(event.data)
        if event.name == b"error":
            raise from_event(self._provider, chunk or event.data.decode("utf-8", "replace"), secrets=self._secrets)
        if isinstance(chunk, dict):
            self._chunk(chunk)
        return chunk is not None

    def _whole(self, data: bytes) -> None:
        answer = _read(data)
        if isinstance(answer, list) and answer:
            answer = answer[0]
        if answer is None:
            raise UpstreamCut(f"{self._provider}: the answer is not whole JSON.")
        if not isinstance(answer, dict):
            raise ProviderError(f"{self._provider}: the answer is a JSON {type(answer).__name__}, not a completion.")
        self._chunk(answer)

    # --- chunks; a whole completion is one chunk that says all

    def _chunk(self, chunk: dict[str, Any]) -> None:
        choices = chunk.get("choices")
        if chunk.get("error") or (choices is None and any(chunk.get(key) for key in ("message", "detail"))):
            raise from_event(self._provider, chunk, secrets=self._secrets)
        model = chunk.get("model")
        if isinstance(model, str) and model:
            self._extra.served_model = model
        self._usage = _mapping(chunk, "usage") or self._usage
        ended_before = self._finish_reason is not None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index") in (0, None):
                self._choice(choice)
        if ended_before and chunk.get("usage") and not choices:
            self._finish()

    def _choice(self, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if choice.get("error") or reason == "error":  # OpenRouter's, for what the model's own provider did
            raise from_event(self._provider, choice, secrets=self._secrets)
        self._usage = _mapping(choice, "usage") or self._usage
        if delta := _mapping(choice, "delta"):
            self._delta(delta, _list(delta, "tool_calls"))
        elif message := _mapping(choice, "message"):
            calls = _list(message, "tool_calls")
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
        if not calls and (function := _mapping(delta, "function_call")):  # the API's form of 2023
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

    @property
    def _kind_of_content(self) -> str:
        return self._content_type[:50] or "no content-type"


def _read(data: bytes) -> Any:
    """What `data` is as JSON; None if it is not. A spoilt character is no reason to lose the words around it."""
    try:
        return loads(data.decode("utf-8", "replace"))
    except ValueError:
        return None


def _text(value: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, list):
        texts = [part.get("text") or part.get("refusal") for part in value if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


def _list(parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = parent.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _count(usage: dict[str, Any], key: str) -> int | None:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _cached(usage: dict[str, Any]) -> int | None:
    """Prompt tokens read from a cache: OpenAI's place for them, else DeepSeek's and Moonshot's."""
    told = _count(_mapping(usage, "prompt_tokens_details"), "cached_tokens")
    for key in ("prompt_cache_hit_tokens", "cached_tokens"):
        told = _count(usage, key) if told is None else told
    return told
