"""Who gets in: no page of another origin, no rebinding host, no peer without a key; and what hostile text can do."""

import json
import socket
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.faults.conftest import SERVERS
from tests.faults.test_bad_input import refused
from tests.integration.claude import (
    CHAT_MODEL,
    TARGET,
    World,
    body,
    headers,
    new_session,
    tagged,
    world_in_a_process,
)
from tests.support.fake_upstream import Answer, chat_completion, chat_error, chat_sse
from tests.support.raw_http import RawClient, RawResponse, fetch
from tests.support.server import read_rows

ROUTES = [
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/static/dashboard.css"),
    ("GET", "/api/usage"),
    ("GET", "/nothing"),
    ("GET", "/v1/models"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/files"),
    ("OPTIONS", "/v1/messages"),
]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:3456",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost@evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "0.0.0.0",  # noqa: S104 -- a name, not bound to
    "[::]",
    "127.1",
    "2130706433",
    "localhost.",
    "localhost:80:80",
    "localhost, evil.example",
    "",
]


def ask(
    world: World, method: str, target: str, host: str, *fields: tuple[str, str], content: bytes = b""
) -> RawResponse:
    """A request with this Host."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields)]
    lines += [f"Content-Length: {len(content)}"] if content or method == "POST" else []
    with RawClient(world.url) as client:
        client.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content)
        return client.read_response(method)


@pytest.mark.fault("rebinding")
@pytest.mark.parametrize(("method", "target"), ROUTES, ids=lambda part: str(part).strip("/"))
def test_a_foreign_host_gets_nowhere(world: World, method: str, target: str) -> None:
    for host in FOREIGN_HOSTS:
        response = ask(world, method, target, host, content=body() if method == "POST" else b"")
        assert response.status in ((403,) if host else (403, 400)), (host, response.status)
        if response.status == 403:
            refused(response, 403, "permission_error")
    assert world.contacts == 0


@pytest.mark.fault("rebinding")
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:3456", "localhost:1"]
)
def test_our_own_names_are_served(world: World, host: str) -> None:
    assert ask(world, "GET", "/healthz", host).status == 200


ELSEWHERE: dict[str, list[tuple[str, str]]] = {
    "another origin": [("Origin", "http://evil.example")],
    "an opaque origin": [("Origin", "null")],
    "another port": [("Origin", "http://127.0.0.1:1")],
    "another name for us": [("Origin", "http://localhost:1")],
    "an extension": [("Origin", "chrome-extension://abcdefgh")],
    "a file": [("Origin", "file://")],
    "an origin that is none": [("Origin", "http://[")],
    "a cross-site fetch": [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
    "a same-site fetch": [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")],
    "a cross-site link": [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ],
    "one of ours and another origin": [("Origin", "@URL"), ("Origin", "http://evil.example")],
    "a frame": [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
}


@pytest.mark.fault("cross-origin")
@pytest.mark.parametrize("fields", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_page_of_another_origin_gets_nowhere(world: World, fields: list[tuple[str, str]]) -> None:
    fields = [(name, value.replace("@URL", world.url)) for name, value in fields]
    for method, target in ROUTES:
        with RawClient(world.url) as client:
            content = body() if method == "POST" else b""
            response = client.request(method, target, [*fields, ("Content-Type", "text/plain")], content)
        refused(response, 403, "permission_error")
        assert not [name for name, _ in response.headers if name.lower().startswith(b"access-control-")]
    assert world.contacts == 0


@pytest.mark.fault("cross-origin")
def test_no_answer_of_ours_has_a_cors_header(world: World) -> None:
    for method, target in ROUTES:
        with RawClient(world.url) as client:
            own = [("Origin", world.url), ("Sec-Fetch-Site", "same-origin")]
            response = client.request(method, target, own, body() if method == "POST" else b"")
        assert response.status != 403
        assert not [name for name, _ in response.headers if name.lower().startswith(b"access-control-")]


@pytest.mark.fault("cross-origin")
def test_a_preflight_allows_nothing(world: World) -> None:
    asked = [
        ("Origin", "http://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-api-key"),
    ]
    with RawClient(world.url) as client:
        response = client.request("OPTIONS", "/v1/messages", asked)
    refused(response, 403, "permission_error")


# Peers


def own_address() -> str | None:
    """An address of this machine that is not loopback, by which it looks like another one."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address


