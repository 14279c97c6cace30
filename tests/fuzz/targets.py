"""What is fuzzed: five functions of bytes, each of which either returns, or raises because the product is wrong.

The first two bytes of an input for a stream say how it is read (see `_reading`); the rest is what a provider sends.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr_asgi.config import Kind, Provider
from ccr_asgi.errors import CcrError, RequestError, UpstreamError
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import ConversionContext, StreamMachine
from ccr_asgi.routing import Route
from ccr_asgi.wire.json_codec import loads
from ccr_asgi.wire.sse import SSEParser
from tests.formats import chat_answers, responses_answers
from tests.support.anthropic_stream import check_stream, plain_message, sdk_message

FIXTURES = Path(__file__).parents[1] / "fixtures"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
LINE_BYTES = 256
"""What the parser's bound is set to, so that a short input can be beyond it."""


@dataclass(frozen=True)
class Target:
    """One function under the fuzzer.

    Attributes:
        check: Takes an input; raises if the product does not do what it must.
        seeds: Pattern of files to begin with, below tests/fixtures; "" begins with a few events.
        words: What the mutations may put in, beside single bytes.
        leading: Bytes that go before a fixture's own, to make an input of it.
    """

    check: Callable[[bytes], None]
    seeds: str
    words: tuple[str, ...]
    leading: bytes = b""

    def corpus(self) -> list[bytes]:
        """The inputs to begin with."""
        files = sorted(FIXTURES.glob(self.seeds)) if self.seeds else ()
        return [self.leading + content for content in ([path.read_bytes() for path in files] or _EVENTS)]


def _reading(data: bytes) -> tuple[bool, list[bytes], bytes]:
    """Whether the client wants a stream, the rest of the input in pieces, and in one."""
    streamed, size, rest = bool(data[0] & 1), data[1] + 1, data[2:]
    return streamed, [rest[at : at + size] for at in range(0, len(rest), size)], rest


def check_sse(data: bytes) -> None:
    """Events do not depend on how the bytes are cut; the only failure is one that is too long."""
    if len(data) < 2:
        return
    _, pieces, whole = _reading(data)

    def events(chunks: list[bytes]) -> list[Any] | None:
        parser = SSEParser(max_line_bytes=LINE_BYTES)
        try:
            return [event for chunk in chunks for event in parser.feed(chunk)] + parser.close()
        except UpstreamError:
            return None

    assert events(pieces) == events([whole])


def _outcome(machine: StreamMachine, chunks: list[bytes], *, streamed: bool) -> tuple[str, str | bytes]:
    """What a client gets of these chunks: the whole answer, or the words of its error."""
    try:
        out = b"".join([machine.feed(chunk) for chunk in chunks]) + machine.close()
    except CcrError as error:
        return "error", error.message
    assert machine.finished
    if not streamed:
        plain_message(json.loads(out))
    elif "error" in (last := check_stream(out)[-1]):
        return "error", last["error"]["message"]
    else:
        assert sdk_message(out)
    return "answer", out.replace(PING, b"")  # a ping may stand wherever nothing was said


def _check_stream(machine: Callable[..., StreamMachine], data: bytes) -> None:
    """The client gets a legal message or an error, the same however the bytes are cut."""
    if len(data) < 2:
        return
    streamed, pieces, whole = _reading(data)
    one, other = (_outcome(machine(streamed=streamed), chunks, streamed=streamed) for chunks in ([whole], pieces))
    assert one == other


def check_chat_stream(data: bytes) -> None:
    """Chat Completions, streamed or whole."""
    _check_stream(chat_answers.machine, data)


def check_responses_stream(data: bytes) -> None:
    """The Responses API, streamed or whole."""
    _check_stream(responses_answers.machine, data)


def _check_request(kind: Kind, data: bytes) -> None:
    """A body is refused by name, or becomes a body that is JSON."""
    try:
        body = loads(data)
    except ValueError:
        return
    if not isinstance(body, dict):
        return
    provider = Provider(name="p", kind=kind, base_url="https://provider.invalid/v1", api_key="invented-key")
    route, context = Route(provider, "m", "tag"), ConversionContext(message_id="msg_1", session_id="s")
    try:
        conversion = FORMATS[kind].begin(body, route, context)
        FORMATS[kind].count_tokens(body, route)
    except RequestError:
        return
    sent = json.loads(conversion.request.body.decode("utf-8"))
    assert isinstance(sent, dict)
    assert sent["model"] == "m"


def check_chat_request(data: bytes) -> None:
    """Messages to Chat Completions."""
    _check_request("openai-chat", data)


def check_responses_request(data: bytes) -> None:
    """Messages to the Responses API."""
    _check_request("openai-responses", data)


def _words(keys_and_values: str) -> tuple[str, ...]:
    """Words as JSON strings, and what else JSON and events are made of."""
    return (*(f'"{word}"' for word in keys_and_values.split()), *_SIGNS)


_SIGNS = ("data: ", "event: ", "\n\n", "[DONE]", "null", "true", "{}", "[]", "-1", "1e400", "\\ud800", ":", ",")
_CHAT_WORDS = _words(
    "choices delta index content tool_calls function name arguments id finish_reason stop length error message usage "
    "prompt_tokens completion_tokens prompt_tokens_details cached_tokens reasoning reasoning_content refusal code"
)
_RESPONSES_WORDS = _words(
    "type response.created response.output_item.added response.output_text.delta response.output_item.done item "
    "response.function_call_arguments.delta response.completed response.failed response.incomplete response delta "
    "output_index status error reasoning summary encrypted_content function_call call_id arguments name usage message "
    "input_tokens output_tokens incomplete_details content_index id response.reasoning_summary_text.delta"
)
_REQUEST_WORDS = _words(
    "model messages role user assistant system content type text image source base64 url media_type data tool_use "
    "tool_result tool_use_id input id name tools input_schema properties enum tool_choice any tool none thinking "
    "budget_tokens enabled adaptive signature redacted_thinking document max_tokens stop_sequences temperature "
    "output_config output_format json_schema cache_control is_error tool_reference server_tool_use effort stream "
    "web_search_20250305 defer_loading metadata"
)
_EVENTS = (b"data: 1\n\n", b"event: a\r\ndata: x\r\n\r\n: c\rdata\n\n", b"\xef\xbb\xbfdata:\n\n")

TARGETS: dict[str, Target] = {
    "sse": Target(check_sse, "", ("data", "event", ":", "\r\n", "\n\n", "\r\r", "\ufeff"), b"\x01\x02"),
    "chat-stream": Target(check_chat_stream, "openai-chat/*/answer.*", _CHAT_WORDS, b"\x01\x10"),
    "responses-stream": Target(check_responses_stream, "openai-responses/*/answer.*", _RESPONSES_WORDS, b"\x01\x10"),
    "chat-request": Target(check_chat_request, "openai-chat-requests/*/request.json", _REQUEST_WORDS),
    "responses-request": Target(check_responses_request, "openai-responses-requests/*/request.json", _REQUEST_WORDS),
}
