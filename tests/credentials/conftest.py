"""A Codex login's file, its credentials, and the endpoint that renews it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ccr_asgi.credentials import codex
from ccr_asgi.credentials.codex import CodexLogin
from ccr_asgi.transport import Http11Transport
from tests.credentials.files import FullDisk
from tests.support.codex_login import PATH, TokenEndpoint
from tests.support.fake_upstream import FakeUpstream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the login's file is to be."""
    return tmp_path / "auth.json"


@pytest.fixture
async def transport() -> AsyncIterator[Http11Transport]:
    """A transport of the test's event loop."""
    transport = Http11Transport()
    yield transport
    await transport.aclose()


@pytest.fixture
def credentials(path: Path, fake_upstream: FakeUpstream, transport: Http11Transport) -> CodexLogin:
    """What is tested."""
    return CodexLogin(path, token_url=fake_upstream.url + PATH, transport=transport)


@pytest.fixture
def endpoint(fake_upstream: FakeUpstream) -> TokenEndpoint:
    """The endpoint that these credentials ask; login number 1 is the one it renews."""
    return TokenEndpoint(fake_upstream)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused refresh does not wait for the CLI."""
    monkeypatch.setattr(codex, "SETTLE_S", 0)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """No file can be replaced, until the test makes room."""
    return FullDisk(monkeypatch)
