"""Every panel is drawn, and says what the JSON says and what the file holds, whatever is chosen."""

import json
import shlex
from urllib.parse import urlencode

import pytest

from tests.browser.chromium import Browser
from tests.browser.places import wait_until_drawn
from tests.browser.shown import read
from tests.browser.world import World

pytestmark = pytest.mark.browser

PANELS = (
    "status", "cards", "quota", "tokens-over-time", "cost-over-time", "requests-by-model", "saved-by-agent", "latency",
    "errors", "breakdown", "requests", "sql",
)  # fmt: skip
FIGURES = PANELS[3:9]
CARDS = {
    "billed": "billed_usd",
    "list": "list_usd",
    "saved": "saved_usd",
    "requests": "requests",
    "tokens": "total_tokens",
    "cache-hit": "cache_hit_ratio",
    "error-rate": "error_ratio",
    "ttft-p50": "ttft_p50_ms",
    "ttft-p95": "ttft_p95_ms",
}
CHOICES = [
    {"range": "1h"},
    {"range": "24h"},
    {"range": "7d"},
    {"range": "30d", "tz": "Asia/Kathmandu"},
    {"range": "all"},
    {"range": "month", "tz": "America/New_York"},
    {"range": "30d", "provider": "anthropic"},
    {"range": "30d", "model": "gpt-oss-120b"},
    {"range": "all", "agent": "-"},
    {"range": "30d", "status": "429"},
    {"range": "all", "provider": "cerebras", "project": "demo-shop"},
]


def test_every_panel_is_drawn(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    wait_until_drawn(browser)
    shown = [str(panel.get_attribute("data-panel")) for panel in browser.all("main [data-panel]")]
    assert shown == list(PANELS)
    for name in FIGURES:
        marks = browser.run(
            "return document.querySelectorAll(`[data-figure='${arguments[0]}'] svg .point path, [data-figure='${"
            "arguments[0]}'] svg path.js-line, [data-figure='${arguments[0]}'] svg path.point`).length",
            name,
        )
        assert marks > 0, name


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: urlencode(choice))
def test_the_cards_say_what_the_json_says(browser: Browser, seeded: World, choice: dict[str, str]) -> None:
    query = f"?{urlencode(choice)}"
    browser.open(seeded.url(query))
    said = seeded.usage(query)["summary"]
    for name, field in CARDS.items():
        text = browser.text(f'[data-number="{name}"]')
        assert read(text).agrees(said[field]), (name, text, said[field])


@pytest.mark.parametrize("choice", CHOICES[:8], ids=lambda choice: urlencode(choice))
def test_page_json_and_sql_to_copy_say_the_same(browser: Browser, seeded: World, choice: dict[str, str]) -> None:
    """The command that the page offers, run as it stands, gives the numbers above it."""
    query = f"?{urlencode(choice)}"
    browser.open(seeded.url(query))
    command = shlex.split(browser.all("[data-panel=sql] code")[0].get_attribute("textContent") or "")
    assert command[:2] == ["sqlite3", str(seeded.server.database)]
    (row,) = seeded.sql(command[2])
    said = seeded.usage(query)["summary"]
    assert (row["requests"], row["errors"]) == (said["requests"], said["errors"])
    for name, column in {"requests": "requests", "billed": "billed", "list": "list_value", "saved": "saved"}.items():
        assert read(browser.text(f'[data-number="{name}"]')).agrees(row[column]), name
        assert said[CARDS[name]] == pytest.approx(row[column]), name


def test_a_first_visit_weighs_less_than_one_and_a_half_megabytes(browser: Browser, seeded: World) -> None:
    browser.command("Network.clearBrowserCache")
    browser.received_bytes = 0
    browser.open(seeded.url("?range=30d"))
    wait_until_drawn(browser)
    browser.listen()
    assert 300_000 < browser.received_bytes < 1_500_000  # Plotly alone is 400 kB


def test_the_json_says_what_the_file_holds(seeded: World) -> None:
    (row,) = seeded.sql(
        "SELECT COUNT(*) AS requests, SUM(input_tokens) AS input_tokens, SUM(output_tokens) AS output_tokens,"
        " SUM(billed_usd) AS billed, SUM(list_usd) AS list FROM v_requests"
    )
    said = seeded.usage("?range=all")["summary"]
    assert [said[name] for name in ("requests", "input_tokens", "output_tokens")] == [
        row[name] for name in ("requests", "input_tokens", "output_tokens")
    ]
    assert said["billed_usd"] == pytest.approx(row["billed"])
    assert said["list_usd"] == pytest.approx(row["list"])


@pytest.mark.parametrize("tab", ["agents", "sessions", "projects", "models", "providers"])
def test_a_tab_says_what_the_json_says(browser: Browser, seeded: World, tab: str) -> None:
    browser.open(seeded.url("?range=30d"))
    browser.one(f'[data-tab="{tab}"]').click()
    browser.until(lambda: f"tab={tab}" in browser.driver.current_url, f"the tab {tab}")
    said = seeded.usage("?range=30d")[f"by_{tab.removesuffix('s')}"]
    shown = [row.text for row in browser.all("[data-panel=breakdown] tbody tr td:nth-of-type(1)")]
    assert [read(text).value for text in shown] == [group["requests"] for group in said[: len(shown)]]
    assert len(shown) == min(10, len(said))


def test_a_chart_has_the_numbers_of_its_table(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    wait_until_drawn(browser)
    figure = json.loads(
        browser.run("return document.querySelector('[data-figure=tokens-over-time]').nextElementSibling.textContent")
    )
    series = seeded.usage("?range=7d")["series"]
    for bars, provider in zip(figure["data"], series["by_provider"], strict=True):
        parts = [name for name in provider if name.endswith("_tokens")]
        expected = [sum(count or 0 for count in step) for step in zip(*(provider[name] for name in parts), strict=True)]
        assert bars["y"] == expected


def test_the_requests_are_led_through_by_pages_to_the_last(browser: Browser, seeded: World) -> None:
    query = "?range=all&status=429&page_size=10"
    browser.open(seeded.url(query))
    seen: list[str] = []
    while True:
        seen += [str(row.get_attribute("data-request")) for row in browser.all("tr[data-request]")]
        following = browser.all("[rel=next]")
        if not following:
            break
        address = str(following[0].get_attribute("href"))
        following[0].click()
        browser.arrive(address)
    rows = seeded.sql("SELECT id FROM v_requests WHERE status = 429 ORDER BY started_at DESC, id DESC")
    assert seen == [row["id"] for row in rows]
    assert len(seen) > 10


def test_a_request_leads_to_its_page_and_that_to_its_session(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=1h&agent=fast-dev-1&page_size=10"))
    browser.one('tr[data-request="req_ccr_chain"] a').click()
    browser.until(lambda: "/requests/" in browser.driver.current_url, "the request's page")
    assert "rate_limit_error" in browser.text("[data-panel=timing]")
    assert "fallback" in browser.text("[data-panel=request]")
    browser.one('a[href*="/sessions/"]').click()
    browser.until(lambda: "/sessions/" in browser.driver.current_url, "the session's page")
    assert "fast-dev-1" in browser.text("[data-panel=agents]")


def test_the_csv_has_the_rows_that_are_shown(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=30d&status=429"))
    link = str(browser.one('a[href*="format=csv"]').get_attribute("href"))
    lines = seeded.fetch(link).decode().splitlines()
    assert len(lines) - 1 == seeded.usage("?range=30d&status=429")["summary"]["requests"] > 0
