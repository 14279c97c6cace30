"""What happens to requests when the login cannot be renewed, or the clock is wrong."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.credentials import codex, token_endpoint
from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.errors import AuthenticationError, UpstreamError
from ccr_asgi.locks import file_lock_in_thread
from ccr_asgi.transport import Http11Transport
from tests.credentials.files import (
    DUE_S,
    EXPIRED_S,
    begun,
    content_of,
    number,
    remove,
)
from tests.support.codex_login import (
    PATH,
    TEN_DAYS_S,
    TokenEndpoint,
    refusal,
    write_login,
)
from tests.support.fake_upstream import Answer, FakeUpstream, Fault, Gate, json_answer

# refused for good


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (401, refusal("refresh_token_expired")),
        (401, refusal("refresh_token_reused")),
        (401, refusal("refresh_token_invalidated")),
        (400, {"error": "invalid_grant"}),
        (401, {"detail": "Unauthorized"}),
    ],
)
async def test_a_refusal_is_remembered_until_the_file_changes(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream, impatient: None, status: int, document: Any
) -> None:
    fake_upstream.on(PATH, json_answer(document, status))
    write_login(path, ends_in_s=EXPIRED_S)
    content, version = content_of(path), AuthFile(path).version()
    for _ in range(3):
        with pytest.raises(AuthenticationError, match=r"was refused when it was to be renewed .*run `codex login`"):
            await credentials.headers()
    assert len(fake_upstream.requests) == 1
    assert (content_of(path), AuthFile(path).version()) == (content, version)
    endpoint = TokenEndpoint(fake_upstream)
    write_login(path, ends_in_s=EXPIRED_S)
    assert number(await credentials.headers()) == 2
    assert len(endpoint.requests) == 2


async def test_a_token_that_has_not_ended_outlives_the_refusal_until_the_upstream_says_no(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream, impatient: None
) -> None:
    fake_upstream.on(PATH, json_answer(refusal("refresh_token_expired"), 401))
    write_login(path, ends_in_s=DUE_S)
    old = await credentials.headers()
    assert number(await credentials.headers()) == 1
    with pytest.raises(AuthenticationError, match="refresh_token_expired"):
        await credentials.headers(refused=old)
    assert len(fake_upstream.requests) == 1


async def test_a_logout_after_a_refusal_is_told_as_such(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    def log_out(request: object) -> Answer:
        remove(path)
        return json_answer(refusal("refresh_token_invalidated"), 401)

    fake_upstream.on(PATH, log_out)
    write_login(path, ends_in_s=EXPIRED_S)
    with pytest.raises(AuthenticationError, match="does not exist"):
        await credentials.headers()


# failures that may pass


@pytest.mark.parametrize(
    "answer",
    [json_answer({}, 503), Answer.raw(Fault.RESET), Answer([Fault.SILENCE, b"{}"])],
    ids=["status", "reset", "silence"],
)
async def test_after_a_failure_the_old_token_is_tried_and_the_endpoint_left_alone(
    path: Path,
    credentials: CodexLogin,
    fake_upstream: FakeUpstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: Answer,
) -> None:
    monkeypatch.setattr(token_endpoint, "POST_S", 0.2)
    fake_upstream.on(PATH, answer)
    write_login(path, ends_in_s=EXPIRED_S)
    content = content_of(path)
    old = await credentials.headers()
    assert [number(old), number(await credentials.headers())] == [1, 1]
    assert len(fake_upstream.arriving) == 1
    with pytest.raises(UpstreamError, match=r"could not be renewed: 127\.0\.0\.1 .*\. The next try is due in [12] s"):
        await credentials.headers(refused=old)
    assert len(fake_upstream.arriving) == 1
    assert content_of(path) == content
    assert [record.levelno for record in caplog.records if record.name == codex.__name__] == [logging.WARNING]
    TokenEndpoint(fake_upstream)
    credentials._resume_s = 0  # the pause is over
    assert number(await credentials.headers(refused=old)) == 2


async def test_pauses_grow_and_success_ends_them(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.on(PATH, json_answer({}, 500))
    write_login(path, ends_in_s=EXPIRED_S)
    pauses = []
    for _ in range(7):
        credentials._resume_s = 0  # the pause is over
        pauses.append(credentials._backoff_s)
        before_s = time.monotonic()
        await credentials.headers()
        assert before_s <= credentials._resume_s - pauses[-1] <= time.monotonic()
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    TokenEndpoint(fake_upstream)
    credentials._resume_s = 0
    assert number(await credentials.headers()) == 2
    assert credentials._backoff_s == codex.BACKOFF_S


async def test_a_new_login_ends_the_pause(path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream) -> None:
    fake_upstream.on(PATH, json_answer({}, 500))
    write_login(path, 0, ends_in_s=EXPIRED_S)
    assert number(await credentials.headers()) == 0
    TokenEndpoint(fake_upstream)
    write_login(path, 1, ends_in_s=EXPIRED_S)
    assert number(await credentials.headers()) == 2


async def test_a_token_that_is_still_good_does_not_wait_for_a_slow_endpoint(
    path: Path, credentials: CodexLogin, fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codex, "PATIENCE_S", 0.05)
    gate = Gate()
    TokenEndpoint(fake_upstream, gate=gate)
    write_login(path, ends_in_s=DUE_S)
    assert number(await credentials.headers()) == 1
    gate.open()
    await credentials.aclose()
    assert number(await credentials.headers()) == 2


# clocks


@pytest.mark.parametrize("jump_s", [2 * TEN_DAYS_S, 365 * 86_400.0])
async def test_a_clock_that_jumps_ahead_causes_one_refresh(
    path: Path, fake_upstream: FakeUpstream, transport: Http11Transport, jump_s: float
) -> None:
    endpoint = TokenEndpoint(fake_upstream)
    credentials = CodexLogin(path, token_url=endpoint.url, transport=transport, now=lambda: time.time() + jump_s)
    write_login(path)
    assert [number(await credentials.headers()) for _ in range(20)] == [2] * 20
    assert len(endpoint.requests) == 1


async def test_what_was_adopted_counts_as_new_too(
    path: Path, fake_upstream: FakeUpstream, transport: Http11Transport
) -> None:
    endpoint = TokenEndpoint(fake_upstream)
    credentials = CodexLogin(path, token_url=endpoint.url, transport=transport, now=lambda: time.time() + 1e8)
    write_login(path, 0)
    with file_lock_in_thread(AuthFile(path).refresh_lock, 1):
        asking = asyncio.create_task(credentials.headers())
        await begun(asking)
        write_login(path, 1)
    adopted = await asking
    assert [number(adopted), number(await credentials.headers())] == [1, 1]
    assert endpoint.requests == []
    assert number(await credentials.headers(refused=adopted)) == 2  # but the upstream's word counts more


async def test_a_wrong_clock_renews_again_after_a_while(
    path: Path, fake_upstream: FakeUpstream, transport: Http11Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codex, "MIN_INTERVAL_S", 0)
    endpoint = TokenEndpoint(fake_upstream)
    credentials = CodexLogin(path, token_url=endpoint.url, transport=transport, now=lambda: time.time() + 1e8)
    write_login(path)
    assert [number(await credentials.headers()) for _ in range(3)] == [2, 3, 4]


async def test_a_clock_that_jumps_back_is_corrected_by_the_upstream(
    path: Path, fake_upstream: FakeUpstream, transport: Http11Transport
) -> None:
    endpoint = TokenEndpoint(fake_upstream)
    credentials = CodexLogin(path, token_url=endpoint.url, transport=transport, now=lambda: 0.0)
    write_login(path, ends_in_s=EXPIRED_S)
    old = await credentials.headers()
    assert (number(old), endpoint.requests) == (1, [])
    assert number(await credentials.headers(refused=old)) == 2
