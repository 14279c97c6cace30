"""A turn makes the same row whether it is played, through the server and the providers, or written down as history."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ccr_asgi.demo import Demo
from ccr_asgi.demo.cast import FAULTS
from ccr_asgi.demo.history import row_of
from ccr_asgi.demo.story import REFUSAL_MS, Reply, Turn, live, seeded
from ccr_asgi.demo.traffic import asked, new_client, send
from ccr_asgi.usage.rows import attempt_rows, request_row
from ccr_asgi.usage.valuation import Valuer
from tests.demo.conftest import PACE
from tests.integration.claude import row_of as stored_row
from tests.support.server import read_rows

MEASURED = {"id", "upstream_request_id", "started_at", "ttft_ms", "duration_ms"}
LONG_MS = 20_000 / PACE
"""An answer that takes 20 s at the pace of these tests: nobody stays until its end."""
ESTIMATED = {"input_tokens", "output_tokens"}
"""What the server makes of a prompt's length, which here is short whatever the story says."""


@pytest.fixture(autouse=True)
def _no_cooldowns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccr_asgi.middleware.routing.Cooldowns.rest", lambda *_: None)  # turns must not meet


def kinds_of_answers() -> dict[str, Turn]:
    """A turn of each kind that ends well."""
    found: dict[str, Turn] = {}
    for turn in islice(live(seeded("played", 1)), 1000):
        if turn.reply.status == 200 and turn.leaves_ms is None and not turn.reply.breaks_off:
            what = ("whole", "streamed")[turn.streamed], "thinks" * turn.reply.thinks, turn.reply.calls or ""
            agent = f"{turn.agent.name if turn.agent else 'main'}{' of another' if turn.parent_agent_id else ''}"
            found.setdefault(" ".join((agent, turn.model.name, *filter(None, what))), turn)
    return found


def kinds_of_faults() -> dict[str, Turn]:
    """A turn of each kind that does not, for every model."""
    models = {turn.model.name: turn for turn in kinds_of_answers().values() if turn.streamed}
    found: dict[str, Turn] = {}
    for name, turn in models.items():
        for status in set(FAULTS[turn.model.provider]):
            refused = Reply(status, duration_ms=REFUSAL_MS)
            if turn.model.fallback is not None:
                refused = msgspec.structs.replace(turn.reply, status=status, refused_by=turn.model.provider)
            found[f"{name} {status}"] = replace(turn, reply=refused)
        lasting = msgspec.structs.replace(turn.reply, duration_ms=LONG_MS)
        found[f"{name} left"] = replace(turn, reply=lasting, leaves_ms=LONG_MS / 2)
        if turn.model.provider == "anthropic":
            found[f"{name} broken off"] = replace(turn, reply=msgspec.structs.replace(turn.reply, breaks_off=True))
    return found


async def play(client: httpx.AsyncClient, turn: Turn) -> None:
    """Send a turn; a client that is to leave does so at the first content, however long that takes to come."""
    if turn.leaves_ms is None:
        await send(client, turn, pace=PACE)
        return
    async with asked(client, turn) as answer:
        seen = b""
        async for piece in answer.aiter_raw():
            seen += piece
            if b"content_block_delta" in seen:
                return
    raise AssertionError(f"it ended before its client left: {seen!r}")


TURNS = kinds_of_answers() | kinds_of_faults()


def test_the_turns_are_all_there_are() -> None:
    assert len(kinds_of_answers()) >= 12
    assert len(kinds_of_faults()) >= 15


async def test_a_played_turn_is_a_written_one(demo: Demo) -> None:
    database = Path(demo.config.usage.database)
    value = Valuer(demo.config.providers, demo.config.usage.costs).value
    turns = {name: replace(turn, session_id=f"session of {name}") for name, turn in TURNS.items()}
    async with new_client(demo.url) as client:
        await asyncio.gather(*(play(client, turn) for turn in turns.values()))
    for name, turn in turns.items():
        stored = await asyncio.to_thread(stored_row, database, turn.session_id)
        written = row_of(turn, datetime.now(UTC), stored["id"])
        expected = request_row(written, value(written))
        compared = expected.keys() & stored.keys() - MEASURED - (ESTIMATED if written.estimated else set())
        differences = {key: (stored[key], expected[key]) for key in compared if stored[key] != expected[key]}
        assert not differences, f"{name}: {differences}"
        assert (stored["ttft_ms"] is None) == (expected["ttft_ms"] is None), name
        assert _attempts(database, stored["id"]) == [
            (row["provider"], row["model"], row["status"], row["error_type"]) for row in attempt_rows(written)
        ], name


def _attempts(database: Path, request_id: str) -> list[tuple[Any, ...]]:
    query = f"select * from attempts where request_id = '{request_id}' order by position"  # noqa: S608 -- our own id
    return [(row["provider"], row["model"], row["status"], row["error_type"]) for row in read_rows(database, query)]
