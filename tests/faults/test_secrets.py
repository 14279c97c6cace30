"""Secrets planted wherever one can stand, and looked for wherever one could come out."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.measures import processes
from tests.integration.claude import body, soon, tag
from tests.support.codex_login import PATH, TokenEndpoint, access_token, refresh_token, write_login
from tests.support.fake_upstream import (
    Answer,
    FakeUpstream,
    Fault,
    RecordedRequest,
    anthropic_sse,
    chat_error,
    chat_sse,
    json_answer,
    sse_answer,
)
from tests.support.raw_http import RawClient, fetch
from tests.support.server import RunningServer, read_rows, running_server

CHAT_KEY = "planted-chat-key-0123456789"
THIRD_KEY = "planted-third-key-0123456789"
PROXY_KEY = "planted-proxy-key-0123456789"
HEADER_SECRET = "planted-configured-header-0123456789"
FROM_ENVIRONMENT = "planted-environment-key-0123456789"

CLIENT_HEADERS = {
    "Authorization": "Bearer planted-client-bearer-0123456789",
    "x-api-key": "planted-client-key-0123456789",
    "Cookie": "session=planted-client-cookie-0123456789",
    "Proxy-Authorization": "Basic planted-client-proxy-0123456789",
    "X-My-Secret": "planted-client-custom-0123456789",
    "x-ccr-key": PROXY_KEY,
}
CLIENT_SECRETS = [value.rpartition(" ")[2].rpartition("=")[2] for value in CLIENT_HEADERS.values()]
IN_METADATA = "planted-client-device-0123456789"
IN_PROMPT = "planted-client-prompt-0123456789"
IN_ANSWER = "planted-answer-0123456789"

OPEN_AI_BASE = "/v1/chat/completions"


@dataclass
class Haul:
    """Everything that came out of one server's life.

    Attributes:
        requests: What each provider was sent, by its name.
        answers: What clients were sent.
    """

    requests: dict[str, bytes] = field(default_factory=dict)
    answers: bytes = b""
    pages: bytes = b""
    rows: str = ""
    log: str = ""
    command_lines: bytes = b""
    database: bytes = b""


@contextmanager
def secretive_server(tmp_path: Path, name: str, upstreams: Mapping[str, FakeUpstream]) -> Iterator[RunningServer]:
    """A server whose configuration holds a secret of every kind."""
    login = tmp_path / "codex" / "auth.json"
    login.parent.mkdir()
    write_login(login)
    config = {
        "providers": {
            "anthropic": {"baseUrl": upstreams["anthropic"].url},
            "cerebras": {
                "baseUrl": upstreams["cerebras"].url + OPEN_AI_BASE,
                "apiKey": CHAT_KEY,
                "headers": {"X-Team": HEADER_SECRET},
                "models": ["gpt-oss-120b"],
            },
            "moonshot": {
                "type": "anthropic",
                "baseUrl": upstreams["moonshot"].url,
                "apiKey": THIRD_KEY,
                "models": ["kimi-k2"],
            },
            "other": {
                "type": "openai-chat",
                "baseUrl": upstreams["other"].url + OPEN_AI_BASE,
                "apiKey": "${PLANTED_KEY}",
                "models": ["m"],
            },
            "codex": {
                "type": "openai-responses",
                "baseUrl": upstreams["codex"].url + "/backend-api/codex/responses",
                "authFile": str(login),
                "tokenUrl": upstreams["codex"].url + PATH,
                "models": ["gpt-5.5"],
            },
        },
        "proxyKeys": {"me": PROXY_KEY},
    }
    env = {"PLANTED_KEY": FROM_ENVIRONMENT}
    with running_server(config, tmp_path=tmp_path, env=env, **SERVERS[name]) as server:
        yield server


def echo(request: RecordedRequest) -> str:
    """All that a provider was sent, as it might throw it back."""
    return " ".join(value.decode("latin-1") for _, value in request.headers)


def echoing_chat(status: int) -> Callable[[RecordedRequest], Answer]:
    def answer(request: RecordedRequest) -> Answer:
        key = (request.header("authorization") or b"").split()[-1:]  # as an id, which is noted in the row
        echoes = [("X-Echo", echo(request)), *(("X-Request-Id", word.decode()) for word in key)]
        return chat_error(status, f"refused: {echo(request)}", headers=echoes)

    return answer


def echoing_stream(request: RecordedRequest) -> Answer:
    broken = b"data: " + json.dumps({"error": {"message": f"broke: {echo(request)}", "code": 500}}).encode() + b"\n\n"
    said = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    return sse_answer([said, broken], [("X-Echo", echo(request))])


def echoing_page(request: RecordedRequest) -> Answer:
    return Answer(f"<html>{echo(request)}</html>".encode(), 502, [("content-type", "text/html")])


def echoing_junk(request: RecordedRequest) -> Answer:
    return Answer.raw(b"HTTP/1.1 200 " + echo(request).encode() + b"\r\nBroken " + echo(request).encode(), Fault.CLOSE)


ECHOES: list[Callable[[RecordedRequest], Answer]] = [
    *(echoing_chat(status) for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)),
    echoing_stream,
    echoing_page,
    echoing_junk,
    echoing_junk,
    echoing_junk,
]


def content_for(provider: str, model: str, *, stream: bool) -> bytes:
    return body(
        IN_PROMPT,
        stream=stream,
        system=f"{tag(f'{provider},{model}')}\nGo.",
        metadata={"user_id": json.dumps({"device_id": IN_METADATA, "account_uuid": IN_METADATA})},
    )


def live(server: RunningServer, upstreams: Mapping[str, FakeUpstream]) -> Haul:
    """A life full of failures; what came out of it."""
    TokenEndpoint(upstreams["codex"])
    haul = Haul()
    targets = {"cerebras": "gpt-oss-120b", "moonshot": "kimi-k2", "other": "m", "codex": "gpt-5.5"}
    answers: list[bytes] = []

    def send(content: bytes, target: str = "/v1/messages?beta=true") -> None:
        with RawClient(server.url) as client:
            client.send_request("POST", target, list(CLIENT_HEADERS.items()), content)
            try:
                response = client.read_response("POST")
            except (EOFError, ConnectionError) as cut:
                answers.append(str(cut).encode())
            else:
                answers.append(response.head.raw + response.body)

    sent = 0
    for provider, model in targets.items():
        for stream in (True, False):
            for reply in ECHOES:
                upstreams[provider].script(reply, where=lambda request: not request.path.endswith(PATH))
                send(content_for(provider, model, stream=stream))
                upstreams[provider]._scripted.clear()
                sent += 1
            upstreams[provider].script(chat_sse(IN_ANSWER) if provider != "moonshot" else anthropic_sse(IN_ANSWER))
            send(content_for(provider, model, stream=stream))
            upstreams[provider]._scripted.clear()
            sent += 1
    upstreams["anthropic"].script(json_answer({"type": "error"}, 500), Answer.raw(b"junk\r\n\r\n"))
    for content in (body(IN_PROMPT), body(IN_PROMPT), body(IN_PROMPT, model="nobody,x"), b"{" + IN_PROMPT.encode()):
        send(content)
        sent += 1
    assert soon(lambda: len(read_rows(server.database)) >= sent)
    haul.pages = b"".join(
        fetch(server.url + target, headers=list(CLIENT_HEADERS.items())).body
        for target in ("/", "/healthz", "/readyz", "/dashboard", "/api/usage?range=all", "/api/usage?format=csv", "/x")
    )
    haul.answers = b"".join(answers)
    haul.requests = {
        name: b"".join(bytes(request.raw) for request in upstream.arriving) for name, upstream in upstreams.items()
    }
    tables = [row["name"] for row in read_rows(server.database, "select name from sqlite_master where type = 'table'")]
    haul.rows = str([read_rows(server.database, f'select * from "{table}"') for table in tables])  # noqa: S608 -- names from the schema
    haul.command_lines = b"".join(Path(f"/proc/{process_id}/cmdline").read_bytes() for process_id in processes(server))
    return haul


def variants(secret: str) -> list[bytes]:
    """A secret in the spellings that a careless hand would give it."""
    return [secret.encode(), quote(secret).encode(), json.dumps(secret).strip('"').encode()]


def found_in(text: bytes | str, secrets: list[str]) -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    return [secret for secret in secrets if any(spelling in content for spelling in variants(secret))]


@pytest.mark.fault("planted secrets")
@pytest.mark.parametrize("name", SERVERS)
def test_no_secret_comes_out(tmp_path: Path, name: str, seen: Callable[[str], None]) -> None:
    own = [CHAT_KEY, THIRD_KEY, PROXY_KEY, HEADER_SECRET, FROM_ENVIRONMENT, access_token(1), access_token(2)]
    own += [refresh_token(1) + "\n", refresh_token(2) + "\n", f'"{refresh_token(1)}"', f'"{refresh_token(2)}"']
    words = [IN_METADATA, IN_PROMPT, IN_ANSWER]
    names = ("anthropic", "cerebras", "moonshot", "other", "codex")
    upstreams = {upstream: FakeUpstream() for upstream in names}
    for upstream in upstreams.values():
        upstream.__enter__()
    try:
        with secretive_server(tmp_path, name, upstreams) as server:
            haul = live(server, upstreams)
            server.terminate()
            log = server.log()
            files = {path.name: path.read_bytes() for path in tmp_path.glob("usage.db*") if path.is_file()}
    finally:
        for upstream in upstreams.values():
            upstream.__exit__(None, None, None)
    everything = own + CLIENT_SECRETS + words
    assert found_in(log, everything) == []
    assert found_in(haul.rows, everything) == []
    for file_name, content in files.items():
        assert found_in(content, everything) == [], file_name
    assert found_in(haul.pages, everything) == []
    assert found_in(haul.command_lines, everything) == []
    assert found_in(haul.answers, own + CLIENT_SECRETS) == []
    for provider, sent in haul.requests.items():
        allowed = {
            "anthropic": [],
            "cerebras": [CHAT_KEY, HEADER_SECRET],
            "moonshot": [THIRD_KEY],
            "other": [FROM_ENVIRONMENT],
            "codex": own[5:],
        }[provider]
        assert found_in(sent, [secret for secret in own if secret not in allowed]) == [], provider
        if provider != "anthropic":
            assert found_in(sent, [*CLIENT_SECRETS, IN_METADATA]) == [], provider
    assert os.stat(server.database).st_mode & 0o077 == 0
    seen(
        f"{len(everything)} secrets in {len(haul.answers) + len(log) + len(haul.rows) + len(haul.pages):,} bytes: none"
    )
