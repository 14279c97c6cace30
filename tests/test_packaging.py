"""The wheel is whole: its command serves from any folder, with templates, migrations and static files inside."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.server import CHECKOUT, reserved_port

START_S = 30.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_holds_all_and_nothing_else(site: Path) -> None:
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    wanted = ["templates/dashboard.html", "migrations/env.py", "dashboard/static/dashboard.css", "py.typed"]
    assert files >= {f"ccr_asgi/{name}" for name in wanted}
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"ccr_asgi"}
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "ccr-asgi = ccr_asgi.__main__:main" in entry_points.read_text()


def test_it_serves_from_any_folder(site: Path, tmp_path: Path) -> None:
    with _served(site, tmp_path) as port:
        assert _get(port, "/readyz").startswith("ok")
        assert "waiting for the first request" in _get(port, "/dashboard").lower()
    assert (tmp_path / ".claude-code-router" / "usage.db").exists()


@contextmanager
def _served(site: Path, home: Path) -> Iterator[int]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(site), "PYTHONUNBUFFERED": "1"}
    where = [sys.executable, "-c", "import ccr_asgi; print(ccr_asgi.__file__)"]
    loaded = subprocess.run(where, cwd=home, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(loaded.strip()).is_relative_to(site)
    with reserved_port() as port:
        command = [sys.executable, "-m", "ccr_asgi.cli", "serve", "--port", str(port)]
        with subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                assert any("running on" in line for line in process.stderr), "the server ended before it served"
                yield port
            finally:
                process.terminate()


def _get(port: int, path: str) -> str:
    with closing(HTTPConnection("127.0.0.1", port, timeout=START_S)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body
