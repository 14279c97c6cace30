"""The dashboard and its JSON as a browser gets them: the same numbers, everything escaped, under any prefix."""

import csv
import gzip
import io
import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from ccr_asgi.dashboard import routes as routes_module
from ccr_asgi.dashboard.headers import CONTENT_SECURITY_POLICY
from ccr_asgi.dashboard.page import TABS
from ccr_asgi.usage.record import Tokens
from ccr_asgi.usage.store import UsageStore
from tests.dashboard.shown import Page, fill, get, page, recent, usage
from tests.support.asgi import request
from tests.usage.records import record
from tests.usage.valuations import valuation

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'; DROP TABLE requests; --", "{{ 7 * 7 }}"]


async def test_the_page_and_the_json_say_the_same_numbers(app: Starlette, store: UsageStore, path: Path) -> None:
    await fill(store, path)
    shown, said = await page(app), await usage(app)
    for field, values in shown.values["summary"].items():
        summary = {**said["summary"], "cache_write_tokens": 70 * 2}
        assert [float(value) for value in values] == [summary[field]], field
    for tab, group in TABS.items():
        fields = (await page(app, f"tab={tab}")).values[f"by-{group}"]
        for field in (
            "requests",
            "errors",
            "input_tokens",
            "output_tokens",
            "billed_usd",
            "list_usd",
            "cache_hit_ratio",
        ):
            expected = [row[field] for row in said[f"by_{group}"] if row[field] is not None]
            assert [float(value) for value in fields.get(field, [])] == expected, (group, field)
    for field in ("input_tokens", "output_tokens", "cache_read_tokens", "ttft_ms", "duration_ms", "billed_usd"):
        expected = [row[field] for row in said["requests"] if row[field] is not None]
        assert [float(value) for value in shown.values["requests"][field]] == expected, field
    assert said["summary"]["requests"] == said["total"] == 4
    assert said["summary"]["input_tokens"] == 10 + 3_000_000 + 10


async def test_requests_are_the_rows_of_the_view(app: Starlette, store: UsageStore, path: Path) -> None:
    await fill(store, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM v_requests ORDER BY started_at DESC")]
    found = (await usage(app))["requests"]
    assert [list(row) for row in found] == [list(row) for row in rows]
    assert found == rows
    assert found[0]["streamed"] is True


async def test_json_names_range_and_pages(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent(f"r{index}", 10 - index) for index in range(5)])
    said = await usage(app, "range=7d&page=2&page_size=2&tz=Europe%2FBerlin&provider=cerebras")
    assert said["range"]["name"] == "7d"
    assert said["range"]["tz"] == "Europe/Berlin"
    assert said["range"]["to"] is None
    assert datetime.fromisoformat(said["range"]["from"]) < datetime.now(UTC) - timedelta(days=6)
    assert said["filters"] == {"provider": "cerebras"}
    assert (said["page"], said["page_size"], said["pages"], said["total"]) == (2, 2, 3, 5)
    assert [row["id"] for row in said["requests"]] == ["r2", "r1"]


async def test_a_missing_price_is_said_and_never_0(app: Starlette, store: UsageStore, path: Path) -> None:
    await fill(store, path)
    for model, words in [("zai-glm-4.7", "no price"), ("claude-x", "subscription")]:
        shown = await page(app, f"model={model}")
        assert words in shown.words()
        assert "$0" not in shown.words()
    assert (await usage(app, "model=zai-glm-4.7"))["summary"]["billed_usd"] is None
    assert (await usage(app, "model=claude-x"))["summary"]["billed_usd"] == 0
    whole = (await page(app)).words()
    assert "$1.23" in whole
    assert "1 by subscription, 1 more without a price" in whole


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_clients_and_providers_wrote_is_only_ever_text(app: Starlette, store: UsageStore, name: str) -> None:
    await store.insert(
        [
            recent("a", provider=name, model=name, requested_model=name + "x", agent_id=name, session_id=name,
                   project=name, error_type=name, stop_reason=name, outcome="error", status=500),
        ]
    )  # fmt: skip
    harmless = (await page(app)).scripts()
    for query in ("", await _link_to(app, name)):
        shown = await page(app, query)
        assert shown.scripts() == harmless
        assert shown.tags().isdisjoint({"style", "iframe"})
        assert name in " ".join(shown.text)
        assert [found for tag, found in shown.elements if tag == "img" and found.get("src") == "x"] == []
        assert all(not key.startswith("on") and key != "style" for _, found in shown.elements for key in found)
        body = (await get(app, "/api/usage", query.replace("tab=models", ""))).body
        assert not {b"<", b">", b"&"} & {body[index : index + 1] for index in range(len(body))}
        assert json.loads(body)["by_model"][0]["model"] == name


