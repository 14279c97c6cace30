"""An app of the dashboard's routes over a database of its own, and one whose database cannot be opened."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from ccr_asgi.config import Cost
from ccr_asgi.dashboard.routes import routes
from ccr_asgi.usage.errors import StoreError
from ccr_asgi.usage.store import UsageStore

COSTS = {"gpt-oss-120b": Cost(input=0.35, output=0.75, cache_read=0.1), "<b>": Cost(input=1, output=2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(path)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def app(store: UsageStore, path: Path) -> Starlette:
    async def opened() -> UsageStore:
        return store

    return Starlette(routes=routes(opened, database=str(path), costs=COSTS, providers={}))


@pytest.fixture
def broken_app() -> Starlette:
    async def refused() -> UsageStore:
        raise StoreError("The usage database /x/<usage>.db cannot be used: file is not a database")

    return Starlette(routes=routes(refused, database="/x/usage.db", costs={}, providers={}))
