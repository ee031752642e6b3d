"""A yard whose records are kept, as Kafka keeps them, and its files damaged."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch import stages, standing
from batch.compiled import Compiled
from infra.damage import scrub
from infra.damage.repair import Repairer
from infra.damage.scrub import Damage, Pace, Scrubbed
from schemas.engine import RECORDS
from schemas.ledger import repairs, versions
from schemas.ledger.connect import Ledger, keep_wal, open_ledger
from schemas.ledger.contents import contents
from schemas.ledger.copies import copy_ledger
from schemas.ledger.epochs import SegmentFile
from schemas.ledger.repairs import Held
from schemas.position import Range
from schemas.storage import DataRoot
from streaming.topics import TopicFacts
from tests.engine.yard import STREAM, VIEWS, Yard


@dataclass
class Kept:
    """Records as a log; what lies below `first` is gone."""

    tables: list[pa.Table] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    topic_id: str = "topic-id"
    until: dict[int, int] = field(default_factory=dict)

    def facts(self, topic: str) -> TopicFacts | None:
        return TopicFacts(self.topic_id, (0, 1)) if topic == "hits" else None

    def bounds(self, topic: str, partitions: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        assert topic == "hits"
        return {each: (self.first.get(each, 0), self.until.get(each, 10**9)) for each in partitions}

    def records(self, topic: str, ranges: Sequence[Range]) -> pa.Table:
        assert topic == "hits"
        wanted = {
            (each.partition, offset) for each in ranges for offset in range(each.start, each.until)
        }
        rows = [
            row
            for table in self.tables
            for row in table.to_pylist()
            if (row["_partition"], row["_offset"]) in wanted
        ]
        return pa.Table.from_pylist(rows, schema=RECORDS)


class Logged(Yard):
    """Its records can be read again."""

    def __init__(
        self, folder: Path, stream: str = STREAM, views: Mapping[str, str] = VIEWS
    ) -> None:
        self.log = Kept()
        super().__init__(folder, stream, views)

    def _segments(
        self, epoch: int, ranges: tuple[Range, ...], parts: Sequence[pa.Table]
    ) -> Iterable[SegmentFile]:
        self.log.tables += parts
        return super()._segments(epoch, ranges, parts)

    def copied(self, folder: Path) -> Logged:
        """Another one with the same state."""
        made = copy.copy(self)
        made.folder, made.state = folder, folder / "state"
        folder.mkdir(parents=True, exist_ok=True)
        copy_ledger(self.state, folder)
        keep_wal(folder / "ledger.db")
        shutil.copytree(self.state, made.state, ignore=lambda *_: ["ledger.db"])
        (folder / "ledger.db").rename(made.state / "ledger.db")
        made.root, made.ledger = DataRoot(made.state), open_ledger(made.state)
        made.log = replace(self.log, first={}, until={})
        return made

    def held(self, kind: str, at: int = 0) -> Held:
        return [each for each in repairs.counting(self.ledger) if each.data.kind == kind][at]

    def scrub(self) -> Scrubbed:
        return scrub.scrub(self.ledger, self.root, Pace(0), lambda *_: None)

    def repair(self, damaged: Sequence[Damage] | None = None) -> dict[str, str]:
        found = self.scrub().damaged if damaged is None else damaged
        repairer = Repairer(self.ledger, self.root, self.log, list, lambda: self.clock)
        return repairer.all(found)

    def answers(self) -> dict[str, list[tuple[Any, ...]]]:
        return answers(self.ledger, self.root, self.name)


def answers(ledger: Ledger, root: DataRoot, stream: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every view's rows, as the files hold them."""
    there = contents(ledger, stream)
    found = {}
    for row in versions.views(ledger, stream):
        _, view = Compiled(ledger).of(row.name, row.version)
        with stages.working("512MB") as engine:
            select = standing.of(engine, root, view, there).select
            found[row.name] = sorted(engine.con.execute(select).fetchall(), key=repr)
    return found


def flip(root: DataRoot, path: str, at: int | None = None) -> None:
    """Change one bit of a file."""
    local = root.local(path)
    data = bytearray(local.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    local.write_bytes(data)
