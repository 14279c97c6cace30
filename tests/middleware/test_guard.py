"""The guard alone in a Starlette application: who is let in, what is refused, and that no key goes on."""

import base64
import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from ccr_asgi.asgi import read_body
from ccr_asgi.errors import RequestTooLarge
from ccr_asgi.exchange import PROXY_KEY
from ccr_asgi.middleware.guard import GuardMiddleware
from tests.middleware.apps import Below, alone, answering, passes_other_scopes_on
from tests.support import asgi

KEYS = {"alice": "key-of-alice", "bob": "key-of-böb"}
AWAY = ("192.0.2.7", 50_000)


def basic(password: str, user: str = "x") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def status_of(
    *headers: tuple[str, str],
    method: str = "GET",
    path: str = "/v1/models",
    client: tuple[str, int] | None = ("127.0.0.1", 50_000),
    body: bytes | list[bytes] = b"",
    **options: Any,
) -> int:
    """The status of a request to a guarded application; a refusal must be Anthropic's JSON and reach nobody."""
    below = Below()
    app = alone(GuardMiddleware, below, **options)
    response = await asgi.request(app, method, path, headers=headers, client=client, body=body)
    if response.status == 200:
        assert len(below.scopes) == 1
    else:
        assert below.bodies == []
        document = json.loads(response.body)
        assert document["type"] == "error"
        assert document["request_id"].encode() == response.header("request-id")
        assert response.header("x-content-type-options") == b"nosniff"
    return response.status


# hosts


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:3456",
        "127.0.0.1",
        "127.0.0.1:3456",
        "[::1]",
        "[::1]:3456",
        "ccr.example",
        "CCR.example:80",
    ],
)
async def test_known_hosts_are_let_in(host: str) -> None:
    assert await status_of(("host", host), allowed_hosts=["Ccr.Example"]) == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "localhost.evil.example",
            "evil.example:3456",
            "127.0.0.1.nip.io",
            "[::2]",
            "::1",
            "",
            ":3456",
        ),
        *("localhost@evil.example", "localhost,evil.example", "xlocalhost", "[::1", "[::1]evil.example"),
    ],
)
async def test_other_hosts_are_refused(host: str) -> None:
    assert await status_of(("host", host)) == 403


async def test_the_refusal_of_a_host_says_how_to_allow_it() -> None:
    response = await asgi.request(alone(GuardMiddleware, Below()), headers=[("host", "ccr.example")])
    error = json.loads(response.body)["error"]
    assert error["type"] == "permission_error"
    for words in ("'ccr.example'", "127.0.0.1, [::1], localhost", "allowedHosts", "allowed_hosts="):
        assert words in error["message"]


async def test_a_star_hands_the_check_to_the_host_app() -> None:
    assert await status_of(("host", "anything.example"), allowed_hosts=["*"]) == 200


async def test_a_request_without_a_host_is_refused() -> None:
    app = alone(GuardMiddleware, Below())
    call = asgi.start(app)
    call.scope["headers"].clear()
    assert (await call.end()).status == 403


# origins


@pytest.mark.parametrize("origin", ["http://127.0.0.1:3456", "https://127.0.0.1:3456", "HTTP://127.0.0.1:3456"])
async def test_our_own_pages_may_ask(origin: str) -> None:
    assert await status_of(("origin", origin), ("sec-fetch-site", "same-origin")) == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://127.0.0.1:3457", "http://127.0.0.1", "null", "", "http://[::1", "127.0.0.1:3456"],
)
@pytest.mark.parametrize("allowed", [[], ["*"]])
async def test_pages_of_another_origin_may_not(origin: str, allowed: list[str]) -> None:
    assert await status_of(("origin", origin), allowed_hosts=allowed) == 403


@pytest.mark.parametrize("name", ["origin", "sec-fetch-site"])
async def test_no_field_hides_behind_another(name: str) -> None:
    good, bad = {
        "origin": ("http://127.0.0.1:3456", "http://evil.example"),
        "sec-fetch-site": ("same-origin", "cross-site"),
    }[name]
    assert await status_of((name, good), (name, good)) == 200
    assert await status_of((name, good), (name, bad)) == 403
    assert await status_of((name, bad), (name, good)) == 403


