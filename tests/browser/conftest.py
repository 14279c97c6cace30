"""One browser and one seeded server for all tests of a worker; those that add requests have a server of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser, chromium, missing
from tests.browser.seed import rows
from tests.browser.world import World, present, world


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser, as the test before left it."""
    if (why := missing()) is not None:
        if os.environ.get("CI_BROWSER_REQUIRED") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The browser, renewed; at the end, nothing may have gone wrong in it, and no other origin have been asked."""
    window.renew()
    yield window
    window.listen()
    assert window.console == []
    assert window.foreign() == []


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with some weeks behind it; no test changes it."""
    now = present()
    with world(tmp_path_factory.mktemp("seeded"), rows(now), now=now) as made:
        yield made


@pytest.fixture(scope="session")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server whose database is empty; no test changes it."""
    with world(tmp_path_factory.mktemp("unused"), [], now=present()) as made:
        yield made


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server whose database is no database."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "usage.db").write_bytes(b"This is no database. " * 400)
    with world(folder, None, now=present()) as made:
        yield made


@pytest.fixture(scope="session")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with a past, mounted in another application; no test changes it."""
    now = present()
    with world(tmp_path_factory.mktemp("mounted"), rows(now), now=now, mounted=True) as made:
        yield made


@pytest.fixture
def fresh(window: Browser, tmp_path: Path) -> Iterator[World]:
    """A server that nobody has used yet, for one test; its page is left before it ends, for that asks for news."""
    with world(tmp_path, [], now=present()) as made:
        yield made
        window.driver.get("about:blank")
