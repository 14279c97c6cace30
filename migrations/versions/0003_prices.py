"""What each request cost: the price in force, the attempts of a chain, prices that came later, and views of sums.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Copies of their day, as all of a migration is: `ccr_asgi.usage.views` goes on without it.
SUMS = """
       COUNT(*) AS requests,
       COUNT(CASE WHEN outcome = 'error' THEN 1 END) AS errors,
       COUNT(CASE WHEN outcome = 'cancelled' THEN 1 END) AS cancelled,
       COUNT(CASE WHEN outcome = 'truncated' THEN 1 END) AS truncated,
       COUNT(CASE WHEN subscription THEN 1 END) AS by_subscription,
       SUM(input_tokens) AS input_tokens,
       SUM(cache_read_tokens) AS cache_read_tokens,
       SUM(cache_write_5m_tokens) AS cache_write_5m_tokens,
       SUM(cache_write_1h_tokens) AS cache_write_1h_tokens,
       SUM(output_tokens) AS output_tokens,
       SUM(reasoning_tokens) AS reasoning_tokens,
       SUM(billed_micro_usd) / 1000000.0 AS billed_usd,
       SUM(list_micro_usd) / 1000000.0 AS list_usd,
       SUM(saved_micro_usd) / 1000000.0 AS saved_usd,
       COUNT(CASE WHEN billed_micro_usd IS NULL AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL) THEN 1 END)
           AS billed_unpriced,
       COUNT(CASE WHEN list_micro_usd IS NULL AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL) THEN 1 END)
           AS list_unpriced,
       COUNT(CASE WHEN saved_micro_usd IS NULL AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL) THEN 1 END)
           AS saved_unpriced
""".strip()

VIEWS = {
    "requests_priced": """
CREATE VIEW requests_priced AS
SELECT requests.id, requests.started_at, requests.provider, requests.requested_model, requests.model,
       requests.route_reason, requests.agent_id, requests.parent_agent_id, requests.session_id, requests.project,
       requests.streamed, requests.status, requests.outcome, requests.stop_reason, requests.error_type,
       requests.input_tokens, requests.cache_read_tokens, requests.cache_write_5m_tokens,
       requests.cache_write_1h_tokens, requests.output_tokens, requests.reasoning_tokens,
       requests.ttft_ms, requests.duration_ms, requests.attempts, requests.resends, requests.estimated,
       requests.subscription,
       CASE WHEN repricings.request_id IS NULL THEN requests.billed_micro_usd ELSE repricings.billed_micro_usd END
           AS billed_micro_usd,
       CASE WHEN repricings.request_id IS NULL THEN requests.list_micro_usd ELSE repricings.list_micro_usd END
           AS list_micro_usd,
       CASE WHEN repricings.request_id IS NULL THEN requests.saved_micro_usd ELSE repricings.saved_micro_usd END
           AS saved_micro_usd,
       CASE WHEN repricings.request_id IS NULL THEN requests.price_id ELSE repricings.price_id END AS price_id,
       CASE WHEN repricings.request_id IS NULL THEN requests.baseline_price_id ELSE repricings.baseline_price_id END
           AS baseline_price_id,
       requests.billed_micro_usd AS original_billed_micro_usd,
       requests.list_micro_usd AS original_list_micro_usd,
       requests.saved_micro_usd AS original_saved_micro_usd,
       repricings.repriced_at
FROM requests LEFT JOIN repricings ON repricings.request_id = requests.id
""",
    "v_requests": """
CREATE VIEW v_requests AS
SELECT id, started_at, provider, requested_model, model, agent_id, parent_agent_id, session_id, project, streamed,
       status, outcome, stop_reason, error_type,
       input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
       ttft_ms, duration_ms, attempts, resends, estimated,
       billed_micro_usd / 1000000.0 AS billed_usd,
       list_micro_usd / 1000000.0 AS list_usd,
       saved_micro_usd / 1000000.0 AS saved_usd,
       route_reason, subscription, price_id, baseline_price_id,
       original_billed_micro_usd / 1000000.0 AS original_billed_usd,
       original_list_micro_usd / 1000000.0 AS original_list_usd,
       original_saved_micro_usd / 1000000.0 AS original_saved_usd,
       repriced_at
FROM requests_priced
""",
    "v_daily": f"""
