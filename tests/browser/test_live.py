"""The page follows what happens without being loaded again, until it is told to stop."""

from functools import partial

import pytest

from tests.browser.chromium import Browser
from tests.browser.places import wait_until_drawn
from tests.browser.world import World
from tests.integration.claude import new_session

pytestmark = pytest.mark.browser


def requests(browser: Browser) -> str:
    found = browser.all('[data-number="requests"]')
    return found[0].text if found else ""


def _shows(browser: Browser, number: str) -> bool:
    return requests(browser) == number


def state(browser: Browser) -> str | None:
    return browser.one("[data-live]").get_attribute("data-state")


def test_the_first_request_turns_the_page_into_the_dashboard(browser: Browser, fresh: World) -> None:
    browser.open(fresh.url())
    assert browser.all("[data-empty]")
    assert state(browser) == "waiting"
    browser.run("window.stayed = true")
    fresh.ask(new_session())
    browser.until(lambda: requests(browser) == "1", "the first request")
    browser.until(lambda: state(browser) == "live", "the sign of life")
    wait_until_drawn(browser)
    assert not browser.all("[data-empty]")
    assert browser.all("[data-figure] svg.main-svg")
    assert browser.run("return window.stayed")


def test_new_requests_appear_and_none_is_lost(browser: Browser, fresh: World) -> None:
    fresh.ask(new_session())
    fresh.server.usage_rows(1)
    browser.open(fresh.url())
    browser.run("window.stayed = true; document.querySelector('[data-panel=latency] details').open = true")
    for number in ("2", "3", "4"):
        fresh.ask(new_session())
        browser.until(partial(_shows, browser, number), f"request {number}")
    shown = {row.get_attribute("data-request") for row in browser.all("tr[data-request]")}
    assert shown == {row["id"] for row in fresh.sql("SELECT id FROM v_requests")}
    assert browser.run("return window.stayed")
    assert browser.run("return document.querySelector('[data-panel=latency] details').open"), "it was closed"


def test_paused_it_stands_still_and_resumed_it_catches_up(browser: Browser, fresh: World) -> None:
    fresh.ask(new_session())
    fresh.server.usage_rows(1)
    browser.open(fresh.url())
    browser.until(lambda: state(browser) == "live", "the sign of life")
    browser.one("[data-action=live]").click()
    assert state(browser) == "paused"
    assert browser.one("[data-action=live]").get_attribute("aria-pressed") == "true"
    browser.listen()
    browser.asked.clear()
    fresh.ask(new_session())
    fresh.server.usage_rows(2)
    browser.driver.execute_async_script("setTimeout(arguments[0], 2500)")  # one look would have come by now
    browser.listen()
    assert not [url for url in browser.asked if url.endswith("/live")]
    assert requests(browser) == "1"
    browser.one("[data-action=live]").click()
    browser.until(lambda: requests(browser) == "2", "what came meanwhile")


def test_a_server_that_is_gone_is_said_and_the_numbers_stay(browser: Browser, fresh: World) -> None:
    fresh.ask(new_session())
    fresh.server.usage_rows(1)
    browser.open(fresh.url())
    fresh.server.kill()
    browser.until(lambda: browser.text("[data-live]") == "No answer", "word that nobody answers")
    assert requests(browser) == "1"
    browser.listen()
    browser.console.clear()  # the browser itself logs what it could not load
