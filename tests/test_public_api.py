"""What `import ccr_asgi` promises: every name, and nothing loaded, read or opened before it is used."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ccr_asgi
from ccr_asgi.errors import ConfigError

HEAVY = ["sqlalchemy", "alembic", "plotly", "jinja2", "genai_prices", "aiosqlite"]

WATCH = """
import json, sys

heard = {"opened": [], "sockets": []}

def hear(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        heard["opened"].append(arguments[0])
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen"):
        heard["sockets"].append(event)

sys.addaudithook(hear)
"""

TELL = """
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({**heard, "loaded": loaded, "ours": sorted(name for name in sys.modules if "ccr_asgi" in name)}))
"""


def heard_of(statement: str, home: Path) -> dict[str, Any]:
    """What a fresh interpreter loads, opens and connects to when it runs a statement."""
    ran = subprocess.run(
        [sys.executable, "-c", WATCH + statement + TELL],
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PYTHONPATH": str(Path(ccr_asgi.__file__).parents[1])},
        check=True,
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_the_names_are_sorted_and_all_there() -> None:
    assert ccr_asgi.__all__ == sorted(ccr_asgi.__all__)
    assert set(ccr_asgi.__all__) == {
        *("AuthInjectionMiddleware", "ErrorMiddleware", "FormatConversionMiddleware", "GuardMiddleware"),
        *("RoutingMiddleware", "TagExtractionMiddleware", "TracingMiddleware", "UpstreamApp"),
        "UsageCaptureMiddleware",
        *("build_stack", "create_app", "lifespan"),
    }


@pytest.mark.parametrize("name", ccr_asgi.__all__)
def test_each_name_is_what_it_says(name: str) -> None:
    found = getattr(ccr_asgi, name)
    assert found.__name__ == name
    assert found.__module__.startswith("ccr_asgi.")
    assert found.__doc__
    assert getattr(ccr_asgi, name) is found


def test_a_star_brings_the_names_and_reads_no_configuration() -> None:
    space: dict[str, Any] = {}
    exec("from ccr_asgi import *", space)  # noqa: S102 -- the statement that is tested
    assert set(space) - {"__builtins__"} == set(ccr_asgi.__all__)


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="'ccr_asgi' has no attribute 'applicaton'"):
        ccr_asgi.applicaton  # noqa: B018 -- the access is what is tested
    assert not hasattr(ccr_asgi, "Config")


def test_importing_the_package_loads_and_opens_nothing(tmp_path: Path) -> None:
    found = heard_of("import ccr_asgi", tmp_path)
    assert set(found["loaded"]).isdisjoint([*HEAVY, "starlette", "httpx", "msgspec", "asyncio"])
    assert found["ours"] == ["ccr_asgi"]
    assert not [path for path in found["opened"] if path.startswith(str(tmp_path))]
    assert not [path for path in found["opened"] if not path.endswith((".py", ".pyc"))]
    assert found["sockets"] == []


@pytest.mark.parametrize("name", ccr_asgi.__all__)
def test_a_name_loads_only_what_it_needs(name: str, tmp_path: Path) -> None:
    found = heard_of(f"from ccr_asgi import {name}", tmp_path)
    assert set(found["loaded"]).isdisjoint(HEAVY)
    assert not [path for path in found["opened"] if path.startswith(str(tmp_path))]
    assert found["sockets"] == []


def test_one_middleware_does_not_load_the_others(tmp_path: Path) -> None:
    found = heard_of("from ccr_asgi import GuardMiddleware", tmp_path)
    ours = {name for name in found["ours"] if name.startswith("ccr_asgi.middleware.")}
    assert ours == {"ccr_asgi.middleware.guard"}
    assert "ccr_asgi.application" not in found["ours"]


def test_the_application_reads_its_file_and_opens_no_database_yet(tmp_path: Path) -> None:
    found = heard_of("import ccr_asgi; ccr_asgi.app", tmp_path)
    inside = [path for path in found["opened"] if path.startswith(str(tmp_path))]
    assert inside == [str(tmp_path / ".claude-code-router" / "config.json")]
    assert set(found["loaded"]).isdisjoint(HEAVY)
    assert found["sockets"] == []
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No application has been made yet; one that is made is forgotten."""
    monkeypatch.setitem(vars(ccr_asgi), "app", None)
    monkeypatch.delitem(vars(ccr_asgi), "app")


@pytest.mark.usefixtures("fresh")
def test_there_is_one_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ccr_asgi.app is ccr_asgi.app
    assert "app" not in ccr_asgi.__all__


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("content", ["{", '{"prot": 1}', "[]"])
def test_a_broken_configuration_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    monkeypatch.setenv("CCR_ASGI_CONFIG", str(path))
    with pytest.raises(ConfigError, match=str(path)):
        ccr_asgi.app  # noqa: B018 -- the access is what is tested
    path.write_text("{}")
    assert ccr_asgi.app is not None


@pytest.mark.usefixtures("fresh")
def test_a_defect_is_not_taken_for_a_missing_application(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_app() -> None:
        raise AttributeError("a defect of ours")

    monkeypatch.setattr("ccr_asgi.application.create_app", create_app)
    with pytest.raises(RuntimeError, match="could not be made: a defect of ours"):
        ccr_asgi.app  # noqa: B018 -- the access is what is tested


@pytest.mark.parametrize("name", ["app.py", "app"])
def test_no_submodule_hides_the_application(name: str) -> None:
    assert not (Path(ccr_asgi.__file__).parent / name).exists()


def test_types_are_shipped() -> None:
    assert (Path(ccr_asgi.__file__).parent / "py.typed").exists()
