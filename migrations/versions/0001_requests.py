"""One row per request, and the view that users' own SQL reads.

Revision ID: 0001
Revises:
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A migration keeps its own copy of what it makes: the tables of today say nothing about those of its day.
V_REQUESTS = """
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


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("provider", sa.Text()),
        sa.Column("requested_model", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("route_reason", sa.Text()),
        sa.Column("agent_id", sa.Text()),
        sa.Column("parent_agent_id", sa.Text()),
        sa.Column("session_id", sa.Text()),
        sa.Column("project", sa.Text()),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("error_type", sa.Text()),
        sa.Column("input_tokens", sa.Integer()),
        sa.Column("cache_read_tokens", sa.Integer()),
        sa.Column("cache_write_5m_tokens", sa.Integer()),
        sa.Column("cache_write_1h_tokens", sa.Integer()),
        sa.Column("output_tokens", sa.Integer()),
        sa.Column("reasoning_tokens", sa.Integer()),
        sa.Column("ttft_ms", sa.Double()),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("subscription", sa.Boolean(), nullable=False),
        sa.Column("billed_micro_usd", sa.BigInteger()),
        sa.Column("list_micro_usd", sa.BigInteger()),
        sa.Column("saved_micro_usd", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
        sa.CheckConstraint("length(started_at) = 24", name=op.f("ck_requests_started_at")),
        sa.CheckConstraint("outcome IN ('ok', 'error', 'cancelled', 'truncated')", name=op.f("ck_requests_outcome")),
    )
    op.create_index(op.f("ix_requests_started_at"), "requests", ["started_at"])
    op.create_index(op.f("ix_requests_model_started_at"), "requests", ["model", "started_at"])
    op.execute(V_REQUESTS)


def downgrade() -> None:
    op.execute("DROP VIEW v_requests")
    op.drop_table("requests")