async def test_the_null_origin_is_no_absent_host() -> None:
    call = asgi.start(alone(GuardMiddleware, Below(), allowed_hosts=["*"]), headers=[("origin", "null")])
    call.scope["headers"][:] = [pair for pair in call.scope["headers"] if pair[0] != b"host"]
    assert (await call.end()).status == 403


VISIT = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))


@pytest.mark.parametrize(
    ("site", "more", "request_line", "status"),
    [
        ("cross-site", (), ("GET", "/v1/models"), 403),
        ("cross-site", VISIT, ("GET", "/dashboard"), 403),
        ("same-site", (), ("GET", "/v1/models"), 403),
        ("same-site", (), ("GET", "/dashboard"), 403),
        ("same-site", VISIT[:1], ("GET", "/dashboard"), 403),
        ("same-site", VISIT[1:], ("GET", "/dashboard"), 403),
        ("same-site", VISIT, ("POST", "/dashboard"), 403),
        ("same-site", VISIT, ("GET", "/v1/models"), 403),
        ("same-site", VISIT, ("GET", "/dashboard"), 200),
        ("same-site", VISIT, ("GET", "/dashboard/requests"), 200),
        ("same-origin", (), ("GET", "/dashboard"), 200),
        ("none", VISIT, ("GET", "/dashboard"), 200),
    ],
)
async def test_other_sites_may_only_lead_a_person_to_our_pages(
    site: str, more: tuple[tuple[str, str], ...], request_line: tuple[str, str], status: int
) -> None:
    method, path = request_line
    assert await status_of(("sec-fetch-site", site), *more, method=method, path=path) == status


async def test_no_answer_allows_another_origin_to_read_it() -> None:
    for headers in ([], [("origin", "http://evil.example")]):
        response = await asgi.request(alone(GuardMiddleware, Below()), "OPTIONS", headers=headers)
        assert not [name for name, _ in response.headers if name.startswith(b"access-control")]


# peers


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", ""])
async def test_this_machine_needs_no_key(peer: str) -> None:
    assert await status_of(client=(peer, 1)) == 200


async def test_a_unix_socket_is_this_machine() -> None:
    assert await status_of(client=None) == 200


@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.1", "0.0.0.0", "::ffff:192.0.2.7", "2001:db8::1", "testclient"])  # noqa: S104 -- nothing is bound
async def test_other_machines_need_a_key(peer: str) -> None:
    assert await status_of(client=(peer, 1)) == 403
    assert await status_of(client=(peer, 1), proxy_keys=KEYS) == 403
    assert await status_of(("x-ccr-key", "key-of-alice"), client=(peer, 1), proxy_keys=KEYS) == 200


async def test_a_key_is_text_of_any_alphabet() -> None:
    assert await status_of(("x-ccr-key", "key-of-böb".encode().decode("latin-1")), client=AWAY, proxy_keys=KEYS) == 200


@pytest.mark.parametrize("key", ["", "key-of-alic", "key-of-alice ", "KEY-OF-ALICE", "alice"])
async def test_a_wrong_key_lets_nobody_in(key: str) -> None:
    assert await status_of(("x-ccr-key", key), client=AWAY, proxy_keys=KEYS) == 403
    assert await status_of(("x-ccr-key", key), client=AWAY) == 403


HERE = ("127.0.0.1", 1)


async def test_where_a_key_is_required_this_machine_needs_one_too() -> None:
    key = ("x-ccr-key", "key-of-alice")
    assert await status_of(client=HERE, proxy_keys=KEYS, require_key=True) == 403
    assert await status_of(key, client=HERE, proxy_keys=KEYS, require_key=True) == 200
    assert await status_of(path="/healthz", client=HERE, proxy_keys=KEYS, require_key=True) == 200
    assert await status_of(path="/healthz", client=AWAY, proxy_keys=KEYS, require_key=True) == 403
    response = await asgi.request(alone(GuardMiddleware, Below(), proxy_keys=KEYS, require_key=True), client=HERE)
    assert "Nobody gets in without a key. Send a proxy key in x-ccr-key." in response.body.decode()


