"""The pages about one request and one session, the tabs, what is said of state, and the sign of life."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from starlette.applications import Starlette

from ccr_asgi.budgets import Standing
from ccr_asgi.config import BudgetEntry, parse_config
from ccr_asgi.dashboard.page import REASONS, TABS
from ccr_asgi.dashboard.routes import routes
from ccr_asgi.routing import Reason
from ccr_asgi.usage.quota import QuotaWindow
from ccr_asgi.usage.record import Attempt, Tokens
from ccr_asgi.usage.store import UsageStore
from tests.dashboard.shown import get, page, recent
from tests.usage.valuations import price, valuation

ODD_ID = "a/b?c#d <e>"


async def panel(app: Any, name: str, query: str = "") -> str:
    """The HTML of one panel of the dashboard."""
    body = (await get(app, "/dashboard", query)).body.decode("utf-8")
    return body.partition(f'data-panel="{name}"')[2].partition("</section>")[0]


# One request


async def test_a_request_tells_its_route_times_tokens_and_prices(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a", route_reason="rule", proxy_key="alice", resends=2, upstream_request_id="req_9")])
    await store.reprice({"a": valuation(1_234_567, 2_000_000, 3, price("p2", input="5"))}, datetime.now(UTC))
    shown = await page(app, path="/dashboard/requests/a")
    words = shown.words()
    for said in (
        "Request a", "ok", "claude-haiku-4-5", "gpt-oss-120b", "cerebras", "rule", "A rule of the configuration fits",
        "agent-1", "started by agent-0", "ledger", "alice", "123 ms", "2.0 s", "sent again 2 times", "$1.23", "$2.00",
        "$0.35", "$5", "genai-prices 0.0.1", "Priced anew at",
    ):  # fmt: skip
        assert said in words, said
    assert "/dashboard/sessions/session-1" in shown.addresses()


async def test_a_request_that_was_refused_tells_what_is_known(app: Starlette, store: UsageStore) -> None:
    await store.insert(
        [recent("a", provider=None, model=None, requested_model=None, route_reason=None, agent_id=None,
                parent_agent_id=None, session_id=None, project=None, streamed=None, status=None, outcome="error",
                error_type="invalid_request_error", stop_reason=None, tokens=Tokens(), ttft_ms=None, duration_ms=None,
                attempts=0)]
    )  # fmt: skip
    words = (await page(app, path="/dashboard/requests/a")).words()
    for said in ("no provider was asked", "before any provider was asked", "no answer", "invalid_request_error"):
        assert said in words, said
    assert "There was no price for it." in words
    assert "$0" not in words


async def test_the_links_that_were_tried_are_listed(app: Starlette, store: UsageStore) -> None:
    tried = (
        Attempt("cerebras", "gpt-oss-120b", 429, "rate_limit_error", 0.0, 80.0),
        Attempt("codex", None, None, "api_error", 80.0, 20.0),
        Attempt("anthropic", "claude-x", 200, None, 100.0, 1900.0),
    )
    await store.insert([recent("a", attempts=3, attempt_log=tried)])
    shown = await page(app, path="/dashboard/requests/a")
    assert [found["data-try"] for _, found in shown.elements if "data-try" in found] == ["1", "2", "3"]
    for said in ("1. cerebras, gpt-oss-120b", "rate_limit_error", "no answer", "1.9 s"):
        assert said in shown.words(), said


async def test_an_id_may_be_anything(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent(ODD_ID, session_id=ODD_ID)])
    shown = await page(app)
    (address,) = {found["href"] for _, found in shown.elements if "/requests/" in (found.get("href") or "")}
    assert ODD_ID in (await page(app, path=str(address))).words()
    shown = await page(app, "tab=sessions")
    (address,) = {found["href"] for _, found in shown.elements if "/sessions/" in (found.get("href") or "")}
    assert ODD_ID in (await page(app, path=str(address))).words()


@pytest.mark.parametrize("kind", ["requests", "sessions"])
async def test_what_is_not_there_is_said(app: Starlette, broken_app: Starlette, kind: str) -> None:
    path = f"/dashboard/{kind}/gone"
    assert "'gone'" in (await page(app, path=path, status=404)).words()
    assert "accepted: tz, page, page_size" in (await page(app, "range=7d", path=path, status=400)).words()
    assert "cannot be used" in (await page(broken_app, path=path, status=503)).words()


async def test_the_times_of_a_request_are_in_the_zone_that_is_asked_for(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a")])
    assert "Asia/Tokyo" in (await page(app, "tz=Asia%2FTokyo", path="/dashboard/requests/a")).words()


def test_every_reason_has_its_words() -> None:
    assert set(REASONS) == set(get_args(Reason))


# One session


async def test_a_session_shows_its_agents_as_a_tree(app: Starlette, store: UsageStore) -> None:
    await store.insert(
        [
            recent("a", 9, agent_id=None, parent_agent_id=None),
            recent("b", 8, agent_id="explorer", parent_agent_id=None),
            recent("c", 7, agent_id="reader", parent_agent_id="explorer", model="other"),
            recent("d", 6, session_id="another"),
        ]
    )
    shown = await page(app, path="/dashboard/sessions/session-1")
    found = [(found["data-agent"], found["data-depth"]) for _, found in shown.elements if "data-agent" in found]
    assert found == [("", "0"), ("explorer", "1"), ("reader", "2")]
    assert "2 1 own" in shown.words()
    assert [found["data-request"] for _, found in shown.elements if "data-request" in found] == ["c", "b", "a"]


async def test_a_long_session_has_pages_of_its_own(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent(f"r{number}", number + 1) for number in range(5)])
    shown = await page(app, "page_size=2", path="/dashboard/sessions/session-1")
    assert "Page 1 of 3 , 5 requests" in shown.words()
    (older,) = [found["href"] or "" for _, found in shown.elements if found.get("rel") == "next"]
    path, _, query = older.partition("#")[0].partition("?")
    assert path == "/dashboard/sessions/session-1"
    shown = await page(app, query, path="/dashboard/sessions/session-1")
    assert "Page 2 of 3" in shown.words()


# The dashboard


async def test_each_tab_breaks_down_by_its_own(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a")])
    for tab, key in TABS.items():
        shown = await page(app, f"tab={tab}&range=7d")
        assert [found["data-tab"] for _, found in shown.elements if found.get("aria-current")] == [tab]
        assert f"by-{key}" in shown.values
        assert all("range=7d" in (found["href"] or "") for _, found in shown.elements if "data-tab" in found)
    assert "accepted: agents" in (await page(app, "tab=x", status=400)).words()


async def test_the_form_without_scripts_may_send_dates_that_are_not_asked_for(app: Starlette) -> None:
    await page(app, "range=7d&from=2026-01-01&to=&provider=")
    assert "found" in (await page(app, "range=custom&from=nonsense", status=400)).words()


async def test_providers_tell_how_they_fare(store: UsageStore, path: Path) -> None:
    config = parse_config(
        {"providers": {"cerebras": {}, "lately": {"type": "openai-chat", "baseUrl": "http://h/v1"}}}, environ={}
    )

    async def opened() -> UsageStore:
        return store

    app = Starlette(routes=routes(opened, database=str(path), costs={}, providers=config.providers))
    await store.insert(
        [
            recent("a", 5, provider="anthropic"),
            recent("b", 9, provider="lately", outcome="error", status=529, error_type="overloaded_error"),
            recent("c", 8, provider="lately"),
            recent("d", 7, provider="gone", outcome="truncated"),
            recent("e", 6, provider="gone", outcome="error", status=400, error_type="invalid_request_error"),
            recent("f", 5, provider="anthropic", attempts=2, attempt_log=(
                Attempt("cerebras", "m", 500, "api_error", 0.0, 1.0), Attempt("anthropic", "m", 200, None, 1.0, 1.0),
            )),
            recent("old", 90, provider="anthropic", outcome="error", status=500),
        ]
    )  # fmt: skip
    status = await panel(app, "status")
    states = {}
    for item in status.split("<li")[1:]:
        if 'data-health="' in item:
            states[item.partition("<b>")[2].partition("</b>")[0]] = item.partition('data-health="')[2].partition('"')[0]
    assert states == {"anthropic": "answers", "cerebras": "failing", "lately": "some errors", "gone": "some errors"}
    assert "7 requests" in status


async def test_models_without_a_price_and_retired_ones_are_warned_of(app: Starlette, store: UsageStore) -> None:
    await store.insert(
        [
            recent("a", 2),
            recent(
                "b", 1, model="gone-model", outcome="error", status=404, error_type="not_found_error", tokens=Tokens()
            ),
        ]
    )
    status = await panel(app, "status")
    assert "gpt-oss-120b</strong> has no price: 1 request not counted" in status
    assert "there is no model <strong>gone-model</strong>" in status


async def test_quota_and_budgets_stand_side_by_side(store: UsageStore, path: Path) -> None:
    now = datetime.now(UTC)
    told = QuotaWindow("codex", "primary", now, used_percent=93.0, window_minutes=300, plan="plus")
    await store.insert([recent("a", quota=(told,))])
    budget = BudgetEntry(per="day", usd=2.0, then="warn", provider="cerebras")

    async def opened() -> UsageStore:
        return store

    async def standings() -> list[Standing]:
        return [Standing(budget, 0, 2_500_000, 3, now, now)]

    app = Starlette(routes=routes(opened, database=str(path), costs={}, providers={}, standings=standings))
    quota = await panel(app, "quota")
    assert "93 % used" in quota
    assert "2 USD per day at cerebras" in quota
    assert "$2.50 of $2.00" in quota
    assert "used up" in quota
    assert "3 requests without a price not counted" in quota


async def test_no_limit_told_is_said(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a")])
    assert "No provider has told of a limit yet" in await panel(app, "quota")


async def test_made_up_numbers_are_said_to_be(store: UsageStore, path: Path, app: Starlette) -> None:
    async def opened() -> UsageStore:
        return store

    demo = Starlette(routes=routes(opened, database=str(path), costs={}, providers={}, simulated=True))
    assert "simulated" in (await page(demo)).words()
    assert "simulated" not in (await page(app)).words()


# The sign of life


async def test_the_sign_of_life_changes_with_whatever_is_stored(
    app: Starlette, store: UsageStore, broken_app: Starlette
) -> None:
    async def version() -> str:
        response = await get(app, "/dashboard/live")
        assert response.status == 200
        found: str = json.loads(response.body)["version"]
        return found

    empty = await version()
    await store.insert([recent("a")])
    stored = await version()
    await store.reprice({"a": valuation(1, 2, 3)}, datetime.now(UTC))
    assert len({empty, stored, await version()}) == 3
    shown = await page(app)
    (sign,) = [found for _, found in shown.elements if "data-live" in found]
    assert sign["data-version"] == await version()
    broken = await get(broken_app, "/dashboard/live")
    assert (broken.status, json.loads(broken.body)) == (503, {"version": None})


@pytest.mark.parametrize(
    ("query", "causes"),
    [
        ("", {"429 rate_limit_error": 2, "answer broke off": 1}),
        ("provider=cerebras", {"429 rate_limit_error": 1, "answer broke off": 1}),
        ("agent=other", {"429 rate_limit_error": 1}),
        ("range=1h&model=none", {}),
    ],
)
async def test_errors_are_counted_as_the_filters_say(
    app: Starlette, store: UsageStore, query: str, causes: dict[str, int]
) -> None:
    failed: dict[str, Any] = {"outcome": "error", "status": 429, "error_type": "rate_limit_error"}
    await store.insert(
        [
            recent("a", 1, **failed),
            recent("b", 2, provider="codex", agent_id="other", **failed),
            recent("c", 3, outcome="truncated"),
            recent("d", 4, outcome="cancelled"),
            recent("e", 5),
            recent("old", 60 * 30, **failed),
        ]
    )
    shown = await panel(app, "errors", query)
    for cause, number in causes.items():
        assert f'<th scope="row">{cause}</th><td>{number}</td>' in shown
    assert shown.count('<th scope="row">') == len(causes)
