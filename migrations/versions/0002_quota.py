"""The newest state of each provider's limits.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

V_QUOTA = """
CREATE VIEW v_quota AS
SELECT provider, window_name, used_percent, window_minutes, resets_at, status, plan, credits_balance, observed_at
FROM quota
""".strip()


def upgrade() -> None:
    moment = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "quota",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("window_name", sa.Text(), nullable=False),
        sa.Column("used_percent", sa.Double()),
        sa.Column("window_minutes", sa.Integer()),
        sa.Column("resets_at", moment),
        sa.Column("status", sa.Text()),
        sa.Column("plan", sa.Text()),
        sa.Column("credits_balance", sa.Double()),
        sa.Column("observed_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("provider", "window_name", name=op.f("pk_quota")),
        sa.CheckConstraint("length(observed_at) = 24", name=op.f("ck_quota_observed_at")),
    )
    op.execute(V_QUOTA)


def downgrade() -> None:
    op.execute("DROP VIEW v_quota")
    op.drop_table("quota")
