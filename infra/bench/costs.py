"""What safety costs: event ids, checksums, fail points that are off; each beside the same work
without it, in one process, in turn."""

from __future__ import annotations

import hashlib
import itertools
import timeit
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa

from infra.bench import hits
from schemas import engine, project
from schemas.compile import CompiledStream, CompiledView
from schemas.engine import RECORDS, Engine, Folded
from schemas.failpoints import failpoint
from schemas.id_file import IdFile
from schemas.segment import Segment, SegmentReader, encode
from schemas.storage import DataRoot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = NOW - timedelta(days=7)
FILES = 5  # sealed files that hold the remembered ids
AGAIN = 0.01  # of the events are repeats of remembered ones
SIZES = (2_000, 200_000)  # events of an epoch: of a steady flow, and of a backlog
ROUNDS = 9


@dataclass(frozen=True)
class Ids:
    """Medians in seconds: an epoch folded and its segment written."""

    events: int
    without: float  # the stream has no primary key
    none: float  # it has one, and no id is remembered
    many: float  # ids are remembered
    memory: int  # MB of the process's own memory after it, mapped files left out


@dataclass(frozen=True)
class Checksums:
    """Medians in seconds for one segment."""

    events: int
    bytes: int
    write: float
    read: float
    hash: float


def of_ids(folder: Path, remembered: int) -> Iterator[Ids]:
    """What a primary key costs, and that many remembered ids."""
    plain, keyed = _Layer(folder / "plain", key=False), _Layer(folder / "keyed", key=True)
    many = _Layer(folder / "many", key=True)
    held = many.remember(folder, remembered)
    for size in SIZES:
        without, none, with_many = [], [], []
        for round_ in range(ROUNDS):
            records = _records(size, round_, remembered)
            without.append(plain.timed(records))
            none.append(keyed.timed(records))
            with_many.append(many.timed(records, held))
        own = psutil.Process().memory_full_info().uss >> 20
        # the first of each warms up
        yield Ids(size, median(without[1:]), median(none[1:]), median(with_many[1:]), own)


def of_checksums(folder: Path) -> Checksums:
    """What the sha256 of a segment costs beside writing it, and beside reading and merging it."""
    layer, size = _Layer(folder, key=False), SIZES[-1]
    records = _records(size, 0, 0)
    write, read, hashed, length = [], [], [], 0
    for _ in range(ROUNDS):
        write.append(layer.timed(records))
        (path,) = layer.root.local("segments").iterdir()
        data = path.read_bytes()
        length = len(data)
        hashed.append(_seconds(partial(hashlib.sha256, data)))
        read.append(_seconds(partial(layer.merge, data)))
        path.unlink()
    return Checksums(size, length, median(write), median(read), median(hashed))


def of_failpoints() -> float:
    """Seconds that one fail point takes where none is set."""
    times = 1_000_000
    empty = min(timeit.repeat("pass", number=times, repeat=5))
    call = "failpoint('epoch.in_commit')"
    own = {"failpoint": failpoint}
    return (min(timeit.repeat(call, globals=own, number=times, repeat=5)) - empty) / times


class _Layer:
    """A task of the speed layer: one engine, one stream, its views."""

    def __init__(self, folder: Path, *, key: bool) -> None:
        loaded = project.load(hits.project(folder / "project", "hits", key=key))
        self.stream: CompiledStream = loaded.streams()[0]
        self.views: Sequence[CompiledView] = loaded.views()
        self.engine: Engine = engine.connect(memory_limit="1GB")
        self.root = DataRoot(folder / "state")

    def timed(self, records: pa.Table, sealed: Sequence[IdFile] = ()) -> float:
        """Seconds of an epoch; no id is known but those of sealed epochs."""
        if self.stream.key:
            self.engine.add_ids(self.stream, 1, [])
        return _seconds(lambda: self.epoch(records, sealed))

    def epoch(self, records: pa.Table, sealed: Sequence[IdFile]) -> None:
        folded: Folded = self.engine.fold(
            self.stream,
            self.views,
            records,
            epoch=2,
            instant=NOW,
            since=SINCE,
            sealed_ids=sealed,
        )
        segment = Segment("hits", 2, 1, folded.master, folded.rejects, folded.ids, folded.partials)
        self.root.put("segments", f"{uuid.uuid4().hex}.zip", encode(segment))

    def merge(self, data: bytes) -> None:
        """What a reader does with a segment."""
        reader = SegmentReader(data, "segment")
        for view in self.views:
            for table, rows in zip(
                view.tables, reader.partials(view.version).values(), strict=True
            ):
                self.engine.register("parts", rows)
                self.engine.arrow(table.merge("parts"))
                self.engine.con.unregister("parts")

    def remember(self, folder: Path, count: int) -> tuple[IdFile, ...]:
        """Sealed files of so many ids, 0, 1, 2, ..."""
        found = []
        for at in range(FILES):
            first, last = count * at // FILES, count * (at + 1) // FILES
            path = folder / f"{at}.arrow"
            written = self.engine.write_ids(path, self.stream.key_types, _ids(first, last))
            if written:
                found.append(IdFile.open(path, path.name))
        return tuple(found)


def _seconds(work: Callable[[], object]) -> float:
    return timeit.timeit(work, number=1)


def _ids(first: int, last: int, at_once: int = 1_000_000) -> Iterator[pa.Table]:
    for begin in range(first, last, at_once):
        end = min(begin + at_once, last)
        instant = pa.scalar(NOW.replace(tzinfo=None), pa.timestamp("us"))
        yield pa.table(
            {
                "_hash": pa.array(np.zeros(end - begin, np.uint64)),  # it is computed anew
                "id": pa.array(np.arange(begin, end)),
                "_instant": pa.repeat(instant, end - begin),
            }
        )


def _records(size: int, seed: int, remembered: int) -> pa.Table:
    """Events as they come from the broker; some repeat a remembered id."""
    listed = list(itertools.islice(hits.values(seed + 1000), size))
    again = int(size * AGAIN) if remembered else 0
    for at in range(again):
        _, _, rest = listed[at].partition(b",")
        listed[at] = b'{"id": %d,%s' % (at * 7919 % remembered, rest)
    return pa.Table.from_pydict(
        {
            "_partition": [0] * size,
            "_offset": list(range(size)),
            "_timestamp": [NOW.replace(tzinfo=None)] * size,
            "_key": [None] * size,
            "_value": [*listed],
            "_headers": [None] * size,
        },
        schema=RECORDS,
    )
