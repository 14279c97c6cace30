"""Locks that other processes see: flock on a file beside the one that is guarded, as the Codex CLI takes them.

The file stays when the lock is given back. In a folder where no file can be made nobody else can make one either, so
there the lock is taken for granted; so it is on Windows and on file systems without locks.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

POLL_S = 0.02


class LockTimeout(TimeoutError):
    """Another process has held the lock for too long."""


@asynccontextmanager
async def file_lock(path: Path, patience_s: float) -> AsyncIterator[None]:
    """Hold the lock while the block runs; the event loop goes on while it is waited for.

    Raises:
        LockTimeout: It was not to be had within `patience_s` seconds.
    """
    lock = _Lock(path, patience_s)
    try:
        while not lock.is_taken():  # noqa: ASYNC110  # whoever holds it is another process: it sets no event of ours
            await asyncio.sleep(POLL_S)
        yield
    finally:
        lock.release()


@contextmanager
def file_lock_in_thread(path: Path, patience_s: float) -> Iterator[None]:
    """The same for a thread that may block."""
    lock = _Lock(path, patience_s)
    try:
        while not lock.is_taken():
            time.sleep(POLL_S)
        yield
    finally:
        lock.release()


class _Lock:
    def __init__(self, path: Path, patience_s: float) -> None:
        self._path = path
        self._patience_s = patience_s
        self._deadline_s = time.monotonic() + patience_s
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            self._descriptor = -1

    def is_taken(self) -> bool:
        """Whether we have it now; raises LockTimeout when it is too late."""
        if self._descriptor < 0 or _try_lock(self._descriptor):
            return True
        if time.monotonic() > self._deadline_s:
            raise LockTimeout(f"another process has held {self._path} for {self._patience_s:g} s")
        return False

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)  # which also gives the lock back


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that knows no locks
        return True
    return True
