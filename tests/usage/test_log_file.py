"""Rows in the original's usage.jsonl: its keys, its units, and an id by which an import knows them."""

import asyncio
import json
import logging
import stat
from pathlib import Path

import pytest

from ccr_asgi.usage.log_file import LogFile, legacy_line
from ccr_asgi.usage.record import Tokens
from tests.usage.records import record


def test_a_line_has_the_originals_keys() -> None:
    line = legacy_line(record("req_7"))
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "timestamp": "2026-01-31T09:30:00.123Z",
        "provider": "cerebras",
        "model": "gpt-oss-120b",
        "inputTokens": 10,
        "outputTokens": 50,
        "cacheReadTokens": 20,
        "cacheCreationTokens": 70,
        "totalTokens": 150,
        "id": "req_7",
        "cacheCreation1hTokens": 40,
    }


@pytest.mark.parametrize("outcome", ["error", "cancelled", "truncated"])
def test_an_outcome_that_is_not_ok_is_said(outcome: str) -> None:
    assert json.loads(legacy_line(record(outcome=outcome)))["outcome"] == outcome


@pytest.mark.parametrize(
    ("tokens", "written"),
    [(Tokens(), 0), (Tokens(cache_write_5m=3), 3), (Tokens(cache_write_1h=4), 4), (Tokens(0, 0, 0, 0, 0, 9), 0)],
)
def test_what_was_not_told_is_0(tokens: Tokens, written: int) -> None:
    line = json.loads(legacy_line(record(tokens=tokens, provider=None, model=None)))
    assert (line["cacheCreationTokens"], line["totalTokens"]) == (written, written)
    assert (line["provider"], line["model"]) == (None, None)


def test_no_name_can_forge_a_line() -> None:
    line = legacy_line(record(model='x"}\n{"id": "forged"}\ud83d', provider="\u2028\r"))
    assert line.count(b"\n") == 1
    assert json.loads(line)["id"] == "req_1"


async def test_rows_are_appended_to_a_file_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "usage.jsonl"
    log = LogFile(str(path))
    await log.append([record("a"), record("b")])
    await log.append([record("c")])
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == ["a", "b", "c"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_stands_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_text('{"old": 1}\n')
    path.chmod(0o640)
    await LogFile(str(path)).append([record("a")])
    assert path.read_bytes().splitlines()[0] == b'{"old": 1}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_writers_at_once_leave_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    logs = [LogFile(str(path)) for _ in range(4)]
    rows = [[record(f"{number}-{row}") for row in range(20)] for number in range(4)]
    await asyncio.gather(*(log.append(some) for log, some in zip(logs, rows, strict=True)))
    ids = {json.loads(line)["id"] for line in path.read_bytes().splitlines()}
    assert ids == {row.id for some in rows for row in some}


async def test_a_failure_is_logged_once_until_it_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file where the folder should be")
    log = LogFile(str(folder / "usage.jsonl"))
    with caplog.at_level(logging.ERROR, "ccr_asgi"):
        await log.append([record("a")])
        await log.append([record("b")])
        assert len(caplog.records) == 1
        assert str(folder / "usage.jsonl") in caplog.text
        folder.unlink()
        await log.append([record("c")])
        assert len(caplog.records) == 1
        (folder / "usage.jsonl").unlink()
        folder.rmdir()
        folder.write_text("")
        await log.append([record("d")])
        assert len(caplog.records) == 2
