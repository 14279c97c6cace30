"""The worked example of docs/adding-a-format.md keeps the same promises as the formats that ship."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from ccr_asgi import FormatConversionMiddleware, UpstreamApp
from ccr_asgi.config import Kind, Provider
from ccr_asgi.errors import ProviderError, RequestError, UpstreamCut
from ccr_asgi.formats import FORMATS
from ccr_asgi.formats.base import ConversionContext, Format
from ccr_asgi.routing import Route
from ccr_asgi.transport import Http11Transport
from tests.formats.golden import Result, run
from tests.formats.toy_format import FORMAT, ToyConversion
from tests.support import asgi
from tests.support.anthropic_stream import check_stream, sdk_message
from tests.support.fake_upstream import Answer, FakeUpstream, sse_answer
from tests.support.server import CHECKOUT

TOY: Kind = "toy"  # type: ignore[assignment]  # of the kinds that ship, the example is none
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
CALL = {"calls": "Read", "id": "c1", "with": {"path": "/a"}}


def sse(*lines: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(line).encode() for line in lines)


ANSWER = sse({"says": "Hel"}, {"says": "lo"}, CALL, {"end": "done", "read": 12, "written": 3})


def conversion(**fields: Any) -> ToyConversion:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return FORMAT.begin(asked, Route(Provider("toys", TOY, ""), "bear-1", "tag"), ConversionContext("msg_1"))


def asked(**fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(conversion(**fields).request.body)
    return body


def answered(*chunks: bytes, streamed: bool = True) -> Result:
    return run(conversion(stream=streamed).stream("text/event-stream"), chunks, streamed=streamed)


def test_it_is_a_format() -> None:
    made: Format = FORMAT
    assert made.kind == "toy"
    assert (
        made.count_tokens({"messages": [{"role": "user", "content": "Hi"}]}, Route(Provider("t", TOY, ""), "m", "tag"))
        > 0
    )


def test_a_conversation_becomes_a_script() -> None:
    messages = [
        {"role": "user", "content": "Read /a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "/a"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "an a"}]},
    ]
    tools = [{"name": "Read", "input_schema": SCHEMA}]
    body = asked(messages=messages, tools=tools, max_tokens=9, system="Be kind.")
    assert body == {
        "model": "bear-1",
        "live": True,
        "script": [
            {"who": "user", "says": "Read /a"},
            {"who": "model", "calls": "Read", "id": "t1", "with": '{"path":"/a"}'},
            {"who": "tool", "answers": "t1", "says": "an a"},
        ],
        "rules": "Be kind.",
        "limit": 9,
        "tools": {"Read": body["tools"]["Read"]},
    }


def test_what_cannot_be_said_is_refused_by_its_path() -> None:
    with pytest.raises(RequestError, match="messages"):
        conversion(messages=[{"role": "user", "content": " "}])
    with pytest.raises(RequestError, match=r"messages\[0\].content"):
        conversion(messages=[{"role": "user", "content": 5}])


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_is_the_same_whole_and_streamed(streamed: bool) -> None:
    lines = [json.loads(line.removeprefix("data: ")) for line in ANSWER.decode().split("\n\n") if line]
    document = json.dumps({"lines": lines}).encode()
    for chunks in ([ANSWER], [ANSWER[place : place + 1] for place in range(len(ANSWER))], [document]):
        result = answered(*chunks, streamed=streamed)
        assert result.message is not None
        assert [block.get("text", block.get("input")) for block in result.message["content"]] == [
            "Hello",
            {"path": "/a"},
        ]
        assert result.message["stop_reason"] == "tool_use"
        assert result.message["usage"]["input_tokens"] == 12


def test_the_ends() -> None:
    limit = answered(sse({"says": "a"}, {"end": "limit"}))
    assert limit.message is not None
    assert limit.message["stop_reason"] == "max_tokens"
    assert limit.message["usage"]["input_tokens"] > 0  # our own estimate
    assert isinstance(answered(sse({"says": "a"})).error, UpstreamCut)
    refused = answered(sse({"error": "The bear sleeps."})).error
    assert isinstance(refused, ProviderError)
    assert "The bear sleeps." in refused.message
    assert "no such bear" in conversion().error(404, (), b'{"error": "no such bear"}').message
    assert conversion().retry(refused) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["says", "calls", "id", "with", "end", "error", "read"]),
            st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers())),
        ),
        max_size=6,
    ),
    st.integers(1, 40),
)
def test_any_lines_make_a_legal_stream(lines: list[dict[str, Any]], cut: int) -> None:
    stream = sse(*lines)
    answered(*(stream[place : place + cut] for place in range(0, len(stream), cut)))


@pytest.fixture
async def transport(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Http11Transport]:
    monkeypatch.setitem(FORMATS, "toy", FORMAT)  # the line of the page's last section
    made = Http11Transport()
    yield made
    await made.aclose()


async def test_the_middleware_takes_it(fake_upstream: FakeUpstream, transport: Http11Transport) -> None:
    fake_upstream.script(Answer([ANSWER], headers=sse_answer([]).headers))
    app: ASGIApp = UpstreamApp(base_url=f"{fake_upstream.url}/toy/v1", transport=transport)
    app = FormatConversionMiddleware(app, kind=TOY)
    body = {"model": "bear-1", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    response = await asgi.request(app, "POST", "/v1/messages", body=json.dumps(body).encode())
    check_stream(response.body)
    message = sdk_message(response.body)
    assert message is not None
    assert message["content"][0]["text"] == "Hello"
    (request,) = fake_upstream.requests
    assert (request.path, request.json()["script"]) == ("/toy/v1", [{"who": "user", "says": "Hi"}])


# The page


def blocks(page: str) -> Iterator[str]:
    fence = "```python\n"
    for part in page.split(fence)[1:]:
        yield part.partition("```")[0]


def test_the_page_shows_the_whole_example() -> None:
    page = (CHECKOUT / "docs" / "adding-a-format.md").read_text()
    example = Path(__file__).with_name("toy_format.py").read_text()
    shown = [block for block in blocks(page) if not block.startswith("FORMATS")]
    for block in shown:
        assert block in example, block
    left = example
    for block in shown:
        left = left.replace(block, "")
    assert [line for line in left.splitlines() if line.strip()] == [example.splitlines()[0]]
