"""Templates and migrations are found in a checkout and in a wheel."""

from pathlib import Path

import pytest

from ccr_asgi import resources
from ccr_asgi.resources import resource_dir


@pytest.mark.parametrize("name", ["templates", "migrations"])
def test_the_folders_of_this_checkout_are_found(name: str) -> None:
    assert resource_dir(name).is_dir()
    assert resource_dir(name).name == name


def test_the_package_comes_before_what_stands_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "ccr_asgi"
    monkeypatch.setattr(resources, "_PACKAGE", package)
    beside, inside = package.parent / "templates", package / "templates"
    beside.mkdir(parents=True)
    assert resource_dir("templates") == beside
    inside.mkdir(parents=True)
    assert resource_dir("templates") == inside


def test_a_damaged_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "ccr_asgi")
    (tmp_path / "templates").write_text("a file is no folder")
    with pytest.raises(FileNotFoundError, match="reinstall"):
        resource_dir("templates")
