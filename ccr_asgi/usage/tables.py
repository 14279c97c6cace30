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
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

SCHEMA_REVISION = "0007"
"""The newest revision in `migrations/versions`: known here so that a start need not import Alembic to compare."""

MAX_TEXT_CHARS = 500
"""A longer text (a client may name a model of 30 MB) is cut: the row is worth more than the end of the name."""

MAX_COUNT = 2**31 - 1
"""The largest number of a PostgreSQL integer column; a sum of such counts is still exact in 64 bits."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_Moment = Text().with_variant(Text(collation="C"), "postgresql")

_failed = text("outcome <> 'ok'")

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
    Column("route_reason", Text, doc="Why this provider: default, tag, model-pair, rule, model-name, fallback, budget"),
    Column("agent_id", Text, doc="Claude Code's id of the agent"),
    Column("parent_agent_id", Text, doc="Claude Code's id of the agent that started it"),
    Column("session_id", Text, doc="Claude Code's id of the session"),
    Column("project", Text, doc="The project's folder name or label"),
    Column("streamed", Boolean, doc="The client asked for a stream; NULL if not told"),
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
    Column("duration_ms", Double, doc="Milliseconds to the last byte; NULL if not told"),
    Column("attempts", Integer, nullable=False, doc="Links of the fallback chain that were tried; 1 = no fallback"),
    Column("resends", Integer, nullable=False, doc="Times the request was sent again within a link"),
    Column("estimated", Boolean, nullable=False, doc="The token counts are a local estimate"),
    Column("subscription", Boolean, nullable=False, doc="Paid by a subscription, so billed 0"),
    Column("billed_micro_usd", BigInteger, doc="What the request cost, micro-dollars; NULL = no price"),
    Column("list_micro_usd", BigInteger, doc="Its value at list price, micro-dollars; NULL = no price"),
    Column(
        "saved_micro_usd", BigInteger, doc="Saved against the Claude model asked for, micro-dollars; NULL = no price"
    ),
    Column("price_id", Text, doc="The price in force, in `prices`; NULL = no price"),
    Column("baseline_price_id", Text, doc="The price of the Claude model asked for, in `prices`; NULL = no price"),
    Column("proxy_key", Text, doc="The name of the proxy key that the client gave; NULL if none"),
    Column("upstream_request_id", Text, doc="The provider's own id of the request; NULL if it told none"),
    CheckConstraint("length(started_at) = 24", name="started_at"),
    CheckConstraint("outcome IN ('ok', 'error', 'cancelled', 'truncated')", name="outcome"),
    Index(None, "started_at"),
    Index(None, "model", "started_at"),
    Index(None, "provider", "started_at"),
    Index(None, "agent_id", "started_at"),
    Index(None, "session_id", "started_at"),
    Index(
        "ix_requests_failed",
        *("started_at", "outcome", "status", "error_type", "provider", "model", "agent_id", "session_id", "project"),
        sqlite_where=_failed,
        postgresql_where=_failed,
    ),
)

quota = Table(
    "quota",
    metadata,
    Column("provider", Text, primary_key=True, doc="The provider that told it"),
    Column("window_name", Text, primary_key=True, doc="The limit's name: primary, secondary, 5h, 7d, …; credits"),
    Column("used_percent", Double, doc="How much of it is used, in percent; NULL if not told"),
    Column("window_minutes", Integer, doc="How long the window is, in minutes"),
    Column("resets_at", _Moment, doc="When it begins anew, UTC, to the millisecond"),
    Column("status", Text, doc="The provider's word: allowed, allowed_warning, rejected, …"),
    Column("plan", Text, doc="The subscription's name"),
    Column("credits_balance", Double, doc="Credits that are left, in the provider's own unit"),
    Column("observed_at", _Moment, nullable=False, doc="When the answer came that told it, UTC, to the millisecond"),
    CheckConstraint("length(observed_at) = 24", name="observed_at"),
)

prices = Table(
    "prices",
    metadata,
    Column("id", Text, primary_key=True, doc="Made of all that follows but the last: another price is another row"),
    Column("source", Text, nullable=False, doc="Where the price is from: genai-prices and its version, or config"),
    Column("price_list", Text, nullable=False, doc="Whose list it stands in"),
    Column("model", Text, nullable=False, doc="The model, as that list names it"),
    *(
        Column(f"{part}_usd_per_mtok", Double, doc="USD per million tokens; NULL = no price of its own")
        for part in ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
    ),
    Column("first_used_at", _Moment, nullable=False, doc="When the first request began that was priced by it"),
    CheckConstraint("length(first_used_at) = 24", name="first_used_at"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True, doc="The request"),
    Column("position", Integer, primary_key=True, doc="The link's place in the chain, from 1"),
    Column("provider", Text, nullable=False, doc="The provider that was tried"),
    Column("model", Text, doc="The model that it was asked for"),
    Column("status", Integer, doc="Its HTTP status; NULL if no answer came"),
    Column("error_type", Text, doc="Anthropic's error type, when it failed"),
    Column("started_ms", Double, nullable=False, doc="Milliseconds from the request's start to the try's"),
    Column("duration_ms", Double, nullable=False, doc="Milliseconds that it took"),
)

repricings = Table(
    "repricings",
    metadata,
    Column("request_id", ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True, doc="The request"),
    Column("repriced_at", _Moment, nullable=False, doc="When it was priced anew, UTC, to the millisecond"),
    Column("price_id", Text, doc="The new price, in `prices`"),
    Column("baseline_price_id", Text, doc="The new price of the Claude model asked for, in `prices`"),
    Column("billed_micro_usd", BigInteger, doc="As in `requests`, by the new price"),
    Column("list_micro_usd", BigInteger, doc="As in `requests`, by the new price"),
    Column("saved_micro_usd", BigInteger, doc="As in `requests`, by the new price"),
    CheckConstraint("length(repriced_at) = 24", name="repriced_at"),
)


TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
AMOUNTS = ("billed", "list", "saved")
MONEY_COLUMNS = tuple(f"{amount}_micro_usd" for amount in AMOUNTS)

TTFT_BIN_EDGES_MS = tuple(round(100 * 2 ** (third / 3), 3) for third in range(31))
"""Where one bin of the times to first token ends and the next begins: three to each doubling, from 0.1 s to 102 s."""
TTFT_BINS = tuple(f"ttft_bin_{number:02}" for number in range(len(TTFT_BIN_EDGES_MS) + 1))


def _counter(name: str, doc: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, doc=doc)


rollup = Table(
    "rollup",
    metadata,
    Column("cube", Text, primary_key=True, doc="Whose sums: all, agent, session or project"),
    Column("minutes", Integer, primary_key=True, doc="How long a cell is: 15, 60 or 1440 minutes"),
    Column("name", Text, primary_key=True, doc="The agent, session or project; empty for none, and in the cube all"),
    Column("start", _Moment, primary_key=True, doc="When the cell begins, UTC"),
    Column("provider", Text, primary_key=True, doc="The provider; empty for none"),
    Column("model", Text, primary_key=True, doc="The model; empty for none"),
    Column("main", Boolean, primary_key=True, doc="Requests of a main conversation, which name no agent"),
    _counter("requests", "How many there are"),
    _counter("errors", "Those whose outcome is error"),
    _counter("cancelled", "Those that the client left"),
    _counter("truncated", "Those whose answer broke off"),
    _counter("subscription", "Those that a subscription paid for"),
    _counter("timed", "Those whose time to first token is known"),
    *(_counter(name, "Their sum") for name in (*TOKEN_COLUMNS, *MONEY_COLUMNS)),
    *(_counter(f"{name}_told", f"Those that tell {name}") for name in (*TOKEN_COLUMNS, *MONEY_COLUMNS)),
    *(_counter(f"{amount}_unpriced", f"Those that used tokens and have no {amount} amount") for amount in AMOUNTS),
    *(_counter(name, "Those whose time to first token is in this bin") for name in TTFT_BINS),
    Index(None, "cube", "minutes", "start"),
    sqlite_with_rowid=False,
)


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
