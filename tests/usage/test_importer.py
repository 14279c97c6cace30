"""usage.jsonl into the database: each line once, whatever the file looks like, and nothing that it does not say."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccr_asgi.usage import importer
from ccr_asgi.usage.errors import StoreUnavailable
from ccr_asgi.usage.importer import BadLine, ImportSummary, Occurrences, import_lines, parse_line
from ccr_asgi.usage.log_file import legacy_line
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore
from tests.usage.records import record

ORIGINAL: dict[str, Any] = {
    "timestamp": "2026-01-31T09:30:00.123Z",
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "inputTokens": 10,
    "outputTokens": 50,
    "cacheReadTokens": 20,
    "cacheCreationTokens": 70,
    "totalTokens": 150,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def occurrences() -> Iterator[Occurrences]:
    with closing(Occurrences()) as occurrences:
        yield occurrences


def line(**changes: object) -> bytes:
    """A line of the original's; a value of `...` takes the key away."""
    entry = {key: value for key, value in (ORIGINAL | changes).items() if value is not ...}
    return json.dumps(entry).encode() + b"\n"


def numbered(count: int, first: int = 0) -> bytes:
    return b"".join(line(timestamp=1_769_851_800_000 + number) for number in range(first, first + count))


async def imported(content: bytes, store: UsageStore, **options: Any) -> ImportSummary:
    return await import_lines(BytesIO(content), store, **options)


def read(content: bytes) -> tuple[list[UsageRecord], ImportSummary]:
    """The rows that `content` would become, without a database."""
    summary = ImportSummary()
    with closing(Occurrences()) as occurrences:
        return list(importer._rows(BytesIO(content), summary, (), occurrences)), summary


def counts(summary: ImportSummary) -> tuple[int, int, int, int]:
    return summary.lines, summary.imported, summary.known, summary.bad


def rows(path: Path) -> Sequence[sqlite3.Row]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute("SELECT * FROM requests ORDER BY started_at, id").fetchall()


# What a line becomes


async def test_a_line_of_the_original_invents_nothing(store: UsageStore, path: Path) -> None:
    assert counts(await imported(line(), store)) == (1, 1, 0, 0)
    (row,) = rows(path)
    told = {
        "started_at": "2026-01-31T09:30:00.123Z",
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "outcome": "ok",
        "input_tokens": 10,
        "cache_read_tokens": 20,
        "cache_write_5m_tokens": 70,
        "output_tokens": 50,
        "attempts": 1,
    }
    assert {key: row[key] for key in told} == told
    assert row["id"].startswith("import_")
    others = {key: row[key] for key in row.keys() if key not in told and key != "id"}  # noqa: SIM118 -- Row is no dict
    assert set(others.values()) == {None, 0}
    stand_ins = {"resends", "estimated", "subscription"}
    assert {key for key, value in others.items() if value == 0} == stand_ins


def parsed(occurrences: Occurrences, **changes: object) -> UsageRecord:
    return parse_line(line(**changes), (), occurrences)


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, Tokens(input=10, cache_read=20, cache_write_5m=70, output=50)),
        ({"inputTokens": 0}, Tokens(input=0, cache_read=20, cache_write_5m=70, output=50)),
        ({"inputTokens": ..., "cacheReadTokens": None}, Tokens(cache_write_5m=70, output=50)),
        # The original knew nothing of a converted provider's input.
        (
            {"provider": "cerebras", "inputTokens": 0, "cacheReadTokens": 0, "cacheCreationTokens": 0},
            Tokens(output=50),
        ),
        ({"provider": "cerebras", "cacheCreationTokens": 0}, Tokens(input=10, cache_read=20, output=50)),
        # Our own file: 0 as it was written.
        (
            {"provider": "cerebras", "inputTokens": 0, "cacheReadTokens": 0, "cacheCreationTokens": 0, "id": "req_1"},
            Tokens(input=0, cache_read=0, cache_write_5m=0, output=50),
        ),
        # A line without any tokens is one where none were told.
        (dict.fromkeys(["inputTokens", "outputTokens", "cacheReadTokens", "cacheCreationTokens"], 0), Tokens()),
        (dict.fromkeys(["inputTokens", "outputTokens", "cacheReadTokens", "cacheCreationTokens"], ...), Tokens()),
    ],
)
def test_a_0_that_was_not_told_is_none(changes: dict[str, Any], tokens: Tokens, occurrences: Occurrences) -> None:
    assert parsed(occurrences, **changes).tokens == tokens


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-01-31T09:30:00.123Z",
        "2026-01-31T10:30:00.123+01:00",
        "2026-01-31 04:00:00.123000-05:30",
        1_769_851_800_123,
        1_769_851_800_123.4,
    ],
)
def test_every_way_to_write_a_time(timestamp: object, occurrences: Occurrences) -> None:
    row = parsed(occurrences, timestamp=timestamp, id="a")
    moment = row.started_at.astimezone(UTC)
    assert moment.replace(microsecond=moment.microsecond // 1000 * 1000) == datetime(
        2026, 1, 31, 9, 30, 0, 123_000, tzinfo=UTC
    )


