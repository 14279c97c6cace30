"""Every page that there is, as a name and the way to it."""

from typing import NamedTuple

import pytest

from tests.browser.chromium import Browser
from tests.browser.seed import CHAIN_ID, PLANTED_ID, TREE_ID
from tests.browser.world import World


class Place(NamedTuple):
    """A page: the fixture whose server has it, what stands behind /dashboard, the status."""

    world: str
    path: str
    status: int = 200


PLACES = {
    "overview": Place("seeded", "?range=7d&page_size=10"),
    "sessions": Place("seeded", "?range=30d&tab=sessions&page_size=10"),
    "one request": Place("seeded", f"/requests/{CHAIN_ID}"),
    "a request with odd names": Place("seeded", f"/requests/{PLANTED_ID}_1"),
    "an endless name": Place("seeded", "/requests/req_ccr_endless"),
    "one session": Place("seeded", f"/sessions/{TREE_ID}"),
    "nothing fits": Place("seeded", "?range=7d&agent=nobody"),
    "empty": Place("unused", ""),
    "unreadable database": Place("broken", "", status=503),
    "refused address": Place("seeded", "?range=never", status=400),
    "no such request": Place("seeded", "/requests/gone", status=404),
}

each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def go(browser: Browser, place: Place, request: pytest.FixtureRequest) -> World:
    """Open a page, and wait until it is drawn; the server that it came from."""
    world: World = request.getfixturevalue(place.world)
    browser.open(world.url(place.path), place.status)
    wait_until_drawn(browser)
    return world


def wait_until_drawn(browser: Browser) -> None:
    """Wait for the charts, if there are any."""
    browser.until(lambda: not browser.all("[data-figure]:not([data-drawn=true])"), "a chart that is not drawn")
