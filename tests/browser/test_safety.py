"""Hostile names are text, and the policy that would hold a script back is in force."""

import pytest

from tests.browser.chromium import Browser
from tests.browser.places import Place, each_place, go
from tests.browser.seed import PLANTED
from tests.browser.world import World

pytestmark = pytest.mark.browser

STRANGERS = """
return [...document.querySelectorAll('script:not([src]):not([type="application/json"]), img[onerror], [onload],'
  + ' iframe, object, embed, base')].map(one => one.outerHTML.slice(0, 200));
"""
OUTWARD = """
const own = [...document.querySelectorAll('a, svg a, link, script, img, form')];
return own.map(one => one.getAttribute('href') || one.getAttribute('xlink:href') || one.getAttribute('src')
  || one.getAttribute('action') || '').filter(url => new URL(url, location).origin !== location.origin);
"""


@each_place
def test_names_do_nothing(browser: Browser, place: Place, request: pytest.FixtureRequest) -> None:
    go(browser, place, request)
    assert browser.run(STRANGERS) == []
    assert browser.run(OUTWARD) == []


@pytest.mark.parametrize("planted", PLANTED)
def test_names_are_shown_as_they_are(browser: Browser, seeded: World, planted: str) -> None:
    browser.open(seeded.url("?range=1h&page_size=10"))
    assert planted in browser.text("main")


@each_place
def test_the_policy_allows_nothing_unsafe(browser: Browser, place: Place, request: pytest.FixtureRequest) -> None:
    go(browser, place, request)
    browser.listen()
    policy = browser.policies[browser.driver.current_url]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert "unsafe" not in policy
    assert directives["default-src"] == "'none'"
    assert directives.get("script-src", "'none'") in ("'self'", "'none'")
    assert directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert "http" not in policy
    assert "*" not in policy


def test_a_script_that_got_into_the_page_does_not_run(browser: Browser, seeded: World) -> None:
    browser.open(seeded.url("?range=7d"))
    browser.run("""
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      document.body.insertAdjacentHTML('beforeend', '<img src="data:none" onerror="window.ran = true">');
    """)
    browser.until(lambda: _refusals(browser) >= 1, "word of the browser that it held a script back")
    assert browser.run("return window.ran") is None
    browser.console.clear()  # which is full of what this test did


def _refusals(browser: Browser) -> int:
    browser.listen()
    return sum("Content Security Policy" in message for message in browser.console)
