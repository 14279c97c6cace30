"""What keeps people from using a page: what axe-core finds, and where the keyboard does not reach."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Browser, violations
from tests.browser.places import PLACES, Place, each_place, go
from tests.browser.world import World

pytestmark = pytest.mark.browser

REACHABLE = """
const parts = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]';
const found = [...document.querySelectorAll(parts)].filter(one => one.checkVisibility() && !one.disabled);
window.looks = new Map(found.map(one => [one, look(one)]));
window.reached = new Set();
function look(one) {
  const style = getComputedStyle(one);
  return [style.outlineStyle, style.outlineWidth, style.boxShadow, style.borderColor, style.backgroundColor].join();
}
window.look = look;
return found.length;
"""
"""Notes everything that can be used, and how it looks while it is not in use."""

STEP = """
const one = document.activeElement;
if (one === null || one === document.body) return 'nowhere';
if (one === window.last) return 'on';  // a date has a stop for each of its parts
window.last = one;
if (reached.has(one)) return 'again';
reached.add(one);
const frame = one.getBoundingClientRect();
const seen = frame.width > 1 && frame.height > 1 && frame.bottom > 0 && frame.top < innerHeight;
if (!seen) return 'unseen: ' + one.outerHTML.slice(0, 120);
return looks.get(one) === look(one) ? 'as before: ' + one.outerHTML.slice(0, 120) : 'on';
"""
"""Says what the keyboard has reached, and whether one sees it there."""

PARTS = 30
"""More stops than the dates in a page have parts."""

LEFT = "return [...looks.keys()].filter(one => !reached.has(one)).map(one => one.outerHTML.slice(0, 120));"


@each_place
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, place: Place, scheme: str, request: pytest.FixtureRequest) -> None:
    browser.prefer(color_scheme=scheme, reduced_motion="reduce")
    go(browser, place, request)
    assert violations(browser) == []


@pytest.mark.parametrize("name", ["overview", "empty"])
def test_the_keyboard_reaches_all_that_can_be_used_and_shows_where_it_is(
    browser: Browser, name: str, request: pytest.FixtureRequest
) -> None:
    browser.prefer(reduced_motion="reduce")
    go(browser, PLACES[name], request)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true;")
    count = browser.run(REACHABLE)
    assert count > 3
    for _ in range(count + PARTS):
        ActionChains(browser.driver, duration=0).send_keys(Keys.TAB).perform()
        said = browser.run(STEP)
        if said in ("nowhere", "again"):
            break
        assert said == "on"
    assert browser.run(LEFT) == []


def test_the_first_stop_leads_past_the_bar(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    ActionChains(browser.driver).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert browser.driver.current_url.endswith("#main")


def test_who_wants_no_motion_gets_none(browser: Browser, seeded: World) -> None:
    browser.prefer(reduced_motion="reduce")
    browser.open(seeded.url("?range=7d"))
    moving = """
    return [...document.querySelectorAll('*')].filter(one => {
      const style = getComputedStyle(one);
      const lasting = text => text.split(',').some(part => parseFloat(part) > 0.01);
      return lasting(style.transitionDuration) || (style.animationName !== 'none' && lasting(style.animationDuration));
    }).map(one => one.outerHTML.slice(0, 120));
    """
    assert browser.run(moving) == []
    assert browser.run("return document.getAnimations().length") == 0
