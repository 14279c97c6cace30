"""Clusters for the tests: one that a test starts and stops itself, and one that runs for all of them."""

from collections.abc import Iterator

import pytest

from tests.postgresql.server import PostgreSQL, cluster


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A cluster that has not been started yet."""
    with cluster(tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def running_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A cluster that runs, for tests that leave it running; each takes a database of its own."""
    with cluster(tmp_path_factory) as server:
        server.start()
        yield server