async def _link_to(app: Starlette, model: str) -> str:
    """The query of the link that keeps only the requests of `model`."""
    shown = await page(app, "tab=models")
    (href,) = {found["href"] for tag, found in shown.elements if tag == "a" and "model=" in (found.get("href") or "")}
    assert href is not None
    return href.partition("?")[2]


async def test_hostile_parameters_come_back_as_text(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a")])
    for query in (
        "model=%22%3E%3Cscript%3E",
        "range=%3Cscript%3E",
        "%3Cscript%3E=1",
        "from=%3Cscript%3E",
        "tz=%3Cb%3E",
    ):
        response = await get(app, "/dashboard", query)
        shown = Page(response.body.decode("utf-8"))
        assert all(found.get("src") or found.get("type") == "application/json" for found in shown.scripts())
        assert b"<script>" not in response.body
        assert b"<" not in (await get(app, "/api/usage", query)).body


@pytest.mark.parametrize("query", ["provider=\xff\xfe", "provider=%FF", "model=%00", "%", "&&=&", "agent=%ED%A0%80"])
async def test_no_query_is_an_error_of_ours(app: Starlette, store: UsageStore, query: str) -> None:
    await store.insert([recent("a")])
    assert (await get(app, "/dashboard", query)).status in (200, 400)
    assert (await get(app, "/api/usage", query)).status in (200, 400)


async def test_every_answer_is_closed_to_the_outside(app: Starlette, broken_app: Starlette) -> None:
    for answering, path, query in [
        (app, "/dashboard", ""),
        (app, "/dashboard", "range=no"),
        (app, "/api/usage", ""),
        (app, "/api/usage", "format=legacy"),
        (app, "/api/usage", "range=no"),
        (app, "/dashboard/static/icon.svg", ""),
        (broken_app, "/dashboard", ""),
        (broken_app, "/api/usage", ""),
    ]:
        response = await get(answering, path, query)
        assert response.header("content-security-policy") == CONTENT_SECURITY_POLICY.encode()
        assert response.header("x-content-type-options") == b"nosniff"
        assert response.header("referrer-policy") == b"no-referrer"
        assert not [name for name, _ in response.headers if name.startswith(b"access-control")]
        if "static" not in path:
            assert response.header("cache-control") == b"no-store"


def test_the_policy_allows_our_own_files_and_nothing_else() -> None:
    policy = dict(directive.strip().split(" ", 1) for directive in CONTENT_SECURITY_POLICY.split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}


async def test_the_page_needs_nothing_that_the_policy_forbids(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a")])
    shown = await page(app)
    assert shown.tags().isdisjoint({"style", "iframe", "object", "base"})
    for script in shown.scripts():
        assert script.get("type") == "application/json" or (script["src"] or "").startswith("/dashboard/static/")
    assert all("style" not in found and found.get("http-equiv") is None for _, found in shown.elements)
    assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in shown.addresses())


@pytest.mark.parametrize("query", ["", "range=all&provider=cerebras&page_size=1", "range=no"])
async def test_every_address_stands_below_the_prefix_and_answers(app: Starlette, store: UsageStore, query: str) -> None:
    await store.insert([recent("a"), recent("b", 2)])
    host = Starlette(routes=[Mount("/my llm", app)])
    shown = await page(host, query, status=400 if "no" in query else 200, path="/my%20llm/dashboard")
    addresses = [address for address in shown.addresses() if not address.startswith("#")]
    assert len(addresses) > 10
    for address in addresses:
        assert address.startswith("/my%20llm/")
        target, _, rest = address.partition("#")[0].partition("?")
        assert (await get(host, target, rest)).status == 200, address


async def test_the_prefix_may_come_from_the_server(app: Starlette) -> None:
    shown = await page(app, path="/llm/dashboard", root_path="/llm")
    assert all(address.startswith(("/llm/", "#")) for address in shown.addresses())
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:3456/llm claude" in shown.words()


async def test_before_the_first_request_the_page_says_what_to_do(app: Starlette, path: Path) -> None:
    shown = await page(app, headers=[("host", "localhost:4000")])
    words = shown.words()
    assert "Waiting for the first request" in words
    assert "ANTHROPIC_BASE_URL=http://localhost:4000 claude" in words
    assert "CCR_ASGI_PROVIDERS__CEREBRAS__APIKEY" in words
    assert f"sqlite3 {path} 'select * from v_requests'" in words  # noqa: S608 -- read, not run
    assert ("a", {"href": "/dashboard"}) in shown.elements


async def test_the_copied_command_is_one_whatever_host_was_named(app: Starlette) -> None:
    words = (await page(app, headers=[("host", "x;$(touch y)")])).words()
    command = re.search(r"ANTHROPIC_BASE_URL=(\S+|'[^']*') claude", words)
    assert command is not None
    assert "$(" not in command[1] or command[1].startswith("'")


async def test_a_window_without_requests_is_no_empty_database(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("old", 60 * 24 * 400)])
    shown = await page(app)
    assert "No request here" in shown.words()
    assert "Waiting" not in shown.words()
    assert "/dashboard?range=all" in shown.addresses()


