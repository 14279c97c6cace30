"""Servers for the tests of this folder: one for a module where its tests leave nothing behind, else one for a test."""

from collections.abc import Iterator

import pytest

from tests.integration.claude import World, world_in_a_thread


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all tests of a module, served by a thread."""
    with world_in_a_thread(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    """The module's world, whose providers have not been asked anything yet."""
    shared_world.forget()
    return shared_world
