"""The login of the Codex CLI as it is used: read, kept fresh once for all, and never shown."""

import asyncio
import contextvars
import json
import logging
import os
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.credentials.login import Login
from ccr_asgi.errors import AuthenticationError, CcrError
from tests.credentials.files import (
    DUE_S,
    EXPIRED_S,
    FullDisk,
    content_of,
    is_link,
    mode_of,
    number,
    put,
    remove,
    written,
)
from tests.support.codex_login import (
    ACCOUNT_ID,
    PATH,
    TokenEndpoint,
    access_token,
    login,
    refresh_token,
    refusal,
    write_login,
)
from tests.support.fake_upstream import Answer, FakeUpstream, Fault, Gate, json_answer

# reading


async def test_the_headers_are_two_and_nobody_is_asked(path: Path, credentials: CodexLogin) -> None:
    document = write_login(path)
    assert credentials.refreshable
    assert await credentials.headers() == [
        (b"authorization", b"Bearer " + document["tokens"]["access_token"].encode()),
        (b"chatgpt-account-id", ACCOUNT_ID.encode()),
    ]


async def test_the_file_is_read_when_it_has_changed(
    path: Path, credentials: CodexLogin, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = [], AuthFile.read

    def counted(self: AuthFile) -> Any:
        reads.append(self.path)
        return read(self)

    monkeypatch.setattr(AuthFile, "read", counted)
    write_login(path, 1)
    assert [number(await credentials.headers()) for _ in range(3)] == [1, 1, 1]
    assert len(reads) == 1
    write_login(path, 7)
    assert [number(await credentials.headers()) for _ in range(3)] == [7, 7, 7]
    assert len(reads) == 2


async def test_a_half_written_file_is_read_again(path: Path, credentials: CodexLogin) -> None:
    put(path, json.dumps(login()).encode()[:50])
    asking = asyncio.create_task(credentials.headers())
    await asyncio.sleep(0)
    put(path, json.dumps(login(3)).encode())
    assert number(await asking) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist: run `codex login`"),
        (b"{", "is not JSON: run `codex login`"),
        (b"[]", "is no login file of Codex: run `codex login`"),
        (
            b'{"OPENAI_API_KEY": "sk-invented", "tokens": null}',
            "holds an API key and no ChatGPT login: run `codex login`",
        ),
    ],
)
async def test_no_login_is_an_error_that_says_what_to_run(
    path: Path, credentials: CodexLogin, content: bytes | None, problem: str
) -> None:
    if content is not None:
        put(path, content)
    for _ in range(2):
        with pytest.raises(AuthenticationError) as raised:
            await credentials.headers()
        assert raised.value.message.startswith(f"The Codex login {path} {problem}")
    write_login(path)
    assert number(await credentials.headers()) == 1


async def test_a_logout_holds_at_once(path: Path, credentials: CodexLogin) -> None:
    write_login(path)
    await credentials.headers()
    remove(path)
    with pytest.raises(AuthenticationError, match="does not exist"):
        await credentials.headers()


# refreshing


async def test_a_token_that_ends_soon_is_renewed_and_written(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint
) -> None:
    document = login(1, ends_in_s=DUE_S) | {"unknown": {"z": 1, "a": [None]}}
    put(path, json.dumps(document).encode())
    began_s = time.time()
    assert number(await credentials.headers()) == 2
    assert number(await credentials.headers()) == 2
    assert len(endpoint.requests) == 1
    now = written(path)
    assert list(now) == list(document)
    assert list(now["tokens"]) == list(document["tokens"])
    assert (now["unknown"], now["tokens"]["refresh_token"]) == (document["unknown"], "rt_invented_2")
    assert now["tokens"]["account_id"] == ACCOUNT_ID
    assert now["last_refresh"].endswith("Z")
    found, _ = AuthFile(path).read()
    assert isinstance(found, Login)
    assert began_s - 1 <= (found.refreshed_at or 0) <= time.time() + 1
    assert mode_of(path) == 0o600


async def test_a_token_with_time_left_is_not(path: Path, credentials: CodexLogin, endpoint: TokenEndpoint) -> None:
    write_login(path, ends_in_s=120)
    assert number(await credentials.headers()) == 1
    assert endpoint.requests == []


