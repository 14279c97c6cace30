"""A headless Chromium as one person's browser: what they do in it, and what it said and fetched meanwhile."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.server import CHECKOUT

AXE = CHECKOUT / ".cache/axe/node_modules/axe-core/axe.min.js"
ABSENT = "the browser's tests need Debian's chromium and chromium-driver, and axe-core: run `make browser`"

PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.05

WIDE, NARROW = (1280, 900), (360, 780)

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # which root, whom CI runs as, cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


class Browser:
    """One window. `open` tells it whose pages are ours; every other origin that it asks is a foreign one.

    Attributes:
        driver: For what is not put in simpler words here.
        console: Errors and warnings that the pages caused, as far as `listen` has read.
        asked: The addresses that the pages asked for, likewise.
        received_bytes: How much came over the wire, compressed and with its headers, likewise.
        policies: The content security policies that they came with, by address, likewise.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.console: list[str] = []
        self.asked: list[str] = []
        self.received_bytes = 0
        self.policies: dict[str, str] = {}
        self._origins: set[str] = set()

    def renew(self) -> None:
        """Forget everything: pages, storage, the emulated size and preferences, and what was heard."""
        for surplus in self.driver.window_handles[1:]:
            self.driver.switch_to.window(surplus)
            self.driver.close()
        self.driver.switch_to.window(self.driver.window_handles[0])
        self.driver.get("about:blank")
        for origin in self._origins:
            self.command("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
        self._origins.clear()
        self.allow_scripts(True)
        self.prefer()
        self.resize(WIDE)
        self.listen()
        self.console.clear()
        self.asked.clear()

    def open(self, url: str, status: int = 200) -> None:
        """Go to a page of ours, which must answer with `status`, and wait until it has loaded."""
        self._origins.add(_origin(url))
        self.driver.get(url)
        assert self.run("return performance.getEntriesByType('navigation')[0].responseStatus") == status, url
        if status >= 400:
            self.listen()
            # The browser itself calls that an error, with the address as it writes it.
            said = (
                f"{self.driver.current_url} - Failed to load resource: the server responded with a status of {status}"
            )
            self.console[:] = [message for message in self.console if not message.startswith(said)]

    def command(self, name: str, **arguments: Any) -> Any:
        """Run a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def resize(self, size: tuple[int, int], *, scale: float = 1) -> None:
        """Give the page this many CSS pixels; a window itself cannot be as narrow as a telephone."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def prefer(self, **features: str) -> None:
        """Set what the system prefers: `color_scheme="dark"`, `reduced_motion="reduce"`; light and motion otherwise."""
        chosen = {"color_scheme": "light", "reduced_motion": "no-preference", **features}
        media = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in chosen.items()]
        self.command("Emulation.setEmulatedMedia", features=media)

    def allow_scripts(self, allowed: bool) -> None:
        """Let the pages that are opened from now on run scripts, or not; tests still can."""
        self.command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a JavaScript function body returns; `arguments` are its arguments."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The one element that a CSS selector finds."""
        found = self.all(selector)
        assert len(found) == 1, f"{len(found)} elements are {selector} at {self.driver.current_url}"
        return found[0]

    def text(self, selector: str) -> str:
        """What a person reads in the one element that a CSS selector finds."""
        return self.one(selector).text

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for `condition`; `what` it is that was waited for in vain is said if it does not come."""
        waiting = WebDriverWait(
            self.driver, PATIENCE_S, LOOK_AGAIN_S, ignored_exceptions=[StaleElementReferenceException]
        )
        waiting.until(lambda _: condition(), what)

    def arrive(self, address: str) -> None:
        """Wait until the page of this address is there."""
        self.until(lambda: self.driver.current_url == address, address)

    def listen(self) -> None:
        """Read what the browser has logged since the last time into `console` and `asked`."""
        for entry in self._log("browser"):
            if entry["level"] in ("SEVERE", "WARNING"):
                self.console.append(str(entry["message"]))
        for entry in self._log("performance"):
            event = json.loads(entry["message"])["message"]
            match event["method"], event["params"]:
                case "Network.requestWillBeSent", {"request": {"url": url}}:
                    self.asked.append(url)
                case "Network.loadingFinished", {"encodedDataLength": length}:
                    self.received_bytes += length
                case "Network.responseReceived", {"type": "Document", "response": {"url": url, "headers": headers}}:
                    fields = {name.lower(): value for name, value in headers.items()}
                    self.policies[url] = fields.get("content-security-policy", "")

    def _log(self, name: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(name)  # type: ignore[no-untyped-call]  # selenium's omission
        return entries

    def foreign(self) -> list[str]:
        """The addresses asked for that are not ours."""
        return [url for url in self.asked if urlsplit(url).scheme not in _LOCAL and _origin(url) not in self._origins]


_LOCAL = ("data", "blob", "about", "chrome", "devtools")
"""Schemes that reach no network."""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def missing() -> str | None:
    """Why there can be no browser, or None."""
    there = shutil.which("chromium") and shutil.which("chromedriver") and AXE.is_file()
    return None if there else ABSENT


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser whose files are all in `folder`; nothing is fetched for it."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environment: Mapping[str, str] = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver"), env=environment))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@cache
def axe_source() -> str:
    """axe-core, which looks for what keeps people from using a page."""
    return AXE.read_text()


def violations(browser: Browser) -> list[str]:
    """The serious and critical faults that axe-core finds in the present page, a line each."""
    if not browser.run("return 'axe' in window"):
        browser.run(axe_source())
    found = browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1], looked = axe.run(document, {resultTypes: ['violations']});"
        "looked.then(found => done(found.violations), fault => done(String(fault)));"
    )
    assert isinstance(found, list), found
    return [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
