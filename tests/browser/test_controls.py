"""What a person can do on the pages: choose, switch, copy, by pointer and by keys, and without any script."""

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.browser.chromium import NARROW, Browser
from tests.browser.places import wait_until_drawn
from tests.browser.seed import CHAIN_ID
from tests.browser.test_numbers import CARDS
from tests.browser.world import World

pytestmark = pytest.mark.browser

GROUND = "return getComputedStyle(document.body).backgroundColor"


def test_a_choice_applies_itself_and_stands_in_the_address(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    Select(browser.one("[name=range]")).select_by_value("30d")
    browser.until(lambda: browser.driver.current_url.endswith("?range=30d"), "the longer range")
    browser.one("[name=provider]").send_keys("anthropic", Keys.ENTER)
    browser.until(lambda: "provider=anthropic" in browser.driver.current_url, "the filter")
    assert "range=30d" in browser.driver.current_url
    assert browser.text(".filters").startswith("provider: anthropic")
    said = seeded.usage("?range=30d&provider=anthropic")["summary"]["requests"]
    assert browser.text('[data-number="requests"]') == f"{said:,}"
    browser.one(".filters a").click()
    browser.until(lambda: "provider" not in browser.driver.current_url, "the filter's end")


def test_a_range_of_ones_own_asks_for_its_days(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url())
    assert not browser.one("[name=from]").is_displayed()
    Select(browser.one("[name=range]")).select_by_value("custom")
    assert browser.one("[name=from]").is_displayed()
    first = seeded.now.date().replace(day=1).isoformat()
    browser.run("arguments[0].value = arguments[1]", browser.one("[name=from]"), first)
    browser.one("form[data-filters] button").click()
    browser.until(lambda: f"from={first}" in browser.driver.current_url, "the chosen days")
    assert browser.text('[data-number="requests"]')


def test_a_theme_is_kept_on_every_page(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    wait_until_drawn(browser)
    light = browser.run(GROUND)
    browser.one("[data-action=theme]").click()
    assert browser.run("return document.documentElement.dataset.theme") == "dark"
    dark = browser.run(GROUND)
    assert dark != light
    browser.open(seeded.url(f"/requests/{CHAIN_ID}"))
    assert browser.run(GROUND) == dark
    browser.prefer(color_scheme="dark")
    browser.one("[data-action=theme]").click()
    assert browser.run(GROUND) == light


def test_without_a_choice_the_system_chooses(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    light = browser.run(GROUND)
    browser.prefer(color_scheme="dark")
    assert browser.run(GROUND) != light
    assert browser.run("return document.documentElement.dataset.theme") is None


def test_the_charts_take_the_theme(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    wait_until_drawn(browser)
    colour = "return getComputedStyle(document.querySelector('[data-figure=errors] .ytick text')).fill"
    light = browser.run(colour)
    browser.one("[data-action=theme]").click()
    browser.until(lambda: browser.run(colour) != light, "charts in the other theme")


def test_a_command_is_copied(browser: Browser, unused: World) -> None:
    browser.open(unused.url())
    origin = unused.server.url
    browser.command(
        "Browser.grantPermissions", origin=origin, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    button = browser.all("[data-action=copy]")[0]
    command = browser.all(".command code")[0].text
    button.click()
    browser.until(lambda: button.text == "Copied", "word that it was copied")
    copied = browser.driver.execute_async_script(
        "const done = arguments[0]; navigator.clipboard.readText().then(done, fault => done(String(fault)))"
    )
    assert copied == command
    assert command.startswith(f"ANTHROPIC_BASE_URL={origin}")


def test_the_filters_open_on_a_telephone(browser: Browser, seeded: World) -> None:
    browser.resize(NARROW)
    browser.open(seeded.url("?range=7d"))
    assert not browser.one("[name=provider]").is_displayed()
    browser.one(".show-filters").click()
    assert browser.one("[name=provider]").is_displayed()
    assert browser.run("return document.documentElement.scrollWidth") <= NARROW[0]


def test_nothing_moves_for_who_wants_no_motion(browser: Browser, unused: World) -> None:
    moves = "return getComputedStyle(document.querySelector('.pulse')).animationName"
    browser.open(unused.url())
    assert browser.run(moves) == "pulse"
    browser.prefer(reduced_motion="reduce")
    assert browser.run(moves) == "none"


def test_without_scripts_all_numbers_are_there(browser: Browser, seeded: World) -> None:
    query = "?range=7d&page_size=10"
    browser.open(seeded.url(query))
    with_scripts = {name: browser.text(f'[data-number="{name}"]') for name in CARDS}
    browser.allow_scripts(False)
    browser.open(seeded.url(query))
    assert {name: browser.text(f'[data-number="{name}"]') for name in CARDS} == with_scripts
    assert not browser.one("[data-action=theme]").is_displayed()
    assert not browser.all("[data-drawn]")
    tables = browser.all(".chart details")
    assert len(tables) == 6
    tables[0].find_element("tag name", "summary").click()
    assert tables[0].find_element("tag name", "table").is_displayed()
    browser.one("[name=agent]").send_keys("-")
    browser.one("form[data-filters] button").click()
    browser.until(lambda: "agent=-" in browser.driver.current_url, "the form that was sent")
    said = seeded.usage("?range=7d&agent=-")["summary"]["requests"]
    assert browser.text('[data-number="requests"]') == f"{said:,}"


def test_mounted_under_a_prefix_it_is_whole(browser: Browser, mounted: World) -> None:
    browser.open(mounted.url("?range=7d"))
    wait_until_drawn(browser)
    said = mounted.usage("?range=7d")["summary"]["requests"]
    assert browser.text('[data-number="requests"]') == f"{said:,}"
    browser.all("tr[data-request] th a")[0].click()
    browser.until(lambda: "/llm/dashboard/requests/" in browser.driver.current_url, "the request's page")
