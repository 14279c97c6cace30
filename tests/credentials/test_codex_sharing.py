"""The login beside others who use its file: the CLI, other processes, and whoever logs in or out."""

import asyncio
import threading
from pathlib import Path

import pytest

from ccr_asgi.credentials import codex
from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.errors import AuthenticationError
from ccr_asgi.locks import file_lock_in_thread
from ccr_asgi.transport import Http11Transport
from tests.credentials.files import (
    EXPIRED_S,
    begun,
    content_of,
    is_there,
    number,
    remove,
    written,
)
from tests.support.codex_login import (
    PATH,
    TokenEndpoint,
    login,
    refusal,
    write_login,
)
from tests.support.fake_upstream import FakeUpstream, Gate, json_answer


@pytest.mark.parametrize("seen", [False, True], ids=["in the refresh", "by a request before it"])
async def test_what_another_process_renews_is_adopted(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, seen: bool
) -> None:
    write_login(path, ends_in_s=EXPIRED_S)
    with file_lock_in_thread(AuthFile(path).refresh_lock, 1):
        asking = asyncio.create_task(credentials.headers())
        await begun(asking)
        write_login(path, 9)
        if seen:
            assert number(await credentials.headers()) == 9
    assert number(await asking) == 9
    assert endpoint.requests == []


async def test_what_is_seen_before_the_refresh_begins_counts_too(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint
) -> None:
    write_login(path, 0, ends_in_s=EXPIRED_S)
    asking = asyncio.create_task(credentials.headers())
    await asyncio.sleep(0)  # it has asked for a refresh, whose task has not begun
    write_login(path, 1)
    assert number(await credentials.headers()) == 1
    assert number(await asking) == 1
    assert endpoint.requests == []


async def test_another_loop_in_another_thread_is_another_process(path: Path, fake_upstream: FakeUpstream) -> None:
    gate = Gate()
    endpoint = TokenEndpoint(fake_upstream, gate=gate)
    write_login(path, ends_in_s=EXPIRED_S)
    numbers: list[int] = []

    async def ask() -> None:
        transport = Http11Transport()
        credentials = CodexLogin(path, token_url=endpoint.url, transport=transport)
        numbers.extend(map(number, await asyncio.gather(*(credentials.headers() for _ in range(10)))))
        await transport.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert await gate.reached.wait_async()
    gate.open()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert numbers == [2] * 30
    assert len(endpoint.requests) == 1


async def test_a_lock_that_is_never_given_back_is_a_failure_that_may_pass(
    path: Path,
    credentials: CodexLogin,
    endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(codex, "LOCK_S", 0)
    monkeypatch.setattr(codex, "BACKOFF_S", 0)
    write_login(path, ends_in_s=EXPIRED_S)
    with file_lock_in_thread(AuthFile(path).refresh_lock, 1):
        assert number(await credentials.headers()) == 1
    assert "auth.lock for 0 s" in caplog.text
    credentials._resume_s = 0
    assert number(await credentials.headers()) == 2


async def test_what_the_cli_redeemed_first_is_adopted_once_it_has_written_it(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.on(PATH, json_answer(refusal("refresh_token_reused"), 401))
    write_login(path, ends_in_s=EXPIRED_S)
    asking = asyncio.create_task(credentials.headers())
    await asyncio.to_thread(fake_upstream.wait_for_requests, 1)

    def write_as_the_cli_does() -> None:
        with file_lock_in_thread(AuthFile(path).refresh_lock, 10):  # it posts before it locks
            write_login(path, 4)

    await asyncio.to_thread(write_as_the_cli_does)
    assert number(await asking) == 4
    assert len(fake_upstream.requests) == 1


@pytest.mark.parametrize("anew", [True, False], ids=["login", "logout"])
async def test_who_logs_in_or_out_during_a_refresh_has_the_last_word(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream, anew: bool
) -> None:
    gate = Gate()
    TokenEndpoint(fake_upstream, gate=gate)
    write_login(path, ends_in_s=EXPIRED_S)
    asking = asyncio.create_task(credentials.headers())
    assert await gate.reached.wait_async()
    if anew:
        write_login(path, 8)
    else:
        remove(path)
    gate.open()
    if anew:
        assert [number(await asking), number(await credentials.headers())] == [8, 8]
        assert written(path) == login(8)
    else:
        with pytest.raises(AuthenticationError, match="does not exist"):
            await asking
        assert not is_there(path)


async def test_a_login_seen_by_a_request_during_a_refresh_is_not_replaced(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    gate = Gate()
    TokenEndpoint(fake_upstream, gate=gate)
    write_login(path, ends_in_s=EXPIRED_S)
    asking = asyncio.create_task(credentials.headers())
    assert await gate.reached.wait_async()
    write_login(path, 8)
    content = content_of(path)
    assert number(await credentials.headers()) == 8
    gate.open()
    assert number(await asking) == 8
    assert content_of(path) == content


async def test_a_file_that_goes_while_a_refresh_waits_ends_it(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint
) -> None:
    write_login(path, ends_in_s=EXPIRED_S)
    with file_lock_in_thread(AuthFile(path).refresh_lock, 1):
        asking = asyncio.create_task(credentials.headers())
        await begun(asking)
        remove(path)
    with pytest.raises(AuthenticationError, match="does not exist"):
        await asking
    assert endpoint.requests == []
