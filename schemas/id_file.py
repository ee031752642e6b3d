"""Counted event ids in a sealed file, in the order of their hash: looked up where they lie.

An Arrow IPC file, uncompressed: `_hash`, the key columns, `_instant`. Looking up n ids is n binary
searches in a memory map, so an index of any size costs no memory but pages that the system may drop
whenever it likes. A hash only proposes; whoever asks compares the ids themselves. That the hashes
of a file are those of another engine is told by its probe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DamagedFile

HASH, INSTANT = "_hash", "_instant"
PROBE = b"everview_hash_probe"
BATCH_ROWS = 1_000_000

Hashes = npt.NDArray[np.uint64]


def write(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], told: dict[str, str]
) -> int:
    """Write batches whose hashes do not fall; gives the number of rows."""
    rows = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema.with_metadata(told)) as w:
        for batch in batches:
            rows += batch.num_rows
            w.write_batch(batch.replace_schema_metadata(told))
    return rows


def key_of(schema: pa.Schema) -> list[str]:
    """The columns of the primary key that ids are of."""
    return [name for name in schema.names if name not in (HASH, INSTANT)]


def tables(path: Path, name: str) -> Iterator[pa.Table]:
    """All ids of a file, part by part; those of an early state are in Parquet files, not sorted."""
    if not sorted_file(name):
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group)
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(name, "a file of ids", str(error)) from error
    else:
        yield from map(pa.table, IdFile.open(path, name).batches)


def sorted_file(name: str) -> bool:
    """Whether a file of that name can be looked into."""
    return name.endswith(".arrow")


@dataclass(frozen=True)
class IdFile:
    """A file of ids, mapped into memory."""

    batches: tuple[pa.RecordBatch, ...]
    schema: pa.Schema

    @classmethod
    def open(cls, path: Path, name: str) -> IdFile:
        """`DamagedFile`, by the `name` that the ledger has for it, where it is no such file."""
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = [reader.get_batch(at) for at in range(reader.num_record_batches)]
            return cls(tuple(each for each in batches if each.num_rows), reader.schema)
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(name, "a file of sorted ids", str(error)) from error

    @property
    def rows(self) -> int:
        return sum(each.num_rows for each in self.batches)

    @property
    def probe(self) -> str:
        """What `schemas.engine.hash_probe` gave where the file was written."""
        return (self.schema.metadata or {}).get(PROBE, b"").decode()

    @property
    def key(self) -> list[str]:
        """The columns of the primary key that the ids are of."""
        return key_of(self.schema)

    def matching(self, hashes: Hashes) -> Iterator[pa.RecordBatch]:
        """The rows whose hash is one of these, which must be sorted and different."""
        for batch in self.batches:
            held: Hashes = batch.column(HASH).to_numpy()
            first, last = (
                np.searchsorted(hashes, held[0]),
                np.searchsorted(hashes, held[-1], "right"),
            )
            wanted = hashes[first:last]
            at = np.searchsorted(held, wanted)
            there = held[at] == wanted  # `at` is inside: no wanted one is above the last held
            while there.any():
                yield batch.take(pa.array(at[there]))
                at, wanted = at[there] + 1, wanted[there]  # a hash may stand there again
                inside = at < len(held)
                at, wanted = at[inside], wanted[inside]
                there = held[at] == wanted
