"""A full rebuild beside its peer: plain DuckDB, running the view's own SELECT over the same files.

The master is made without Kafka: events are folded and sealed as streaming does it. Spark is
started once and warm; the two take turns, and each round gives a ratio.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pyarrow as pa

from batch import rebuild, recount, scratch, session, stages
from batch.build import Builder
from batch.compiled import Compiled
from batch.settings import Settings
from batch.stages import Job
from infra.bench import hits
from schemas import engine, project, reading, registered
from schemas.engine import RECORDS
from schemas.ledger import builds, epochs, versions
from schemas.ledger.builds import Build
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import EpochCommit, SegmentFile, commit_epoch, lease_name
from schemas.ledger.files import DataFile
from schemas.ledger.leases import Holder, take
from schemas.ledger.sealing import seal
from schemas.position import Range
from schemas.segment import Segment, encode
from schemas.storage import DataRoot
from streaming.sealing import SealTask

VIEWS = ("by_country", "by_page", "visitors")
EPOCH = 200_000
ROUNDS = 5
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cost:
    """Seconds, medians over the rounds. `ratio` is the peer's time over that of the rebuild."""

    view: str
    events: int
    rebuild: float
    proof: float
    duckdb: float
    ratio: float


def measure(folder: Path, events: int) -> list[Cost]:
    """Each view, over a master of so many events."""
    loaded = project.load(hits.project(folder / "project", "hits"))
    state = folder / "state"
    with open_ledger(state, create=True) as ledger, ExitStack() as stack:
        versions.register(ledger, *registered.rows(loaded, DataRoot(state)), START)
        _master(ledger, state, loaded, events)
        settings = Settings(state=state)
        stack.enter_context(scratch.own_folder(settings))
        spark = stack.enter_context(session.session(settings))
        taken: list[float] = []

        def make(job: Job) -> list[DataFile]:
            begun = time.perf_counter()
            files = rebuild.in_spark(spark, job)
            taken.append(time.perf_counter() - begun)
            return files

        builder = Builder(settings, ledger, make, lambda: datetime.now(UTC), os.cpu_count() or 1)
        builder.all_steps("everything", full=True, until=None)  # Spark's Python workers are there
        costs = []
        for view in VIEWS:
            rounds = []
            for _ in range(ROUNDS):
                done = builder.all_steps(view, full=True, until=None)
                alone = _duckdb(ledger, state, done.build)
                rounds.append((taken[-1], done.proof.evidence["seconds"], alone))
            ratio = median(alone / spent for spent, _, alone in rounds)
            spent, proof, alone = (median(each) for each in zip(*rounds, strict=True))
            costs.append(Cost(view, events, spent, proof, alone, ratio))
        return costs


def _duckdb(ledger: Ledger, state: Path, build: Build) -> float:
    """The view's own SELECT by DuckDB alone, with every core."""
    _, view = Compiled(ledger).of(build.view, build.version)
    inputs = builds.inputs(ledger, build.id)
    paths = [(each, DataRoot(state).local(each.file.path)) for each in inputs.whole_master]
    with stages.working("4GB", os.cpu_count() or 1) as own:
        begun = time.perf_counter()
        listed = list(reading.rows(own, inputs.declared, paths))
        recount.count(own, view, listed, 1, build.cut)
        own.execute(f"CREATE TEMP TABLE answer AS {view.select}")
        return time.perf_counter() - begun


def _master(ledger: Ledger, state: Path, loaded: project.Project, events: int) -> None:
    """Epochs of events, sealed each."""
    root, (stream,), views = DataRoot(state), loaded.streams(), loaded.views()
    holder = Holder("bench", os.getpid(), 0.0)
    name = lease_name(stream.name)
    token = take(ledger, name, holder, START, timedelta(days=1), lambda _: True).token
    own = engine.connect()
    for number, records in enumerate(_records(events), 1):
        instant = START + timedelta(seconds=number)
        found = own.fold(stream, views, records, epoch=number, instant=instant, since=START)
        ranges = (Range(0, (number - 1) * EPOCH, (number - 1) * EPOCH + records.num_rows),)
        segment = Segment(
            *(stream.name, number, token, found.master, found.rejects, None, found.partials, ranges)
        )
        path = f"{number}-0-{token}-{uuid.uuid4().hex}.zip"
        file = root.put(f"segments/{stream.name}", path, encode(segment))
        rows = records.num_rows
        commit_epoch(
            ledger,
            EpochCommit(
                stream=stream.name,
                epoch=number,
                instant=instant,
                token=token,
                stream_version=stream.version,
                topic_id="bench",
                ranges=ranges,
                segments=(
                    SegmentFile(file, rows, found.accepted, 0, found.rejected, has_ids=False),
                ),
                folded=tuple(found.partials),
                suspended=(),
                uuid=uuid.uuid4().hex,
            ),
        )
        (epoch,) = epochs.epochs_after(ledger, stream.name, number - 1, 1)
        task = SealTask(
            stream=stream.name,
            token=token,
            first=number,
            last=number,
            root=root,
            memory="1GB",
            row_group_bytes=16 << 20,
            ranges=ranges,
            epochs=(epoch.segments,),
            compiled=stream,
            views=tuple(views),
        )
        seal(ledger, stream.name, token, number, number, task.run(), instant)
        root.remove(file.path)


def _records(events: int) -> Iterator[pa.Table]:
    """Records of an epoch each."""
    values = hits.values(0)
    for first in range(0, events, EPOCH):
        listed = list(itertools.islice(values, min(EPOCH, events - first)))
        columns: dict[str, list[object]] = {
            "_partition": [0] * len(listed),
            "_offset": list(range(first, first + len(listed))),
            "_timestamp": [START.replace(tzinfo=None)] * len(listed),
            "_key": [None] * len(listed),
            "_value": [*listed],
            "_headers": [None] * len(listed),
        }
        yield pa.Table.from_pydict(columns, schema=RECORDS)
