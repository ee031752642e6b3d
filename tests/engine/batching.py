"""A state with sealed epochs, and builds of its views without Spark.

`python -m tests.engine.batching STATE VIEW [full]` builds one in a process that may be killed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from batch.build import Builder, Make
from batch.settings import Settings
from batch.stages import in_process
from schemas.ledger import sealing
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import epochs_after
from schemas.parquet import union
from streaming.sealing import SealTask
from tests.api.world import START, VIEWS, Row, World
from tests.oracle import Oracle

NOW = START + timedelta(hours=1)
EVENT_COLUMNS = (("k", "VARCHAR"), ("u", "BIGINT"), ("n", "INTEGER"), ("moment", "TIMESTAMP"))


class Sealed(World):
    """A world whose epochs can be sealed, as streaming would, and its views built."""

    def seal_all(self) -> int:
        """Seal every epoch that is not; gives the last one."""
        first = sealing.sealed_until(self.ledger, self.name) + 1
        found = epochs_after(self.ledger, self.name, first - 1, 10_000)
        last = found[-1].epoch
        carried = found[0].folded
        task = SealTask(
            stream=self.name,
            token=self.lease.token,
            first=first,
            last=last,
            root=self.root,
            memory="256MB",
            row_group_bytes=1 << 20,
            ranges=union(each for epoch in found for each in epoch.ranges),
            epochs=tuple(epoch.segments for epoch in found),
            compiled=self.folding.stream,
            views=tuple(view for view in self.folding.views if view.version in carried),
        )
        made = task.run()
        sealing.seal(self.ledger, self.name, self.lease.token, first, last, made, NOW)
        return last

    def builder(self, make: Make = in_process, **settings: Any) -> Builder:
        return builder(self.state, self.ledger, make, **settings)

    def epochs(self, *rows: Sequence[Row]) -> int:
        """An epoch of each, and all of them sealed."""
        for each in rows:
            self.epoch(each)
        return self.seal_all()

    def expected(self, view: str, epoch: int) -> list[tuple[Any, ...]]:
        """What DuckDB says to the view's own SELECT; exact where the view estimates."""
        oracle = Oracle()
        oracle.fill("hits", EVENT_COLUMNS, self.told[epoch])
        return ordered(
            oracle.answer(VIEWS[view].replace("approx_count_distinct(u)", "count(DISTINCT u)"))
        )

    def finished(self, view: str) -> list[tuple[Any, ...]]:
        """What somebody reads who has DuckDB and `current.json` alone."""
        files = finished_files(self.state, view)
        return ordered(duckdb.execute(f"FROM read_parquet({files})").fetchall())


def builder(state: Path, ledger: Ledger, make: Make = in_process, **settings: Any) -> Builder:
    chosen = Settings(state=state, memory="512MB", **settings)
    return Builder(chosen, ledger, make, lambda: NOW, threads=1)


def current(state: Path, view: str) -> dict[str, Any]:
    text = (state / "views" / view / "current.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def finished_files(state: Path, view: str) -> list[str]:
    return [str(state / "views" / view / each["path"]) for each in current(state, view)["files"]]


def ordered(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


def events(count: int, *, start: int = 0) -> list[Row]:
    """Rows with few keys, NULLs among them, and repeated visitors."""
    return [
        {
            "k": None if at % 11 == 0 else f"k{at % 5}",
            "u": at % 37,
            "n": None if at % 7 == 0 else at % 13 - 3,
            "moment": datetime(2026, 1, 1) + timedelta(minutes=at),  # noqa: DTZ001
        }
        for at in range(start, start + count)
    ]


if __name__ == "__main__":
    with open_ledger(Path(sys.argv[1])) as opened:
        builder(Path(sys.argv[1]), opened).all_steps(
            sys.argv[2], full="full" in sys.argv, until=None
        )
