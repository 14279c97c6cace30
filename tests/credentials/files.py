"""Login files for tests in coroutines, a disk that fills up, and a look into what credentials gave."""

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.codex_login import number_of

EXPIRED_S = -1.0
DUE_S = 30.0


def put(path: Path, content: bytes) -> None:
    """Write a file in place."""
    path.write_bytes(content)


def rewrite(path: Path, document: Any) -> None:
    """Write a JSON file in place."""
    put(path, json.dumps(document).encode())


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def written(path: Path) -> dict[str, Any]:
    """What a JSON file holds."""
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_link(path: Path) -> bool:
    return path.is_symlink()


def is_there(path: Path) -> bool:
    return path.exists()


def remove(path: Path) -> None:
    path.unlink()


def number(headers: list[tuple[bytes, bytes]]) -> int:
    """Which login these headers are of."""
    return number_of(dict(headers)[b"authorization"])


async def begun(*tasks: asyncio.Task[Any]) -> None:
    """Let the event loop turn until these tasks, and those that they start, wait for something outside of it."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


class FullDisk:
    """No file can be replaced while `is_full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        self.tries = 0
        self._replace = os.replace
        monkeypatch.setattr(os, "replace", self.replace)

    def replace(self, source: str, target: Path) -> None:
        self.tries += 1
        if self.is_full:
            raise OSError(28, "No space left on device")
        self._replace(source, target)
