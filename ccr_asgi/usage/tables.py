"""The tables and views of the usage database, as SQLAlchemy Core; docs/usage-schema.md says the same to its readers.

**Time** is ISO 8601 text in UTC, always 24 characters (`2026-01-31T09:30:00.123Z`). Text of one shape sorts as time
does, so a range is a plain comparison of the column that the index holds, through the view as well:
`started_at >= '2026-01-31'` reads as it is meant, on SQLite and on PostgreSQL (where the column has the "C" collation,
so that bytes are compared there too). With an integer the view would have to compute the text, in a different way for
each database, and no index would help a query on the view. `substr(started_at, 1, 10)` is the day and `…, 1, 13)` the
hour.

**Money** is in integer micro-dollars (1,000,000 = 1 USD). NULL means "no price", which is never 0. **Tokens** are whole
tokens in disjoint parts; NULL means that the provider did not tell. **Durations** are in milliseconds.

The tables are changed by migrations alone (`migrations/versions`); a view only ever gains columns, at its end.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

from ccr_asgi.usage.record import UsageRecord

SCHEMA_REVISION = "0001"
"""The newest revision in `migrations/versions`: known here so that a start need not import Alembic to compare."""

MAX_TEXT_CHARS = 500
"""A longer text (a client may name a model of 30 MB) is cut: the row is worth more than the end of the name."""

MAX_COUNT = 2**31 - 1
"""The largest number of a PostgreSQL integer column; a sum of such counts is still exact in 64 bits."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_Moment = Text().with_variant(Text(collation="C"), "postgresql")

requests = Table(
    "requests",
    metadata,
    Column(
        "id", Text, primary_key=True, doc="Our id of the request; `request-id` of the answers that we write ourselves"
    ),
    Column("started_at", _Moment, nullable=False, doc="When the request line was received, UTC, to the millisecond"),
    Column("provider", Text, doc="The provider that answered; NULL if none was asked"),
    Column("requested_model", Text, doc="The model that the client named; NULL if the body was unusable"),
    Column("model", Text, doc="The model that answered, as the provider names it; else the one asked for upstream"),
    Column("route_reason", Text, doc="Why this provider: default, tag, model-pair or model-name"),
    Column("agent_id", Text, doc="Claude Code's id of the agent"),
    Column("parent_agent_id", Text, doc="Claude Code's id of the agent that started it"),
    Column("session_id", Text, doc="Claude Code's id of the session"),
    Column("project", Text, doc="The project's folder name or label"),
    Column("streamed", Boolean, nullable=False, doc="The client asked for a stream"),
    Column("status", Integer, doc="The HTTP status that the client got; NULL if it left before any"),
    Column("outcome", Text, nullable=False, doc="ok, error, cancelled or truncated"),
    Column("stop_reason", Text, doc="Anthropic's stop_reason"),
    Column("error_type", Text, doc="Anthropic's error type, when the outcome is error"),
    Column("input_tokens", Integer, doc="Input tokens neither read from nor written to a cache"),
    Column("cache_read_tokens", Integer, doc="Input tokens read from the cache"),
    Column("cache_write_5m_tokens", Integer, doc="Input tokens written to the cache for 5 minutes"),
    Column("cache_write_1h_tokens", Integer, doc="Input tokens written to the cache for 1 hour"),
    Column("output_tokens", Integer, doc="Output tokens, reasoning included"),
    Column("reasoning_tokens", Integer, doc="The part of output_tokens spent on reasoning"),
    Column("ttft_ms", Double, doc="Milliseconds to the first content; NULL if none came"),
    Column("duration_ms", Double, nullable=False, doc="Milliseconds to the last byte"),
    Column("attempts", Integer, nullable=False, doc="Links of the fallback chain that were tried; 1 = no fallback"),
    Column("resends", Integer, nullable=False, doc="Times the request was sent again within a link"),
    Column("estimated", Boolean, nullable=False, doc="The token counts are a local estimate"),
    Column("subscription", Boolean, nullable=False, doc="Paid by a subscription, so billed 0"),
    Column("billed_micro_usd", BigInteger, doc="What the request cost, micro-dollars; NULL = no price"),
    Column("list_micro_usd", BigInteger, doc="Its value at list price, micro-dollars; NULL = no price"),
    Column(
        "saved_micro_usd", BigInteger, doc="Saved against the Claude model asked for, micro-dollars; NULL = no price"
    ),
    CheckConstraint("length(started_at) = 24", name="started_at"),
    CheckConstraint("outcome IN ('ok', 'error', 'cancelled', 'truncated')", name="outcome"),
    Index(None, "started_at"),
    Index(None, "model", "started_at"),
)