async def test_pages_are_led_through_by_links(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent(f"r{index}", index + 1) for index in range(5)])
    seen: list[str] = []
    query = "page_size=2"
    while query:
        shown = await page(app, query)
        seen += [row_id for _, found in shown.elements if (row_id := found.get("data-request"))]
        following = [found["href"] or "" for _, found in shown.elements if found.get("rel") == "next"]
        query = following[0].partition("#")[0].partition("?")[2] if following else ""
    assert seen == ["r0", "r1", "r2", "r3", "r4"]
    assert "There are 3 pages only" in (await page(app, "page_size=2&page=9")).words()


async def test_what_is_not_understood_is_said_in_the_page_and_in_the_json(app: Starlette) -> None:
    assert "found '9d'; accepted: 1h, 6h" in (await page(app, "range=9d", status=400)).words()
    said = await usage(app, "range=9d", status=400)
    assert said["type"] == "error"
    assert said["error"]["type"] == "invalid_request_error"
    assert "found '9d'" in said["error"]["message"]
    for query in ("format=xml", "format=json&format=legacy"):
        assert "accepted: json, legacy, csv" in (await usage(app, query, status=400))["error"]["message"]


async def test_a_database_that_cannot_be_opened_is_said(broken_app: Starlette) -> None:
    shown = await page(broken_app, status=503)
    assert "/x/<usage>.db cannot be used" in shown.words()
    for query in ("", "format=legacy"):
        said = await usage(broken_app, query, status=503)
        assert said["type"] == "error"
        assert said["error"]["type"] == "api_error"
        assert "file is not a database" in said["error"]["message"]
        assert said["request_id"].startswith("req_")


