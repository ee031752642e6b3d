"""A small world that is served, shared by the tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.api.world import Served, World, serving


@pytest.fixture(scope="package")
def still(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two epochs, which nothing follows."""
    world = World(tmp_path_factory.mktemp("still"))
    world.epoch([{"k": "a", "u": 1, "n": 1, "moment": None}, {"k": None, "u": 2, "n": 7}])
    world.epoch([{"k": "a", "u": 2, "n": None}])
    return world


@pytest.fixture(scope="package")
def served(still: World) -> Served:
    served = Served(still.state)
    served.catch_up()
    return served


@pytest.fixture(scope="package")
def client(served: Served) -> Iterator[httpx.Client]:
    with serving(served) as client:
        yield client