async def test_what_the_reply_does_not_give_is_kept(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    document = write_login(path, ends_in_s=EXPIRED_S)
    fake_upstream.on(PATH, json_answer({"access_token": access_token(2)}))
    assert number(await credentials.headers()) == 2
    assert written(path)["tokens"] == document["tokens"] | {"access_token": access_token(2)}


async def test_fifty_requests_make_one_refresh(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint = TokenEndpoint(fake_upstream, gate=gate)
    write_login(path, ends_in_s=EXPIRED_S)
    asking = [asyncio.create_task(credentials.headers()) for _ in range(50)]
    assert await gate.reached.wait_async()
    assert not any(task.done() for task in asking)
    gate.open()
    assert {number(headers) for headers in await asyncio.gather(*asking)} == {2}
    assert len(endpoint.requests) == 1


async def test_fifty_refused_requests_make_one_refresh(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint = TokenEndpoint(fake_upstream, gate=gate)
    write_login(path)
    old = await credentials.headers()
    asking = [asyncio.create_task(credentials.headers(refused=list(old))) for _ in range(50)]
    assert await gate.reached.wait_async()
    gate.open()
    asking.append(asyncio.create_task(credentials.headers(refused=old)))
    assert {number(headers) for headers in await asyncio.gather(*asking)} == {2}
    assert number(await credentials.headers(refused=old)) == 2  # one that comes late
    assert len(endpoint.requests) == 1


async def test_refused_it_gives_what_the_file_has_then_what_it_renews_then_gives_up(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint
) -> None:
    write_login(path, 0)
    first = await credentials.headers()
    write_login(path, 1)
    second = await credentials.headers(refused=first)
    assert (number(second), endpoint.requests) == (1, [])
    third = await credentials.headers(refused=second)
    assert (number(third), len(endpoint.requests)) == (2, 1)
    with pytest.raises(AuthenticationError, match="is refused though it has just been renewed: run `codex login`"):
        await credentials.headers(refused=third)
    assert len(endpoint.requests) == 1


async def test_a_client_that_leaves_loses_no_token(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    endpoint = TokenEndpoint(fake_upstream, gate=gate)
    write_login(path, ends_in_s=EXPIRED_S)
    asking = asyncio.create_task(credentials.headers())
    assert await gate.reached.wait_async()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.open()
    await credentials.aclose()
    assert written(path)["tokens"]["refresh_token"] == "rt_invented_2"
    assert number(await credentials.headers()) == 2
    assert len(endpoint.requests) == 1


async def test_nothing_is_waited_for_when_nothing_runs(credentials: CodexLogin) -> None:
    await credentials.aclose()


async def test_a_refresh_carries_nothing_of_a_request(path: Path) -> None:
    carried: contextvars.ContextVar[str] = contextvars.ContextVar("carried")
    carried.set("something of a request")
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(carried.get(None))
        return httpx.Response(200, json={"access_token": access_token(2)})

    write_login(path, ends_in_s=EXPIRED_S)
    assert number(await CodexLogin(path, transport=httpx.MockTransport(answer)).headers()) == 2
    assert seen == [None]


async def test_the_usual_endpoint_is_openais(path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"access_token": access_token(2)})

    write_login(path, ends_in_s=EXPIRED_S)
    await CodexLogin(path, transport=httpx.MockTransport(answer)).headers()
    assert asked == ["https://auth.openai.com/oauth/token"]


async def test_a_symlink_stays_one(
    tmp_path: Path, path: Path, credentials: CodexLogin, endpoint: TokenEndpoint
) -> None:
    target = tmp_path / "dotfiles" / "codex.json"
    target.parent.mkdir()
    write_login(target, ends_in_s=EXPIRED_S)
    os.symlink(target, path)
    assert number(await credentials.headers()) == 2
    assert is_link(path)
    assert written(target)["tokens"]["refresh_token"] == "rt_invented_2"


# secrets


Scene = Callable[[CodexLogin, Path, FakeUpstream], Awaitable[object]]


async def refused(credentials: CodexLogin, path: Path, upstream: FakeUpstream) -> object:
    upstream.on(PATH, lambda request: json_answer(refusal(request.body.decode()), 401))
    return await credentials.headers(refused=await credentials.headers())


async def unavailable(credentials: CodexLogin, path: Path, upstream: FakeUpstream) -> object:
    upstream.on(PATH, lambda request: Answer(request.body, 500, [("x-echo", request.body)]))
    return await credentials.headers(refused=await credentials.headers())


async def broken_off(credentials: CodexLogin, path: Path, upstream: FakeUpstream) -> object:
    upstream.on(PATH, Answer.raw(Fault.RESET))
    return await credentials.headers(refused=await credentials.headers())


async def twice_refused(credentials: CodexLogin, path: Path, upstream: FakeUpstream) -> object:
    TokenEndpoint(upstream)
    return await credentials.headers(refused=await credentials.headers(refused=await credentials.headers()))


async def half_a_file(credentials: CodexLogin, path: Path, upstream: FakeUpstream) -> object:
    await credentials.headers()
    put(path, content_of(path)[:-5])
    return await credentials.headers()


async def unwritten(credentials: CodexLogin, path: Path, upstream: FakeUpstream) -> object:
    with pytest.MonkeyPatch.context() as monkeypatch:
        FullDisk(monkeypatch)
        return await twice_refused(credentials, path, upstream)


@pytest.mark.parametrize("scene", [refused, unavailable, broken_off, twice_refused, half_a_file, unwritten])
async def test_no_secret_is_ever_shown(
    path: Path,
    credentials: CodexLogin,
    fake_upstream: FakeUpstream,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
    scene: Scene,
) -> None:
    caplog.set_level(logging.DEBUG)
    write_login(path)
    shown = [repr(credentials), str(credentials)]
    with pytest.raises(CcrError) as raised:
        await scene(credentials, path, fake_upstream)
    ours = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    shown += ["".join(ours.format()), raised.value.message, caplog.text, repr(vars(credentials))]
    for secret in (access_token(1), access_token(2), refresh_token(1), refresh_token(2), "rt_invented"):
        assert not [text for text in shown if secret in text]


def test_its_repr_names_the_file(path: Path, credentials: CodexLogin) -> None:
    assert repr(credentials) == f"CodexLogin({str(path)!r})"
