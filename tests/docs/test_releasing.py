"""constraints.txt has all that the package asks for, within its bounds, every file by its hash."""

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import release
from tests.support.server import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
ASKED = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]


@cache
def constraints() -> dict[str, tuple[Version, int]]:
    """By name: the version, and how many hashes it has."""
    text = release.CONSTRAINTS.read_text().replace("\\\n", " ")
    found: dict[str, tuple[Version, int]] = {}
    for line in text.splitlines():
        requirement = Requirement(line.partition(" --hash")[0])
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}(?= |$)", line)
        found[canonicalize_name(requirement.name)] = (Version(pin.version), len(hashes))
    return found


@pytest.mark.parametrize("line", ASKED)
def test_what_is_asked_for_is_there_within_its_bounds(line: str) -> None:
    requirement = Requirement(line)
    version, _ = constraints()[canonicalize_name(requirement.name)]
    assert version in requirement.specifier
    assert any(bound.operator == ">=" for bound in requirement.specifier), "what is the least version that does?"


def test_every_file_is_named_by_its_hash() -> None:
    assert len(constraints()) > len(ASKED)
    assert [name for name, (_, hashes) in constraints().items() if not hashes] == []


def test_the_page_tells_every_command_of_the_check() -> None:
    page = (CHECKOUT / "docs/releasing.md").read_text()
    for command in ("twine check --strict", "check-wheel-contents", "uv pip compile", "pipx install", "uvx --from"):
        assert f"`{command}" in page
        assert all(f'"{word}"' in (CHECKOUT / "tests/release.py").read_text() for word in command.split())
