"""The index of failed requests tells why they failed, so that a page need not read the rows themselves.

Revision ID: 0006
Revises: 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COLUMNS = [
    "started_at", "outcome", "status", "error_type", "provider", "model", "agent_id", "session_id", "project",
]  # fmt: skip


def upgrade() -> None:
    make_index(COLUMNS)


def downgrade() -> None:
    make_index(COLUMNS[:1])


def make_index(columns: list[str]) -> None:
    name, failed = op.f("ix_requests_failed"), sa.text("outcome <> 'ok'")
    op.drop_index(name, "requests")
    op.create_index(name, "requests", columns, sqlite_where=failed, postgresql_where=failed)