def test_the_caller_says_what_a_subscription_pays(occurrences: Occurrences) -> None:
    paid = [parse_line(line(provider=name), {"anthropic", "codex"}, occurrences) for name in ("anthropic", "cerebras")]
    assert [row.subscription for row in paid] == [True, False]


def test_a_line_of_ours_may_name_no_provider(occurrences: Occurrences) -> None:
    row = parse_line(line(id="req_1", provider=None, model=None), {"anthropic"}, occurrences)
    assert (row.id, row.provider, row.model, row.outcome, row.attempts) == ("req_1", None, None, "error", 0)
    assert not row.subscription


def test_a_line_may_tell_its_outcome(occurrences: Occurrences) -> None:
    assert parsed(occurrences, id="req_1", outcome="cancelled").outcome == "cancelled"


async def test_what_our_log_file_says_comes_back(store: UsageStore, path: Path) -> None:
    tokens = Tokens(input=10, cache_read=20, cache_write_5m=70, output=50)
    kept = record("req_7", tokens=tokens, model="x\ud83d" + "y" * 600, provider="\u2028\0")
    await imported(legacy_line(kept), store)
    other = UsageStore(path.with_name("other.db"))
    await other.start()
    await other.insert([kept])
    await other.stop()
    (row,), (wanted,) = rows(path), rows(path.with_name("other.db"))
    said = [key for key in row.keys() if key.endswith("_tokens") or key in ("id", "started_at", "provider", "model")]  # noqa: SIM118 -- as above
    assert {key: row[key] for key in said} == {key: wanted[key] for key in said} | {"reasoning_tokens": None}


# Each line once


async def test_the_same_file_adds_nothing_twice(store: UsageStore, path: Path) -> None:
    content = numbered(5) + line() * 3 + legacy_line(record("req_1"))
    assert counts(await imported(content, store)) == (9, 9, 0, 0)
    before = [tuple(row) for row in rows(path)]
    assert counts(await imported(content, store)) == (9, 0, 9, 0)
    assert [tuple(row) for row in rows(path)] == before


async def test_a_longer_version_adds_only_what_is_new(store: UsageStore, path: Path) -> None:
    await imported(line() * 2 + numbered(2), store)
    assert counts(await imported(line() * 2 + numbered(2) + line() + numbered(3, first=2), store)) == (8, 4, 4, 0)
    assert len(rows(path)) == 8


async def test_rows_that_we_wrote_are_known_by_their_id(store: UsageStore, path: Path) -> None:
    await store.insert([record("req_1")])
    summary = await imported(legacy_line(record("req_1")) + legacy_line(record("req_2")), store)
    assert counts(summary) == (2, 1, 1, 0)
    assert [row["duration_ms"] for row in rows(path) if row["id"] == "req_1"] == [2000.0]


async def test_a_line_of_ours_tells_again_what_it_was_written_from(store: UsageStore, path: Path) -> None:
    told = record("req_1", outcome="cancelled")
    await imported(legacy_line(told), store)
    (row,) = rows(path)
    assert (row["outcome"], row["cache_write_5m_tokens"], row["cache_write_1h_tokens"]) == ("cancelled", 30, 40)


