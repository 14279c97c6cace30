"""A renewed login that cannot be written: used, said aloud, and written when there is a way."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.credentials import codex
from ccr_asgi.credentials.auth_file import AuthFile
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.locks import file_lock_in_thread
from tests.credentials.files import (
    EXPIRED_S,
    FullDisk,
    begun,
    content_of,
    is_there,
    number,
    remove,
    rewrite,
    written,
)
from tests.support.codex_login import (
    TokenEndpoint,
    login,
    write_login,
)


async def test_what_cannot_be_written_is_used_said_and_written_later(
    path: Path,
    credentials: CodexLogin,
    endpoint: TokenEndpoint,
    full_disk: FullDisk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rewrite(path, login(1, ends_in_s=EXPIRED_S))
    content = content_of(path)
    assert [number(await credentials.headers()) for _ in range(3)] == [2, 2, 2]
    assert (content_of(path), full_disk.tries, len(endpoint.requests)) == (content, 1, 1)
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "could not be written" in said.getMessage()
    assert "No space left on device" in said.getMessage()

    full_disk.is_full = False
    credentials._save_again_s = 0  # it is time for the next try
    assert number(await credentials.headers()) == 2
    await credentials.aclose()
    assert written(path)["tokens"]["refresh_token"] == "rt_invented_2"
    assert number(await credentials.headers()) == 2
    assert (full_disk.tries, len(endpoint.requests)) == (2, 1)


async def test_what_is_in_memory_alone_is_renewed_too(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, full_disk: FullDisk
) -> None:
    rewrite(path, login(1))
    for expected in (2, 3):
        credentials._issued_s = 0  # it was not just now
        assert number(await credentials.headers(refused=await credentials.headers())) == expected
    full_disk.is_full = False
    credentials._issued_s = 0
    assert number(await credentials.headers(refused=await credentials.headers())) == 4
    assert written(path)["tokens"]["refresh_token"] == "rt_invented_4"
    assert number(await credentials.headers()) == 4


async def test_a_file_that_is_touched_does_not_bring_spent_tokens_back(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, full_disk: FullDisk
) -> None:
    document = login(1, ends_in_s=EXPIRED_S)
    rewrite(path, document)
    await credentials.headers()
    rewrite(path, document | {"added": 1})
    assert number(await credentials.headers()) == 2
    full_disk.is_full = False
    credentials._save_again_s = 0
    await credentials.headers()
    await credentials.aclose()
    assert (written(path)["added"], written(path)["tokens"]["refresh_token"]) == (1, "rt_invented_2")


async def test_a_new_login_replaces_what_could_not_be_written(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, full_disk: FullDisk
) -> None:
    rewrite(path, login(1, ends_in_s=EXPIRED_S))
    await credentials.headers()
    rewrite(path, login(6))
    credentials._save_again_s = 0
    assert number(await credentials.headers()) == 6
    await credentials.aclose()
    assert full_disk.tries == 1


@pytest.mark.parametrize("change", ["login", "logout"])
async def test_a_late_write_does_not_undo_what_was_done_to_the_file(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, full_disk: FullDisk, change: str
) -> None:
    rewrite(path, login(1, ends_in_s=EXPIRED_S))
    await credentials.headers()
    full_disk.is_full = False
    credentials._save_again_s = 0
    with file_lock_in_thread(AuthFile(path).refresh_lock, 1):
        await credentials.headers()
        await begun()  # the writer waits for the lock now
        if change == "login":
            rewrite(path, login(6))
        else:
            remove(path)
    await credentials.aclose()
    assert is_there(path) == (change == "login")
    assert full_disk.tries == 1


async def test_a_file_that_changes_under_the_write_is_written_on_the_next_request(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = login(1, ends_in_s=EXPIRED_S)
    rewrite(path, document)
    asked: list[Any] = []
    really = AuthFile.replace

    def replace_too_late(self: AuthFile, login: Any, expected: Any) -> bool:
        if not asked:
            rewrite(path, document | {"added": 1})
        asked.append(expected)
        return really(self, login, expected)

    monkeypatch.setattr(AuthFile, "replace", replace_too_late)
    assert number(await credentials.headers()) == 2
    await credentials.headers()
    await credentials.aclose()
    assert (written(path)["added"], written(path)["tokens"]["refresh_token"]) == (1, "rt_invented_2")
    assert len(asked) == 2


async def test_a_late_write_waits_for_its_lock_no_longer_than_a_refresh(
    path: Path, credentials: CodexLogin, endpoint: TokenEndpoint, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(path, login(1, ends_in_s=EXPIRED_S))
    await credentials.headers()
    credentials._save_again_s = 0
    monkeypatch.setattr(codex, "LOCK_S", 0)
    before_s = time.monotonic()
    with file_lock_in_thread(AuthFile(path).refresh_lock, 1):
        await credentials.headers()
        await credentials.aclose()
    assert full_disk.tries == 1
    assert before_s <= credentials._save_again_s - codex.SAVE_AGAIN_S <= time.monotonic()


async def test_a_folder_that_cannot_be_written_to(
    path: Path,
    credentials: CodexLogin,
    endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_login(path, ends_in_s=EXPIRED_S)
    content, really = content_of(path), os.open

    def read_only(name: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT and Path(name).parent == path.parent:
            raise OSError(30, "Read-only file system")
        return really(name, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert [number(await credentials.headers()) for _ in range(2)] == [2, 2]
    assert len(endpoint.requests) == 1
    assert "Read-only file system" in caplog.text
    assert os.listdir(path.parent) == ["auth.json"]
    assert content_of(path) == content
