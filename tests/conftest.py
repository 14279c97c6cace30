"""Fixtures for every test: no developer's own files or variables are read, and a fake upstream is at hand."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import codex_login
from tests.support.fake_upstream import FakeUpstream

_FOREIGN_PREFIXES = ("CCR_ASGI_", "ANTHROPIC_", "CLAUDE_", "CODEX_", "OPENAI_", "CEREBRAS_", "UVICORN_", "GRANIAN_")
_FOREIGN_NAMES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "xdg_config_home", "netrc", "ssl_cert_file"}


# A machine that stands still for half a minute says nothing of the code under test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def unused_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HOME of all tests of this process: a folder that stays empty."""
    return tmp_path_factory.mktemp("unused-home")


@pytest.fixture(autouse=True)
def _no_foreign_settings(unused_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests see an empty HOME and no variable that means something to us; one that writes to HOME sets its own."""
    monkeypatch.setenv("HOME", str(unused_home))
    for name in list(os.environ):
        if name.upper().startswith(_FOREIGN_PREFIXES) or name.lower() in _FOREIGN_NAMES:
            monkeypatch.delenv(name)
    yield
    assert not (left := sorted(unused_home.rglob("*"))), f"the test wrote to a HOME that it did not set: {left}"


@pytest.fixture(autouse=True)
def _tokens_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that has some time left has it in the last test of a long run, too."""
    monkeypatch.setattr(codex_login, "started_s", int(time.time()))


@pytest.fixture
def fake_upstream() -> Iterator[FakeUpstream]:
    """A scriptable provider on a free port."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def second_upstream() -> Iterator[FakeUpstream]:
    """Another provider, for tests about which of two is asked."""
    with FakeUpstream() as upstream:
        yield upstream
