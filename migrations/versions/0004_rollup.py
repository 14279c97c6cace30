"""Sums of the requests by time, kept with the rows; the views of days and models read them.

Revision ID: 0004
Revises: 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
AMOUNTS = ("billed", "list", "saved")
SUMMED = (*TOKENS, *(f"{amount}_micro_usd" for amount in AMOUNTS))
EDGES_MS = [round(100 * 2 ** (third / 3), 3) for third in range(31)]
USED = "(input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"


def bin_condition(number: int) -> str:
    least = f" AND ttft_ms >= {EDGES_MS[number - 1]}" if number > 0 else ""
    most = f" AND ttft_ms < {EDGES_MS[number]}" if number < len(EDGES_MS) else ""
    return f"ttft_ms IS NOT NULL{least}{most}"


def count(condition: str) -> str:
    return f"COUNT(CASE WHEN {condition} THEN 1 END)"


MEASURES = {
    "requests": "COUNT(*)",
    "errors": count("outcome = 'error'"),
    "cancelled": count("outcome = 'cancelled'"),
    "truncated": count("outcome = 'truncated'"),
    "subscription": count("subscription"),
    "timed": "COUNT(ttft_ms)",
    **{name: f"COALESCE(SUM({name}), 0)" for name in SUMMED},
    **{f"{name}_told": f"COUNT({name})" for name in SUMMED},
    **{f"{amount}_unpriced": count(f"{USED} AND {amount}_micro_usd IS NULL") for amount in AMOUNTS},
    **{f"ttft_bin_{number:02}": count(bin_condition(number)) for number in range(len(EDGES_MS) + 1)},
}

CUBES = {
    "all": ("''", (15, 60, 1440)),
    "agent": ("COALESCE(agent_id, '')", (15, 1440)),
    "session": ("COALESCE(session_id, '')", (15, 1440)),
    "project": ("COALESCE(project, '')", (15, 1440)),
}
"""How the cells of each cube are named, and how many minutes they are long, the shortest first."""

# A colon would begin a parameter, so it is written with a backslash.
QUARTER_OF = (
    "substr(started_at, 1, 14) || CASE WHEN substr(started_at, 15, 2) < '15' THEN '00' "
    "WHEN substr(started_at, 15, 2) < '30' THEN '15' WHEN substr(started_at, 15, 2) < '45' THEN '30' "
    r"ELSE '45' END || '\:00.000Z'"
)
LONGER = {60: r"substr(start, 1, 13) || '\:00\:00.000Z'", 1440: r"substr(start, 1, 10) || 'T00\:00\:00.000Z'"}

AMOUNTS_OF_CELLS = ",\n".join(
    f"       SUM(CASE WHEN {name}_told > 0 THEN {name} END){' / 1000000.0' if name.endswith('_usd') else ''}"
    f" AS {name.replace('_micro', '')}"
    for name in SUMMED
)
SUMS_OF_CELLS = f"""
       SUM(requests) AS requests,
       SUM(errors) AS errors,
       SUM(cancelled) AS cancelled,
       SUM(truncated) AS truncated,
       SUM(subscription) AS by_subscription,
{AMOUNTS_OF_CELLS},
       SUM(billed_unpriced) AS billed_unpriced,
       SUM(list_unpriced) AS list_unpriced,
       SUM(saved_unpriced) AS saved_unpriced
""".strip()

VIEWS = {
    "v_daily": f"""
CREATE VIEW v_daily AS
SELECT substr(start, 1, 10) AS day, NULLIF(provider, '') AS provider, NULLIF(model, '') AS model,
       {SUMS_OF_CELLS}
FROM rollup
WHERE cube = 'all' AND minutes = 1440
GROUP BY 1, 2, 3
""",  # noqa: S608 -- no value goes into it
    "v_models": f"""
CREATE VIEW v_models AS
SELECT NULLIF(provider, '') AS provider, NULLIF(model, '') AS model,
       MIN(substr(start, 1, 10)) AS first_day, MAX(substr(start, 1, 10)) AS last_day,
       {SUMS_OF_CELLS}
FROM rollup
WHERE cube = 'all' AND minutes = 1440
GROUP BY 1, 2
""",  # noqa: S608 -- no value goes into it
}

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

OLD_VIEWS = {
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
}


def upgrade() -> None:
    for column in ("provider", "model", "agent_id", "session_id", "project"):
        op.execute(f"UPDATE requests SET {column} = NULL WHERE {column} = ''")  # noqa: S608 -- names of ours
    op.create_index(
        op.f("ix_requests_failed"),
        "requests",
        ["started_at"],
        sqlite_where=sa.text("outcome <> 'ok'"),
        postgresql_where=sa.text("outcome <> 'ok'"),
    )
    op.create_table(
        "rollup",
        sa.Column("cube", sa.Text(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("start", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("main", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in MEASURES),
        sa.PrimaryKeyConstraint(
            "cube", "minutes", "name", "start", "provider", "model", "main", name=op.f("pk_rollup")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_rollup_cube_minutes_start"), "rollup", ["cube", "minutes", "start"])
    for cube, (name, minutes) in CUBES.items():
        fill(cube, name, minutes)
    for view, statement in VIEWS.items():
        op.execute(f"DROP VIEW {view}")
        op.execute(statement.strip())


def fill(cube: str, name: str, minutes: Sequence[int]) -> None:
    shortest, *longer = minutes
    into = f"INSERT INTO rollup (cube, minutes, name, start, provider, model, main, {', '.join(MEASURES)})"
    keys = f"{name}, {QUARTER_OF}, COALESCE(provider, ''), COALESCE(model, ''), agent_id IS NULL"
    op.execute(
        f"{into} SELECT '{cube}', {shortest}, {keys}, {', '.join(MEASURES.values())} "  # noqa: S608 -- words of ours
        "FROM requests_priced GROUP BY 1, 2, 3, 4, 5, 6, 7"
    )
    for length in longer:
        op.execute(
            f"{into} SELECT cube, {length}, name, {LONGER[length]}, provider, model, main, "  # noqa: S608 -- words of ours
            f"{', '.join(f'SUM({measure})' for measure in MEASURES)} "
            f"FROM rollup WHERE cube = '{cube}' AND minutes = {shortest} GROUP BY 1, 2, 3, 4, 5, 6, 7"
        )


def downgrade() -> None:
    for view, statement in OLD_VIEWS.items():
        op.execute(f"DROP VIEW {view}")
        op.execute(statement.strip())
    op.drop_table("rollup")
    op.drop_index(op.f("ix_requests_failed"), "requests")
