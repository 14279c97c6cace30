"""The views of the usage database: what users' own SQL may rely on. A view only ever gains columns, at its end.

They stand in the order in which they are made. `requests_priced` is the one place that knows which of a request's
figures is the newest; it is for the others, and for our own queries.
"""

from sqlalchemy import BigInteger, Column, MetaData, Table, Text

from ccr_asgi.usage.tables import MONEY_COLUMNS, TOKEN_COLUMNS, requests

requests_priced = Table(
    "requests_priced",
    MetaData(),  # not the tables' own: migrations make the view by its statement
    *(Column(column.name, column.type) for column in requests.columns),
    *(Column(f"original_{amount}_micro_usd", BigInteger) for amount in ("billed", "list", "saved")),
    Column("repriced_at", Text),
)
"""The view of that name: the columns of `requests` with the newest price, then what was stored at first."""

_SUMS = """
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

_AMOUNTS_OF_CELLS = ",\n".join(
    f"       SUM(CASE WHEN {name}_told > 0 THEN {name} END){usd} AS {name.replace('_micro', '')}"
    for name, usd in [(name, "") for name in TOKEN_COLUMNS] + [(name, " / 1000000.0") for name in MONEY_COLUMNS]
)

_SUMS_OF_CELLS = f"""
       SUM(requests) AS requests,
       SUM(errors) AS errors,
       SUM(cancelled) AS cancelled,
       SUM(truncated) AS truncated,
       SUM(subscription) AS by_subscription,
{_AMOUNTS_OF_CELLS},
       SUM(billed_unpriced) AS billed_unpriced,
       SUM(list_unpriced) AS list_unpriced,
       SUM(saved_unpriced) AS saved_unpriced
""".strip()

_VIEWS = {
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
       repricings.repriced_at, requests.proxy_key, requests.upstream_request_id
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
       repriced_at, proxy_key, upstream_request_id
FROM requests_priced
""",
    "v_daily": f"""
CREATE VIEW v_daily AS
SELECT substr(start, 1, 10) AS day, NULLIF(provider, '') AS provider, NULLIF(model, '') AS model,
       {_SUMS_OF_CELLS}
FROM rollup
WHERE cube = 'all' AND minutes = 1440
GROUP BY 1, 2, 3
""",  # noqa: S608 -- no value goes into it
    "v_models": f"""
CREATE VIEW v_models AS
SELECT NULLIF(provider, '') AS provider, NULLIF(model, '') AS model,
       MIN(substr(start, 1, 10)) AS first_day, MAX(substr(start, 1, 10)) AS last_day,
       {_SUMS_OF_CELLS}
FROM rollup
WHERE cube = 'all' AND minutes = 1440
GROUP BY 1, 2
""",  # noqa: S608 -- no value goes into it
    "v_agents": f"""
CREATE VIEW v_agents AS
SELECT session_id, agent_id, parent_agent_id, project, MIN(started_at) AS first_at, MAX(started_at) AS last_at,
       SUM(duration_ms) AS duration_ms,
       {_SUMS}
FROM requests_priced
GROUP BY session_id, agent_id, parent_agent_id, project
""",  # noqa: S608 -- no value goes into it
    "v_sessions": f"""
CREATE VIEW v_sessions AS
SELECT session_id, project, MIN(started_at) AS first_at, MAX(started_at) AS last_at,
       COUNT(DISTINCT agent_id) AS agents, SUM(duration_ms) AS duration_ms,
       {_SUMS}
FROM requests_priced
GROUP BY session_id, project
""",  # noqa: S608 -- no value goes into it
    "v_quota": """
CREATE VIEW v_quota AS
SELECT provider, window_name, used_percent, window_minutes, resets_at, status, plan, credits_balance, observed_at
FROM quota
""",
}

VIEWS = {name: sql.strip() for name, sql in _VIEWS.items()}
"""Each view and the statement that makes it in its newest form."""
