"""The provider's own id of a request, which its support asks for and a client shows.

Revision ID: 0007
Revises: 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

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
       repricings.repriced_at, requests.proxy_key
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
       repriced_at, proxy_key
FROM requests_priced
""",
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

VIEWS = {
    **OLD_VIEWS,
    "requests_priced": OLD_VIEWS["requests_priced"].replace(
        "requests.proxy_key", "requests.proxy_key, requests.upstream_request_id"
    ),
    "v_requests": OLD_VIEWS["v_requests"].replace("proxy_key", "proxy_key, upstream_request_id"),
}


def upgrade() -> None:
    drop_views()
    op.add_column("requests", sa.Column("upstream_request_id", sa.Text()))
    make_views(VIEWS)


def downgrade() -> None:
    drop_views()
    op.execute("ALTER TABLE requests DROP COLUMN upstream_request_id")
    make_views(OLD_VIEWS)


def drop_views() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")


def make_views(views: dict[str, str]) -> None:
    for statement in views.values():
        op.execute(statement.strip())
