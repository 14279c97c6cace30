"""A page of somebody else's, in a real browser on this machine: it can neither read what we have nor spend on us.

The browser is Chromium without a window. It is told that every foreign name leads to this machine, which is what DNS
rebinding comes to.
"""

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.claude import World, body, world_in_a_process

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

PAGE = """<!doctype html><title>evil</title><iframe id=frame src="@URL/dashboard"></iframe>
<img id=image src="@URL/api/usage"><pre id=found></pre><script>
const tries = {
  read: () => fetch("@URL/api/usage").then(r => r.text()),
  readWithKeys: () => fetch("@URL/api/usage", {credentials: "include"}).then(r => r.text()),
  blind: () => fetch("@URL/api/usage", {mode: "no-cors"}).then(r => r.text()),
  spend: () => fetch("@URL/v1/messages", {method: "POST", body: @BODY}).then(r => r.text()),
  spendBlindly: () => fetch("@URL/v1/messages", {method: "POST", mode: "no-cors", body: @BODY}).then(r => r.text()),
  spendAsJson: () => fetch("@URL/v1/messages", {method: "POST", body: @BODY,
                            headers: {"content-type": "application/json", "x-api-key": "k"}}).then(r => r.text()),
  beacon: () => Promise.resolve(String(navigator.sendBeacon("@URL/v1/messages", @BODY))).then(() => ""),
  frame: () => new Promise(done => setTimeout(() => done(
             (() => { try { return document.getElementById("frame").contentDocument?.body.innerText ?? ""; }
                      catch (error) { return ""; } })()), 500)),
};
(async () => {
  const found = {};
  for (const [name, go] of Object.entries(tries)) {
    try { found[name] = await go(); } catch (error) { found[name] = ""; }
  }
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>"""


class EvilSite:
    """A site that serves one page on a port of its own."""

    def __init__(self) -> None:
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = site.page.encode()
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.page = ""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[EvilSite]:
    evil = EvilSite()
    yield evil
    evil.close()


def visit(url: str, folder: Path) -> str:
    """The page that a browser has made of `url`, as HTML."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless=new",
        "--disable-gpu",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        f"--user-data-dir={folder}",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
        "--virtual-time-budget=8000",
        "--timeout=20000",
        "--dump-dom",
        url,
    ]
    environment = {**os.environ, "HOME": str(folder)}
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=45, check=True)
    return ended.stdout.decode("utf-8", "replace")


def found_on(page: str) -> dict[str, str]:
    content = page.partition('<pre id="found">')[2].partition("</pre>")[0]
    assert content, page[-2000:]
    found: dict[str, str] = json.loads(content.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return found


def script_text(content: bytes) -> str:
    return json.dumps(content.decode()).replace("</", "<\\/")


@pytest.mark.fault("a page in a real browser")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_another_origin_reads_and_spends_nothing(tmp_path: Path, site: EvilSite, name: str) -> None:
    with world_in_a_process(tmp_path) as world:
        session = "a-session-that-is-nobodys-business"
        world.post(body(), session=session)
        world.row(session)
        world.forget()
        site.page = PAGE.replace("@URL", world.url).replace("@BODY", script_text(body(stream=False)))
        found = found_on(visit(f"http://{name}:{site.port}/", tmp_path / "profile"))
        assert set(found.values()) == {""}, found
        assert world.contacts == 0


@pytest.mark.fault("a page in a real browser")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_name_that_is_rebound_to_us_reads_and_spends_nothing(tmp_path: Path, site: EvilSite) -> None:
    """For the browser our server and the evil page are then one origin: the Host is all that tells."""
    with world_in_a_process(tmp_path) as world:
        port = urlsplit(world.url).port
        page = visit(f"http://rebound.example:{port}/dashboard", tmp_path / "profile")
        assert "permission_error" in page
        site.page = PAGE.replace("@URL", f"http://rebound.example:{port}")
        site.page = site.page.replace("@BODY", script_text(body(stream=False)))
        found = found_on(visit(f"http://rebound.example:{site.port}/", tmp_path / "profile"))
        assert set(found.values()) == {""}, found
        assert world.contacts == 0


@pytest.mark.fault("a page in a real browser")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_our_own_page_is_shown(tmp_path: Path, site: EvilSite) -> None:
    """So that the silence of the others means something."""
    with world_in_a_process(tmp_path) as world:
        assert shows_requests(visit(f"{world.url}/dashboard", tmp_path / "profile"), world)


def shows_requests(page: str, world: World) -> bool:
    return "permission_error" not in page and str(world.database) in page
