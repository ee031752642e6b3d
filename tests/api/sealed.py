"""A `World` that is sealed and merged by streaming's own sealer: with masters, rejects and ids."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

from schemas.ledger.files import MASTER, DataFile
from schemas.ledger.sealing import sealed_ranges
from streaming.sealer import Sealer
from streaming.settings import Settings
from tests.api.world import World
from tests.engine.yard import Direct


class SealedWorld(World):
    """`seal_all` seals every epoch; ranges are merged by as many as `fanout`."""

    def sealer(self, **settings: Any) -> Sealer:
        own = {"seal_every": timedelta(microseconds=1), "merge_fanout": 100, **settings}
        return Sealer(
            settings=replace(Settings(self.state, "127.0.0.1:1"), **own),
            ledger=self.ledger,
            root=self.root,
            stream=self.name,
            token=self.lease.token,
            now=lambda: self.now,
            run=Direct(),
            moved=threading.Event(),
            fatal=_raise,
            done=lambda: None,
        )

    def seal_all(self, **settings: Any) -> None:
        self.tick()
        self.sealer(**settings).step()

    def master(self) -> list[DataFile]:
        ranges = sealed_ranges(self.ledger, self.name)
        return [each for one in ranges for each in one.files if each.kind == MASTER]


def _raise(error: BaseException) -> None:
    raise error
