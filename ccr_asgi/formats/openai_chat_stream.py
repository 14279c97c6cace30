"""A Chat Completions answer as an Anthropic one: chunks or one document in, events or one message out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ccr_asgi.errors import CcrError, ProviderError, UpstreamCut
from ccr_asgi.formats.base import ConversionContext, UsageExtra
from ccr_asgi.formats.count_tokens import estimate_tokens
from ccr_asgi.formats.message_writer import MessageWriter, StopReason
from ccr_asgi.formats.openai_chat_calls import Calls
from ccr_asgi.formats.openai_errors import from_event
from ccr_asgi.wire.json_codec import loads
from ccr_asgi.wire.sse import SSEParser

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""A larger JSON answer is refused."""

STOP_REASONS: Mapping[str, StopReason] = {"length": "max_tokens", "content_filter": "refusal"}
"""finish_reason to stop_reason. Any other ends with tool_use if a call was made, else with end_turn: providers are not
to be trusted there (some say "stop" after a call)."""

_DONE = b"[DONE]"


class ChatStream:
    """Turns one answer into what the client asked for; see `StreamMachine`.

    Args:
        context: Ids for the answer.
        provider: The provider's name, for messages.
        model: The model's name as the client shall see it.
        streamed: What the client asked for. What the provider sends is told by its first bytes, not by its headers.
        content_type: The answer's, for the message about one that is neither events nor JSON.
        tool_names: The client's name of each tool, by its upstream name; others stay as they are.
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
        self._calls = Calls(self._writer, tool_names, id_prefix=context.message_id.removeprefix("msg_"))
        self._said: list[str] = []
        self._spoken = False  # bytes have gone out: from here on failures are events
        self._document: list[bytes] | None = None
        self._parser: SSEParser | None = None
        self._received_bytes = 0
        self._usage: dict[str, Any] | None = None
        self._finish_reason: str | None = None
        self._understood = False

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
        if not self._writer.started or not self._spoken:
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
            completion = estimate_tokens("".join(self._said))
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
        except CcrError as error:
            return self._writer.take() + self.fail(error) if self._spoken else self.fail(error)
        out = self._writer.take()
        self._spoken = self._spoken or bool(out)
        return out

    # --- bytes

    def _take(self, chunk: bytes) -> None:
        if self._parser is None and self._document is None:
            chunk = self._choose_reader(chunk)
        if self._document is not None:
            self._received_bytes += len(chunk)
            if self._received_bytes > MAX_DOCUMENT_BYTES:
                raise ProviderError(f"{self._provider}: the answer is longer than {MAX_DOCUMENT_BYTES} bytes.")
            self._document.append(chunk)
        elif self._parser is not None:
            for event in self._parser.feed(chunk):
                self._event(event.data)

    def _choose_reader(self, chunk: bytes) -> bytes:
        start = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith((b"{", b"[")):
            self._document = []
        elif start.startswith(b"<"):
            raise ProviderError(
                f"{self._provider}: the answer is a page ({self._content_type[:50] or 'no content-type'}), "
                "not a completion. Is baseUrl the full URL of the Chat Completions endpoint?"
            )
        elif start:
            self._parser = SSEParser()
        return chunk if start else b""

    def _end(self) -> None:
        if self._document is not None:
            self._whole(b"".join(self._document))
        elif self._parser is not None:
            for event in self._parser.close():
                self._event(event.data)
        if not self.finished:
            self._finish()

    def _event(self, data: bytes) -> None:
        if self.finished:
            return
        if data.strip() == _DONE:
            self._understood = True
            self._finish()
            return
        try:
            chunk = loads(data)
        except ValueError:
            return  # one bad line does not end the stream
        if isinstance(chunk, dict):
            self._chunk(chunk)

    def _whole(self, data: bytes) -> None:
        try:
            answer = loads(data)
        except ValueError:
            raise UpstreamCut(f"{self._provider}: the answer is not whole JSON.") from None
        if isinstance(answer, list) and answer:
            answer = answer[0]
        if not isinstance(answer, dict):
            raise ProviderError(f"{self._provider}: the answer is a JSON {type(answer).__name__}, not a completion.")
        self._chunk(answer)

    # --- chunks; a whole completion is one chunk that says all

    def _chunk(self, chunk: dict[str, Any]) -> None:
        choices = chunk.get("choices")
        if chunk.get("error") or (choices is None and any(chunk.get(key) for key in ("message", "detail"))):
            raise from_event(self._provider, chunk, secrets=self._secrets)
        self._understood = self._understood or isinstance(choices, list)
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
        self._usage = _mapping(choice, "usage") or self._usage
        self._delta(_mapping(choice, "delta") or _mapping(choice, "message"))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._finish_reason = reason

    def _delta(self, delta: dict[str, Any]) -> None:
        # Both fields carry the same text where a provider sends both.
        if thinking := _text(delta.get("reasoning")) or _text(delta.get("reasoning_content")):
            self._say(thinking, self._writer.thinking)
        for key in ("content", "refusal"):
            if text := _text(delta.get(key)):
                self._say(text, self._writer.text)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._call(call)
        if function := _mapping(delta, "function_call"):  # the API's form of 2023
            self._call({"index": 0, "function": function})

    def _say(self, text: str, write: Callable[[str], None]) -> None:
        self._said.append(text)
        self._calls.interleave(lambda: write(text))

    def _call(self, call: dict[str, Any]) -> None:
        self._said.append(self._calls.take(call))

    # --- the end

    def _finish(self) -> None:
        if not self._understood:
            raise UpstreamCut(f"{self._provider}: the answer ended without a completion in it.")
        cut_off = self._finish_reason == "length"
        self._calls.end(cut_off=cut_off, complain=self._complain)
        if self._finish_reason is None and not self._said:
            raise UpstreamCut(f"{self._provider}: the answer ended before it said anything.")
        stop_reason = STOP_REASONS.get(self._finish_reason or "")
        if stop_reason is None:
            stop_reason = "tool_use" if self._calls.made else "end_turn"
        self._writer.finish(stop_reason, self.usage_so_far())

    def _complain(self, tool: str) -> ProviderError:
        return ProviderError(f"{self._provider}: the arguments of the call to {tool!r:.100} are not a JSON object.")


def _text(value: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return ""


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
