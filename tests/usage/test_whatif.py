"""What-if: only what the other table names is moved, and what is moved is priced as what answers there would be."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ccr_asgi.pricing import Valuation
from ccr_asgi.usage import repricing
from ccr_asgi.usage.record import Tokens, UsageRecord
from ccr_asgi.usage.repricing import Selection, Sums
from ccr_asgi.usage.store import UsageStore
from ccr_asgi.usage.whatif import By, Group, Move, total, what_if
from tests.usage.records import record

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
RATES = {"claude-haiku-4-5": 100, "gpt-oss-120b": 10, "zai-glm-4.7": 20}


def worth(row: UsageRecord) -> Valuation:
    """So much for each token that is no cache read, one for those, and half of it saved; gpt-6 has no price."""
    rate = RATES.get(row.model or "")
    if rate is None:
        return Valuation(0 if row.subscription else None)
    listed = rate * ((row.tokens.input or 0) + (row.tokens.output or 0)) + (row.tokens.cache_read or 0)
    return Valuation(0 if row.subscription else listed, listed, listed // 2)


def row(row_id: str, model: str | None, **changes: Any) -> UsageRecord:
    tokens = Tokens(input=1, cache_read=8, output=1)
    told: dict[str, Any] = {"started_at": NOON, "tokens": tokens, "requested_model": "claude-haiku-4-5", **changes}
    return record(row_id, model=model, **told)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(tmp_path / "usage.db", value=worth)
    await store.start()
    claude: dict[str, Any] = {"provider": "anthropic", "agent_id": None}
    await store.insert(
        [
            row("1", "claude-haiku-4-5", **claude),
            row(
                "2", "claude-haiku-4-5", **claude, subscription=True, started_at=NOON + timedelta(hours=11, minutes=30)
            ),
            row("3", "gpt-oss-120b"),
            row("4", None, provider=None, tokens=Tokens(), outcome="error"),
        ]
    )
    yield store
    await store.stop()


async def ask(store: UsageStore, *moves: str, by: By = "model", **more: Any) -> dict[str | None, Group]:
    parsed = [Move.parse(text) for text in moves]
    selection = more.pop("selection", Selection())
    groups = await what_if(store, worth, parsed, selection, by=by, **{"zone": UTC, **more})
    return {group.name: group for group in groups}


async def test_what_is_moved_is_priced_anew_and_all_else_stays(store: UsageStore) -> None:
    found = await ask(store, "haiku=cerebras,gpt-oss-120b")
    assert found == {
        None: Group(None, requests=1),
        "claude-haiku-4-5": Group(
            "claude-haiku-4-5",
            requests=2,
            moved=2,
            tokens=20,
            now=Sums(208, 416, 208),
            then=Sums(56, 56, 28),
            without_cache=Sums(200, 200, 100),
        ),
        "gpt-oss-120b": Group(
            "gpt-oss-120b",
            requests=1,
            now=Sums(28, 28, 14),
            then=Sums(28, 28, 14),
            without_cache=Sums(28, 28, 14),
        ),
    }


async def test_the_sums_of_all_groups_are_the_whole(store: UsageStore) -> None:
    whole = total(list((await ask(store, "haiku=codex,gpt-6")).values()))
    assert asdict(whole) == asdict(
        Group(None, 4, 2, 20, Sums(236, 444, 222), Sums(28, 28, 14, unpriced=2), Sums(28, 28, 14, unpriced=2))
    )


async def test_a_subscription_bills_nothing(store: UsageStore) -> None:
    found = await ask(store, "gpt-oss*=anthropic", subscriptions={"anthropic"})
    assert found["gpt-oss-120b"].then == Sums(0, 208, 104), "the model that was asked for answers"


async def test_the_first_move_that_fits_counts(store: UsageStore) -> None:
    moves = ("nobody,*=codex,gpt-6", "cerebras,*=cerebras,zai-glm-4.7", "gpt-oss-120b=codex,gpt-6")
    found = await ask(store, *moves)
    assert [group.moved for group in found.values()] == [0, 0, 1]
    assert found["gpt-oss-120b"].then.list_micro_usd == 48


@pytest.mark.parametrize(
    ("by", "zone", "names"),
    [
        ("day", UTC, {"2026-01-31": 4}),
        ("day", timezone(timedelta(hours=1)), {"2026-01-31": 3, "2026-02-01": 1}),
        ("agent", UTC, {None: 2, "agent-1": 2}),
    ],
)
async def test_requests_are_grouped(store: UsageStore, by: By, zone: Any, names: dict[str | None, int]) -> None:
    found = await ask(store, "haiku=cerebras,gpt-oss-120b", by=by, zone=zone)
    assert {name: group.requests for name, group in found.items()} == names


async def test_requests_are_selected(store: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "ROWS_PER_PAGE", 1)
    told: list[tuple[int, int]] = []
    selection = Selection(since=NOON, agent_id="agent-1")
    found = await ask(
        store, "gpt-oss=codex,gpt-6", selection=selection, advanced=lambda done, all_: told.append((done, all_))
    )
    assert {name: (group.requests, group.moved) for name, group in found.items()} == {
        None: (1, 0),
        "gpt-oss-120b": (1, 1),
    }
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("text", ["", "haiku", "haiku=", "=cerebras,m", "cerebras,=codex,m"])
def test_a_move_is_written_in_one_way(text: str) -> None:
    with pytest.raises(ValueError, match="accepted is MODEL=PROVIDER,MODEL"):
        Move.parse(text)


def test_a_move_says_what_it_means() -> None:
    assert Move.parse(" haiku = cerebras , gpt-oss-120b ") == Move(None, "haiku", "cerebras", "gpt-oss-120b")
    assert Move.parse("codex,gpt-*=anthropic") == Move("codex", "gpt-*", "anthropic", None)
