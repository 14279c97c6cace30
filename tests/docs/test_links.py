"""Every link in the pages leads to something that is there."""

import re
from pathlib import Path

import pytest

from tests.support.server import CHECKOUT

PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").rglob("*.md")), CHECKOUT / "benchmarks/README.md"]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments that the headings of a page make, as GitHub makes them."""
    words = (
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(page.read_text())
    )
    return set(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in _LINK.findall(text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, fragment = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not fragment or fragment in anchors(found), target


def test_the_readme_leads_to_every_page() -> None:
    led = {
        (CHECKOUT / link.partition("#")[0]).resolve() for link in _LINK.findall((CHECKOUT / "README.md").read_text())
    }
    pages = set((CHECKOUT / "docs").glob("*.md"))
    assert pages <= led