async def test_an_id_that_comes_twice_is_one_row(store: UsageStore, path: Path) -> None:
    assert counts(await imported(legacy_line(record("req_1")) * 2, store)) == (2, 1, 1, 0)
    assert len(rows(path)) == 1


@pytest.mark.parametrize(
    "form",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\n \n" + content.replace(b"\n", b"\n\n\t\n"),
        lambda content: content.rstrip(b"\n"),
        lambda content: content.replace(b": ", b":").replace(b"{", b" {"),
        lambda content: content.replace(b'"2026-01-31T09:30:00.123Z"', b'"2026-01-31T10:30:00.123+01:00"'),
        lambda content: content.replace(b'"totalTokens"', b'"unknown": [], "totalTokens"'),
    ],
)
async def test_the_form_of_the_file_does_not_matter(form: Any, store: UsageStore) -> None:
    content = line() * 2 + numbered(3)
    await imported(content, store)
    assert counts(await imported(form(content), store)) == (5, 0, 5, 0)


@pytest.mark.parametrize("key", ORIGINAL)
async def test_whatever_differs_is_another_line(key: str, store: UsageStore) -> None:
    changed = {"timestamp": 1_769_851_800_124, "provider": "b", "model": "m"}.get(key, 7)
    assert counts(await imported(line() + line(**{key: changed}), store)) == (2, 2, 0, 0)


def test_the_id_of_a_line_is_the_same_in_every_version(occurrences: Occurrences) -> None:
    # If this fails, whoever imports a file once more gets every row twice.
    found = [parsed(occurrences).id for _ in range(2)]
    assert found == ["import_402583359e168535a4777cb8cc6356cc", "import_76d916ee4f96c4a5f113b5c0dd448ef0"]


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 12))
def test_occurrences_name_lines_alike_in_every_longer_version(numbers: list[int], cut: int) -> None:
    def ids(some: list[int]) -> list[str]:
        with closing(Occurrences()) as occurrences:
            return [parsed(occurrences, outputTokens=number).id for number in some]

    all_ids = ids(numbers)
    assert len(set(all_ids)) == len(numbers)
    assert ids(numbers[:cut]) == all_ids[:cut]


async def test_an_import_that_was_broken_off_is_completed(
    store: UsageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "ROWS_PER_TRANSACTION", 10)
    content = numbered(35)

    def break_off(summary: ImportSummary) -> None:
        if summary.imported == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await imported(content, store, advanced=break_off)
    assert len(rows(path)) == 20
    assert counts(await imported(content, store)) == (35, 15, 20, 0)


