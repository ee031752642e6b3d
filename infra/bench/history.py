"""Ten times the epochs: what a commit, a follower's step and a query cost early and late.

Spark and Kafka are left out, so that thousands of epochs take a minute: one fold's partials are
written and committed again and again as new epochs, and a follower loads each as it comes.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pyarrow as pa

from infra.bench import hits
from schemas import engine, project, registered
from schemas.compile import CompiledStream
from schemas.engine import RECORDS, Folded
from schemas.ledger import versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import EpochCommit, SegmentFile, commit_epoch, lease_name
from schemas.ledger.leases import Holder, take
from schemas.position import Range
from schemas.segment import Segment, encode
from schemas.storage import DataRoot
from serving.follower.follow import Follower
from serving.worker.tables import Tables

EVENTS = 1000
WINDOW = 100
QUERY = "SELECT page, hits, mean_millis FROM by_page ORDER BY hits DESC LIMIT 10"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cost:
    """Medians over a window of epochs, in milliseconds."""

    epoch: int
    commit: float
    step: float
    query: float


def measure(folder: Path, epochs: int) -> tuple[Cost, Cost]:
    """The costs at a tenth of so many epochs, and at all of them."""
    loaded = project.load(hits.project(folder / "project", "hits"))
    state = folder / "state"
    root = DataRoot(state)
    with open_ledger(state, create=True) as ledger:
        versions.register(ledger, *registered.rows(loaded, root), START)
        holder = Holder("bench", os.getpid(), 0.0)
        token = take(
            ledger, lease_name("hits"), holder, START, timedelta(days=1), lambda _: True
        ).token
        writer = _Writer(ledger, root, token, *_fold(loaded))
        tables = Tables()
        follower = Follower(lambda: open_ledger(state), root, tables)
        costs = {}
        samples: list[tuple[float, float, float]] = []
        for epoch in range(1, epochs + 1):
            samples.append(
                (
                    _timed(writer.commit),
                    _timed(lambda: follower.step(time.monotonic())),
                    _timed(lambda: tables.cursor().execute(QUERY).fetchall()),
                )
            )
            if epoch in (epochs // 10, epochs):
                commit, step, query = zip(*samples[-WINDOW:], strict=True)
                costs[epoch] = Cost(epoch, median(commit), median(step), median(query))
        tables.close()
    return costs[epochs // 10], costs[epochs]


class _Writer:
    """Commits the same partials as one new epoch after the other."""

    def __init__(
        self, ledger: Ledger, root: DataRoot, token: int, stream: CompiledStream, folded: Folded
    ) -> None:
        self._ledger, self._root, self._token = ledger, root, token
        self._stream, self._folded, self._epoch = stream, folded, 0

    def commit(self) -> None:
        self._epoch += 1
        found, at = self._folded, self._epoch
        segment = Segment(
            "hits", at, self._token, found.master, found.rejects, None, found.partials
        )
        name = f"{at}-0-{self._token}-{uuid.uuid4().hex}.zip"
        file = self._root.put("segments/hits", name, encode(segment))
        written = SegmentFile(file, EVENTS, found.accepted, 0, found.rejected, has_ids=False)
        commit = EpochCommit(
            stream="hits",
            epoch=at,
            instant=START + timedelta(seconds=at),
            token=self._token,
            stream_version=self._stream.version,
            topic_id="bench",
            ranges=(Range(0, (at - 1) * EVENTS, at * EVENTS),),
            segments=(written,),
            folded=tuple(found.partials),
            suspended=(),
            uuid=uuid.uuid4().hex,
        )
        commit_epoch(self._ledger, commit)


def _fold(loaded: project.Project) -> tuple[CompiledStream, Folded]:
    (stream,) = loaded.streams()
    listed = list(itertools.islice(hits.values(0), EVENTS))
    columns: dict[str, list[object]] = {
        "_partition": [0] * EVENTS,
        "_offset": list(range(EVENTS)),
        "_timestamp": [START.replace(tzinfo=None)] * EVENTS,
        "_key": [None] * EVENTS,
        "_value": [*listed],
        "_headers": [None] * len(listed),
    }
    records = pa.Table.from_pydict(columns, schema=RECORDS)
    folded = engine.connect().fold(
        stream, loaded.views(), records, epoch=1, instant=START, since=START
    )
    return stream, folded


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000