async def test_the_refusal_of_a_peer_says_what_to_do() -> None:
    for keys, words in (({}, "Configure proxyKeys"), (KEYS, "x-ccr-key")):
        response = await asgi.request(alone(GuardMiddleware, Below(), proxy_keys=keys), client=AWAY)
        assert words in json.loads(response.body)["error"]["message"]
        assert b"key-of-alice" not in response.body


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/requests", "/api/usage", "/api/quota"])
async def test_on_our_pages_a_key_is_a_password(path: str) -> None:
    for user in ("x", ""):
        header = ("authorization", basic("key-of-alice", user))
        assert await status_of(header, path=path, client=AWAY, proxy_keys=KEYS) == 200


@pytest.mark.parametrize("path", ["/api/usages", "/dashboards", "/v1/messages"])
async def test_elsewhere_a_password_is_no_key_and_goes_nowhere(path: str) -> None:
    header = ("authorization", basic("key-of-alice"))
    assert await status_of(header, path=path, client=AWAY, proxy_keys=KEYS) == 403


async def test_a_person_is_asked_for_the_password() -> None:
    app = alone(GuardMiddleware, Below(), proxy_keys=KEYS)
    for headers in ([], [("authorization", basic("wrong"))], [("authorization", "Bearer key-of-alice")]):
        response = await asgi.request(app, path="/dashboard", headers=headers, client=AWAY)
        assert (response.status, response.header("www-authenticate")) == (401, b'Basic realm="ccr-asgi"')


async def test_where_no_key_is_configured_nobody_is_asked() -> None:
    response = await asgi.request(alone(GuardMiddleware, Below()), path="/dashboard", client=AWAY)
    assert (response.status, response.header("www-authenticate")) == (403, None)


@pytest.mark.parametrize("authorization", ["Basic", "Basic !", "Basic a", "Basic \xff", "basic eA==", ""])
async def test_a_broken_password_is_a_wrong_one(authorization: str) -> None:
    status = await status_of(("authorization", authorization), path="/dashboard", client=AWAY, proxy_keys=KEYS)
    assert status == 401


async def test_a_password_is_no_key_for_the_providers_paths() -> None:
    header = ("authorization", basic("key-of-alice"))
    assert await status_of(header, path="/v1/messages", client=AWAY, proxy_keys=KEYS) == 403


@pytest.mark.parametrize("client", [AWAY, ("127.0.0.1", 1)])
async def test_the_key_never_goes_on(client: tuple[str, int]) -> None:
    below = Below()
    app = alone(GuardMiddleware, below, proxy_keys=KEYS)
    headers = [("X-CCR-Key", "key-of-alice"), ("a", "1"), ("x-ccr-key", "key-of-alice")]
    assert (await asgi.request(app, headers=headers, client=client)).status == 200
    assert below.headers == [(b"host", b"127.0.0.1:3456"), (b"a", b"1")]


async def test_the_owner_of_the_key_is_told_below() -> None:
    owners = []

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(scope.get(PROXY_KEY))
        await Below()(scope, receive, send)

    app = alone(GuardMiddleware, below, proxy_keys=KEYS)
    for key in ("key-of-alice", "key-of-böb".encode().decode("latin-1"), "unknown", None):
        await asgi.request(app, headers=[("x-ccr-key", key)] if key else [])
    assert owners == ["alice", "bob", None, None]


# framing


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "localhost"), ("host", "localhost")],
        [("content-length", "0"), ("content-length", "0")],
        [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        [("content-length", "0"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "gzip, chunked")],
        [("transfer-encoding", "identity")],
        [("transfer-encoding", "")],
        [("content-length", "-1")],
        [("content-length", "+1")],
        [("content-length", "1_0")],
        [("content-length", "0x1")],
        [("content-length", "1,1")],
        [("content-length", "")],
        [("content-length", "²")],
        [("content-length", "9" * 5000)],
    ],
    ids=lambda headers: str(headers)[:60],
)
async def test_what_two_servers_could_read_differently_is_refused(headers: list[tuple[str, str]]) -> None:
    assert await status_of(*headers) == 400


