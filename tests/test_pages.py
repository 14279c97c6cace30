"""Our own paths are ours, the providers' are theirs, and whatever else is asked is a 404 in Anthropic's form."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ccr_asgi.config import parse_config
from ccr_asgi.errors import RequestTooLarge
from ccr_asgi.pages import Pages, is_forwarded
from ccr_asgi.usage.errors import StoreError, StoreUnavailable
from ccr_asgi.usage.store import UsageStore
from tests.support import asgi

Store = Callable[[], Awaitable[UsageStore]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An open usage store."""
    usage = UsageStore(tmp_path / "usage.db")
    await usage.start()

    async def opened() -> UsageStore:
        return usage

    yield opened
    await usage.stop()


def failing(error: Exception) -> Store:
    async def opened() -> UsageStore:
        raise error

    return opened


NO_STORE = failing(StoreError("usage.db is damaged"))


async def _stack(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("the stack")(scope, receive, send)


def pages(store: Store) -> Pages:
    return Pages(_stack, store=store, config=parse_config({"usage": {"database": "/nowhere/usage.db"}}))


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        *(("/v1/messages", True), ("/v1/", True), ("/v1/messages/count_tokens", True), ("/api/hello", True)),
        *(("/api/oauth/profile", True), ("/api/usages", True), ("/v1/models/..a", True), ("/v1//messages", True)),
        *(("/", False), ("/v1", False), ("/api", False), ("/api/usage", False), ("/api/usage/x", False)),
        *(("/api/quota", False), ("/api/quotas", True)),
        *(("/dashboard", False), ("/V1/messages", False), ("//v1/messages", False), ("/x/v1/messages", False)),
        *(("/v1/../dashboard", False), ("/v1/%2e%2e/admin", False), ("/v1/./messages", False), ("/v1/a/..", False)),
        *(("/v1%2fmessages", False), ("http://evil.example/v1/messages", False), ("*", False), ("", False)),
    ],
)
def test_a_providers_path_is_told_from_ours(path: str, forwarded: bool) -> None:
    assert is_forwarded(path.encode()) is forwarded


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
async def test_a_providers_path_goes_to_the_stack_with_any_method(method: str) -> None:
    assert (await asgi.request(pages(NO_STORE), method, "/v1/anything")).header("content-length") == b"9"


async def test_what_is_no_request_goes_to_the_stack() -> None:
    seen: list[Scope] = []

    async def stack(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def never(*_: object) -> None:
        raise AssertionError

    scope = {"type": "websocket", "path": "/"}
    await Pages(stack, store=NO_STORE, config=parse_config({}))(scope, never, never)  # type: ignore[arg-type]  # not called
    assert seen == [scope]


async def test_claude_code_is_told_that_we_are_here() -> None:
    response = await asgi.request(pages(NO_STORE), "HEAD", "/")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize(("root_path", "target"), [("", b"/dashboard"), ("/llm", b"/llm/dashboard")])
async def test_a_person_is_led_to_the_dashboard(root_path: str, target: bytes) -> None:
    response = await asgi.request(pages(NO_STORE), "GET", f"{root_path}/", root_path=root_path)
    assert (response.status, response.header("location")) == (307, target)


async def test_health_asks_no_database() -> None:
    app = pages(NO_STORE)
    response = await asgi.request(app, path="/healthz")
    assert (response.status, response.body) == (200, b"ok\n")


async def test_readiness_asks_the_database(store: Store) -> None:
    response = await asgi.request(pages(store), path="/readyz")
    assert (response.status, response.body) == (200, b"ok\n")


@pytest.mark.parametrize("error", [StoreError("usage.db is damaged"), StoreUnavailable("usage.db is damaged")])
async def test_a_database_that_is_not_there_is_a_503(error: Exception) -> None:
    response = await asgi.request(pages(failing(error)), path="/readyz")
    assert response.status == 503
    assert json.loads(response.body)["error"] == {"type": "api_error", "message": "usage.db is damaged"}


async def test_an_error_of_ours_keeps_its_status() -> None:
    response = await asgi.request(pages(failing(RequestTooLarge("too large"))), path="/readyz")
    assert (response.status, json.loads(response.body)["error"]["type"]) == (413, "request_too_large")


async def test_a_defect_of_ours_is_told_without_our_internals() -> None:
    call = asgi.start(pages(failing(ZeroDivisionError("internals"))), path="/readyz")
    with pytest.raises(ZeroDivisionError):  # for the server's log
        await call.end()
    assert call.response.status == 500
    assert b"internals" not in call.response.body
    assert json.loads(call.response.body)["error"]["type"] == "api_error"


@pytest.mark.parametrize("path", ["/dashboard", "/api/usage", "/api/quota"])
async def test_usage_is_shown(store: Store, path: str) -> None:
    app = pages(store)
    assert [(await asgi.request(app, path=path)).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/../dashboard", "/v1/%2e%2e/x", "/api/usage/x", "//v1/messages"]
)
@pytest.mark.parametrize("query", [b"", b"a=b", b"\xff"])
async def test_whatever_else_is_asked_is_a_404(path: str, query: bytes) -> None:
    response = await asgi.request(pages(NO_STORE), "POST", path, query=query)
    document = json.loads(response.body)
    assert (response.status, document["error"]["type"]) == (404, "not_found_error")
    assert response.header("content-type") == b"application/json"
    assert response.header("request-id") == document["request_id"].encode()


async def test_a_path_cannot_make_a_page_of_its_404() -> None:
    response = await asgi.request(pages(NO_STORE), path="/<script>")
    assert response.status == 404
    assert b"<" not in response.body


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/"), ("DELETE", "/healthz"), ("PUT", "/readyz"), ("POST", "/dashboard"), ("OPTIONS", "/api/usage")],
)
async def test_another_method_is_a_405_that_names_the_right_ones(method: str, path: str) -> None:
    response = await asgi.request(pages(NO_STORE), method, path)
    error = json.loads(response.body)["error"]
    assert (response.status, error["type"]) == (405, "invalid_request_error")
    allowed = response.header("allow")
    assert allowed is not None
    assert {name.strip() for name in allowed.split(b",")} == {b"GET", b"HEAD"}
    assert method in error["message"]


async def test_mounted_under_a_prefix_all_of_it_works(store: Store) -> None:
    app = pages(store)
    for path, status in (("/llm/healthz", 200), ("/llm/v1/x", 200), ("/llm/x", 404), ("/llm/api/usage", 200)):
        assert (await asgi.request(app, path=path, root_path="/llm")).status == status
