"""The demo's past: turns of the days before, as the rows that the server would have made of them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from ccr_asgi.demo.cast import AGENTS, KINDS
from ccr_asgi.demo.limits import limits
from ccr_asgi.demo.providers import BROKEN_AT
from ccr_asgi.demo.story import REFUSAL_MS, Turn, seeded, session
from ccr_asgi.errors import ERROR_TYPES
from ccr_asgi.formats.openai_errors import STATUSES
from ccr_asgi.usage.quota import parse_quota
from ccr_asgi.usage.record import Attempt, Outcome, Tokens, UsageRecord
from ccr_asgi.usage.store import UsageStore

BATCH_ROWS = 1000

WORKING_HOURS = (8, 19)
"""When sessions begin on past days, UTC."""
RECENT_S = (50 * 60, 3 * 3600, 8 * 3600, 14 * 3600)
"""How long ago some more began, so that the last hours are never empty."""


async def history(store: UsageStore, *, days: int, seed: int, now: datetime) -> int:
    """Store the requests of the `days` before `now` (aware), oldest first; return how many they are.

    The same arguments make the same rows. `store` is open.
    """
    rows = rows_of_days(days, seed, now)
    for start in range(0, len(rows), BATCH_ROWS):
        await store.insert(rows[start : start + BATCH_ROWS])
    return len(rows)


def rows_of_days(days: int, seed: int, now: datetime) -> list[UsageRecord]:
    """The rows that `history` stores."""
    chance = seeded("history", seed)
    rows: list[UsageRecord] = []
    for number, begin in enumerate(_begins(chance, days, now) if days else ()):
        for turn in session(chance, AGENTS[number % len(AGENTS)]):
            started_at = begin + timedelta(seconds=turn.begins_s)
            row = row_of(turn, started_at, f"req_ccr_{chance.getrandbits(96):024x}")
            if started_at + timedelta(seconds=turn.lasts_s) < now:
                rows.append(row)
    return sorted(rows, key=lambda row: (row.started_at, row.id))


def row_of(turn: Turn, started_at: datetime, request_id: str) -> UsageRecord:
    """The row that the server makes of `turn`."""
    model, (outcome, status) = turn.answered_by, (_outcome(turn), _status(turn))
    attempts = _attempts(turn)
    return UsageRecord(
        id=request_id,
        started_at=started_at,
        provider=model.provider,
        requested_model=turn.asked_model,
        model=model.name,
        route_reason=_route_reason(turn),
        agent_id=turn.agent_id,
        parent_agent_id=turn.parent_agent_id,
        session_id=turn.session_id,
        project=turn.project,
        streamed=turn.streamed,
        status=status,
        outcome=outcome,
        stop_reason=("tool_use" if turn.reply.calls else "end_turn") if outcome == "ok" else None,
        error_type=ERROR_TYPES[status] if outcome == "error" else None,
        tokens=_tokens(turn, outcome),
        ttft_ms=turn.reply.ttft_ms + _refusal_ms(turn) if turn.streamed and outcome != "error" else None,
        duration_ms=_duration_ms(turn, outcome),
        attempts=max(1, len(attempts)),
        resends=0,
        estimated=_is_estimated(turn, outcome),
        subscription=model.provider in ("anthropic", "codex"),
        attempt_log=attempts,
        quota=parse_quota(model.provider, limits(model.provider, started_at), started_at),
    )


def _route_reason(turn: Turn) -> str:
    if turn.answered_by is not turn.model:
        return "fallback"
    return "tag" if turn.agent is not None and turn.agent.tagged else "default"


def _attempts(turn: Turn) -> tuple[Attempt, ...]:
    """The links that were tried, where one did not do."""
    asked, answering = turn.model, turn.answered_by
    if asked is answering:
        return ()
    status = STATUSES.get(turn.reply.status, 502)
    return (
        Attempt(asked.provider, asked.name, status, ERROR_TYPES[status], 0.0, REFUSAL_MS),
        Attempt(answering.provider, answering.name, 200, None, REFUSAL_MS, turn.reply.duration_ms),
    )


def _refusal_ms(turn: Turn) -> float:
    """What a fallback costs in time."""
    return 0.0 if turn.answered_by is turn.model else REFUSAL_MS


def _outcome(turn: Turn) -> Outcome:
    if turn.reply.refuses(turn.answered_by.provider):
        return "error"
    if turn.leaves_ms is not None:
        return "cancelled"
    return "truncated" if turn.reply.breaks_off else "ok"


def _status(turn: Turn) -> int:
    """What the client gets: Anthropic's own status, or what a converter makes of another provider's."""
    status = turn.reply.status
    if not turn.reply.refuses(turn.answered_by.provider):
        return 200
    return status if _is_claude(turn) else STATUSES.get(status, 502)


def _is_claude(turn: Turn) -> bool:
    return KINDS[turn.answered_by.provider] == "anthropic"


def _is_estimated(turn: Turn, outcome: Outcome) -> bool:
    """Whether the usage never came: Anthropic tells what went in at once, the others tell all at the end."""
    return outcome == "cancelled" and not _is_claude(turn)


def _tokens(turn: Turn, outcome: Outcome) -> Tokens:
    reply = turn.reply
    if outcome == "error":
        return Tokens()
    if _is_estimated(turn, outcome):
        return Tokens(input=reply.input_tokens + reply.cache_read_tokens, cache_read=0, output=reply.output_tokens // 2)
    return Tokens(
        input=reply.input_tokens,
        cache_read=reply.cache_read_tokens,
        cache_write_5m=reply.cache_write_5m_tokens,
        cache_write_1h=reply.cache_write_1h_tokens,
        output=reply.output_tokens if outcome == "ok" else 1,  # what Anthropic says at the start
        reasoning=None if _is_claude(turn) else reply.reasoning_tokens,
    )


def _duration_ms(turn: Turn, outcome: Outcome) -> float:
    reply = turn.reply
    if turn.leaves_ms is not None:
        return turn.leaves_ms
    if outcome == "truncated":
        return reply.ttft_ms + (reply.duration_ms - reply.ttft_ms) * BROKEN_AT
    return reply.duration_ms + _refusal_ms(turn)


def _begins(chance: Random, days: int, now: datetime) -> Iterator[datetime]:
    """When sessions begin: more on working days, and some in the last hours."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for ago in range(days, -1, -1):
        day = midnight - timedelta(days=ago)
        for _ in range(chance.randint(0, 1) if day.weekday() >= 5 else chance.randint(2, 6)):
            begin = day + timedelta(hours=chance.uniform(*WORKING_HOURS))
            if now - timedelta(days=days) <= begin < now:
                yield begin
    for ago_s in RECENT_S:
        yield now - timedelta(seconds=ago_s + chance.uniform(0, 300))