ONE_FRAMING = [[("transfer-encoding", "chunked")], [("transfer-encoding", "Chunked")], [("content-length", "0003")]]


@pytest.mark.parametrize("headers", ONE_FRAMING)
async def test_one_framing_is_enough(headers: list[tuple[str, str]]) -> None:
    assert await status_of(*headers, method="POST", body=b"abc") == 200


async def test_chunks_are_not_of_http_1_0() -> None:
    headers = [("transfer-encoding", "chunked")]
    call = asgi.start(alone(GuardMiddleware, Below()), "POST", headers=headers, body=b"abc")
    call.scope["http_version"] = "1.0"
    assert (await call.end()).status == 400


# sizes


async def test_headers_are_counted_in_total() -> None:
    fitting = 64 * 1024 - len("host127.0.0.1:3456") - len("a")
    assert await status_of(("a", "x" * fitting)) == 200
    assert await status_of(("a", "x" * (fitting + 1))) == 431
    assert await status_of(*((f"x-{number}", "y" * 1000) for number in range(70))) == 431
    assert await status_of(("a", "1"), max_header_bytes=10) == 431


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_read() -> None:
    below = Below()
    app = alone(GuardMiddleware, below, max_body_bytes=10)
    call = asgi.start(app, "POST", headers=[("content-length", "11")], body=b"", more_to_come=True)
    response = await call.end()
    assert response.status == 413
    assert json.loads(response.body)["error"]["type"] == "request_too_large"
    assert "limits.bodyMb" in json.loads(response.body)["error"]["message"]
    assert (below.scopes, call.received) == ([], [])
    assert await status_of(("content-length", "10"), method="POST", body=b"x" * 10, max_body_bytes=10) == 200


async def test_a_body_of_undeclared_length_is_counted() -> None:
    assert await status_of(method="POST", body=[b"12345", b"67890"], max_body_bytes=10) == 200
    app = alone(GuardMiddleware, Below(), max_body_bytes=10)
    response = await asgi.request(app, "POST", body=[b"12345", b"678901"])
    assert response.status == 413
    assert json.loads(response.body)["error"]["type"] == "request_too_large"


async def test_a_body_that_is_too_long_when_the_answer_has_begun_cuts_it() -> None:
    async def eager(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(b"a", end=False)(scope, receive, send)
        await read_body(receive)

    with pytest.raises(RequestTooLarge):
        await asgi.request(alone(GuardMiddleware, eager, max_body_bytes=2), "POST", body=b"abc")


@pytest.mark.parametrize(
    ("encoding", "status"),
    [
        ("gzip", 415),
        ("zstd", 415),
        ("identity, gzip", 415),
        ("x", 415),
        ("identity", 200),
        (" Identity ", 200),
        ("", 200),
    ],
)
async def test_a_compressed_body_is_refused(encoding: str, status: int) -> None:
    assert await status_of(("content-encoding", encoding), method="POST", body=b"x") == status


async def test_no_coding_hides_behind_another() -> None:
    assert await status_of(("content-encoding", "identity"), ("content-encoding", "gzip"), method="POST") == 415


# what goes through


async def test_what_is_let_in_is_left_as_it_is() -> None:
    below = Below(answering(b"a", b"b", headers=[(b"x", b"1")]))
    app = alone(GuardMiddleware, below)
    response = await asgi.request(app, "POST", "/v1/x%2Fy", query=b"a=b", headers=[("A", "1")], body=[b"c", b"d"])
    assert response.pieces == [b"a", b"b"]
    assert below.bodies == [b"cd"]
    assert below.headers == [(b"host", b"127.0.0.1:3456"), (b"a", b"1")]
    assert below.scopes[0]["raw_path"] == b"/v1/x%2Fy"


async def test_scopes_that_are_no_requests_pass() -> None:
    assert await passes_other_scopes_on(GuardMiddleware)
