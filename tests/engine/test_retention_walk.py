"""Epochs, sealing, merging, builds, rollbacks, retention and clean-up in any order: what counts is
there and whole, and what is served is every event that was ever counted."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from batch import standing
from batch.build import Builder
from batch.compiled import Compiled
from batch.settings import Settings
from batch.stages import in_process
from batch.verify import verify
from schemas.engine import connect
from schemas.errors import NothingSealed, NothingToBuild, PublicationUnknown
from schemas.ledger import builds, files, retention, tables
from schemas.ledger.contents import contents
from streaming import settings as streaming
from streaming.sealer import Sealer
from tests.engine.batching import NOW, Sealed, events
from tests.engine.retaining import retainer
from tests.engine.yard import Direct

pytestmark = pytest.mark.slow

VIEWS = {
    "tally": "SELECT k, count(*) AS hits, sum(n) AS total, approx_count_distinct(u) AS v "
    "FROM hits GROUP BY k",
    "all_hits": "SELECT count(*) AS hits, max(n) AS high FROM hits",
}
STEPS = ("epoch", "epoch", "seal", "seal", "build", "build", "retain", "rollback")


class Walk:
    """A minute passes with every step; what stopped counting goes within two."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world, self.chance = Sealed(folder, views=VIEWS), random.Random(seed)
        self.now: datetime = NOW
        self.done: list[str] = []

    def step(self, name: str) -> None:
        self.now += timedelta(minutes=1)
        try:
            getattr(self, name)()
        except (NothingSealed, NothingToBuild, PublicationUnknown):
            return
        self.done.append(name)

    def epoch(self) -> None:
        start = self.chance.randrange(200)
        self.world.epoch(events(self.chance.randrange(20), start=start))

    def seal(self) -> None:
        """Ranges of two epochs at most, merged by two as far as retention lets them."""
        world = self.world
        chosen = streaming.Settings(world.state, "127.0.0.1:1")
        Sealer(
            settings=replace(
                chosen, seal_epochs=2, merge_fanout=2, keep_removed=timedelta(minutes=2)
            ),
            ledger=world.ledger,
            root=world.root,
            stream=world.name,
            token=world.lease.token,
            now=lambda: self.now,
            run=Direct(),
            moved=threading.Event(),
            fatal=lambda _: None,
            done=lambda: None,
        ).step()

    def build(self) -> None:
        chosen = Settings(
            self.world.state,
            memory="256MB",
            rollback_window=timedelta(minutes=4),
            keep_removed=timedelta(minutes=2),
        )
        view, full = self.chance.choice(list(VIEWS)), self.chance.random() < 0.4
        builder = Builder(chosen, self.world.ledger, in_process, lambda: self.now, 1)
        found = builder.all_steps(view, full=full, until=None)
        assert found.proof.verdict == "equal"

    def rollback(self) -> None:
        view = self.chance.choice(list(VIEWS))
        builds.rollback(self.world.ledger, view, None, self.now)

    def retain(self) -> None:
        world = self.world
        last = max(world.told)
        upto = self.chance.randrange(last + 1)
        done = retainer(world.state, world.ledger, upto, self.now).retain(world.name)
        if done.plan.empty:
            raise NothingToBuild(world.name, upto)

    def check(self) -> None:
        """Every file that counts, every publication that is kept, every answer."""
        world, f, p = self.world, tables.files.c, tables.publications.c
        with world.ledger.read() as connection:
            counting = select(tables.files).where(f.removed_state.is_(None))
            found = [files.data_file(row) for row in connection.execute(counting)]
            kept = connection.execute(select(p.id, p.cut).where(p.dropped.is_(None))).all()
            retained = retention.boundary(connection, world.name)
        assert all(world.root.check(each.file) for each in found)
        assert all(row.cut >= retained for row in kept)
        assert all(builds.build_files(world.ledger, row.id) for row in kept)
        there = contents(world.ledger, world.name)
        for view in VIEWS:
            compiled = world.folding.view(view)
            engine = connect()
            select_ = standing.of(engine, world.root, compiled, there).select
            rows = engine.con.execute(f"SELECT sum(hits) FROM ({select_})").fetchall()
            assert (rows[0][0] or 0) == len(world.told[max(world.told)]), (view, self.done)
            engine.con.close()

    def verified(self) -> None:
        """Recounted, with what retention left of what it removed."""
        world = self.world
        for view in VIEWS:
            definitions = Compiled(world.ledger)
            told = verify(
                world.ledger, world.root, definitions, view, None, memory="256MB", threads=1
            )
            assert (told.comparison.different, told.epoch) == (0, max(world.told)), self.done


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_the_order(tmp_path: Path, seed: int) -> None:
    walk = Walk(tmp_path, seed)
    for _ in range(60):
        walk.step(walk.chance.choice(STEPS))
        walk.check()
    walk.verified()
    assert set(STEPS) <= set(walk.done)
    walk.world.ledger.close()
