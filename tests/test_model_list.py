"""GET /v1/models: ours behind Anthropic's, alone without a credential, and never in an answer of any other kind."""

import gzip
import json
from typing import Any

import pytest

from ccr_asgi.config import Provider
from ccr_asgi.model_list import ModelList
from ccr_asgi.routing import Route, RoutingTable
from tests.middleware.apps import Answer, Below, answering, passes_other_scopes_on
from tests.support import asgi

ANTHROPIC = Provider("anthropic", "anthropic", "http://a", passthrough=True, models=("claude-x",))
CEREBRAS = Provider("cerebras", "openai-chat", "http://c", api_key="k", models=("gpt-oss-120b", "zai-glm-4.7"))
OURS = ["claude/cerebras,gpt-oss-120b", "claude/cerebras,zai-glm-4.7"]
THEIRS = {
    "data": [{"type": "model", "id": "claude-y"}],
    "has_more": False,
    "first_id": "claude-y",
    "last_id": "claude-y",
}
LOGIN = [("authorization", "Bearer invented"), ("accept-encoding", "gzip")]


async def asked(
    *answers: Answer, headers: Any = LOGIN, path: str = "/v1/models", method: str = "GET"
) -> tuple[asgi.Response, Below]:
    below = Below(*answers)
    app = ModelList(below, providers=[ANTHROPIC, CEREBRAS])
    return await asgi.request(app, method, path, headers=headers), below


async def test_ours_stand_behind_anthropic_s() -> None:
    data = json.dumps(THEIRS).encode()
    response, below = await asked(
        answering(data[:20], data[20:], headers=[(b"request-id", b"r"), (b"content-length", b"9")])
    )
    page = json.loads(response.body)
    assert [model["id"] for model in page["data"]] == ["claude-y", *OURS]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "claude-y", OURS[-1])
    assert {model["type"] for model in page["data"]} == {"model"}
    assert dict(response.headers)[b"request-id"] == b"r"
    assert dict(response.headers)[b"content-length"] == b"%d" % len(response.body)
    assert (below.header(b"accept-encoding"), below.header(b"authorization")) == (b"gzip", b"Bearer invented")


async def test_a_compressed_list_is_read_too() -> None:
    packed = gzip.compress(json.dumps(THEIRS).encode())
    response, _ = await asked(answering(packed, headers=[(b"content-encoding", b"gzip")]))
    assert [model["id"] for model in json.loads(response.body)["data"]] == ["claude-y", *OURS]
    assert b"content-encoding" not in dict(response.headers)


async def test_without_a_credential_ours_are_told_alone() -> None:
    response, below = await asked(headers=[])
    assert [model["id"] for model in json.loads(response.body)["data"]] == OURS
    assert below.scopes == []


@pytest.mark.parametrize(
    "answer",
    [
        answering(b"{"),
        answering(b"[]"),
        answering(b"{}"),
        answering(json.dumps({**THEIRS, "has_more": True}).encode()),
        answering(b'{"data": []}', status=401),
        answering(b'{"data": []}', b" " * 2_000_000),
        answering(b"not gzip", headers=[(b"content-encoding", b"gzip")]),
        answering(gzip.compress(b'{"data": []}' + b" " * 2_000_000), headers=[(b"content-encoding", b"gzip")]),
    ],
)
async def test_what_is_no_last_page_of_a_list_passes_as_it_is(answer: Answer) -> None:
    plain = await asgi.request(Below(answer), "GET", "/v1/models")
    response, _ = await asked(answer)
    assert (response.status, response.headers, response.body) == (plain.status, plain.headers, plain.body)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models/claude-y"), ("POST", "/v1/models"), ("GET", "/v1/files")]
)
async def test_other_requests_are_not_touched(method: str, path: str) -> None:
    response, below = await asked(answering(json.dumps(THEIRS).encode()), method=method, path=path)
    assert json.loads(response.body) == THEIRS
    assert below.header(b"accept-encoding") == b"gzip"


async def test_without_models_of_ours_nothing_is_touched() -> None:
    below = Below(answering(json.dumps(THEIRS).encode()))
    response = await asgi.request(ModelList(below, providers=[ANTHROPIC]), "GET", "/v1/models")
    assert json.loads(response.body) == THEIRS


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(ModelList, providers=[])


def test_what_is_listed_routes() -> None:
    table = RoutingTable({"anthropic": ANTHROPIC, "cerebras": CEREBRAS})
    assert table.resolve(OURS[0]) == Route(CEREBRAS, "gpt-oss-120b", "model-pair")
