"""Pictures of every state of the dashboard, to be looked at; two of them stand in the README (`make screenshots`).

`python -m tests.browser.screenshots FOLDER [--rows N]` fills FOLDER; with N, a server with that many rows, too.
"""

import argparse
import asyncio
import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.usage_seed import seed
from ccr_asgi.demo import Demo, running
from tests.browser.chromium import WIDE, Browser, chromium, missing
from tests.browser.places import wait_until_drawn
from tests.browser.world import present, world
from tests.support.server import CHECKOUT, read_rows

IN_README = CHECKOUT / "docs/images"

DAYS, SEED = 30, 1
OF_A_CHAIN = "SELECT id FROM v_requests WHERE attempts > 1 AND outcome = 'ok' ORDER BY started_at DESC LIMIT 1"
OF_A_TREE = (
    "SELECT session_id AS id FROM v_requests WHERE parent_agent_id IS NOT NULL"
    " GROUP BY session_id ORDER BY count(DISTINCT agent_id) DESC LIMIT 1"
)


class Picture(NamedTuple):
    """What to photograph: a page's whole length, or what a window of this size shows first."""

    name: str
    path: str
    size: tuple[int, int] = WIDE
    scheme: str = "light"
    whole: bool = True


WEEK = "?range=7d"

README = (
    Picture("dashboard-light", WEEK, (1280, 1000), whole=False),
    Picture("dashboard-dark", WEEK, (1280, 1000), "dark", whole=False),
)


def pictures(demo: Demo) -> Iterator[Picture]:
    """Those of a server with a past."""
    database = Path(demo.config.usage.database)
    ((request,), (session,)) = read_rows(database, OF_A_CHAIN), read_rows(database, OF_A_TREE)
    for scheme in ("light", "dark"):
        yield Picture(scheme, WEEK, scheme=scheme)
        yield Picture(f"request-{scheme}", f"/requests/{request['id']}", scheme=scheme)
        yield Picture(f"session-{scheme}", f"/sessions/{session['id']}", scheme=scheme)
    yield Picture("wide", WEEK, (1600, 1000))
    yield Picture("narrow", WEEK, (360, 780))
    yield Picture("narrow-request", f"/requests/{request['id']}", (360, 780))
    yield Picture("narrow-session", f"/sessions/{session['id']}", (360, 780))
    yield Picture("last-hour", "?range=1h")
    yield Picture("all-time", "?range=all")
    yield Picture("nothing-fits", "?range=7d&agent=nobody")
    yield Picture("refused", "?range=never")


def take(browser: Browser, folder: Path, origin: str, picture: Picture) -> None:
    """Write one picture."""
    browser.prefer(color_scheme=picture.scheme, reduced_motion="reduce")
    browser.resize(picture.size)
    browser.driver.get(f"{origin}/dashboard{picture.path}")
    wait_until_drawn(browser)
    taken = browser.command(
        "Page.captureScreenshot", format="png", captureBeyondViewport=picture.whole, **_frame(browser, picture)
    )
    file = folder / f"{picture.name}.png"
    file.write_bytes(base64.b64decode(taken["data"]))
    print(f"{file}  {file.stat().st_size / 1000:,.0f} kB")


def _frame(browser: Browser, picture: Picture) -> dict[str, object]:
    if not picture.whole:
        return {}
    size = browser.command("Page.getLayoutMetrics")["cssContentSize"]
    return {"clip": {"x": 0, "y": 0, "width": picture.size[0], "height": size["height"], "scale": 1}}


async def _of_the_demo(browser: Browser, folder: Path) -> None:
    async with running(seed=SEED, days=DAYS, live=False) as demo:
        for picture in pictures(demo):
            await asyncio.to_thread(take, browser, folder, demo.url, picture)
        for picture in README:
            await asyncio.to_thread(take, browser, IN_README, demo.url, picture)
    async with running(days=0, live=False) as demo:
        for scheme in ("light", "dark"):
            await asyncio.to_thread(take, browser, folder, demo.url, Picture(f"empty-{scheme}", "", scheme=scheme))
        await asyncio.to_thread(take, browser, folder, demo.url, Picture("narrow-empty", "", (360, 780)))


def _of_a_broken_database(browser: Browser, folder: Path) -> None:
    with _folder() as place:
        (place / "usage.db").write_bytes(b"This is no database. " * 400)
        with world(place, None, now=present()) as broken:
            take(browser, folder, broken.server.url, Picture("unreadable", ""))
            take(browser, folder, broken.server.url, Picture("narrow-unreadable", "", (360, 780)))


def _of_many_rows(browser: Browser, folder: Path, rows: int) -> None:
    with _folder() as place:
        seed(place / "usage.db", rows, 90, now=present())
        with world(place, None, now=present()) as busy:
            for path in ("?range=24h", "?range=30d", "?range=all"):
                began_s = time.perf_counter()
                take(browser, folder, busy.server.url, Picture(f"many-rows-{path[7:]}", path))
                print(f"  {path} of {rows:,} rows, drawn and written in {time.perf_counter() - began_s:.2f} s")


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="ccr-asgi-pictures-") as name:
        yield Path(name)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=0)
    given = parser.parse_args()
    if (why := missing()) is not None:
        parser.error(why)
    for folder in (given.folder, IN_README):
        folder.mkdir(parents=True, exist_ok=True)
    with _folder() as profile, chromium(profile) as browser:
        asyncio.run(_of_the_demo(browser, given.folder))
        _of_a_broken_database(browser, given.folder)
        if given.rows:
            _of_many_rows(browser, given.folder, given.rows)


if __name__ == "__main__":
    main()
