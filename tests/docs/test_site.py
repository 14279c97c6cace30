"""The documentation's site: every page is in it, every link of it stays in it. `make site` builds it, strictly."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.docs import site


def named(entries: list[Any]) -> Iterator[str]:
    """The pages that a navigation names, in order."""
    for entry in entries:
        for below in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(below, list):
                yield from named(below)
            else:
                yield below


def test_the_navigation_names_every_page_once() -> None:
    config = tomllib.loads((site.DOCS / "zensical.toml").read_text())
    told = sorted(named(config["project"]["nav"]))
    records = re.compile(r"adr/\d+-")
    pages = [site.DECISIONS, *site.pages().values()]
    assert told == sorted(str(page) for page in pages if not records.match(str(page)))


def test_every_decision_is_led_to() -> None:
    records = list((site.DOCS / "adr").glob("*.md"))
    assert len(records) > 5
    assert all(f"]({record.name})" in site.decisions() for record in records)


def test_links_hold_in_the_site(tmp_path: Path) -> None:
    site.gather(tmp_path / "site")
    folder = tmp_path / "site/pages"
    links = 0
    for page in folder.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for path in re.findall(r"\]\((?!https?:|mailto:)([^)\s#]+)", text):
            assert (page.parent / path).resolve().is_relative_to(folder), (page, path)
            assert (page.parent / path).exists(), (page, path)
            links += 1
    assert links > 50


def test_a_link_to_code_becomes_its_name() -> None:
    page = site.DOCS / "adding-a-format.md"
    assert "](../tests/formats/toy_format.py)" in page.read_text()
    assert "`tests/formats/toy_format.py`" in site.written_for_the_site(page, site.pages())