CREATE VIEW v_daily AS
SELECT substr(started_at, 1, 10) AS day, provider, model,
       {SUMS}
FROM requests_priced
GROUP BY substr(started_at, 1, 10), provider, model
""",  # noqa: S608 -- no value goes into it
    "v_models": f"""
CREATE VIEW v_models AS
SELECT provider, model, MIN(substr(started_at, 1, 10)) AS first_day, MAX(substr(started_at, 1, 10)) AS last_day,
       {SUMS}
FROM requests_priced
GROUP BY provider, model
""",  # noqa: S608 -- no value goes into it
    "v_agents": f"""
CREATE VIEW v_agents AS
SELECT session_id, agent_id, parent_agent_id, project, MIN(started_at) AS first_at, MAX(started_at) AS last_at,
       SUM(duration_ms) AS duration_ms,
       {SUMS}
FROM requests_priced
GROUP BY session_id, agent_id, parent_agent_id, project
""",  # noqa: S608 -- no value goes into it
    "v_sessions": f"""
CREATE VIEW v_sessions AS
SELECT session_id, project, MIN(started_at) AS first_at, MAX(started_at) AS last_at,
       COUNT(DISTINCT agent_id) AS agents, SUM(duration_ms) AS duration_ms,
       {SUMS}
FROM requests_priced
GROUP BY session_id, project
""",  # noqa: S608 -- no value goes into it
}

OLD_V_REQUESTS = """
CREATE VIEW v_requests AS
SELECT id, started_at, provider, requested_model, model, agent_id, parent_agent_id, session_id, project, streamed,
       status, outcome, stop_reason, error_type,
       input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
       ttft_ms, duration_ms, attempts, resends, estimated,
       billed_micro_usd / 1000000.0 AS billed_usd,
       list_micro_usd / 1000000.0 AS list_usd,
       saved_micro_usd / 1000000.0 AS saved_usd
FROM requests
"""

INDEXED = ("provider", "agent_id", "session_id")


def upgrade() -> None:
    op.execute("DROP VIEW v_requests")
    op.add_column("requests", sa.Column("price_id", sa.Text()))
    op.add_column("requests", sa.Column("baseline_price_id", sa.Text()))
    moment = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "prices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("price_list", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_usd_per_mtok", sa.Double()),
        sa.Column("cache_read_usd_per_mtok", sa.Double()),
        sa.Column("cache_write_5m_usd_per_mtok", sa.Double()),
        sa.Column("cache_write_1h_usd_per_mtok", sa.Double()),
        sa.Column("output_usd_per_mtok", sa.Double()),
        sa.Column("first_used_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
        sa.CheckConstraint("length(first_used_at) = 24", name=op.f("ck_prices_first_used_at")),
    )
    op.create_table(
        "attempts",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.Column("error_type", sa.Text()),
        sa.Column("started_ms", sa.Double(), nullable=False),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "position", name=op.f("pk_attempts")),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.id"], name=op.f("fk_attempts_request_id_requests"), ondelete="CASCADE"
        ),
    )
    op.create_table(
        "repricings",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("repriced_at", moment, nullable=False),
        sa.Column("price_id", sa.Text()),
        sa.Column("baseline_price_id", sa.Text()),
        sa.Column("billed_micro_usd", sa.BigInteger()),
        sa.Column("list_micro_usd", sa.BigInteger()),
        sa.Column("saved_micro_usd", sa.BigInteger()),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_repricings")),
        sa.ForeignKeyConstraint(
            ["request_id"], ["requests.id"], name=op.f("fk_repricings_request_id_requests"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("length(repriced_at) = 24", name=op.f("ck_repricings_repriced_at")),
    )
    for column in INDEXED:
        op.create_index(op.f(f"ix_requests_{column}_started_at"), "requests", [column, "started_at"])
    for view in VIEWS.values():
        op.execute(view.strip())


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    for column in INDEXED:
        op.drop_index(op.f(f"ix_requests_{column}_started_at"), "requests")
    for table in ("repricings", "attempts", "prices"):
        op.drop_table(table)
    with op.batch_alter_table("requests") as batch:
        batch.drop_column("baseline_price_id")
        batch.drop_column("price_id")
    op.execute(OLD_V_REQUESTS.strip())