VIEWS = {
    "v_requests": """
CREATE VIEW v_requests AS
SELECT id, started_at, provider, requested_model, model, agent_id, parent_agent_id, session_id, project, streamed,
       status, outcome, stop_reason, error_type,
       input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
       ttft_ms, duration_ms, attempts, resends, estimated,
       billed_micro_usd / 1000000.0 AS billed_usd,
       list_micro_usd / 1000000.0 AS list_usd,
       saved_micro_usd / 1000000.0 AS saved_usd
FROM requests
""".strip()
}
"""Each view and the statement that makes it in its newest form."""

_columns = requests.columns.keys()

INSERT_REQUEST = (
    f"INSERT INTO requests ({', '.join(_columns)}) "  # noqa: S608 -- made of the column names above
    f"VALUES ({', '.join(f':{name}' for name in _columns)}) ON CONFLICT (id) DO NOTHING"
)
"""Stores what `row_values` makes; a row that is there already stays, so a commit in doubt may be made again.

Plain text, since the standard library's sqlite3 runs it too, at the interpreter's exit.
"""


def row_values(record: UsageRecord) -> dict[str, object]:
    """The `requests` row of `record`. Nothing that a client or a provider wrote into it can make it unfit to store."""
    tokens = record.tokens
    return {
        "id": storable(record.id),
        "started_at": iso_utc(record.started_at),
        "provider": storable(record.provider),
        "requested_model": storable(record.requested_model),
        "model": storable(record.model),
        "route_reason": storable(record.route_reason),
        "agent_id": storable(record.agent_id),
        "parent_agent_id": storable(record.parent_agent_id),
        "session_id": storable(record.session_id),
        "project": storable(record.project),
        "streamed": record.streamed,
        "status": record.status,
        "outcome": record.outcome,
        "stop_reason": storable(record.stop_reason),
        "error_type": storable(record.error_type),
        "input_tokens": storable_count(tokens.input),
        "cache_read_tokens": storable_count(tokens.cache_read),
        "cache_write_5m_tokens": storable_count(tokens.cache_write_5m),
        "cache_write_1h_tokens": storable_count(tokens.cache_write_1h),
        "output_tokens": storable_count(tokens.output),
        "reasoning_tokens": storable_count(tokens.reasoning),
        "ttft_ms": None if record.ttft_ms is None else round(record.ttft_ms, 3),
        "duration_ms": round(record.duration_ms, 3),
        "attempts": record.attempts,
        "resends": record.resends,
        "estimated": record.estimated,
        "subscription": record.subscription,
        "billed_micro_usd": 0 if record.subscription else None,
        "list_micro_usd": None,
        "saved_micro_usd": None,
    }


def iso_utc(moment: datetime) -> str:
    """An aware `moment` as the database writes it: UTC, milliseconds, 24 characters."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def storable(text: str | None) -> str | None:
    """`text` without what a database refuses (lone surrogates; NUL, on PostgreSQL), and of bounded length."""
    if text is None:
        return None
    return text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def storable_count(count: int | None) -> int | None:
    """`count`, or None where it is no count that a provider can have meant (negative, over 2,147,483,647)."""
    return count if count is not None and 0 <= count <= MAX_COUNT else None