KEY = "key-of-a-colleague-0123456789"


def from_elsewhere(world: World, target: str, *fields: tuple[str, str], content: bytes = b"") -> RawResponse:
    """A request that comes from another machine, as far as the server can see."""
    assert world.server is not None
    address = own_address()
    url = world.url if address is None else f"http://{address}:{world.server.port}"
    # Without a network only uvicorn can be told so, which believes a proxy on this machine.
    told = [("X-Forwarded-For", "203.0.113.9")] if address is None else []
    with RawClient(url) as client:
        client.host = "localhost"
        return client.request("POST" if content else "GET", target, [*told, *fields], content)


@pytest.mark.fault("peer from elsewhere")
@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("keys", [{}, {"colleague": KEY}], ids=["without keys", "with keys"])
def test_a_peer_needs_a_key(tmp_path: Path, name: str, keys: dict[str, str]) -> None:
    if own_address() is None and name == "granian":
        name = "h11"
    config = {"proxyKeys": keys}
    with world_in_a_process(tmp_path, config=config, arguments=("--host", "0.0.0.0"), **SERVERS[name]) as world:  # noqa: S104 -- that others reach it is what is tested
        for content in (body(), tagged()):
            refused(from_elsewhere(world, TARGET, content=content), 403, "permission_error")
            refused(from_elsewhere(world, TARGET, ("x-ccr-key", "wrong"), content=content), 403, "permission_error")
        assert from_elsewhere(world, "/dashboard").status == (401 if keys else 403)
        assert from_elsewhere(world, "/healthz").status == 403
        assert world.contacts == 0
        if keys:
            for content in (body(), tagged()):
                assert from_elsewhere(world, TARGET, ("x-ccr-key", KEY), content=content).status == 200
            password = b64encode(f"me:{KEY}".encode()).decode()
            assert from_elsewhere(world, "/dashboard", ("Authorization", f"Basic {password}")).status == 200
            for upstream in (world.anthropic, world.chat):
                assert KEY.encode() not in b"".join(bytes(request.raw) for request in upstream.requests)
        assert world.server is not None
        assert KEY not in world.server.log()


# Hostile text

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "'; DROP TABLE requests; --",
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "</textarea><svg/onload=alert(1)>",
]


@pytest.mark.fault("stored XSS")
def test_hostile_names_are_text_on_every_page(world: World) -> None:
    sessions = [new_session() for _ in HOSTILE]
    for text, session in zip(HOSTILE, sessions, strict=True):
        world.chat.script(chat_completion("hi", model=text))
        more = [("x-claude-code-agent-id", text), ("x-ccr-project", text)]
        world.post(tagged(stream=False), *more, session=session)
        world.post(body(model=text, stream=False), session=f"{session}{text}")
    for session in sessions:
        world.row(session)
    for target in (
        "/dashboard",
        *(f"/dashboard?model={quote(text)}" for text in HOSTILE),
        f"/dashboard?range={quote(HOSTILE[0])}",
    ):
        page = fetch(world.url + target)
        for tag in (b"<script>alert", b"<img src=x", b"<svg/onload", b"onerror=alert(1)>", b'href="javascript:'):
            assert tag not in page.body, target
        policy = (page.header("content-security-policy") or b"").decode()
        assert "unsafe-inline" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert page.header("x-content-type-options") == b"nosniff"
        assert b"49" not in page.body.partition(b"{{ 7")[0][-3:]
    for target in ("/api/usage", "/api/usage?format=legacy"):
        document = fetch(world.url + target)
        assert document.header("content-type") == b"application/json"
        assert document.header("x-content-type-options") == b"nosniff"
        assert not {b"<", b">", b"&"} & {document.body[at : at + 1] for at in range(len(document.body))}
        assert "<script>alert(1)</script>" in json.dumps(json.loads(document.body))


@pytest.mark.fault("stored XSS")
def test_no_answer_of_ours_is_guessed_at(world: World) -> None:
    ours = ("/healthz", "/readyz", "/dashboard", "/dashboard/static/dashboard.css", "/dashboard?range=zz", "/nothing")
    for target in (*ours, "/api/usage", "/api/usage?format=csv", "/api/usage?range=zz", "/api/quota", "/v1/../x"):
        assert fetch(world.url + target).header("x-content-type-options") == b"nosniff", target
    for content in (b"{", body(model="nobody,x")):
        assert world.post(content).header("x-content-type-options") == b"nosniff"


