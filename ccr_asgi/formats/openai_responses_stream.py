"""A Responses answer as an Anthropic one: events or one document in, events or one message out.

The events are those of the openai SDK, `openai.types.responses.ResponseStreamEvent`; what the subscription's backend
sends beside them was observed with the Codex CLI 0.169.0.
"""

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
    string,
)
from ccr_asgi.formats.message_writer import StopReason
from ccr_asgi.formats.openai_responses_items import Places
from ccr_asgi.formats.openai_responses_output import Output
from ccr_asgi.formats.tool_arguments import arguments_text
from ccr_asgi.formats.tool_names import AnswerCallIds
from ccr_asgi.wire.sse import ServerSentEvent

Event = dict[str, Any]

STOP_REASONS: Mapping[str, StopReason] = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
"""incomplete_details.reason to stop_reason; any other reason that an answer is incomplete counts as max_tokens."""


class ResponsesStream(AnswerMachine):
    """Turns one Responses answer into what the client asked for; see `StreamMachine`.

    Args:
        request: The request that it answers.
        refusal: Makes the error for an error object of the provider's.
    """

    def __init__(self, request: AnswerContext, refusal: Callable[[object], ProviderError]) -> None:
        super().__init__(request)
        self._refusal = refusal
        self._usage: dict[str, Any] = {}
        self._output = Output(
            self._writer,
            request.tool_names,
            ids=AnswerCallIds(request.id_prefix, request.taken_ids),
            id_prefix=request.id_prefix,
            complain=self._complain,
            said=self._said.add,
        )
        self._places = Places()
        output, place = self._output, self._places.of
        self._events: Mapping[str, Callable[[Event], None]] = {
            "response.output_item.added": lambda e: output.begin(place(e), mapping(e, "item")),
            "response.output_text.delta": lambda e: output.text(place(e), string(e.get("delta"))),
            "response.output_text.annotation.added": lambda e: output.cite(mapping(e, "annotation")),
            "response.refusal.delta": lambda e: output.text(place(e), string(e.get("delta"))),
            "response.reasoning_summary_part.added": lambda e: output.begin_part(place(e)),
            "response.reasoning_summary_text.delta": lambda e: output.reasoning(
                place(e), ("summary", e.get("summary_index")), string(e.get("delta"))
            ),
            "response.reasoning_text.delta": lambda e: output.reasoning(
                place(e), ("text", e.get("content_index")), string(e.get("delta"))
            ),
            "response.function_call_arguments.delta": lambda e: output.arguments(
                place(e), arguments_text(e.get("delta"))
            ),
            "response.function_call_arguments.done": lambda e: output.arguments_done(
                place(e), arguments_text(e.get("arguments"))
            ),
            "response.output_item.done": lambda e: output.done(place(e), mapping(e, "item")),
            "keepalive": lambda e: self._keep_alive(),
            "response.completed": lambda e: self._ended_as(mapping(e, "response"), "completed"),
            "response.done": lambda e: self._ended_as(mapping(e, "response"), "completed"),
            "response.incomplete": lambda e: self._ended_as(mapping(e, "response"), "incomplete"),
            "response.failed": lambda e: self._failed(mapping(e, "response")),
            "error": self._error,
        }

    def _event(self, event: ServerSentEvent) -> bool:
        data = read_json(event.data)
        if not isinstance(data, dict):
            if event.name == b"error":
                raise self._refusal(event.data.decode("utf-8", "replace"))
            return data is not None or event.data.strip() == b"[DONE]"
        kind = string(data.get("type")) or event.name.decode("utf-8", "replace")
        if kind == "message" and (data.get("error") or data.get("detail")):  # neither a type nor a name
            kind = "error"
        self._note_model(mapping(data, "response"))
        if (read := self._events.get(kind)) is not None:
            read(data)
        return True

    def _whole(self, answer: Event) -> None:
        self._note_model(answer)
        if answer.get("error") or not isinstance(answer.get("output"), list):
            raise self._refusal(_reason(answer))
        self._ended_as(answer, "completed")

    def _finish(self) -> None:
        raise UpstreamCut(f"{self._provider}: the answer ({self._kind_of_content}) ended before it was complete.")

    def _ended(self) -> bool:
        return False

    def _told_usage(self) -> ToldUsage:
        usage = self._usage
        inputs = mapping(usage, "input_tokens_details")
        return ToldUsage(
            total_input=count(usage, "input_tokens"),
            cache_read=count(inputs, "cached_tokens") or 0,
            cache_write=count(inputs, "cache_write_tokens") or 0,
            output=count(usage, "output_tokens"),
            reasoning=count(mapping(usage, "output_tokens_details"), "reasoning_tokens"),
        )

    def _keep_alive(self) -> None:
        if self._spoken:  # before that it would let the held-back 200 go
            self._writer.ping()

    def _note_model(self, response: Event) -> None:
        if model := string(response.get("model")):
            self._extra.served_model = self._extra.served_model or model

    # --- the end

    def _ended_as(self, response: Event, kind: str) -> None:
        """Take the finished response. Its own status, if it tells one, says how it ended."""
        status = string(response.get("status")) or kind
        end = {"completed": self._completed, "incomplete": self._incomplete, "failed": self._failed}.get(status)
        if end is None:
            raise UpstreamCut(f"{self._provider}: the answer ({status:.50}) ended before it was complete.")
        end(response)

    def _completed(self, response: Event) -> None:
        self._take_rest(response)
        self._output.end(cut_off=False)
        self._writer.finish("tool_use" if self._output.called else "end_turn", self.usage_so_far())

    def _incomplete(self, response: Event) -> None:
        self._take_rest(response)
        self._output.end(cut_off=True)
        reason = string(mapping(response, "incomplete_details").get("reason"))
        self._writer.finish(STOP_REASONS.get(reason, "max_tokens"), self.usage_so_far())

    def _failed(self, response: Event) -> None:
        self._usage = mapping(response, "usage") or self._usage
        raise self._refusal(_reason(response))

    def _error(self, event: Event) -> None:
        raise self._refusal(event)

    def _take_rest(self, response: Event) -> None:
        """Take usage, and such output as no event has told of."""
        self._usage = mapping(response, "usage") or self._usage
        items = enumerate(objects(response, "output"))
        self._output.rest((self._places.known(item, otherwise=place), item) for place, item in items)

    def _complain(self, tool: str) -> ProviderError:
        if not tool:
            return ProviderError(f"{self._provider}: the model called a tool without naming it.")
        return ProviderError(f"{self._provider}: the arguments of the call to {tool!r:.100} are not a JSON object.")


def _reason(response: Event) -> Event:
    """What a response says of its failure. It also repeats the request, whose words are not to be taken for that."""
    return {key: response[key] for key in ("error", "code", "message", "detail", "status") if key in response}
