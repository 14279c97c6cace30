"""Routing alone: the exchange gets its route, or the client a 400 that names the choices."""

import json

import pytest

from ccr_asgi.config import Provider, RuleEntry
from ccr_asgi.exchange import SCOPE_KEY, Exchange
from ccr_asgi.middleware.routing import RoutingMiddleware
from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware
from ccr_asgi.routing import Route, RoutingTable, Tag
from tests.middleware.apps import Below, alone, passes_other_scopes_on
from tests.support import asgi

ANTHROPIC = Provider("anthropic", "anthropic", "https://api.anthropic.com", passthrough=True)
CEREBRAS = Provider("cerebras", "openai-chat", "http://c", api_key="k", models=("gpt-oss-120b",))
TABLE = RoutingTable({"anthropic": ANTHROPIC, "cerebras": CEREBRAS})


async def test_alone_it_routes_to_the_default_and_the_request_goes_on_as_it_is() -> None:
    below = Below()
    response = await asgi.request(alone(RoutingMiddleware, below, table=TABLE), "POST", body=[b"a", b"b"])
    assert response.status == 200
    assert below.bodies == [b"ab"]
    assert (below.exchange.route, below.exchange.attempts) == (Route(ANTHROPIC, None, "default"), 1)


@pytest.mark.parametrize(
    ("model", "tag", "route"),
    [
        ("claude-x", None, Route(ANTHROPIC, None, "default")),
        ("gpt-oss-120b", None, Route(CEREBRAS, "gpt-oss-120b", "model-name")),
        ("claude-x", Tag(0, 0, "cerebras,m"), Route(CEREBRAS, "m", "tag")),
    ],
)
async def test_it_routes_by_what_the_layers_above_have_read(model: str, tag: Tag | None, route: Route) -> None:
    below = Below()
    exchange = Exchange(requested_model=model, tag=tag)
    call = asgi.start(below)  # for its scope
    await call.end()
    await RoutingMiddleware(below, table=TABLE)(
        {**call.scope, SCOPE_KEY: exchange}, exchange.replay(b""), Discarding().send
    )
    assert exchange.route == route
    assert below.exchange is exchange


class Discarding:
    async def send(self, message: object) -> None:
        pass


async def test_what_leads_nowhere_is_a_400_and_nobody_is_asked() -> None:
    below = Below()
    table = RoutingTable({"anthropic": Provider("anthropic", "anthropic", "http://a"), "cerebras": CEREBRAS})
    response = await asgi.request(alone(RoutingMiddleware, below, table=table), "POST")
    error = json.loads(response.body)["error"]
    assert (response.status, error["type"], below.scopes) == (400, "invalid_request_error", [])
    assert "cerebras (gpt-oss-120b)" in error["message"]


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(RoutingMiddleware, table=TABLE)


async def test_rules_are_asked_with_the_request_s_own_facts_and_the_body_goes_on() -> None:
    rules = (RuleEntry(route="cerebras,m", agent_id="a*", tool="Bash"),)
    table = RoutingTable(TABLE.providers, rules=rules)
    body = b'{"model": "claude-x", "tools": [{"name": "Bash"}]}'
    for headers, reason in (([("x-claude-code-agent-id", "a1")], "rule"), ([], "default")):
        below = Below()
        app = alone(TagExtractionMiddleware, alone(RoutingMiddleware, below, table=table))
        await asgi.request(app, "POST", "/v1/messages", headers=headers, body=body)
        assert below.exchange.route is not None
        assert (below.exchange.route.reason, below.bodies) == (reason, [body])
