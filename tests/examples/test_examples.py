"""Every file of examples/ does what its first lines say, started as they say, on a real server."""

import json
import re
from pathlib import Path

import anthropic
import pytest

from tests.integration.claude import TARGET, body, headers, new_session, tagged
from tests.support.fake_upstream import FakeUpstream, Gate, anthropic_sse, json_answer
from tests.support.raw_http import RawClient, fetch
from tests.support.server import CHECKOUT, RunningServer, read_rows, running_server

EXAMPLES = CHECKOUT / "examples"


def ask(server: RunningServer, prefix: str, session: str, content: bytes | None = None) -> bytes:
    with RawClient(server.url) as client:
        answer = client.request("POST", prefix + TARGET, headers(session), content or body())
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.parametrize(
    ("name", "prefix"), [("mounted_in_starlette", "/llm"), ("mounted_in_fastapi", "/internal/claude")]
)
def test_the_whole_proxy_in_an_application(fake_upstream: FakeUpstream, tmp_path: Path, name: str, prefix: str) -> None:
    chat = {"apiKey": "k", "baseUrl": f"{fake_upstream.url}/v1/chat/completions", "models": ["gpt-oss-120b"]}
    config = {"providers": {"anthropic": {"baseUrl": fake_upstream.url}, "cerebras": chat}}
    first, second = new_session(), new_session()
    with running_server(config, tmp_path=tmp_path, target=f"examples.{name}:app") as server:
        assert fetch(f"{server.url}/healthz").status == 200
        assert fetch(f"{server.url}{prefix}/dashboard").status == 200
        assert b"message_stop" in ask(server, prefix, first)
        assert b"message_stop" in ask(server, prefix, second, tagged())
        rows = {row["session_id"]: row["provider"] for row in server.usage_rows(2)}
    assert rows == {first: "anthropic", second: "cerebras"}
    assert [request.path for request in fake_upstream.requests] == ["/v1/messages", "/v1/chat/completions"]


def test_a_stream_is_not_held_back_by_the_host(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    gate = Gate()
    answer = anthropic_sse()
    fake_upstream.script(answer.inserting(1, gate))
    config = {"providers": {"anthropic": {"baseUrl": fake_upstream.url}}}
    target = "examples.mounted_in_starlette:app"
    with (
        running_server(config, tmp_path=tmp_path, target=target) as server,
        RawClient(server.url) as client,
    ):
        client.send_request("POST", f"/llm{TARGET}", headers(new_session()), body())
        assert client.read_head().status == 200
        assert client.read_chunk() == answer.pieces[0]
        gate.open()
        assert b"message_stop" in client.read_until(b'"message_stop"}\n\n')


def test_two_stacks(fake_upstream: FakeUpstream, second_upstream: FakeUpstream, tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".claude-code-router"
    folder.mkdir(parents=True)
    for name, upstream in (("work", fake_upstream), ("private", second_upstream)):
        config = {
            "providers": {"anthropic": {"baseUrl": upstream.url}},
            "usage": {"database": str(folder / f"{name}.db")},
        }
        (folder / f"{name}.json").write_text(json.dumps(config))
    work, private = new_session(), new_session()
    environment = {"CCR_ASGI_DATABASE_URL": ""}
    with running_server({}, tmp_path=tmp_path, target="examples.two_stacks:app", env=environment) as server:
        ask(server, "/work", work)
        ask(server, "/private", private)
        server.terminate()
    assert [row["session_id"] for row in read_rows(folder / "work.db")] == [work]
    assert [row["session_id"] for row in read_rows(folder / "private.db")] == [private]
    assert len(fake_upstream.requests) == len(second_upstream.requests) == 1


def test_usage_capture_alone(tmp_path: Path) -> None:
    environment = {"USAGE_DB": str(tmp_path / "usage.db")}
    with running_server({}, tmp_path=tmp_path, target="examples.usage_capture_alone:app", env=environment) as server:
        with RawClient(server.url) as client:
            client.request("POST", "/v1/messages", [], b'{"model": "claude-haiku-4-5"}')
        server.terminate()
        (row,) = read_rows(server.database)
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("claude-haiku-4-5", 1000, 20)
    assert row["list_usd"] is not None
    assert row["status"] == 200


def test_any_anthropic_client(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    fake_upstream.on(lambda request: request.method == "GET", json_answer({}))  # the test's own question of health
    environment = {"OPENAI_BASE_URL": f"{fake_upstream.url}/v1", "OPENAI_API_KEY": "key of the endpoint"}
    with (
        running_server({}, tmp_path=tmp_path, target="examples.any_anthropic_client:app", env=environment) as server,
        anthropic.Anthropic(base_url=server.url, api_key="the client's own") as client,
        client.messages.stream(
            model="qwen3", max_tokens=99, messages=[{"role": "user", "content": "Hello!"}]
        ) as stream,
    ):
        assert stream.get_final_text()
    (request,) = (request for request in fake_upstream.requests if request.method == "POST")
    assert request.path == "/v1/chat/completions"
    assert json.loads(request.body)["model"] == "qwen3"
    assert request.header("authorization") == b"Bearer key of the endpoint"


def test_every_example_is_told_and_run_here() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.py")}
    assert files == set(re.findall(r"\]\((\w+)\.py\)", (EXAMPLES / "README.md").read_text()))
    here = Path(__file__).read_text()
    assert [name for name in files if f'"{name}"' not in here and f"examples.{name}:app" not in here] == []
