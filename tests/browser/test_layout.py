"""Narrow windows: a page is scrolled down, and never sideways."""

import pytest

from tests.browser.chromium import Browser
from tests.browser.places import Place, each_place, go
from tests.browser.world import World

pytestmark = pytest.mark.browser

BEYOND = """
const inside = one => {
  for (let box = one.parentElement; box && box !== document.body; box = box.parentElement)
    if (/auto|scroll|hidden|clip/.test(getComputedStyle(box).overflowX)) return true;
  return false;
};
return [...document.body.querySelectorAll('*')].filter(one => {
  const frame = one.getBoundingClientRect();
  return frame.width > 0 && one.checkVisibility() && frame.right > innerWidth + 1 && !inside(one);
}).map(one => `${one.outerHTML.slice(0, 120)} ends at ${one.getBoundingClientRect().right}`);
"""
"""What stands out of the window, and not in a box of its own that scrolls or cuts."""


@each_place
@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_window(
    browser: Browser, place: Place, width: int, request: pytest.FixtureRequest
) -> None:
    browser.resize((width, 780))
    go(browser, place, request)
    assert browser.run("return innerWidth") == width
    assert browser.run(BEYOND) == []
    assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [768, 1280, 1920])
def test_the_bar_stays_in_sight(browser: Browser, seeded: World, width: int) -> None:
    browser.resize((width, 780))
    browser.open(seeded.url("?range=7d"))
    browser.run("scrollTo(0, document.body.scrollHeight)")
    top, height = browser.run(
        "const box = document.querySelector('.bar').getBoundingClientRect(); return [box.top, box.height]"
    )
    assert top == 0
    assert height < 780 / 3
