"""A week's worth of epochs, one for every minute of it, as fast as they can be committed: the
server follows, answers rightly all the time, and takes no more memory at the end than it did when
it was warm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil
import pytest

from schemas.ledger.connect import open_ledger
from tests.api.sealed import SealedWorld
from tests.api.test_processes import Server
from tests.api.waiting import wait
from tests.engine.batching import builder

pytestmark = pytest.mark.long

EPOCHS = int(os.environ.get("EVERVIEW_EPOCHS", 7 * 24 * 60))
SEAL_EVERY, BUILD_EVERY = 60, 1440  # epochs: an hour, a day
GROUPS = 5000
GROWTH = 1.05
NOISE = 8e6  # bytes
VIEWS = {
    "everything": "SELECT count(*) AS hits, sum(n) AS total FROM hits",
    "by_key": "SELECT k, count(*) AS hits, max(n) AS high FROM hits GROUP BY k",
    "visitors": "SELECT n % 10 AS tenth, approx_count_distinct(u) AS visitors FROM hits GROUP BY 1",
}


@pytest.fixture
def world(tmp_path: Path) -> SealedWorld:
    world = SealedWorld(tmp_path, views=VIEWS)
    world.epoch([{"k": "0", "u": 0, "n": 0}])
    return world


@pytest.fixture
def server(world: SealedWorld) -> Iterator[Server]:
    server = Server(world)
    yield server
    code, errors = server.end(signal.SIGTERM)
    assert code == 0, errors


def test_a_week_of_epochs_leaves_memory_flat(world: SealedWorld, server: Server) -> None:
    found: list[dict[str, float]] = []
    begun = time.monotonic()
    with open_ledger(world.state) as ledger:
        build = builder(world.state, ledger)
        for epoch in range(2, EPOCHS + 1):
            _commit(world, epoch)
            if epoch % SEAL_EVERY == 0:
                world.seal_all(merge_fanout=10)
                _check(server)
            if epoch % BUILD_EVERY == 0:
                for view in VIEWS:
                    build.all_steps(view, full=False, until=None)
                wait(lambda: _check(server) == epoch)  # noqa: B023 awaited before the next one
                found.append(_memory(server))
                told = {name: round(each / 1e6) for name, each in found[-1].items()}
                print(epoch, round(time.monotonic() - begun), "s, MB:", told, flush=True)  # noqa: T201 the proof of a run by hand
    warm, end = found[len(found) // 4 : len(found) // 2], found[-(len(found) // 4) :]
    for part in found[0]:
        was, now = (median(each[part] for each in some) for some in (warm, end))
        assert now < was * GROWTH + NOISE, (part, was, now)


def _commit(world: SealedWorld, epoch: int) -> None:
    number = world.epoch([{"k": str(epoch * 7919 % GROUPS), "u": epoch, "n": epoch}])
    assert number == epoch
    world.told = {number: []}  # the test's own memory
    world.layers.records.clear()


def _check(server: Server) -> int:
    """The epoch of an answer, which must be right."""
    answer = server.ask("SELECT e.*, (SELECT sum(hits) FROM by_key) FROM everything e").json()
    by_key, everything = answer["coverage"]
    epoch = int(everything["epoch"])
    assert answer["rows"] == [[epoch, epoch * (epoch + 1) // 2 - 1, epoch]]
    assert by_key["epoch"] == epoch
    assert by_key["degraded"] is everything["degraded"] is None
    return epoch


def _memory(server: Server) -> dict[str, float]:
    """The bytes of each part, pages that are shared being split among those that share them."""
    spare = server.child("serving.worker.process")
    parts = {
        "front": [psutil.Process(server.process.pid)],
        "follower": [server.child("serving.follower.process")],
        "spare": [spare],
        "workers": server.workers(),
    }
    return {
        name: float(sum(each.memory_full_info().pss for each in some))
        for name, some in parts.items()
    }