async def test_a_database_that_fails_later_is_said_without_our_internals(
    app: Starlette, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP VIEW requests_priced")
    assert "the server's log says why" in (await page(app, status=503)).words()
    assert "SELECT" not in (await usage(app, status=503))["error"]["message"]
    assert "requests_priced" in caplog.text


async def test_a_closed_store_is_said(app: Starlette, store: UsageStore) -> None:
    await store.stop()
    assert "not open" in (await usage(app, status=503))["error"]["message"]


async def test_the_original_form_is_answered_exactly(app: Starlette, store: UsageStore) -> None:
    long_ago = datetime(2020, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    await store.insert([recent("new", tokens=Tokens(output=3), model="<b>"), record("old", started_at=long_ago)])
    said = await usage(app, "format=legacy")
    assert list(said) == ["entries", "costs"]
    assert said["entries"][0] == {
        "timestamp": "2020-01-02T03:04:05.678Z",
        "provider": "cerebras",
        "model": "gpt-oss-120b",
        "inputTokens": 10,
        "outputTokens": 50,
        "cacheReadTokens": 20,
        "cacheCreationTokens": 70,
        "totalTokens": 150,
    }
    del said["entries"][1]["timestamp"]
    assert said["entries"][1:] == [
        {"provider": "cerebras", "model": "<b>", "inputTokens": 0, "outputTokens": 3, "cacheReadTokens": 0,
         "cacheCreationTokens": 0, "totalTokens": 3},
    ]  # fmt: skip
    assert said["costs"] == {"gpt-oss-120b": {"input": 0.35, "output": 0.75}, "<b>": {"input": 1, "output": 2}}
    assert b"<" not in (await get(app, "/api/usage", "format=legacy")).body


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 8, 9])
async def test_the_original_form_has_all_rows_in_however_many_batches(
    app: Starlette, store: UsageStore, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(routes_module, "BATCH_ROWS", 4)
    await store.insert([recent(f"r{index}", 100 - index, tokens=Tokens(input=index)) for index in range(rows)])
    said = await usage(app, "format=legacy")
    assert [entry["inputTokens"] for entry in said["entries"]] == list(range(rows))


async def test_the_original_form_has_ranges_filters_and_pages_when_asked(app: Starlette, store: UsageStore) -> None:
    rows = [recent(f"r{index}", 100 - index, tokens=Tokens(input=index)) for index in range(6)]
    await store.insert([*rows, recent("old", 60 * 24 * 40, model="m")])

    async def inputs(query: str) -> Sequence[int]:
        return [entry["inputTokens"] for entry in (await usage(app, f"format=legacy&{query}"))["entries"]]

    assert await inputs("page=2&page_size=2") == [1, 2]
    assert await inputs("range=24h") == [0, 1, 2, 3, 4, 5]
    assert await inputs("model=m") == [10]


async def test_the_json_has_series_breakdowns_and_what_was_before(app: Starlette, store: UsageStore) -> None:
    await store.insert([recent("a"), recent("b", 2, session_id=None, project="other"), recent("old", 60 * 30)])
    await store.reprice({"a": valuation(1_000_000, 2_000_000, 3)}, datetime.now(UTC))
    said = await usage(app)
    assert {key: said[f"{key}s"] for key in ("provider", "model", "agent", "session", "project")} == {
        "provider": 1, "model": 1, "agent": 1, "session": 2, "project": 2,
    }  # fmt: skip
    assert [(group["session"], group["requests"]) for group in said["by_session"]] == [(None, 1), ("session-1", 1)]
    assert [(group["project"], group["requests"]) for group in said["by_project"]] == [("ledger", 1), ("other", 1)]
    assert said["previous"]["requests"] == 1
    assert said["summary"]["ttft_estimated"] is False
    series = said["series"]
    (cerebras,) = series["by_provider"]
    assert (series["step"], cerebras["provider"]) == ("1h", "cerebras")
    steps = len(series["starts"])
    assert (
        {len(values) for name, values in cerebras.items() if name != "provider"}
        == {steps}
        == {len(series["ttft_p50_ms"])}
    )
    assert (sum(cerebras["requests"]), sum(cost or 0 for cost in cerebras["billed_usd"])) == (2, 1.0)
    assert all(
        first < second for first, second in zip(series["starts"], [*series["starts"][1:], series["end"]], strict=True)
    )
    assert (await usage(app, "from=2099-01-01"))["series"] is None


async def test_csv_is_the_view_as_a_table(app: Starlette, store: UsageStore, path: Path) -> None:
    await store.insert([recent("a", 2, model="=cmd|'/c calc'!A1", project='two "words", a comma'), recent("b", 1)])
    await store.reprice({"b": valuation(1_500_000, 2_000_000, -3)}, datetime.now(UTC))
    response = await get(app, "/api/usage", "format=csv")
    assert response.header("content-type") == b"text/csv; charset=utf-8"
    assert response.header("content-disposition") == b'attachment; filename="usage.csv"'
    assert response.header("content-security-policy") == CONTENT_SECURITY_POLICY.encode()
    first, second = csv.DictReader(io.StringIO(response.body.decode("utf-8")))
    with closing(sqlite3.connect(path)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(v_requests)")]
    assert list(first) == names
    assert (first["id"], first["model"], first["project"]) == ("a", "'=cmd|'/c calc'!A1", 'two "words", a comma')
    assert (first["billed_usd"], second["billed_usd"], second["saved_usd"]) == ("", "1.5", "-3e-06")


@pytest.mark.parametrize("rows", [0, 3, 4, 9])
async def test_csv_has_all_rows_of_the_window(
    app: Starlette, store: UsageStore, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(routes_module, "BATCH_ROWS", 4)
    await store.insert([recent(f"r{index}", 100 - index) for index in range(rows)])
    await store.insert([recent("old", 60 * 24 * 40), recent("another", 1, model="m")])

    async def ids(query: str) -> list[str]:
        body = (await get(app, "/api/usage", f"format=csv&{query}")).body.decode("utf-8")
        return [row["id"] for row in csv.DictReader(io.StringIO(body))]

    assert await ids("model=gpt-oss-120b") == [f"r{index}" for index in range(rows)]
    assert await ids("range=all&model=gpt-oss-120b") == ["old", *(f"r{index}" for index in range(rows))]
    assert await ids("page=2&page_size=2&model=gpt-oss-120b") == [f"r{index}" for index in range(rows)][2:4]
    assert (await get(app, "/api/usage", "format=csv&range=no")).status == 400


async def test_static_files_are_kept_for_ever_under_the_address_of_their_content(app: Starlette) -> None:
    shown = await page(app)
    addresses = {address for address in shown.addresses() if "/static/" in address}
    types = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8", "svg": b"image/svg+xml"}
    assert {address.partition("?")[0].rpartition(".")[2] for address in addresses} == set(types)
    for address in addresses:
        path, _, query = address.partition("?")
        kept = await get(app, path, query)
        assert (kept.status, kept.header("cache-control")) == (200, b"public, max-age=31536000, immutable")
        assert kept.header("content-type") == types[path.rpartition(".")[2]]
        small = await get(app, path, query, headers=[("accept-encoding", "gzip")])
        assert gzip.decompress(small.body) == kept.body
        assert small.header("vary") == kept.header("vary") == b"accept-encoding"
        assert (await get(app, path)).header("cache-control") == b"no-cache"
        assert (await get(app, path, "v=0")).header("cache-control") == b"no-cache"


@pytest.mark.parametrize("name", ["routes.py", "..%2Froutes.py", "../routes.py", "", "%00"])
async def test_no_other_file_is_served(app: Starlette, name: str) -> None:
    assert (await get(app, f"/dashboard/static/{name}")).status == 404


async def test_methods(app: Starlette) -> None:
    for path in ("/dashboard", "/api/usage"):
        assert (await request(app, "HEAD", path)).status == 200
        assert (await request(app, "POST", path)).status == 405


async def test_the_style_sheet_loads_nothing_and_knows_both_schemes(app: Starlette) -> None:
    css = (await get(app, "/dashboard/static/dashboard.css")).body.decode("utf-8")
    assert "color-scheme: light dark" in css
    assert "light-dark(" in css
    assert "url(" not in css
    assert "@import" not in css
