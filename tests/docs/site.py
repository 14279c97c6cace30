"""`make site`: the documentation as a site, in .cache/site/site; a link that leads nowhere fails it.

The pages are those of `docs` and a few from the top of the checkout. A link to one of these is kept; one to a file that
is no page, such as a module, becomes the file's name.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.server import CHECKOUT

DOCS = CHECKOUT / "docs"
FROM_THE_TOP = ("CHANGELOG.md", "SECURITY.md")
BUILD = CHECKOUT / ".cache/site"
DECISIONS = Path("adr/index.md")
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def pages() -> dict[Path, Path]:
    """Every page, with its place in the site."""
    below = {page: page.relative_to(DOCS) for page in sorted(DOCS.rglob("*.md"))}
    return {**below, **{CHECKOUT / name: Path(name) for name in FROM_THE_TOP}}


def written_for_the_site(page: Path, places: dict[Path, Path]) -> str:
    """The text of `page` with links that hold in the site."""

    def link(found: re.Match[str]) -> str:
        words, path, fragment = found[1], found[2], found[3] or ""
        target = (page.parent / path).resolve()
        if target not in places and DOCS not in target.parents:
            return f"`{target.relative_to(CHECKOUT)}`"
        place = places.get(target) or target.relative_to(DOCS)
        return f"[{words}]({os.path.relpath(place, places[page].parent)}{fragment})"

    return _LINK.sub(link, page.read_text(encoding="utf-8"))


def decisions() -> str:
    """A page that leads to every record of a decision."""
    records = sorted((DOCS / "adr").glob("*.md"))
    titles = [record.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for record in records]
    lines = [f"- [{title}]({record.name})" for title, record in zip(titles, records, strict=True)]
    return "# Why it is as it is\n\nDecisions that could have been taken differently.\n\n" + "\n".join(lines) + "\n"


def gather(folder: Path) -> None:
    """Write all that the generator needs into `folder`, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS / "images", folder / "pages/images")
    shutil.copy(DOCS / "zensical.toml", folder)
    places = pages()
    for page, place in places.items():
        target = folder / "pages" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(written_for_the_site(page, places), encoding="utf-8")
    (folder / "pages" / DECISIONS).write_text(decisions(), encoding="utf-8")


def main() -> int:
    """Build it; the generator's exit code."""
    gather(BUILD)
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"]
    code = subprocess.run(build, cwd=BUILD, env={**os.environ, "NO_COLOR": "1"}).returncode
    if code == 0:
        print(f"The site is in {BUILD / 'site'}: open its index.html.")
    return code


if __name__ == "__main__":
    sys.exit(main())