# Bad lines


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{\n", "not JSON"),
        (b'{"a": 1}}\n', "not JSON"),
        (b"\xff\xfe{}\n", "not JSON"),
        (line(cacheCreation1hTokens=71), "found 71; accepted is a part of cacheCreationTokens, 70"),
        (b"\0\0\0\n", "not JSON"),
        (b"[" * 5000 + b"\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"7\n", "not a JSON object"),
        (line(timestamp=...), "timestamp: found None"),
        (line(timestamp="yesterday"), "timestamp: found 'yesterday'"),
        (line(timestamp="2026-01-31T09:30:00"), "accepted is ISO 8601 with a time zone"),
        (line(timestamp=True), "timestamp: found True"),
        (line(timestamp=[]), "timestamp"),
        (line(timestamp=1_769_851_800), "or milliseconds since 1970, from 2000 to 2099"),
        (line(timestamp=1e300), "timestamp"),
        (line(timestamp=10**400), "timestamp"),
        (line(timestamp="0001-01-01T00:00:00+14:00"), "timestamp"),
        (line(timestamp="9999-12-31T23:59:59-14:00"), "timestamp"),
        (line(provider=...), "provider: found None; accepted is a name"),
        (line(provider=""), "provider: found ''"),
        (line(model=4), "model: found 4"),
        (line(model="", id="req_1"), "model: found ''"),
        (line(inputTokens=-1), "inputTokens: found -1; accepted is a whole number from 0 to 2147483647"),
        (line(outputTokens=2**31), "outputTokens: found 2147483648"),
        (line(cacheReadTokens=1.5), "cacheReadTokens: found 1.5"),
        (line(cacheCreationTokens="7"), "cacheCreationTokens: found '7'"),
        (line(totalTokens=True), "totalTokens: found True"),
        (line(id=None), "id: found None; accepted is the id of a row"),
        (line(id=""), "id: found ''"),
        (line(id=7), "id: found 7"),
        (line(id="x" * 501), "id: found 'xxx"),
        (line(id="a\0"), "id: found 'a\\x00'"),
        (line(outcome="fine"), "outcome: found 'fine'; accepted: ok, error, cancelled, truncated"),
        (line(outcome=[]), "outcome: found []"),
        (line(model="x" * 70_000), "longer than 65536 bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_bad_line_is_told_and_the_others_are_kept(bad: bytes, reason: str) -> None:
    good, summary = read(b"\n" + numbered(1) + bad + numbered(1, first=1))
    assert (len(good), summary.lines, summary.bad) == (2, 3, 1)
    ((number, told),) = summary.first_bad
    assert number == 3
    assert reason in told
    assert len(told) < 400
    assert told.isascii()
    assert told.isprintable()


def test_what_is_found_cannot_write_to_the_terminal(occurrences: Occurrences) -> None:
    with pytest.raises(BadLine) as caught:
        parsed(occurrences, timestamp="\x1b[2J\x9b\u202e")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


async def test_bad_lines_are_all_counted_and_the_first_are_told(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "MAX_BAD_LINES_TOLD", 3)
    summary = await imported(b"{\n" * 10 + line(), store)
    assert counts(summary) == (11, 1, 0, 10)
    assert [number for number, _ in summary.first_bad] == [1, 2, 3]


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 131_072, 131_074, 200_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_is_whole_up_to_its_bound(length: int, end: bytes) -> None:
    long = line(provider="x").rstrip()[:-1] + b', "a": "'
    long += b"x" * (length - len(long) - 2) + b'"}'
    assert len(long) == length
    content = numbered(1) + long + end + (numbered(1, first=1) if end else b"")
    found, summary = read(content)
    good = length <= 65_536 - (end == b"\r\n")
    assert (len(found), summary.bad) == (1 + good + bool(end), 1 - good)
    assert summary.read_bytes == len(content)


async def test_nothing_is_nothing(store: UsageStore) -> None:
    assert counts(await imported(b"", store)) == (0, 0, 0, 0)
    assert counts(await imported(b"\xef\xbb\xbf\n\n", store)) == (0, 0, 0, 0)


@given(st.binary(max_size=200))
def test_no_bytes_can_do_more_than_be_bad(content: bytes) -> None:
    found, summary = read(content)
    assert summary.read_bytes == len(content)
    assert len(found) + summary.bad == summary.lines


# Beside others


class Unwilling:
    """A store whose database is locked for the first `times` inserts."""

    def __init__(self, store: UsageStore, times: int) -> None:
        self.reading = store.reading
        self._store = store
        self._times = times

    async def insert(self, some: Sequence[UsageRecord]) -> None:
        self._times -= 1
        if self._times >= 0:
            raise StoreUnavailable("database is locked")
        await self._store.insert(some)


async def test_a_locked_database_is_waited_for(store: UsageStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "RETRY_S", 0)
    unwilling = cast(UsageStore, Unwilling(store, times=3))
    assert counts(await imported(line(), unwilling)) == (1, 1, 0, 0)
    assert len(rows(path)) == 1


async def test_patience_ends(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "RETRY_S", 0)
    monkeypatch.setattr(importer, "PATIENCE_S", -1)
    with pytest.raises(StoreUnavailable, match="locked"):
        await imported(line(), cast(UsageStore, Unwilling(store, times=1)))


async def test_two_imports_of_one_file_at_once_leave_each_row_once(
    store: UsageStore, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "ROWS_PER_TRANSACTION", 7)
    with caplog.at_level(logging.ERROR):
        await asyncio.gather(imported(numbered(50), store), imported(numbered(50), store))
    assert len(rows(path)) == 50


async def test_progress_is_told_after_each_transaction(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "ROWS_PER_TRANSACTION", 2)
    content = numbered(5)
    told: list[int] = []
    await imported(content, store, advanced=lambda summary: told.append(summary.read_bytes))
    width = len(content) // 5
    assert told == [2 * width, 4 * width, 5 * width, 5 * width]
