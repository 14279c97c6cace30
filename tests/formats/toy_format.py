"""The Toy API as a wire format: the worked example of docs/adding-a-format.md, which shows this file piece by piece."""

from collections.abc import Iterator, Sequence
from typing import Any

from ccr_asgi.errors import CcrError, ProviderError, RawHeaders, UpstreamCut
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
from ccr_asgi.formats.base import ConversionContext, UpstreamRequest, UsageExtra, secrets_of, shallow_enough
from ccr_asgi.formats.conversation import ConversationReader, Turn
from ccr_asgi.formats.count_tokens import count_request
from ccr_asgi.formats.fields import ARRAY, BOOLEAN, INTEGER, STRING, optional, refuse, required
from ccr_asgi.formats.message_writer import StopReason
from ccr_asgi.formats.openai_errors import from_event, from_http
from ccr_asgi.formats.parts import PartReader, Text
from ccr_asgi.formats.system_prompt import join_texts, prompt_texts
from ccr_asgi.formats.tool_names import AnswerCallIds
from ccr_asgi.formats.tools import RequestTools
from ccr_asgi.routing import Route
from ccr_asgi.wire.json_codec import dumps
from ccr_asgi.wire.sse import ServerSentEvent


def toy_request(body: dict[str, Any], model: str, tools: RequestTools) -> dict[str, Any]:
    """The Toy API's body for an Anthropic request; raises RequestError for what it cannot say."""
    parts = PartReader(model, images=False, pdf=False, names=tools.names)
    reader = ConversationReader(parts, tools.names)
    reader.read(required(body, "messages", ARRAY))
    script = [line for turn in reader.turns for line in toy_lines(turn)]
    if not script:
        raise refuse("messages", "nothing that can be said", "at least one text or call")
    request: dict[str, Any] = {"model": model, "live": optional(body, "stream", BOOLEAN) or False, "script": script}
    if rules := join_texts(prompt_texts(body)):
        request["rules"] = rules
    if (limit := optional(body, "max_tokens", INTEGER)) is not None:
        request["limit"] = limit
    if tools.functions:
        request["tools"] = {tool.name: tool.parameters for tool in tools.functions}
    return request


def toy_lines(turn: Turn) -> Iterator[dict[str, Any]]:
    """What was said in one turn, line by line; every call has its result at once behind it."""
    who = "model" if turn.role == "assistant" else "user"
    if text := join_texts([part.text for part in turn.parts if isinstance(part, Text)]):
        yield {"who": who, "says": text}
    for call in turn.calls:
        yield {"who": "model", "calls": call.name, "id": call.id, "with": call.arguments}
        yield {"who": "tool", "answers": call.id, "says": call.result.text}


class ToyStream(AnswerMachine):
    """Turns the Toy API's answer into Anthropic's."""

    def __init__(self, request: AnswerContext) -> None:
        super().__init__(request)
        self._ids = AnswerCallIds(request.id_prefix, request.taken_ids)
        self._called = False
        self._last: dict[str, Any] = {}

    def _event(self, event: ServerSentEvent) -> bool:
        line = read_json(event.data)
        if isinstance(line, dict):
            self._line(line)
        return line is not None

    def _whole(self, answer: dict[str, Any]) -> None:
        for line in objects(answer, "lines"):
            self._line(line)

    def _line(self, line: dict[str, Any]) -> None:
        if "error" in line:
            request = self._request
            raise from_event(self._provider, line, secrets=request.secrets, estimate=request.estimate_input_tokens)
        if text := string(line.get("says")):
            self._said.add(text)
            self._writer.text(text)
        if tool := string(line.get("calls")):
            self._call(tool, line)
        if "end" in line:
            self._last = line
            self._finish()

    def _call(self, tool: str, line: dict[str, Any]) -> None:
        name = self._request.tool_names.get(tool, tool)
        self._writer.open_tool_use(self._ids.unique(string(line.get("id"))), name)
        self._writer.tool_input(dumps(mapping(line, "with")).decode())
        self._called = True

    def _ended(self) -> bool:
        return bool(self._last)

    def _finish(self) -> None:
        if not self._last:
            raise UpstreamCut(f"{self._provider}: the answer ended before its last line.")
        reason: StopReason = "tool_use" if self._called else "end_turn"
        self._writer.finish("max_tokens" if self._last["end"] == "limit" else reason, self.usage_so_far())

    def _told_usage(self) -> ToldUsage:
        return ToldUsage(total_input=count(self._last, "read"), output=count(self._last, "written"))


class ToyConversion:
    """One request to the Toy API, and its answer."""

    def __init__(self, body: dict[str, Any], route: Route, context: ConversionContext) -> None:
        model = route.model if route.model is not None else required(body, "model", STRING)
        with shallow_enough():
            tools = RequestTools(body)
            self.request = UpstreamRequest(dumps(request := toy_request(body, model, tools)))
        self.extra = UsageExtra()
        self._context = context
        self._provider = route.provider
        self._model, self._streamed, self._tool_names = model, bool(request["live"]), tools.names.client
        self._call_ids = frozenset(line["id"] for line in request["script"] if "id" in line)
        self._client_body = context.read_again or (lambda: body)

    def stream(self, content_type: str, headers: RawHeaders = ()) -> ToyStream:
        """A machine for an answer with a 2xx status."""
        return ToyStream(
            AnswerContext(
                message_id=self._context.message_id,
                provider=self._provider.name,
                model=self._model,
                streamed=self._streamed,
                content_type=content_type,
                tool_names=self._tool_names,
                taken_ids=self._call_ids,
                estimate_input_tokens=self._estimate,
                extra=self.extra,
                secrets=self._secrets,
            )
        )

    def error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """What the client shall see of an answer that is not 2xx."""
        return from_http(self._provider.name, status, headers, body, secrets=self._secrets, estimate=self._estimate)

    def retry(self, error: CcrError) -> UpstreamRequest | None:
        """Nothing: there is no other way to ask."""
        return None

    @property
    def _secrets(self) -> Sequence[str]:
        return secrets_of(self._provider)

    def _estimate(self) -> int:
        return count_request(self._client_body())


class ToyFormat:
    """The wire format of the Toy API."""

    kind = "toy"

    def begin(self, body: dict[str, Any], route: Route, context: ConversionContext) -> ToyConversion:
        """Convert a client's request; see `Format.begin`."""
        return ToyConversion(body, route, context)

    def count_tokens(self, body: dict[str, Any], route: Route) -> int:
        """Estimate a request's input tokens; see `Format.count_tokens`."""
        with shallow_enough():
            return count_request(body)


FORMAT = ToyFormat()