@pytest.mark.fault("stored XSS")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_our_errors_is_no_page(world: World, text: str) -> None:
    for response in (
        world.post(body(model=f"nobody,{text}")),
        fetch(f"{world.url}/{quote(text)}"),
        ask(world, "GET", "/healthz", quote(text, safe="<>()/=")),
    ):
        assert response.header("content-type") == b"application/json"
        assert not {b"<", b">", b"&"} & {response.body[at : at + 1] for at in range(len(response.body))}


SQL = [
    "' OR 1=1 --",
    "'; DROP TABLE requests; --",
    '" OR ""="',
    "1 UNION SELECT sql FROM sqlite_master",
    "%' AND (SELECT COUNT(*) FROM sqlite_master) > 0 --",
    "\\'; DELETE FROM requests; --",
    "x\x00y",
]
PARAMETERS = ["provider", "model", "agent", "session", "project", "status", "outcome", "range", "from", "to", "tz"]
PARAMETERS += ["page", "page_size", "format", "sort", "nothing"]


@pytest.mark.fault("SQL in filters")
@pytest.mark.parametrize("page", ["/api/usage", "/dashboard"])
def test_a_filter_is_a_value(world: World, page: str) -> None:
    session = new_session()
    world.post(body(), session=session)
    world.row(session)
    for parameter in PARAMETERS:
        for text in SQL:
            response = fetch(f"{world.url}{page}?{parameter}={quote(text)}")
            assert response.status in (200, 400), (parameter, text, response.status)
            assert session.encode() not in response.body or parameter in ("nothing", "sort", "format")
    with closing(sqlite3.connect(world.database)) as connection:
        assert connection.execute("select count(*) from v_requests where session_id = ?", [session]).fetchone() == (1,)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


FORGED = "2026-01-01 00:00:00 ERROR    forged line"


@pytest.mark.fault("log forging")
def test_no_text_of_others_begins_a_line_of_the_log(world: World) -> None:
    assert world.server is not None
    forging = f"x\r\n{FORGED}\n\x1b[31m{FORGED}\x1b[0m"
    escaped = json.dumps(forging).strip('"')
    world.post(body(model=forging))
    world.post(tagged(f"cerebras,{forging}"))
    world.post(body(metadata={"user_id": forging}), session=quote(forging))
    world.chat.script(
        chat_error(400, forging),
        chat_error(500, forging),
        chat_sse(forging, model=forging),
        Answer(escaped.encode(), 502, [("content-type", "text/html")]),
        Answer.raw(
            b"HTTP/1.1 200 OK\r\nX: " + quote(forging).encode() + b"\r\nBroken " + FORGED.encode() + b"\r\n\r\n"
        ),
    )
    for _ in range(5):
        world.post(tagged())
    for target in (f"/{quote(forging)}", f"/api/usage?range={quote(forging)}", f"/v1/{quote(forging)}"):
        fetch(world.url + target)
    ask(world, "GET", "/healthz", "evil\x1b[31m")
    log = world.server.log()
    assert not [line for line in log.splitlines() if line.startswith((FORGED, "\x1b[31m2026"))]
    assert "\x1b[31m2026" not in log


@pytest.mark.fault("log forging")
def test_the_log_holds_no_body_and_no_credential(world: World) -> None:
    assert world.server is not None
    world.post(body("a prompt that is nobody's business"))
    world.chat.script(chat_error(500, "an answer that is nobody's business"), Answer.raw(b"junk"))
    for _ in range(2):
        world.post(tagged(prompt="a prompt that is nobody's business"))
    log = world.server.log()
    assert "nobody's business" not in log
    assert "planted" not in log


def rows_of(world: World) -> list[dict[str, Any]]:
    """Every column of every row."""
    return read_rows(world.database, "select * from requests")


@pytest.mark.fault("upstream steering")
def test_a_row_names_the_provider_that_was_asked(world: World) -> None:
    session = new_session()
    with RawClient(world.url) as client:
        client.request("POST", TARGET, [*headers(session), ("x-ccr-provider", "moonshot")], tagged())
    row = world.row(session)
    assert (row["provider"], row["model"]) == ("cerebras", CHAT_MODEL)
