"""Locks that processes see of each other; two of ours on one file behave as two processes do."""

import errno
import fcntl
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi import locks
from ccr_asgi.locks import LockTimeout, file_lock, file_lock_in_thread


async def test_only_one_has_it(tmp_path: Path) -> None:
    path = tmp_path / "auth.lock"
    async with file_lock(path, 1):
        with pytest.raises(LockTimeout, match=r"another process has held .*auth\.lock for 0 s"):
            async with file_lock(path, 0):
                raise AssertionError
        with pytest.raises(LockTimeout), file_lock_in_thread(path, 0):
            raise AssertionError
    async with file_lock(path, 0):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_coroutine_gets_it_when_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "auth.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    threading.Timer(0.05, os.close, (descriptor,)).start()
    async with file_lock(path, 10):
        pass


def test_a_thread_gets_it_when_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "auth.lock"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    threading.Timer(0.05, os.close, (descriptor,)).start()
    with file_lock_in_thread(path, 10):
        pass


async def test_where_no_file_can_be_made_nobody_is_waited_for(tmp_path: Path) -> None:
    async with file_lock(tmp_path / "absent" / "auth.lock", 0), file_lock(tmp_path / "absent" / "auth.lock", 0):
        pass


async def test_a_file_system_without_locks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    async with file_lock(tmp_path / "auth.lock", 0), file_lock(tmp_path / "auth.lock", 0):
        pass


def test_windows_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Windows:
        platform = "win32"

        def __getattr__(self, name: str) -> Any:
            return getattr(sys, name)

    monkeypatch.setattr(locks, "sys", Windows())
    with file_lock_in_thread(tmp_path / "auth.lock", 0), file_lock_in_thread(tmp_path / "auth.lock", 0):
        pass
